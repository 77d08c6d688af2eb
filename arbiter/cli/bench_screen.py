"""What ``arbiter bench`` prints on standard output: a few lines, a comparison, or a table of all figures."""

import textwrap
from collections.abc import Iterable, Mapping

from rich.console import Console
from rich.table import Table

from arbiter.protocols.model_traits import KVMemory
from arbiter.protocols.records import LookaheadStats, Model
from arbiter.runs.answer_times import AnswerTimes
from arbiter.runs.gathering_waits import GatheringWaits
from arbiter.runs.grading_figures import JudgeRequests
from arbiter.runs.intervals import Interval
from arbiter.runs.prefix_cache import PrefixCacheUse
from arbiter.runs.reports.numbers import NOTHING, money, percent, seconds, steps_line
from arbiter.runs.reports.short_form import INTERVAL, ComparisonTable, counted, not_graded
from arbiter.runs.reports.tables import from_to
from arbiter.runs.results import Cost, Summary, VerificationSavings

WRITERS: tuple[Model, ...] = ("draft", "target")
_GAP = 2  # characters between the names of figures and their values
_UNLIMITED = 1000  # characters: no table is as wide


def print_figures(console: Console, heading: str, lines: Mapping[str, str]) -> None:
    """Print the short form of a run: a heading, and the lines with their names in a column."""
    wide = max(map(len, lines)) + _GAP
    _print(console, heading)
    for name, text in lines.items():
        _print(console, f"{name:<{wide}}{text}", " " * wide)


def print_comparison(console: Console, compared: ComparisonTable, sentences: Iterable[str]) -> None:
    """Print a comparison. On a narrow console headings take two lines, and then intervals as well."""
    layouts = [_comparison_table(compared, gap, narrow) for gap, narrow in ((2, False), (1, False), (1, True))]
    unlimited = console.options.update(width=_UNLIMITED)
    fitting = (table for table in layouts if console.measure(table, options=unlimited).maximum <= console.width)
    console.print(next(fitting, layouts[-1]))
    for sentence in sentences:
        _print(console, sentence)


def _print(console: Console, text: str, indent: str = "") -> None:
    """Print a text, wrapped to the width of the console, without spaces at the ends of its lines."""
    wrapped = textwrap.fill(text, console.width, subsequent_indent=indent, break_on_hyphens=False)
    console.print(wrapped, highlight=False, markup=False, soft_wrap=True)


def _comparison_table(compared: ComparisonTable, gap: int, narrow: bool) -> Table:
    """Return the table with ``gap`` spaces between its columns; ``narrow`` breaks the headings of the numbers."""
    table = Table(box=None, pad_edge=False, padding=(0, gap, 0, 0), header_style="")
    first, *others = compared.headings
    table.add_column(first, no_wrap=True, vertical="bottom")
    for heading in others:
        wraps = heading == INTERVAL
        shown = heading.replace(" ", "\n").replace("/", "/\n") if narrow and not wraps else heading
        table.add_column(shown, justify="right", no_wrap=not wraps, vertical="bottom")
    for row in compared.rows:
        table.add_row(*row)
    return table


def details_table(summary: Summary) -> Table:
    """Return all figures of a summary as a table."""
    threshold = "" if summary.threshold is None else f", threshold τ = {summary.threshold:g}"
    table = Table(title=f"{summary.run_type}{threshold}", title_justify="left", show_header=False)
    for name, value in _rows(summary):
        table.add_row(name, value)
    return table


def _rows(summary: Summary) -> list[tuple[str, str]]:
    latency, accuracy, acceptance = summary.latency, summary.accuracy, percent(summary.acceptance_rate)
    return [
        ("problems", _problems(summary)),
        ("accuracy", _estimate(accuracy, summary.accuracy_interval)),
        *([("not in accuracy", not_graded(summary))] if summary.ungraded else ()),
        ("answers found by", counted(summary.found_by) or NOTHING),
        ("grader", summary.grader or NOTHING),
        *([("requests of the judge", _grading(summary.grading))] if summary.grading else ()),
        *(_samples(summary) if summary.samples > 1 else ()),
        ("acceptance rate", f"{acceptance} of steps, {percent(summary.acceptance_rate_tokens)} of tokens"),
        ("steps", steps_line(summary.run_type, summary.steps, summary.escalations, summary.acceptance_rate)),
        ("wasted escalations", _wasted(summary)),
        ("requests", ", ".join(f"{model} {calls.requests}" for model, calls in summary.requests.items())),
        *(
            (f"{model} tokens", f"{tokens.kept} kept, {tokens.discarded} discarded, {tokens.prompt} in prompts")
            for model, tokens in summary.tokens.items()
        ),
        *([("prefix cache", _caches(summary.prefix_caches))] if summary.prefix_caches else ()),
        *([("keys and values", _kv_memory(summary.kv_memory))] if summary.kv_memory else ()),
        *((f"{model} reads steps as text", reason) for model, reason in summary.steps_as_text.items()),
        *([("drafting ahead", _ahead(summary.lookahead))] if summary.lookahead.started else ()),
        *([("verified escalation", _verified(summary.verification))] if summary.verification.shown else ()),
        *([("gathering", _gathering(summary.gathering))] if summary.gathering.held else ()),
        *([("cost", _cost(summary.cost))] if summary.cost else ()),
        ("finish reasons", ", ".join(f"{reason} {count}" for reason, count in summary.finish_reasons.items())),
        (
            "seconds per sample" if summary.samples > 1 else "seconds per problem",
            f"mean {seconds(latency.mean)}, p50 {seconds(latency.p50)}, p95 {seconds(latency.p95)}",
        ),
        *([("streamed answers", _stream(summary.stream_times))] if summary.stream_times else ()),
        ("wall time", f"{summary.wall_seconds or 0.0:.1f} s" + (" (interrupted)" if summary.interrupted else "")),
        ("CPU time", NOTHING if summary.cpu_seconds is None else f"{summary.cpu_seconds:.1f} s"),
    ]


def _stream(times: AnswerTimes) -> str:
    """Return the medians of what a client of a stream of steps would see."""
    output = (
        "" if times.first_output_token == times.first_token else f", output {seconds(times.first_output_token.p50)}"
    )
    goodput = "" if times.goodput is None else f"; {times.good} good, {times.goodput:.3g}/s"
    between = times.inter_token.p50
    each = "" if between is None else f", {between:.4f} between tokens"
    return f"p50 to the first text {seconds(times.first_token.p50)}{output}{each}{goodput}"


def _grading(judge: JudgeRequests) -> str:
    failed = f" ({judge.failed} failed)" if judge.failed else ""
    cost = "" if judge.cost is None else f"; cost {money(judge.cost)}"
    return f"{judge.requests}{failed}; {judge.written} tokens, {judge.prompt} in prompts{cost}"


def _problems(summary: Summary) -> str:
    ended = f"{summary.graded} graded, {summary.failed} failed"
    if summary.samples == 1:
        return f"{summary.problems} ({ended})"
    return f"{summary.problems} in {summary.decoded} samples ({ended})"


def _samples(summary: Summary) -> list[tuple[str, str]]:
    """Return the rows for several samples per problem. A row over fewer than all problems says how many it covers."""
    rows = {f"pass@{k}": (found.value, found.interval, found.problems, "") for k, found in summary.pass_at_k.items()}
    if vote := summary.majority_vote:
        rows["majority vote"] = vote.value, vote.interval, vote.problems, f", {vote.ties} tied" if vote.ties else ""
    return [
        (name, _estimate(value, interval) + ("" if of == summary.problems else f" of {of} problems") + more)
        for name, (value, interval, of, more) in rows.items()
    ]


def _wasted(summary: Summary) -> str:
    waste = summary.wasted_escalations
    if not waste.judged:
        return "not measured (see --audit)" if summary.escalations else "no escalations"
    return f"{percent(waste.share)} of the {waste.judged} scored by the PRM"


def _estimate(value: float | None, interval: Interval | None) -> str:
    return NOTHING if value is None else f"{percent(value)} (95 % interval {from_to(interval)})"


def _ahead(ahead: LookaheadStats) -> str:
    salvaged = f", {ahead.salvaged} salvaged in another context" if ahead.salvaged else ""
    return f"{ahead.started} steps drafted, {ahead.hits} used{salvaged}; {ahead.wasted_tokens} tokens wasted"


def _caches(caches: Mapping[Model, PrefixCacheUse]) -> str:
    return ", ".join(
        f"{model} {percent(cache.cached / cache.prompt)} ({percent(cache.implied / cache.prompt)} possible)"
        for model, cache in caches.items()
        if cache.prompt and (model in WRITERS or cache.cached)  # few servers report cached tokens for scores
    )


def _kv_memory(memories: Mapping[str, KVMemory]) -> str:
    used = ", ".join(f"{model} {memory.peak / 2**20:.1f} MiB" for model, memory in memories.items())
    return f"at most {used}"


def _verified(verified: VerificationSavings) -> str:
    checked = f"{verified.shown} rejected drafts checked, {verified.whole} kept whole"
    return f"{checked}; saved {percent(verified.agreed / verified.tokens)} of the target's tokens for these steps"


def _gathering(waits: GatheringWaits) -> str:
    mean, largest = (1000 * (value or 0.0) for value in (waits.mean_seconds, waits.largest_seconds))
    held = f"{waits.held} escalations held, {mean:.0f} ms on average, {largest:.0f} ms at most"
    return f"{held}; {waits.together} released together"


def _cost(cost: Cost) -> str:
    return f"{money(cost.total)} (" + ", ".join(f"{model} {money(part)}" for model, part in cost.models.items()) + ")"
