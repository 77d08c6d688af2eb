"""``arbiter fit``: learn a small policy offline from collected rows, and write it into a configuration.

Needs the extra ``train``.
"""

from collections.abc import Sequence
from pathlib import Path
from typing import Any, Literal, NamedTuple

import anyio
import msgspec

from arbiter.cli.console import guarded, stdout
from arbiter.cli.endings import say
from arbiter.cli.terminal import write_json
from arbiter.config.config import Config, load_config, override
from arbiter.config.run_tables import STEPPED
from arbiter.data.training_rows import Split, TrainingRow
from arbiter.protocols.errors import ConfigError, RunError, os_reason
from arbiter.runs.file_replacement import replace_file
from arbiter.runs.finding import resolve
from arbiter.runs.stored_config import as_toml

_BINS, _POSITIONS = 8, 6
_OPTIONS = {"pomdp": ("score", "bins"), "positions": ("escalation", "positions")}


def fit_command(
    config: str,
    out: Path,
    /,
    *,
    data: Path,
    policy: Literal["pomdp", "positions"] = "pomdp",
    score: Literal["confidence", "prm"] | None = None,
    bins: int | None = None,
    escalation: float | None = None,
    positions: int | None = None,
    split: Split = "train",
    json: bool = False,
    debug: bool = False,
) -> int:
    """Learn a small policy from collected steps, and write a configuration that uses it. It needs the extra `train`.

    - `pomdp`: how often steps are right. The process rewards of the rows say how probably a step is right, and the rows
      how the draft's confidence, or the process reward itself, differs between steps that are right and wrong
      (docs/explanation/beliefs.md).
    - `positions`: an offset of the threshold for each step (docs/explanation/positions.md). The rows say what the
      target gains at each step, by the score of the configured run type: `router`, `rsd` or `confidence`.

    Examples:

        arbiter fit pocket pomdp.toml --data runs/collection
        arbiter fit pocket pomdp.toml --data runs/collection --score prm --bins 5
        arbiter fit pocket positions.toml --data runs/collection --policy positions --escalation 0.2

    Parameters
    ----------
    config
        A configuration file, or the name of a built-in configuration.
    out
        The configuration file to write, with the policy and what it learned.
    data
        The folder of a collection (`arbiter collect`), `@last` or the beginning of its name (see `arbiter runs`), or
        its `rows.jsonl`.
    policy
        What to learn: the table of the run type `pomdp`, or the thresholds by position of the configured run type.
    score
        For `pomdp`, what the policy sees of a draft: its own `confidence`, which the rows must have, or its process
        reward (`prm`). Default: `confidence`.
    bins
        For `pomdp`, the number of bins of the scores, 2 or more. Default: 8.
    escalation
        For `positions`, the share of the steps to escalate, above 0 and below 1. Default: 0.2.
    positions
        For `positions`, the number of offsets, 1 or more. The last is for every further step. Default: 6.
    split
        The split of the rows to learn from.
    json
        Print only what was learned, as JSON, on standard output.
    debug
        Show the traceback of an error.
    """

    def action() -> int:
        from arbiter.evaluation.evaluate import rows_of
        from arbiter.training.training_data import read_rows

        given = {"score": score, "bins": bins, "escalation": escalation, "positions": positions}
        _refuse_options_of_others(policy, given)
        if Path(config).is_file() and out.resolve() == Path(config).resolve():
            raise ConfigError(
                f"OUT {out} is the configuration itself, which would lose its comments: give another path"
            )
        chosen = load_config(config)
        rows = rows_of(read_rows(resolve(data, ("collection",))), split, str(data))
        if policy == "pomdp":
            learned = _beliefs(rows, score or "confidence", _BINS if bins is None else bins)
        else:
            share, most = 0.2 if escalation is None else escalation, _POSITIONS if positions is None else positions
            learned = _positions(chosen, rows, share, most)
        _write(out, override(chosen, learned.keys, "fit"), learned.shown, json)
        return 0

    return guarded(debug, action)


def _refuse_options_of_others(policy: str, given: dict[str, Any]) -> None:
    others = [name for name, value in given.items() if value is not None and name not in _OPTIONS[policy]]
    if others:
        raise ConfigError(f"--{others[0]} is for another --policy than {policy!r}: leave it out")


class _Learned(NamedTuple):
    """The keys of the configuration that were learned, and what to print of them."""

    keys: dict[str, Any]
    shown: dict[str, Any]


def _beliefs(rows: Sequence[TrainingRow], score: Literal["confidence", "prm"], bins: int) -> _Learned:
    from arbiter.evaluation.step_models import learned_model

    if bins < 2:
        raise ConfigError(f"--bins {bins}: give 2 or more")
    table = {"score": score, **msgspec.to_builtins(learned_model(rows, score, bins))}
    return _Learned({"run_type": "pomdp", "pomdp": table}, table)


def _positions(config: Config, rows: Sequence[TrainingRow], escalation: float, positions: int) -> _Learned:
    """Return the threshold of the configured run type, and its offsets. Raises ``ConfigError`` or ``DataError``."""
    import numpy as np

    from arbiter.evaluation.paper.router_scores import predicted
    from arbiter.evaluation.position_learning import learned_positions
    from arbiter.evaluation.scores import advantages, scores

    run_type = config.run_type
    if run_type not in STEPPED or run_type == "judge":
        raise ConfigError(
            f"--policy positions: the run type of the configuration is {run_type!r}, and rows have scores for "
            "'router', 'rsd' and 'confidence': set run_type to one of them"
        )
    if not 0 < escalation < 1 or positions < 1:
        raise ConfigError("--escalation must be above 0 and below 1, and --positions 1 or more")
    table, found = config.models.router, None
    if run_type == "router" and table is not None:
        values = anyio.run(predicted, table, rows, config.separator, config.cpu_threads, config.models.draft)
        found = np.array(values)
    delta = advantages(rows)
    scored = next((one for one in scores(rows, delta, found) if one.name == run_type), None)
    if scored is None:
        raise ConfigError(f"--policy positions: the rows or the configuration lack the scores of {run_type!r}")
    learned = learned_positions(rows, scored.score, delta, escalation, positions)
    sign = 1 if run_type == "router" else -1  # a low reward or confidence escalates
    threshold = min(1.0, max(0.0, sign * learned.threshold))
    offsets = [round(min(1.0, max(-1.0, sign * one)), 6) for one in learned.offsets]
    shown = {f"thresholds.{run_type}": threshold, "step_offsets": offsets}
    return _Learned({"thresholds": {run_type: threshold}, "step_offsets": offsets}, shown)


def _write(out: Path, changed: Config, learned: dict[str, Any], as_json: bool) -> None:
    """Write the configuration and print what it learned. Raises ``RunError`` if it cannot be written."""
    try:
        out.parent.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise RunError(f"cannot write {out}: {os_reason(error)}") from error
    replace_file(out, as_toml(changed))
    if as_json:
        write_json(changed.pomdp if changed.run_type == "pomdp" else learned)
    else:
        for key, value in learned.items():
            stdout.print(f"{key} = {value}", highlight=False)
    say(f"wrote {out}, with all keys of the configuration and without its comments")
    say(f"to use it: arbiter bench {out}")
