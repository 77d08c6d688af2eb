"""Runs with each grader: graded, continued, graded again and replayed, each time by the grader of the run."""

import importlib.metadata
import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import anyio
import msgspec
import pytest

from arbiter.actors.ring_setup import Models
from arbiter.backends.opening import AnswerForm
from arbiter.backends.scripted import ScriptedGenerator, ScriptedScorer
from arbiter.config.config import Config
from arbiter.data import Problem
from arbiter.grading import Grade, GradingRequest
from arbiter.grading.found_graders import GROUP, find_grader
from arbiter.grading.grader import FunctionGrader
from arbiter.log.run import Run
from arbiter.protocols.errors import ConfigError, RunError
from arbiter.protocols.ports import Generation, GenerationRequest, ModelHandle, ScoreRequest
from arbiter.protocols.records import Solution, Usage
from arbiter.replay.whatif import what_if
from arbiter.runs.bench import configured_problems, run_problems
from arbiter.runs.file_checks import check_files
from arbiter.runs.folder import open_run, read_results
from arbiter.runs.graders import Graders, open_graders
from arbiter.runs.regrading import regrade
from arbiter.runs.results import Summary
from benchmarks.silent_watcher import SilentWatcher

Configs = Callable[..., Config]

OWN = '''"""A grader that reads the row."""

from arbiter import Grade


def by_row(request):
    right = request.row["right"] in request.text
    return Grade(right, request.text, None if right else "not " + request.row["right"])


async def by_question(request):
    return request.question in request.text


def broken(request):
    raise LookupError("no such thing")


def odd(request):
    return "yes"


by_row.version = 3
'''


def answering(text: str) -> Models:
    def write(request: GenerationRequest) -> Generation:
        return Generation(text, "end", Usage(5, 3))

    return Models(draft=ModelHandle(ScriptedGenerator(write)))


async def solved(config: Config, problems: Sequence[Problem], out: Path, text: str = "\\boxed{B}") -> Summary:
    async with open_graders(config) as graders, open_run(config, problems, out) as folder:
        return await run_problems(config, problems, answering(text), folder, SilentWatcher(), graders=graders)


def with_grader(a_config: Configs, grader: str | None, **data: object) -> Config:
    chosen = {} if grader is None else {"grader": grader}
    return a_config(run_type="draft", data={**chosen, **data})


CHOICES = [Problem("p", "Which?", "B", choices=("red", "blue"))]


@pytest.fixture
def own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    """The name of a module with graders, which is in the current folder."""
    name = f"graders_of_{tmp_path.name.replace('-', '_')}"
    (tmp_path / f"{name}.py").write_text(OWN)
    monkeypatch.chdir(tmp_path)
    return name


def rows(folder: Path, *each: dict[str, Any]) -> str:
    path = folder / "rows.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in each))
    return str(path)


@pytest.mark.asyncio
@pytest.mark.parametrize(
    ("grader", "problem", "text", "name"),
    [
        (None, Problem("p", "q", "2"), "\\boxed{2}", "math 2"),
        ("math", Problem("p", "q", "2"), "\\boxed{2}", "math 2"),
        (None, CHOICES[0], "The answer is (B) blue.", "choice 1"),
        ("math", CHOICES[0], "\\boxed{B}", "math 2"),
        ("choice", Problem("p", "q", "G"), "The answer is **G**.", "choice 1"),
        ("text", Problem("p", "q", "[1, 2]"), "\\boxed{1, 2}", "text 1"),
    ],
)
async def test_a_run_names_its_grader_and_is_continued_and_graded_again_by_it(
    a_config: Configs, tmp_path: Path, grader: str | None, problem: Problem, text: str, name: str
) -> None:
    config = with_grader(a_config, grader)
    summary = await solved(config, [problem], tmp_path, text)
    assert (summary.accuracy, summary.grader) == (1.0, name)
    [before], _ = read_results(tmp_path / "results.jsonl")
    assert f"{before.grader_name} {before.grader}" == name
    again = await solved(config, [problem], tmp_path, "never asked")
    assert (again.accuracy, again.grader, read_results(tmp_path / "results.jsonl")[0]) == (1.0, name, [before])
    regraded = await regrade(tmp_path)
    assert (regraded.changes, regraded.summary.grader) == ((), name)
    assert read_results(tmp_path / "results.jsonl")[0] == [before]
    assert [file.error for file in check_files(tmp_path)] == [None] * len(list(check_files(tmp_path)))


@pytest.mark.asyncio
async def test_a_run_whose_grader_needs_no_more_than_the_results_has_no_other_file(
    a_config: Configs, tmp_path: Path
) -> None:
    await solved(with_grader(a_config, None), [Problem("p", "q", "2")], tmp_path)
    assert not (tmp_path / "problems.jsonl").exists()
    assert "data.grader" not in Run.open(tmp_path).started.identity


@pytest.mark.asyncio
async def test_problems_with_and_without_choices_are_graded_by_two_graders(a_config: Configs, tmp_path: Path) -> None:
    config, given = with_grader(a_config, None), [*CHOICES, Problem("n", "q", "B")]
    summary = await solved(config, given, tmp_path)
    assert (summary.accuracy, summary.grader) == (1.0, "choice 1, math 2")
    assert Run.open(tmp_path).started.identity["data.grader"] == "choice and math"
    assert (await regrade(tmp_path)).summary.grader == "choice 1, math 2"


@pytest.mark.asyncio
async def test_a_run_is_not_continued_with_another_grader_and_the_message_has_the_way_out(
    a_config: Configs, tmp_path: Path
) -> None:
    given = [Problem("p", "q", "B")]
    await solved(with_grader(a_config, "text"), given, tmp_path)
    with pytest.raises(RunError) as caught:
        await solved(with_grader(a_config, "choice"), given, tmp_path)
    assert 'data.grader: "text" in the run, "choice" now' in str(caught.value)
    assert "Choose another folder with --out" in str(caught.value)
    stored = tmp_path / "config.toml"
    stored.write_text(stored.read_text().replace('grader = "text"', 'grader = "choice"'))
    with pytest.raises(RunError, match=r'data\.grader: "text" in the log, "choice" in config.toml'):
        await regrade(tmp_path)


@pytest.mark.asyncio
async def test_the_usual_grader_may_be_written_out_in_a_run_that_is_continued(
    a_config: Configs, tmp_path: Path
) -> None:
    given = [Problem("p", "q", "2")]
    await solved(with_grader(a_config, None), given, tmp_path, "\\boxed{2}")
    assert (await solved(with_grader(a_config, "math"), given, tmp_path)).accuracy == 1.0


@pytest.mark.asyncio
async def test_your_own_grader_reads_the_row_also_when_the_data_is_gone(
    a_config: Configs, tmp_path: Path, own: str
) -> None:
    source = rows(tmp_path, {"question": "a", "right": "blue", "n": 1}, {"question": "b", "right": "red"})
    config = with_grader(a_config, f"{own}:by_row", source=source)
    given = configured_problems(config)
    assert [problem.row for problem in given] == [
        {"question": "a", "right": "blue", "n": 1},
        {"question": "b", "right": "red"},
    ]
    summary = await solved(config, given, tmp_path / "run", "It is blue")
    assert (summary.accuracy, summary.grader, summary.ungraded) == (0.5, f"{own}:by_row 3", {})
    await anyio.Path(source).unlink()
    assert (await regrade(tmp_path / "run")).changes == ()
    results, _ = read_results(tmp_path / "run" / "results.jsonl")
    grades = {one.solution.question: (one.grade.right, one.grade.reason) for one in results}
    assert grades == {"a": (True, None), "b": (False, "not red")}


def test_rows_are_kept_only_for_graders_that_read_them(a_config: Configs, tmp_path: Path) -> None:
    source = rows(tmp_path, {"question": "a", "answer": "1", "more": 2})
    assert [problem.row for problem in configured_problems(with_grader(a_config, "text", source=source))] == [{}]


@pytest.mark.asyncio
async def test_a_change_of_a_row_that_the_grader_reads_makes_another_run(
    a_config: Configs, tmp_path: Path, own: str
) -> None:
    for right in ("blue", "red"):
        source = rows(tmp_path, {"question": "a", "right": right})
        config = with_grader(a_config, f"{own}:by_row", source=source)
        if right == "blue":
            await solved(config, configured_problems(config), tmp_path / "run")
            continue
        with pytest.raises(RunError, match=r"data\.digest"):
            await solved(config, configured_problems(config), tmp_path / "run")


@pytest.mark.asyncio
@pytest.mark.parametrize(
    ("function", "grade"),
    [
        ("by_question", Grade(True)),
        ("broken", Grade(None, reason="the grader {} failed: LookupError: no such thing")),
        ("odd", Grade(None, reason="the grader {} returned 'yes', which is neither a Grade nor a bool")),
    ],
)
async def test_a_function_may_wait_and_one_that_fails_leaves_the_answer_ungraded(
    own: str, function: str, grade: Grade
) -> None:
    name = f"{own}:{function}"
    expected = msgspec.structs.replace(grade, reason=grade.reason and grade.reason.format(name))
    assert await find_grader(name).grade(GradingRequest("a text", question="a")) == expected


def test_a_grader_is_found_by_the_name_of_an_entry_point(own: str, monkeypatch: pytest.MonkeyPatch) -> None:
    point = importlib.metadata.EntryPoint("by-row", f"{own}:by_row", GROUP)

    def installed(**chosen: str) -> list[importlib.metadata.EntryPoint]:
        return [point] if chosen == {"group": GROUP} else []

    monkeypatch.setattr("arbiter.grading.found_graders.entry_points", installed)
    found = find_grader("by-row")
    assert (found.name, found.version) == ("by-row", 3)
    with pytest.raises(
        ConfigError, match=r"use one of math, choice, text, calls, code, judge, by-row, or 'package\.module:function'"
    ):
        find_grader("maths")


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("no_such_module:grade", "cannot be imported: No module named 'no_such_module'"),
        ("json:no_such_function", "cannot be imported: module 'json' has no attribute 'no_such_function'"),
        ("json:__name__", "is str, but it must be a function"),
    ],
)
@pytest.mark.asyncio
async def test_a_grader_that_cannot_be_used_is_refused(a_config: Configs, name: str, message: str) -> None:
    with pytest.raises(ConfigError) as caught:
        async with open_graders(with_grader(a_config, name)):
            pass
    assert message in str(caught.value)


@pytest.mark.asyncio
async def test_without_the_stored_problems_a_run_with_choices_is_not_graded_again(
    a_config: Configs, tmp_path: Path
) -> None:
    await solved(with_grader(a_config, None), CHOICES, tmp_path)
    (tmp_path / "problems.jsonl").unlink()
    with pytest.raises(RunError, match=r"problems\.jsonl is missing, and the grader 'choice' of the run needs it"):
        await regrade(tmp_path)


@pytest.mark.asyncio
async def test_a_stored_problem_that_is_missing_is_named(a_config: Configs, tmp_path: Path) -> None:
    given = [Problem("p", "Which?", "B", choices=("red", "blue")), Problem("q", "Which?", "B", choices=("1", "2"))]
    await solved(with_grader(a_config, None), given, tmp_path)
    path = tmp_path / "problems.jsonl"
    path.write_bytes(path.read_bytes().splitlines(keepends=True)[0])
    with pytest.raises(RunError, match=r"problems\.jsonl lacks the problem 'q'"):
        await regrade(tmp_path)


@pytest.mark.asyncio
async def test_a_damaged_line_of_the_stored_problems_is_named(a_config: Configs, tmp_path: Path) -> None:
    await solved(with_grader(a_config, None), CHOICES, tmp_path)
    path = tmp_path / "problems.jsonl"
    path.write_bytes(path.read_bytes().replace(b"blue", b"blau"))
    with pytest.raises(RunError, match=r"problems\.jsonl, line 1: "):
        await regrade(tmp_path)
    assert [file.name for file in check_files(tmp_path) if file.error] == ["problems.jsonl"]


@pytest.mark.asyncio
async def test_a_run_without_texts_stores_no_problems(a_config: Configs, tmp_path: Path) -> None:
    config = a_config(run_type="draft", log={"record": "redacted"})
    assert (await solved(config, CHOICES, tmp_path)).accuracy == 1.0
    assert not (tmp_path / "problems.jsonl").exists()


class Waiting:
    """A grader that is an object, whose call is asynchronous."""

    async def __call__(self, request: GradingRequest) -> bool:
        return request.text == "a text"


@pytest.mark.asyncio
async def test_an_object_whose_call_is_asynchronous_is_awaited() -> None:
    grader = FunctionGrader("waiting", Waiting())
    assert [(await grader.grade(GradingRequest(text))).right for text in ("a text", "another")] == [True, False]


@pytest.mark.asyncio
async def test_a_failed_problem_is_ungraded_with_its_error_whatever_the_grader() -> None:
    solution = Solution("p", "q", (), "failed", 1.0, {}, error="the draft fell over")
    for grader in (None, FunctionGrader("yes", lambda _: True)):
        result = await Graders(grader).result(solution, Problem("p", "q", "3"), AnswerForm(False, ""))
        assert result.grade == Grade(right=None, reason="the draft fell over")


def an_oracle_run(config: Config, out: Path) -> Run:
    """Record a run whose draft is wrong and kept, and whose target is right."""

    def write(request: GenerationRequest) -> Generation:
        text = "\\boxed{A}" if request.author == "draft" else "The answer is (B) blue."
        return Generation(text, "end", Usage(5, 3))

    def rate(request: ScoreRequest) -> float:
        return 0.9 if request.author == "draft" else 0.1

    async def record() -> None:
        writer = ModelHandle(ScriptedGenerator(write))
        models = Models(writer, writer, {"prm": ModelHandle(ScriptedScorer(rate))})
        async with open_run(config, CHOICES, out) as folder:
            await run_problems(config, CHOICES, models, folder, SilentWatcher())

    anyio.run(record)
    return Run.open(out)


def test_a_what_if_replay_grades_other_texts_with_the_grader_of_the_run(a_config: Configs, tmp_path: Path) -> None:
    before, now = a_config(run_type="oracle"), a_config(run_type="oracle", thresholds={"oracle": -1.0})
    found = what_if(an_oracle_run(before, tmp_path), before, now, {})
    assert (found.exact, found.recorded.accuracy, found.recorded.grader) == (1, 0.0, "choice 1")
    assert (found.replayed.accuracy, found.replayed.grader) == (1.0, "choice 1")


@pytest.mark.parametrize("grader", [None, "text"])
def test_a_what_if_replay_of_a_run_without_texts_has_no_grades_for_other_texts(
    a_config: Configs, tmp_path: Path, grader: str | None
) -> None:
    keys = {"run_type": "oracle", "log": {"record": "redacted"}, "data": {"grader": grader}}
    before, now = a_config(**keys), a_config(**keys, thresholds={"oracle": -1.0})
    run = an_oracle_run(before, tmp_path)
    assert not (tmp_path / "problems.jsonl").exists()
    found = what_if(run, before, now, {})
    assert (found.exact, found.replayed.graded, found.replayed.accuracy) == (1, 0, None)
    assert found.recorded.accuracy == 0.0
    assert found.replayed.acceptance_rate == 0.0
    [reason] = found.replayed.ungraded
    assert "record the run with log.record = 'full'" in reason
    assert what_if(run, before, before, {}).replayed.accuracy == 0.0


def test_a_what_if_replay_needs_the_stored_problems_only_for_other_texts(a_config: Configs, tmp_path: Path) -> None:
    before, now = a_config(run_type="oracle"), a_config(run_type="oracle", thresholds={"oracle": -1.0})
    run = an_oracle_run(before, tmp_path)
    (tmp_path / "problems.jsonl").unlink()
    assert what_if(run, before, before, {}).replayed.accuracy == 0.0
    with pytest.raises(
        RunError, match=r"problems\.jsonl is missing, .* repeat the command of the run with the same --out"
    ):
        what_if(run, before, now, {})
