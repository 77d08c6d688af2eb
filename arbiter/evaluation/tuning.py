"""Find the threshold that meets a budget, from the steps of a collection."""

from collections.abc import Sequence
from typing import Literal

import msgspec
import numpy as np

from arbiter.data.training_rows import TrainingRow
from arbiter.evaluation.calibration import OUTCOMES, outcomes
from arbiter.evaluation.checkpoints import RouterCheckpoint
from arbiter.evaluation.evaluate import predictions
from arbiter.evaluation.scores import numbered
from arbiter.evaluation.thresholds import threshold_within
from arbiter.protocols.errors import DataError
from arbiter.protocols.records import Record
from arbiter.runs.intervals import BootstrapEstimate
from arbiter.runs.reports.resampling import Floats, Integers, by_step, drawn, estimate, estimates, summed

Policy = Literal["router", "rsd", "confidence"]

ESCALATES: dict[Policy, int] = {"router": 1, "rsd": -1, "confidence": -1}
"""1 if steps above the threshold are escalated (ŷ > τ), -1 if those below it are (h < τ)."""


class Tuned(Record, frozen=True):
    """A threshold with its interval over resampled problems, and the figures at that threshold.

    ``expected`` are the figures on the data on which the threshold was chosen. ``held_out`` are those on other data
    (None: there is no other data). ``escalated`` is a share of all steps, as are its parts ``improved``, ``wasted`` and
    ``harmed``. ``target_tokens`` and ``seconds`` are means per problem. ``accuracy`` is a share of answers.
    """

    policy: Policy
    threshold: BootstrapEstimate
    expected: dict[str, BootstrapEstimate]
    held_out: dict[str, BootstrapEstimate] | None = None


class TuningSteps(msgspec.Struct, frozen=True, eq=False):
    """Steps with the score that the policy uses (``own``: ŷ, h or the draft's confidence), as arrays (steps,).

    ``tokens`` are the tokens that the target writes for a step, None if the rows lack them. ``first`` is 1 at one step
    of each solution and 0 elsewhere. A problem with several samples has several solutions.
    """

    policy: Policy
    problem: Integers
    own: Floats
    delta: Floats
    tokens: Floats | None
    first: Floats

    @property
    def request(self) -> Floats:
        """The score with the sign changed where needed, so that higher means escalate. Ties stay ties."""
        return ESCALATES[self.policy] * self.own

    @property
    def problems(self) -> int:
        return int(self.problem.max()) + 1


def steps_of(rows: Sequence[TrainingRow], policy: Policy, router: RouterCheckpoint | None = None) -> TuningSteps:
    """Return the steps of ``rows``. For the policy ``router``, ŷ is from the first head of ``router``.

    Raises ``DataError`` if the rows do not have the score that the policy uses.
    """
    tokens = [sum(row.target_tokens) / len(row.target_tokens) for row in rows if row.target_tokens]
    return TuningSteps(
        policy,
        numbered(rows),
        _own(rows, policy, router),
        np.array([row.advantage for row in rows]),
        np.array(tokens) if len(tokens) == len(rows) else None,
        _first(rows),
    )


def _first(rows: Sequence[TrainingRow]) -> Floats:
    seen: set[tuple[str, int]] = set()
    found = np.zeros(len(rows))
    for index, row in enumerate(rows):
        if (row.problem, row.sample) not in seen:
            seen.add((row.problem, row.sample))
            found[index] = 1
    return found


def _own(rows: Sequence[TrainingRow], policy: Policy, router: RouterCheckpoint | None) -> Floats:
    if policy == "router":
        if router is None:
            raise DataError("the policy 'router' needs a checkpoint: name it in models.router")
        return predictions(router, rows)[:, 0]
    if policy == "rsd":
        return np.array([row.draft_score for row in rows])
    known = [row.confidence for row in rows if row.confidence is not None]
    if len(known) < len(rows):
        raise DataError(
            f"{len(rows) - len(known)} of {len(rows)} rows have no confidence of the draft: "
            "collect them again with confidences, or tune another --policy"
        )
    return np.array(known)


def by_escalation(steps: TuningSteps, share: float, resamples: int, seed: int) -> BootstrapEstimate:
    """Return the τ at which at most ``share`` (0 to 1) of the steps are escalated."""
    ones = np.ones(len(steps.own))
    return _within(steps, ones, share * ones, resamples, seed)


def by_target_tokens(steps: TuningSteps, tokens: float, resamples: int, seed: int) -> BootstrapEstimate:
    """Return the τ at which the target writes at most ``tokens`` per problem on average.

    Raises ``DataError`` if the rows do not have the target's tokens.
    """
    if steps.tokens is None:
        raise DataError("the rows lack the target's token counts (format version 1): collect them again")
    return _within(steps, steps.tokens, tokens * steps.first, resamples, seed)


def expected(steps: TuningSteps, threshold: float, resamples: int, seed: int) -> dict[str, BootstrapEstimate]:
    """Return the figures of ``Tuned`` at ``threshold``, by name."""
    escalated = (steps.request > ESCALATES[steps.policy] * threshold).astype(np.float64)
    weights = drawn(steps.problems, resamples, seed)
    ones = np.ones((1, steps.problems))
    point, resampled = (outcomes(steps.problem, steps.delta, escalated, each) for each in (ones, weights))
    kept, *kinds = estimates(point[0], resampled)
    found = {"escalated": _rest(kept), **dict(zip(OUTCOMES[1:], kinds, strict=True))}
    if steps.tokens is not None:
        sums = summed(np.stack([steps.tokens * escalated, steps.first], axis=1), steps.problem, steps.problems)
        (point,), resampled = (_mean(each @ sums) for each in (ones, weights))
        found["target_tokens"] = estimate(float(point), resampled)
    return found


def _within(steps: TuningSteps, cost: Floats, allowed: Floats, resamples: int, seed: int) -> BootstrapEstimate:
    """Return the τ at which Σ ``cost`` of the escalated steps is at most Σ ``allowed`` of all. Both are (steps,)."""
    ones = np.ones((1, len(cost)))
    weights = drawn(steps.problems, resamples, seed)
    found = [
        _own_scale(steps, threshold_within(steps.request, cost, some @ allowed, some))
        for some in (ones, *by_step(weights, steps.problem))
    ]
    return estimate(float(found[0][0]), np.concatenate(found[1:]))


def _own_scale(steps: TuningSteps, request: Floats) -> Floats:
    """Convert thresholds of ``TuningSteps.request`` into thresholds of the policy, from 0 to 1."""
    return np.clip(ESCALATES[steps.policy] * request, 0, 1) + 0.0  # + 0.0 turns -0.0 into 0.0


def _mean(sums: Floats) -> Floats:
    return sums[:, 0] / sums[:, 1]


def _rest(share: BootstrapEstimate) -> BootstrapEstimate:
    """Return 1 minus a share."""
    ends = share.interval
    return BootstrapEstimate(None if share.value is None else 1 - share.value, ends and (1 - ends[1], 1 - ends[0]))
