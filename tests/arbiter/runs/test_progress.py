"""Progress of a benchmark, on a terminal and elsewhere."""

import io
import re
from collections.abc import Callable
from contextlib import suppress

import pytest
from rich.console import Console

from arbiter.actors.slots import Occupancy
from arbiter.config.config import Config, parse
from arbiter.protocols.records import Candidate, Solution, StepRecord
from arbiter.runs.progress import LiveWatcher, PlainWatcher, ProgressCounts
from arbiter.runs.results import Result

Configs = Callable[..., Config]
Candidates = Callable[..., Candidate]
Solutions = Callable[..., Solution]
Results = Callable[..., Result]


def plain(config: Config, results: list[Result]) -> list[str]:
    """Return the lines printed during a run."""
    text = io.StringIO()
    watcher = PlainWatcher(Console(file=text, width=200))
    watcher.loading(config)
    watcher.started(len(results), [])
    for result in results:
        watcher.solved(result)
    return text.getvalue().splitlines()


def test_loading_is_told_with_the_run_type(a_config: Configs) -> None:
    named = "draft nowhere, prm nowhere, target nowhere"
    [line] = plain(a_config(run_type="oracle"), [])
    assert line.startswith("loading models for oracle: ")
    assert sorted(line.partition(": ")[2].split(", ")) == named.split(", ")


@pytest.mark.parametrize(("problems", "lines"), [(1, 1), (7, 7), (10, 10), (100, 10), (1000, 10)])
def test_a_run_of_any_length_is_told_in_ten_lines_at_the_most(
    a_config: Configs, a_result: Results, problems: int, lines: int
) -> None:
    assert len(plain(a_config(), [a_result()] * problems)) == 1 + lines


@pytest.mark.parametrize("problems", [1, 9, 11, 19, 25, 99])
def test_the_last_line_tells_the_end(a_config: Configs, a_result: Results, problems: int) -> None:
    *_, last = plain(a_config(), [a_result()] * problems)
    assert last.startswith(f"{problems}/{problems}  accuracy 100.0%")


def test_a_line_tells_accuracy_acceptance_and_failures(
    a_result: Results, a_solution: Solutions, a_candidate: Candidates
) -> None:
    replaced = StepRecord((a_candidate("draft"), a_candidate("target")), 1, "escalate")
    request_counts = ProgressCounts()
    for result in (
        a_result(True),
        a_result(False, solution=a_solution("q", replaced)),
        a_result(None, finish_reason="failed", error="boom"),
    ):
        request_counts.add(result)
    assert request_counts.line().startswith("accuracy 50.0%  acceptance 66.7%  ")
    assert request_counts.line().endswith("  1 failed")


def test_a_line_before_any_problem_has_no_shares() -> None:
    assert ProgressCounts().line() == "accuracy –  acceptance –  0.0 steps/s  0 tokens/s"


def test_tokens_count_those_of_every_model(a_result: Results) -> None:
    request_counts = ProgressCounts()
    request_counts.add(a_result())
    request_counts.add(a_result())
    assert (request_counts.steps, request_counts.tokens, request_counts.solved) == (2, 6, 2)


def test_a_terminal_sees_one_line_that_ends_with_the_figures(a_config: Configs, a_result: Results) -> None:
    text = io.StringIO()
    console = Console(file=text, width=200, force_terminal=True, color_system=None, _environ={"TERM": "xterm"})
    with LiveWatcher(console) as watcher:
        watcher.loading(a_config(run_type="oracle"))
        watcher.started(3, [])
        for right in (True, True, False):
            watcher.solved(a_result(right))
    *_, last = [line for line in text.getvalue().splitlines() if "oracle" in line]
    assert "3/3" in last
    assert "accuracy 66.7%  acceptance 100.0%" in last


def test_a_terminal_has_its_cursor_back_after_an_error(a_config: Configs) -> None:
    text = io.StringIO()
    console = Console(file=text, force_terminal=True, _environ={"TERM": "xterm"})
    with suppress(ValueError), LiveWatcher(console) as watcher:
        watcher.loading(a_config())
        raise ValueError("the run fell over")
    hidden, shown = text.getvalue().rfind("\x1b[?25l"), text.getvalue().rfind("\x1b[?25h")
    assert 0 <= hidden < shown


def test_each_cause_of_failure_is_told_once_and_at_most_five_of_them(a_config: Configs, a_result: Results) -> None:
    errors = [f"cause [{index // 2}]" for index in range(20)]
    lines = plain(a_config(), [a_result(None, finish_reason="failed", error=error) for error in errors])
    assert [line for line in lines if "cause" in line] == [f"p failed: cause [{index}]" for index in range(5)]


def test_a_terminal_is_told_a_cause_above_its_line(a_config: Configs, a_result: Results) -> None:
    text = io.StringIO()
    with LiveWatcher(Console(file=text, force_terminal=True, width=200)) as watcher:
        watcher.loading(a_config())
        watcher.started(2, [])
        watcher.solved(a_result(None, finish_reason="failed", error="boom"))
    assert "p failed: boom" in text.getvalue()


def test_a_run_that_is_continued_is_told_with_what_is_there_and_counts_on(a_config: Configs, a_result: Results) -> None:
    text = io.StringIO()
    watcher = PlainWatcher(Console(file=text, width=200))
    watcher.notice("resuming the run")
    watcher.started(4, [a_result(False), a_result(False)])
    watcher.solved(a_result())
    watcher.solved(a_result())
    first, *_, last = text.getvalue().splitlines()
    assert first == "resuming the run"
    assert last.startswith("4/4  accuracy 50.0%")


def test_a_terminal_is_told_that_a_run_is_continued_and_counts_on(a_config: Configs, a_result: Results) -> None:
    text = io.StringIO()
    console = Console(file=text, width=200, force_terminal=True, color_system=None, _environ={"TERM": "xterm"})
    with LiveWatcher(console) as watcher:
        watcher.loading(a_config(run_type="oracle"))
        watcher.notice("resuming the run")
        watcher.started(2, [a_result(False)])
        watcher.solved(a_result())
    assert "resuming the run" in text.getvalue()
    *_, last = [line for line in text.getvalue().splitlines() if "oracle" in line]
    assert "2/2" in last
    assert "accuracy 50.0%" in last


def test_loading_names_the_address_of_a_served_model() -> None:
    served = {"backend": "http", "model": "qwen", "prompt": "{question}", "url": "http://localhost:1"}
    config = parse({"run_type": "draft", "models": {"draft": served}}, "test")
    assert plain(config, []) == ["loading models for draft: draft qwen at http://localhost:1"]


def on_a_terminal(width: int, *calls: Callable[[LiveWatcher], object]) -> list[str]:
    """Return the lines that a terminal of this width shows after ``calls``."""
    text = io.StringIO()
    console = Console(file=text, width=width, color_system=None)
    watcher = LiveWatcher(console)
    for call in calls:
        call(watcher)
    console.print(watcher)
    return [line.rstrip() for line in text.getvalue().splitlines()]


def busy(**requests: int) -> dict[str, Occupancy]:
    return {name: Occupancy(taken=1, waiting=count - 1, limit=1) for name, count in requests.items()}


@pytest.mark.parametrize("width", [40, 60, 80, 120, 200])
def test_every_width_has_the_bar_the_count_and_the_time_left(
    width: int, a_config: Configs, a_result: Results, a_solution: Solutions
) -> None:
    first, *others = on_a_terminal(
        width,
        lambda watcher: watcher.loading(a_config(run_type="confidence")),
        lambda watcher: watcher.started(1000, []),
        lambda watcher: watcher.solving(lambda: busy(draft=50, target=14)),
        lambda watcher: watcher.kept("q", 0, a_solution().steps[0]),
        lambda watcher: watcher.solved(a_result()),
    )
    assert first.startswith("confidence ──────────")
    assert re.search(r" 1/1000 \d+:\d\d left", first)
    shown = " ".join([first, *others])
    assert all(part in shown for part in ("accuracy 100.0%", "acceptance 100.0%", "steps/s", "tokens/s"))
    assert "64 in flight, at draft 50, target 14" in shown
    assert all(len(line) <= width for line in (first, *others))
    assert (width < 200) == bool(others)


def test_the_progress_moves_while_the_first_problem_is_being_solved(
    a_config: Configs, a_solution: Solutions, a_candidate: Candidates
) -> None:
    step = StepRecord((a_candidate("draft"), a_candidate("target")), 1, "escalate")
    [line] = on_a_terminal(
        200,
        lambda watcher: watcher.loading(a_config()),
        lambda watcher: watcher.started(3, []),
        lambda watcher: watcher.kept("p", 0, a_solution().steps[0]),
        lambda watcher: watcher.kept("p", 0, step),
    )
    assert " 0/3 -:-- left  accuracy –  acceptance 50.0%  " in line
    assert "3 in flight" in line
    assert " 0.0 steps/s" not in line


def test_steps_of_an_unfinished_problem_are_counted_once(
    a_result: Results, a_solution: Solutions, a_candidate: Candidates
) -> None:
    counts, steps = ProgressCounts(), [StepRecord((a_candidate(),), 0)] * 2
    for step in steps:
        counts.keep("p", 0, step)
    assert (counts.steps, counts.accepted, counts.tokens) == (2, 2, 6)
    counts.add(a_result(solution=a_solution("p", *steps)))
    assert (counts.steps, counts.accepted, counts.tokens) == (2, 2, 3)  # the result has one request of three tokens


def test_a_pipe_gets_a_line_a_minute_while_no_problem_ends(
    a_config: Configs, a_solution: Solutions, monkeypatch: pytest.MonkeyPatch
) -> None:
    now = [100.0]
    monkeypatch.setattr("time.monotonic", lambda: now[0])
    text = io.StringIO()
    watcher = PlainWatcher(Console(file=text, width=200))
    watcher.loading(a_config())
    watcher.started(2, [])
    for seconds in (30.0, 31.0, 30.0, 31.0):
        now[0] += seconds
        watcher.kept("p", 0, a_solution().steps[0])
    _, *lines = text.getvalue().splitlines()
    assert [line.partition("  ")[0] for line in lines] == ["0/2", "0/2"]
    assert all("2 in flight" in line for line in lines)


def test_rates_are_those_of_the_session(a_result: Results) -> None:
    assert "  0.0 steps/s  0 tokens/s" in ProgressCounts([a_result()] * 5).line()


def test_a_sweep_names_the_models_of_all_its_run_types(a_config: Configs) -> None:
    config = a_config(run_type="draft")
    tables = {name: table for name, table in a_config(run_type="oracle").called_tables().items() if table is not None}
    text = io.StringIO()
    PlainWatcher(Console(file=text, width=200)).loading(config, tables)
    assert text.getvalue().startswith("loading models for the sweep: ")
    assert all(f"{name} nowhere" in text.getvalue() for name in ("draft", "target", "prm"))
    first, *_ = on_a_terminal(
        60, lambda watcher: watcher.loading(config, tables), lambda watcher: watcher.started(3, [])
    )
    assert first.startswith("sweep ─")


def test_a_notice_on_a_terminal_breaks_between_words() -> None:
    text, line = io.StringIO(), "10 problems, at most 128 at a time; limits of a problem: 12 steps, 300 tokens"
    LiveWatcher(Console(file=text, width=60, force_terminal=True, color_system=None)).notice(line)
    first, second = text.getvalue().splitlines()
    assert " ".join([first.rstrip(), second.rstrip()]) == line


def test_a_narrow_terminal_has_the_names_of_all_models_that_are_loaded(a_config: Configs) -> None:
    lines = on_a_terminal(40, lambda watcher: watcher.loading(a_config(run_type="oracle")))
    assert len(lines) > 1
    assert all(f"{name} nowhere" in " ".join(lines) for name in ("draft", "target", "prm"))
