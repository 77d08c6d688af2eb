"""The figures of a simulation for people, and what was assumed."""

from collections.abc import Callable, Sequence

from rich.table import Table

from arbiter.runs.reports.tables import NOTHING, percent, seconds
from arbiter.simulation.cases import CasePlan
from arbiter.simulation.recorded_workload import Match, RecordedWorkload
from arbiter.simulation.simulation_results import SimulationResult
from arbiter.simulation.study import Hardware
from arbiter.simulation.synthetic_workload import LogNormal, SyntheticWorkload

Column = tuple[str, Callable[[SimulationResult], str]]

_CASE: tuple[tuple[str, Callable[[SimulationResult], object], Callable[[SimulationResult], str]], ...] = (
    ("accepted", lambda row: row.case.acceptance, lambda row: percent(row.acceptance)),
    ("at once", lambda row: row.case.concurrency, lambda row: str(row.case.concurrency)),
    ("ahead", lambda row: row.case.lookahead, lambda row: str(row.case.lookahead)),
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
_SERVERS = "servers: share of the time busy, most places taken, mean wait, share of the problems' time lost"
_MATCHES: dict[Match, str] = {
    "recorded": "as they were recorded",
    "texts": "from what both texts begin with",
    "stated": "drawn from a stated distribution",
}


def tables(rows: Sequence[SimulationResult]) -> list[Table]:
    """For the whole run, for a problem, and for each server; a row each case, which is named by what is not the same in
    all of them.
    """
    case = [(name, cell) for name, value, cell in _CASE if len({value(row) for row in rows}) > 1]
    first = rows[0]
    same = [f"{name} {cell(first)}" for name, value, cell in _CASE if len({value(row) for row in rows}) == 1]
    return [
        _table(f"all {first.problems} problems, seconds: {', '.join(same)}", [*case, *_WHOLE], rows),
        _table("latency of a problem in seconds, and throughput", [*case, *_LATENCY], rows),
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
    for name in ("busy", "places", "wait, s", "lost"):
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
    """What the figures rest on, in lines."""
    servers = ", ".join(f"{model} {server.placement}" for model, server in rows[0].servers.items())
    reading = "and decodes while it reads" if hardware.mixed else "and decodes nothing while it reads"
    most = f"each decodes {hardware.running} sequences together at most, {reading}"
    speeds = "their speeds are derived from data sheets, not measured (docs/performance.md)"
    ends = ", ".join(f"{reason} {count}" for reason, count in rows[0].finish.items())
    work = _stated(plan.world, rows) if recorded is None else _recorded(recorded)
    return [
        f"servers: {servers}; {most}; {speeds}",
        f"workload: {work}; ended by {ends}",
        "simplified: docs/explanation/performance.md says what the servers are and what they leave out",
    ]


def _stated(world: SyntheticWorkload, rows: Sequence[SimulationResult]) -> str:
    numbers = (
        ("steps", world.steps),
        ("tokens of a step", world.step_tokens),
        ("of a question", world.question_tokens),
    )
    is_shown = any(row.agreement.proposed for row in rows)
    agreeing = ", and so is what the target agrees with of the drafts that it is shown" if is_shown else ""
    lengths = ", ".join(f"{name} {_lengths(each)}" for name, each in numbers)
    return (
        f"stated, not recorded: {world.problems} problems of the seed {world.seed}, all there at the beginning; "
        f"log-normal {lengths}; each step is rejected by itself, where real rejections cluster{agreeing}"
    )


def _lengths(numbers: LogNormal) -> str:
    return f"(median {numbers.median:g}, σ {numbers.sigma:g}, at most {numbers.most})"


def _recorded(recorded: RecordedWorkload) -> str:
    left = f", {recorded.left_out} left out that failed or did not end" if recorded.left_out else ""
    told = ", ".join(f"{count} {_MATCHES[match]}" for match, count in sorted(recorded.matches.items()))
    matches = f"; matches between draft and target: {told}" if told else ""
    work = f"{recorded.problems} recorded problems with their steps and decisions, all there at the beginning"
    return f"{work}{left}{matches}"
