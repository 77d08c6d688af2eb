"""``arbiter show``: show what happened in a run, by problem and by step."""

from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rich.box import SIMPLE_HEAD
from rich.markup import escape
from rich.table import Column, Table

from arbiter.cli.console import FAILED, guarded, print_error, stderr, stdout
from arbiter.cli.terminal import print_table, visible, write_json
from arbiter.log.explain import Story, failures, result_of, stories, turn_lines
from arbiter.log.history import ProblemHistory, histories
from arbiter.log.run import NO_END, Run, grades_in
from arbiter.log.timing import StepTimes
from arbiter.protocols.errors import ConfigError, RunError
from arbiter.protocols.events import CallGenerated, EscalateStepEvent, Graded, ProblemEnded, RunEnded, StepAcceptedEvent
from arbiter.protocols.records import Author
from arbiter.runs.finding import LOGGED, resolve
from arbiter.runs.reports.numbers import seconds

if TYPE_CHECKING:
    from arbiter.runs.file_checks import CheckedFile

_SHOWN = 50
_SHORTEST, _PADDING = 8, 3  # characters: of a question, and between it and the other columns
_HEADINGS = ("problem", "result", "accepted", "target", "seconds")
_NOTICED = 0.005  # seconds: shorter parts of a step are not shown
_COLOURS: dict[Author, str] = {"draft": "cyan", "target": "magenta"}


def show_command(
    run: Path,
    problem: str | None = None,
    /,
    *,
    sample: int | None = None,
    wrong: bool = False,
    escalated: bool = False,
    failed: bool = False,
    unfinished: bool = False,
    slowest: int | None = None,
    follow: bool = False,
    verify: bool = False,
    json: bool = False,
    debug: bool = False,
) -> int:
    """Show the problems of a run, or one problem step by step.

    Each step shows its author, the candidate of the other model, the scores, the decision, the tokens and the seconds.
    The seconds are divided into waiting for a slot of a busy model (queue), and waiting for the answers of draft,
    scoring model (score) and target.

    Examples:

        arbiter show runs/first
        arbiter show @last pocket-1-12
        arbiter show runs/first --wrong --slowest 10
        arbiter show runs/first --follow
        arbiter show runs/first --verify

    Parameters
    ----------
    run
        The run folder, `@last` or the beginning of its name (see `arbiter runs`), or an event log, which may be
        compressed. With `--verify` also a sweep.
    problem
        The id of a problem, for example `pocket-1-12`: show its steps. Default: list all problems.
    sample
        Show only the sample with this number, from 0. For runs with several samples per problem.
    wrong
        List only problems whose answer is wrong.
    escalated
        List only problems with at least one escalation.
    failed
        List only problems that failed.
    unfinished
        List only problems that have not ended: the run still continues, or was stopped early.
    slowest
        List only this number of problems, the slowest first.
    follow
        Print problems as they end, until the run ends. With a problem id, print its steps as well.
    verify
        Check every file except `versions.json` for damage. Print a line per file. If one is damaged, the status is 2.
    json
        Print only JSON lines on standard output: one per problem, one per step of the given problem, or one per file.
    debug
        Show the traceback of an error.
    """

    def action() -> int:
        if slowest is not None and slowest < 1:
            raise ConfigError(f"--slowest {slowest}: give a number of problems, 1 or more")
        kinds = {"wrong": wrong, "escalated": escalated, "failed": failed, "unfinished": unfinished}
        if verify:
            if problem is not None or sample is not None or slowest is not None or follow or any(kinds.values()):
                raise ConfigError("--verify checks the whole run: give no problem, and no other option than --json")
            return _verify(resolve(run, (*LOGGED, "sweep")), json)
        opened = Run.open(resolve(run, LOGGED))
        if follow:
            return _follow(opened, problem)
        if problem is not None:
            return _show_problem(opened, problem, sample, json)
        rows = [row for row in opened.table("problems") if sample is None or row["sample"] == sample]
        chosen = [row for row in rows if all(_is(kind, row) for kind, given in kinds.items() if given)]
        if slowest is not None:
            chosen = sorted(chosen, key=lambda row: -(row["seconds"] or 0.0))[:slowest]
        return _show_list(opened, chosen, len(rows), json)

    return guarded(debug, action)


def _is(kind: str, row: dict[str, Any]) -> bool:
    match kind:
        case "wrong":
            return row["right"] is False
        case "escalated":
            return row["escalated"] > 0
        case "failed":
            return row["finish_reason"] == "failed"
        case _:
            return row["finish_reason"] is None


def _show_list(run: Run, rows: list[dict[str, Any]], of: int, as_json: bool) -> int:
    if as_json:
        _write(rows)
    else:
        _show_rows(rows, of)
        _note_times(run)
    _note_end(run.torn, run.ended)
    return 0


def _show_rows(rows: list[dict[str, Any]], of: int) -> None:
    shown = rows[:_SHOWN]
    cells = [_cells(row) for row in shown]
    # the question has what the other columns leave, so that no id is cut
    width = max(_SHORTEST, stdout.width - stdout.measure(_table(_HEADINGS, cells)).maximum - _PADDING)
    questions = [escape(_cut(visible(row["question"]), width)) for row in shown]
    rows_shown = [(*known, last) for known, last in zip(cells, questions, strict=True)]
    print_table(stdout, _table((*_HEADINGS, "question"), rows_shown))
    more = f"; the first {_SHOWN} are shown (--json prints all)" if len(rows) > _SHOWN else ""
    _print(f"{len(rows)} of {of} problems{more}")


def _note_end(torn: int, ended: bool) -> None:
    if torn:
        stderr.print(f"the last line of the log was half written ({torn} bytes) and is left out")
    if not ended:
        stderr.print(NO_END, highlight=False, soft_wrap=True)


def _verify(run: Path, as_json: bool) -> int:
    """Print a line for each file in the folder ``run``. Return the exit status."""
    from arbiter.runs.file_checks import check_files  # it imports the configuration, which takes long

    found = list(check_files(run))
    if as_json:
        _write(found)
    for file in found:
        if file.error is not None:
            print_error(file.error)
        elif not as_json:
            _print(f"{file.name}: {_state(file)}")
    return FAILED if any(file.error for file in found) else 0


def _state(file: "CheckedFile") -> str:
    torn = "; the last line is half written, and is left out" if file.torn else ""
    torn += "" if file.ended else f"; {NO_END}"
    if file.unchecked:
        older = "no checksum, because an older version of Arbiter wrote them"
        return f"no damage found, but {file.unchecked} of {file.lines} lines have {older}{torn}"
    return f"no damage{torn}"


def _cells(row: dict[str, Any]) -> tuple[str, ...]:
    name = f"{row['problem']}#{row['sample']}" if row["sample"] else row["problem"]
    accepted, calls = f"{row['accepted']} of {row['steps']}", str(row["target_calls"])
    return escape(name), _result(row), accepted, calls, seconds(row["seconds"])


def _table(headings: Iterable[str], rows: Iterable[tuple[str, ...]]) -> Table:
    table = Table(*(Column(heading, no_wrap=True) for heading in headings), box=SIMPLE_HEAD)
    for cells in rows:
        table.add_row(*cells)
    return table


def _note_times(run: Run) -> None:
    if run.is_shared:
        note = (
            "the times are those of the sweep, where answers shared with other points took no time; "
            "results.jsonl has simulated times"
        )
        stderr.print(note, highlight=False, soft_wrap=True)


def _cut(text: str, width: int) -> str:
    line = " ".join(text.split())
    return line if len(line) <= width else f"{line[: width - 1]}…"


def _result(row: dict[str, Any]) -> str:
    if row["finish_reason"] in (None, "failed"):
        return "[red]failed[/red]" if row["finish_reason"] else "[yellow]no end[/yellow]"
    verdict = {True: "[green]right[/green]", False: "[red]wrong[/red]", None: "not graded"}[row["right"]]
    return verdict if row["finish_reason"] == "answered" else f"{verdict}, {row['finish_reason']}"


def _show_problem(run: Run, name: str, sample: int | None, as_json: bool) -> int:
    events = list(run.events_of(name))
    found = [problem for problem in histories(events) if sample in (None, problem.key[1])]
    if not found:
        which = "" if sample is None else f", sample {sample}"
        raise RunError(f"{run.path} has no problem {name!r}{which}; arbiter show {run.path.parent} lists them")
    grades = grades_in(events)
    for problem in found:
        if as_json:
            _write(stories(problem))
        else:
            _print_problem(problem, grades.get(problem.key))
    if not as_json:
        _note_times(run)
    _note_end(0, [event.kind for event in events if event.problem is None][-1] == "run_ended")
    return 0


def _print_problem(problem: ProblemHistory, grade: Graded | None) -> None:
    number = f", sample {problem.key[1]}" if problem.key[1] else ""
    taken = "" if problem.end is None else f"; {seconds(problem.end.seconds)} s"
    _say(f"[bold]{escape(problem.key[0])}{number}[/bold]  {escape(result_of(problem, grade))}{taken}")
    task = problem.task
    if task.rules is not None and task.rules.tools:
        _say(f"[dim]tools: {escape(', '.join(tool.name for tool in task.rules.tools))}[/dim]")
    for line in turn_lines(task.turns):
        _say(f"[dim]{escape(_indented(line))}[/dim]")
    _say(escape(task.question))
    for line in turn_lines(task.after):
        _say(f"[dim]{escape(_indented(line))}[/dim]")
    _say("")
    for story in stories(problem):
        _print_step(story)
    for line in failures(problem):
        _say(f"[red]failed request:[/red] {escape(line)}")


def _print_step(story: Story) -> None:
    colour, retries = _COLOURS[story.author], f", {story.retries} retries" if story.retries else ""
    _say(f"[{colour}]{story.step + 1}  {story.author}[/{colour}]  {escape(story.decision)}")
    _say(f"   [{colour}]{escape(_indented(story.text))}[/{colour}]")
    if story.other is not None and story.other_text is not None:
        _say(f"   [dim]the {story.other} proposed:[/dim] {escape(_indented(story.other_text))}")
    _say(f"   [dim]{story.tokens} tokens{_spent(story.times)}{retries}[/dim]\n")


def _spent(times: StepTimes | None) -> str:
    if times is None:
        return ""
    parts = {"queue": times.queue, "draft": times.draft, "score": times.score, "target": times.target}
    detail = ", ".join(f"{name} {seconds(taken)}" for name, taken in parts.items() if taken >= _NOTICED)
    return f", {seconds(times.total)} s ({detail})" if detail else f", {seconds(times.total)} s"


def _indented(text: str) -> str:
    return text.replace("\n", "\n   ")


def _follow(run: Run, problem: str | None) -> int:
    """Print a line when a problem ends; for the given ``problem`` alone, also a line per step."""
    for event in run.follow():
        if problem is not None and event.problem != problem:
            continue
        number = f"#{event.sample}" if event.sample else ""
        match event.payload:
            case ProblemEnded(finish_reason=finish, steps=steps, error=error):
                why = f": {error}" if error else ""
                _print(f"{event.mono:9.2f} s  {event.problem}{number}  {finish}{why}, {steps} steps")
            case Graded(right=right, answer=answer):
                verdict = {True: "right", False: "wrong", None: "not graded"}[right]
                _print(f"{event.mono:9.2f} s  {event.problem}{number}  {verdict}: {answer or 'no answer'}")
            case RunEnded(interrupted=interrupted):
                _print(f"{event.mono:9.2f} s  the run {'was interrupted' if interrupted else 'has ended'}")
            case CallGenerated(text=text) if problem is not None:
                _print(f"{event.mono:9.2f} s  step {(event.step or 0) + 1}, {event.actor}: {text}")
            case StepAcceptedEvent(verdict=verdict) if problem is not None:
                _print(f"{event.mono:9.2f} s  step {(event.step or 0) + 1}: {verdict}")
            case EscalateStepEvent(rejects=True) if problem is not None:
                _print(f"{event.mono:9.2f} s  step {(event.step or 0) + 1}: escalated")
            case _:
                pass
    return 0


def _write(rows: Iterable[Any]) -> None:
    for row in rows:
        write_json(row)


def _print(line: str) -> None:
    stdout.print(line, markup=False, highlight=False, soft_wrap=True)


def _say(markup: str) -> None:
    stdout.print(markup, highlight=False, soft_wrap=True)
