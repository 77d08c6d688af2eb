"""How much of the accuracy gap between the draft alone and the target alone runs recover: the figures and their texts.

``docs/reference/gap-recovery.md`` has the definitions, their sources and a worked example.
"""

import importlib.util
from collections.abc import Sequence

import msgspec

from arbiter.config.run_tables import WITHOUT_ESCALATION, RunType
from arbiter.protocols.errors import DataError, not_installed
from arbiter.protocols.records import Record
from arbiter.runs.intervals import BootstrapEstimate
from arbiter.runs.reports.numbers import NOTHING, percent
from arbiter.runs.reports.problem_outcomes import ProblemOutcome

ALONE: tuple[RunType, RunType] = ("draft", "target")
RESAMPLES = 1000
CLOSED = (0.5, 0.8, 0.95)
"""The shares of the gap for which the call-performance threshold is reported."""
SHARES = (0.1, 0.2, 0.3)
"""The shares of the target's tokens at which run types are compared."""

_HEADS_OF_SHARES = tuple(
    head for share in SHARES for head in (f"PGR at {share:.0%} of the target's tokens", "minus the best")
)
_HEADS_OF_RUNS = ("run", "target tokens", "share of the target's", "gap recovered (PGR)")
_HEADS_OF_CURVES = ("run type", *(f"CPT({share:.0%})" for share in CLOSED), "APGR")


class OutcomesOfRun(msgspec.Struct, frozen=True):
    """A run with its outcomes, one per problem."""

    name: str
    run_type: RunType
    threshold: float | None
    outcomes: Sequence[ProblemOutcome]


class RunRecovery(Record, frozen=True):
    """What one run recovers.

    ``target_tokens`` is the mean per problem of the tokens that the target wrote, kept or not. ``target_share`` divides
    it by that of the target alone. ``recovered`` is PGR: 0 for the draft alone, 1 for the target alone.
    """

    run: str
    run_type: RunType
    threshold: float | None
    target_tokens: float
    target_share: BootstrapEstimate
    recovered: BootstrapEstimate


class CurveRecovery(Record, frozen=True):
    """What the runs of one run type recover together.

    ``thresholds`` has CPT for each share of ``CLOSED``: the smallest share of the target's tokens at which the curve
    closes that share of the gap. ``average`` is APGR, the mean of PGR over all shares of the target's tokens. ``at`` is
    PGR at each share of ``SHARES``, and ``behind`` is that minus PGR of the best run type there, paired by problem.
    """

    run_type: RunType
    thresholds: tuple[BootstrapEstimate, ...]
    average: BootstrapEstimate
    at: tuple[BootstrapEstimate, ...] = ()
    behind: tuple[BootstrapEstimate, ...] = ()

    @property
    def is_realizable(self) -> bool:
        """Whether the run type decides without the step that the target would write."""
        return self.run_type not in WITHOUT_ESCALATION

    def may_be_best(self, place: int) -> bool:
        """Whether the run type does not differ clearly from the best one at share number ``place`` of ``SHARES``."""
        ends = self.behind[place].interval
        return self.is_realizable and ends is not None and ends[1] >= 0


class GapRecovery(Record, frozen=True):
    """All figures, over the same ``problems``. ``gap`` is the accuracy of the target alone minus the draft's.

    ``best`` has the run type with the highest PGR at each of ``shares``, the shares of the target's tokens at which run
    types are compared. ``undefined`` says why there are no figures: then ``runs`` and ``curves`` are empty.
    """

    problems: int = 0
    gap: BootstrapEstimate = BootstrapEstimate(None)
    undefined: str | None = None
    closed: tuple[float, ...] = CLOSED
    shares: tuple[float, ...] = SHARES
    runs: tuple[RunRecovery, ...] = ()
    curves: tuple[CurveRecovery, ...] = ()
    best: tuple[RunType, ...] = ()

    @property
    def text(self) -> str:
        """What the figures are about, or why there are none, in a sentence or two."""
        if self.undefined is not None:
            return f"CPT, PGR and APGR are not defined: {self.undefined}."
        return (
            f"The target alone is {shown(self.gap)} more accurate than the draft alone, over {self.problems} problems. "
            "PGR is the share of this gap that a run recovers. CPT is the share of the target's tokens that closes "
            "50, 80 or 95 % of it, and APGR is the mean of PGR over all shares of the target's tokens."
            f"{self._frontier}"
        )

    @property
    def _frontier(self) -> str:
        """Name the best run types at each share; nothing without a best one."""
        named: list[str] = []
        for place, best in enumerate(self.best):
            others = [one.run_type for one in self.curves if one.run_type != best and one.may_be_best(place)]
            named.append(
                f"{SHARES[place]:.0%}: {best}" + (f" (no clear difference: {', '.join(others)})" if others else "")
            )
        return f" The best run types by share of the target's tokens are {'; '.join(named)}." if named else ""

    @property
    def tables(self) -> list[list[list[str]]]:
        """The run types, their PGR at equal shares, and the runs, each as rows of which the first has the headings.

        None without figures.
        """
        if not self.runs:
            return []
        curves = [[curve.run_type, *map(shown, curve.thresholds), shown(curve.average)] for curve in self.curves]
        runs = [
            [run.run, f"{run.target_tokens:.1f}", shown(run.target_share), shown(run.recovered)] for run in self.runs
        ]
        at = [[curve.run_type, *_at(curve)] for curve in self.curves if curve.at]
        shares = [[["run type", *_HEADS_OF_SHARES], *at]] if at else []
        return [[[*_HEADS_OF_CURVES], *curves], *shares, [[*_HEADS_OF_RUNS], *runs]]


def gap_recovery(runs: Sequence[OutcomesOfRun], resamples: int = RESAMPLES, seed: int = 0) -> GapRecovery:
    """Return the figures of ``runs``, which include each model alone once, over the same problems.

    All figures use the same resamples of the problems, so they are paired. Where they are not defined, or numpy is not
    installed, the result says why in words.
    """
    for alone in ALONE:
        found = sum(run.run_type == alone for run in runs)
        if found != 1:
            return GapRecovery(undefined=f"they need one run of the {alone} alone, and there are {found}")
    if importlib.util.find_spec("numpy") is None:
        return GapRecovery(undefined=not_installed("their interval", "numpy", "train"))
    from arbiter.runs.reports.gap_recovery import recovered

    try:
        return recovered(runs, resamples, seed)
    except DataError as error:
        return GapRecovery(undefined=str(error))


def shown(estimate: BootstrapEstimate) -> str:
    """Format a share with its interval in brackets."""
    if estimate.value is None:
        return NOTHING
    ends = estimate.interval
    return percent(estimate.value) + (f" ({ends[0]:.1%} to {ends[1]:.1%})" if ends else "")


def _at(curve: CurveRecovery) -> list[str]:
    """Return PGR at each share, and its difference from the best one there."""
    pairs = zip(curve.at, curve.behind, strict=True)
    return [text for found, behind in pairs for text in (shown(found), shown(behind) if behind.value else NOTHING)]
