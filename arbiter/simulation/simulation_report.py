"""Format the figures of a simulation as tables, and list its assumptions."""

from collections.abc import Callable, Sequence

from rich.table import Table

from arbiter.runs.reports.numbers import NOTHING, percent, seconds
from arbiter.simulation.cases import CasePlan
from arbiter.simulation.recorded_workload import Match, RecordedWorkload
from arbiter.simulation.simulation_results import SimulationResult
from arbiter.simulation.study import Hardware
from arbiter.simulation.synthetic_workload import LogNormal, SyntheticWorkload

Column = tuple[str, Callable[[SimulationResult], str]]

_CASE: tuple[tuple[str, Callable[[SimulationResult], object], Callable[[SimulationResult], str]], ...] = (
    ("acceptance", lambda row: row.case.acceptance, lambda row: percent(row.acceptance)),
    ("concurrency", lambda row: row.case.concurrency, lambda row: str(row.case.concurrency)),
    ("lookahead", lambda row: row.case.lookahead, lambda row: str(row.case.lookahead)),
    ("block", lambda row: row.case.block, lambda row: str(row.case.block)),
    ("verify", lambda row: row.case.verify, lambda row: row.case.verify),
)
_WHOLE: tuple[Column, ...] = (
    ("makespan", lambda row: seconds(row.makespan)),
    ("bound", lambda row: NOTHING if row.bound is None else seconds(row.bound)),
    ("own time", lambda row: percent(row.own)),
    ("bottleneck", lambda row: row.bottleneck),
)
_LATENCY: tuple[Column, ...] = (
    ("mean", lambda row: seconds(row.latency.mean)),
    ("p50", lambda row: seconds(row.latency.p50)),
    ("p95", lambda row: seconds(row.latency.p95)),
    ("p99", lambda row: seconds(row.latency.p99)),
    ("problems/s", lambda row: f"{row.problems_per_second:.3g}"),
    ("tokens/s", lambda row: f"{row.tokens_per_second:.0f}"),
)
_SERVERS = "servers: share of time busy, peak share of slots in use, mean wait, share of problem time lost to load"
_MATCHES: dict[Match, str] = {
    "recorded": "recorded by the run",
    "texts": "from the common prefix of both texts",
    "stated": "drawn from an assumed distribution",
}


def tables(rows: Sequence[SimulationResult]) -> list[Table]:
    """Return three tables: for the whole run, per problem, and per server.

    Each case has a row. Settings that differ between cases are columns; the others are in the title.
    """
    case = [(name, cell) for name, value, cell in _CASE if len({value(row) for row in rows}) > 1]
    first = rows[0]
    same = [f"{name} {cell(first)}" for name, value, cell in _CASE if len({value(row) for row in rows}) == 1]
    return [
        _table(f"all {first.problems} problems, in seconds ({', '.join(same)})", [*case, *_WHOLE], rows),
        _table("latency per problem in seconds, and throughput", [*case, *_LATENCY], rows),
        _servers(case, rows),
    ]


def _table(title: str, columns: Sequence[Column], rows: Sequence[SimulationResult]) -> Table:
    table = Table(title=title, title_justify="left")
    for name, _ in columns:
        table.add_column(name, justify="right")
    for row in rows:
        table.add_row(*(cell(row) for _, cell in columns))
    return table


def _servers(case: Sequence[Column], rows: Sequence[SimulationResult]) -> Table:
    table = Table(title=_SERVERS, title_justify="left")
    for name, _ in case:
        table.add_column(name, justify="right")
    table.add_column("server")
    for name in ("busy", "slots", "wait, s", "lost"):
        table.add_column(name, justify="right")
    for row in rows:
        for model, server in row.servers.items():
            figures = percent(server.utilisation), percent(server.full), f"{server.waited:.3f}", percent(server.lost)
            table.add_row(*(cell(row) for _, cell in case), model, *figures)
        table.add_section()
    return table


def assumptions(
    plan: CasePlan, hardware: Hardware, recorded: RecordedWorkload | None, rows: Sequence[SimulationResult]
) -> list[str]:
    """Return the assumptions behind the figures, as lines."""
    servers = ", ".join(f"{model} {server.placement}" for model, server in rows[0].servers.items())
    reading = "and decodes while it reads" if hardware.mixed else "and does not decode while it reads"
    most = f"Each decodes at most {hardware.running} sequences together {reading}"
    if hardware.gather is not None:
        most += f". Escalations gather for at most {hardware.gather.seconds:g} s"
    speeds = "Speeds are derived from data sheets, not measured (docs/explanation/performance.md)"
    ends = ", ".join(f"{reason} {count}" for reason, count in rows[0].finish_reasons.items())
    work = _stated(plan.world, rows) if recorded is None else _recorded(recorded)
    return [
        f"servers: {servers}. {most}. {speeds}",
        f"workload: {work}. Finish reasons: {ends}",
        "simplifications: docs/explanation/performance.md describes the simulated servers and what they leave out",
    ]


def _stated(world: SyntheticWorkload, rows: Sequence[SimulationResult]) -> str:
    numbers = (
        ("steps", world.steps),
        ("tokens per step", world.step_tokens),
        ("tokens per question", world.question_tokens),
    )
    is_shown = any(row.prefix_match.proposed for row in rows)
    agreeing = ". How much of a rejected draft the target keeps is drawn as well" if is_shown else ""
    lengths = ", ".join(f"{name} {_lengths(each)}" for name, each in numbers)
    return (
        f"synthetic, not recorded: {world.problems} problems (seed {world.seed}), all present at the start. "
        f"Log-normal: {lengths}. Steps are rejected independently; real rejections cluster{agreeing}"
    )


def _lengths(numbers: LogNormal) -> str:
    return f"(median {numbers.median:g}, σ {numbers.sigma:g}, at most {numbers.most})"


def _recorded(recorded: RecordedWorkload) -> str:
    left = f" ({recorded.left_out} left out that failed or did not end)" if recorded.left_out else ""
    sources = ", ".join(f"{count} {_MATCHES[match]}" for match, count in sorted(recorded.matches.items()))
    matches = f". Match lengths between draft and target: {sources}" if sources else ""
    work = f"{recorded.problems} recorded problems{left} with their steps and decisions, all present at the start"
    return f"{work}{matches}"
