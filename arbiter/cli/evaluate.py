"""``arbiter evaluate``: measure how well a score predicts which steps to escalate, or which step is wrong."""

from pathlib import Path
from typing import TYPE_CHECKING

import cyclopts
from rich.markup import escape

from arbiter.cli.console import guarded, print_rows, stderr, stdout, version
from arbiter.cli.evaluate_scorer import evaluate_judge_command, evaluate_prm_command
from arbiter.cli.terminal import write_json, write_text
from arbiter.config.config import load_config
from arbiter.data.training_rows import Split
from arbiter.protocols.errors import ConfigError
from arbiter.runs.finding import resolve

if TYPE_CHECKING:
    from arbiter.evaluation.evaluation_results import Evaluation

_FEWEST = 100  # fewer resamples give no reliable 2.5 % quantile

evaluate_command = cyclopts.App(
    name="evaluate", help="Measure how well a score predicts which steps to escalate or are wrong.", version=version
)
evaluate_command.command(evaluate_prm_command, name="prm")
evaluate_command.command(evaluate_judge_command, name="judge")


@evaluate_command.command(name="router")
def evaluate_router_command(
    *,
    data: Path,
    model: str | None = None,
    config: str | None = None,
    split: Split = "test",
    out: Path | None = None,
    resamples: int = 1000,
    seed: int = 0,
    json: bool = False,
    debug: bool = False,
) -> int:
    """Evaluate a router on collected steps, next to scores that need no training.

    The router's score ŷ is compared with `rsd` (−h of the draft), `confidence` (minus the draft's confidence, if all
    rows have it), `random` and `oracle` (Δ itself). The figures are the rank correlation with Δ, the AUROC of Δ > 0,
    the accuracy per class, the calibration, and the share of the possible gain at given shares of escalated steps. Each
    figure has a 95 % interval, computed by resampling problems (docs/how-to/evaluate-a-router.md). Needs the extra
    `train`, and the extra `plot` for plots.

    Examples:

        arbiter evaluate router --data runs/collected --model runs/router
        arbiter evaluate router --data runs/collected/rows.jsonl --split validation
        arbiter evaluate router --data runs/collected --model bare --config mine.toml

    Parameters
    ----------
    data
        The folder of a collection (`arbiter collect`), `@last` or the beginning of its name (see `arbiter runs`), or
        its `rows.jsonl`.
    model
        The router's checkpoint: a folder, a name on the Hugging Face hub, or `pocket:router`. Default: evaluate only
        the scores that need no training.
    config
        The configuration whose `models.router` says how the router reads a step (`prompt`, `annotate`). Needed only for
        a checkpoint without an `arbiter.json`.
    split
        The split of the rows to evaluate. Thresholds are quantiles of the scores of the split `validation`, if there is
        one.
    out
        A folder for `evaluation.json`, `evaluation.md`, `gain.csv`, `outcomes.csv`, and the plots `gain` and
        `reliability` as PNG and SVG. Default: no files are written.
    resamples
        The number of resamples of the problems for the intervals, at least 100.
    seed
        The seed of the resamples.
    json
        Print only the content of `evaluation.json` on standard output.
    debug
        Show the traceback of an error.
    """

    def action() -> int:
        if resamples < _FEWEST:
            raise ConfigError(f"--resamples {resamples}: give {_FEWEST} or more, which a 95 % interval needs")
        _print(_evaluated(resolve(data, ("collection",)), model, config, split, resamples, seed), out, json)
        return 0

    return guarded(debug, action)


def _evaluated(
    data: Path, model: str | None, config: str | None, split: Split, resamples: int, seed: int
) -> "Evaluation":
    from arbiter.evaluation.checkpoints import checkpoint
    from arbiter.evaluation.evaluate import evaluate
    from arbiter.training.training_data import read_rows

    rows = read_rows(data)
    chosen = None if config is None else load_config(config)
    table, separator = (None, None) if chosen is None else (chosen.models.router, chosen.separator)
    router = None if model is None else checkpoint(model, table, separator)
    return evaluate(rows, str(data), split, router, resamples, seed)


def _print(evaluation: "Evaluation", out: Path | None, as_json: bool) -> None:
    from arbiter.evaluation.evaluation_report import as_markdown, write

    if as_json:
        write_json(evaluation)
    elif stdout.is_terminal:
        _show(evaluation)
    else:
        write_text(as_markdown(evaluation))
    if out is not None:
        no_plots = write(evaluation, out)
        if no_plots:
            stderr.print(f"[yellow]no plots:[/yellow] {escape(no_plots)}", highlight=False, soft_wrap=True)
        stderr.print(f"the evaluation is in {escape(str(out))}", highlight=False, soft_wrap=True)


def _show(evaluation: "Evaluation") -> None:
    """Print the tables, laid out for the terminal."""
    from arbiter.evaluation.evaluation_report import about, differences, side_by_side

    for target in evaluation.targets:
        stdout.print(escape(about(evaluation, target)), highlight=False)
        for rows in (side_by_side(target), *([differences(target)] if target.differences else [])):
            print_rows(rows)
