"""Format an evaluation as tables, Markdown and CSV, and write the files of ``--out``."""

from collections.abc import Callable, Iterable, Sequence
from pathlib import Path

import msgspec

from arbiter.evaluation.evaluation_results import Evaluation, Outcomes, ScoreMetrics, TargetEvaluation
from arbiter.evaluation.tuning import Tuned
from arbiter.protocols.errors import ReportError
from arbiter.runs.file_replacement import replace_file
from arbiter.runs.intervals import BootstrapEstimate
from arbiter.runs.reports.numbers import NOTHING, percent
from arbiter.runs.reports.tables import csv_of

PLOTS = {"gain": "Gain by share of steps escalated", "reliability": "Reliability of ŷ"}
_GAIN_SHARES = (0.1, 0.2, 0.3)  # shares of steps escalated with a row in the table
_OUTCOME_SHARES = (0.1, 0.2, 0.3, 0.5)

_SHARES = {
    "escalated": "steps escalated",
    "improved": "improved",
    "wasted": "wasted",
    "harmed": "harmed",
    "accuracy": "accuracy",
}
_MEANS = {"target_tokens": "target tokens per problem", "seconds": "seconds per problem"}

Lines = list[list[str]]


def side_by_side(target: TargetEvaluation) -> Lines:
    """Return a table with a row per figure and a column per score. The first row has the headings."""
    scores = target.scores
    lines: Lines = [["", *(score.score for score in scores)]]
    lines.append(["Spearman ρ with Δ", *(number(score.spearman) for score in scores)])
    lines.append(["AUROC of Δ > 0", *(number(score.auroc) for score in scores)])
    lines.append(["accuracy where Δ > 0", *(share(score.accuracy_improving) for score in scores)])
    lines.append(["accuracy where Δ ≤ 0", *(share(score.accuracy_others) for score in scores)])
    lines.append(["ECE", *(number(score.ece) for score in scores)])
    lines.append(["Brier score", *(number(score.brier) for score in scores)])
    for index, gain in enumerate(scores[0].gains):
        if gain.escalated in _GAIN_SHARES:
            heading = f"gain captured at {gain.escalated:.0%} escalated"
            lines.append([heading, *(share(score.gains[index].captured) for score in scores)])
    lines.append(["area under the gain curve", *(number(score.area) for score in scores)])
    return lines


def differences(target: TargetEvaluation) -> Lines:
    """Return a table with a row per figure and a column per pair of scores."""
    pairs = target.differences
    lines: Lines = [["difference", *(f"{pair.score} − {pair.other}" for pair in pairs)]]
    lines.append(["Spearman ρ", *(number(pair.spearman) for pair in pairs)])
    lines.append(["AUROC", *(number(pair.auroc) for pair in pairs)])
    for index, gain in enumerate(target.scores[0].gains):
        if gain.escalated in _GAIN_SHARES:
            heading = f"gain captured at {gain.escalated:.0%} escalated"
            lines.append([heading, *(share(pair.captured[index]) for pair in pairs)])
    lines.append(["area under the gain curve", *(number(pair.area) for pair in pairs)])
    return lines


def about(evaluation: Evaluation, target: TargetEvaluation) -> str:
    """Return one line about the steps that were evaluated."""
    against = f"target {target.target}: " if target.target else ""
    return (
        f"{against}{target.steps} steps of {target.problems} problems ({evaluation.split} split); "
        f"Δ > 0 in {share(target.improving)} of the steps, mean Δ {number(target.mean_advantage)}; "
        f"95 % intervals from {evaluation.resamples} bootstrap resamples of problems"
    )


def as_markdown(evaluation: Evaluation, plots: Sequence[str] = (), no_plots: str | None = None) -> str:
    """Return the tables, and either links to ``plots`` or the reason why there are none."""
    scored = f"{evaluation.model} on {evaluation.data}" if evaluation.model else evaluation.data
    parts = [f"# Evaluation of {scored}"]
    for target in evaluation.targets:
        parts += [about(evaluation, target), table(side_by_side(target))]
        if target.differences:
            parts.append(table(differences(target)))
        parts += [_outcomes(target, evaluation)]
    parts += [f"![{title}]({name}.png)" for name, title in PLOTS.items() if f"{name}.png" in plots]
    if no_plots:
        parts.append(f"No plots: {no_plots}.")
    return "\n\n".join(parts) + "\n"


def gain_csv(evaluation: Evaluation) -> str:
    """Return the columns ``target``, ``score``, ``escalated``, ``captured`` and ``net`` as CSV.

    The last two also have columns with the suffixes ``_low`` and ``_high``.
    """
    return csv_of(
        [
            {"target": target.target, "score": score.score, "escalated": gain.escalated}
            | _ends("captured", gain.captured)
            | _ends("net", gain.net)
            for target, score in _scores(evaluation)
            for gain in score.gains
        ]
    )


def outcomes_csv(evaluation: Evaluation) -> str:
    """Return the columns ``target``, ``score``, ``aimed``, ``threshold`` and the four shares as CSV.

    The shares also have columns with the suffixes ``_low`` and ``_high``.
    """
    return csv_of(
        [
            {"target": target.target, "score": score.score, "aimed": found.aimed, "threshold": found.threshold}
            | _ends("kept", found.kept)
            | _ends("improved", found.improved)
            | _ends("wasted", found.wasted)
            | _ends("harmed", found.harmed)
            for target, score in _scores(evaluation)
            for found in score.outcomes
        ]
    )


def tuning(found: Tuned) -> Lines:
    """Return a table of what a threshold is expected to give, with a row per figure.

    There is a second column if the threshold was checked on held-out steps.
    """
    lines: Lines = [["", "expected", *([] if found.held_out is None else ["on the test split"])]]
    for name, value in found.expected.items():
        render = share if name in _SHARES else number
        others = [] if found.held_out is None else [render(found.held_out.get(name))]
        lines.append([_SHARES.get(name) or _MEANS[name], render(value), *others])
    return lines


def write(evaluation: Evaluation, folder: Path) -> str | None:
    """Write ``evaluation.json``, ``evaluation.md``, ``gain.csv``, ``outcomes.csv`` and the plots into ``folder``.

    Return the reason if there are no plots, else None. Raises ``ReportError`` or ``RunError`` if one cannot be written.
    """
    from arbiter.evaluation.score_plots import draw
    from arbiter.runs.reports.plots import why_not

    reason = why_not()
    try:
        folder.mkdir(parents=True, exist_ok=True)
        plots = [] if reason else draw(evaluation, folder)
        texts = {
            "evaluation.json": msgspec.json.format(msgspec.json.encode(evaluation)).decode() + "\n",
            "evaluation.md": as_markdown(evaluation, plots, reason),
            "gain.csv": gain_csv(evaluation),
            "outcomes.csv": outcomes_csv(evaluation),
        }
    except OSError as error:
        raise ReportError(f"cannot write the evaluation into {folder}: {error.strerror}") from error
    for name, text in texts.items():
        replace_file(folder / name, text.encode())
    return reason


def number(found: BootstrapEstimate | None) -> str:
    """Format an estimate as ``0.151 (0.120 to 0.180)``. An interval of width 0 is left out."""
    return _with_interval(found, lambda value: f"{round(value, 3) + 0.0:.3f}")  # + 0.0 turns -0.0 into 0.0


def share(found: BootstrapEstimate | None) -> str:
    """Format an estimate as ``15.1% (12.0% to 18.0%)``. An interval of width 0 is left out."""
    return _with_interval(found, lambda value: percent(round(value, 3) + 0.0))


def level(found: BootstrapEstimate) -> str:
    """Format a threshold as ``0.0123 (0.01101 to 0.0136)``."""
    return _with_interval(found, lambda value: f"{value:.4g}")


def _with_interval(found: BootstrapEstimate | None, text: Callable[[float], str]) -> str:
    if found is None or found.value is None:
        return NOTHING
    low, high = found.interval or (found.value, found.value)
    return text(found.value) + (f" ({text(low)} to {text(high)})" if high > low else "")


def table(lines: Lines) -> str:
    """Return rows as a Markdown table, without a trailing newline."""
    heading, *others = ["| " + " | ".join(line) + " |" for line in lines]
    return "\n".join([heading, "|" + "---|" * len(lines[0]), *others])


def _outcomes(target: TargetEvaluation, evaluation: Evaluation) -> str:
    lines: Lines = [["score", "share to escalate", "τ", "kept", "improved", "wasted", "harmed"]]
    for score in target.scores:
        lines += [_outcome(score, found) for found in score.outcomes if found.aimed in _OUTCOME_SHARES]
    introduction = (
        f"Outcomes on the {evaluation.split} split, as shares of all steps. A step is escalated if its score is above "
        f"τ. Each τ is a quantile of the scores on the {evaluation.calibrated_on} split: there it escalates the share "
        "of steps in the second column."
    )
    return f"{introduction}\n\n{table(lines)}"


def _outcome(score: ScoreMetrics, found: Outcomes) -> list[str]:
    shares = (found.kept, found.improved, found.wasted, found.harmed)
    return [score.score, f"{found.aimed:.0%}", f"{found.threshold:.4g}", *map(share, shares)]


def _scores(evaluation: Evaluation) -> Iterable[tuple[TargetEvaluation, ScoreMetrics]]:
    return ((target, score) for target in evaluation.targets for score in target.scores)


def _ends(name: str, found: BootstrapEstimate) -> dict[str, object]:
    low, high = found.interval or (None, None)
    return {name: found.value, f"{name}_low": low, f"{name}_high": high}
