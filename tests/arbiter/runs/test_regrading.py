"""Grading a run folder again: new grades, a new summary, nothing lost."""

import subprocess
from collections.abc import Callable
from pathlib import Path

import msgspec
import pytest
from anyio.from_thread import start_blocking_portal

from arbiter.config.config import Config
from arbiter.data import Problem
from arbiter.grading import Grade
from arbiter.grading.answers import Reference
from arbiter.grading.math_grader import VERSION
from arbiter.log.checksums import of_document
from arbiter.log.run import Run
from arbiter.protocols.errors import RunError
from arbiter.protocols.model_traits import KVMemory
from arbiter.protocols.records import Candidate, Solution, StepRecord
from arbiter.runs.folder import open_run, read_records
from arbiter.runs.regrading import GradeChange, regrade
from arbiter.runs.results import Result, Summary, summary_of
from tests.command_line import call_arbiter

Configs = Callable[..., Config]
Solved = Callable[..., Result]

MEMORY = {"draft": KVMemory(300, 1000)}
NO_ANSWER = 'there is no answer: no box, and no phrase such as "The final answer is"'
STALE = Grade(right=None, answer="x", reason="the grader took longer than 20 s")


@pytest.fixture
def solved(a_solution: Callable[..., Solution], a_candidate: Callable[..., Candidate]) -> Solved:
    """Return a result of the problem ``name`` with the solution ``text`` and an outdated grade."""

    def build(name: str, text: str, reference: str | Reference | None = "\\frac{1}{2}", grade: Grade = STALE) -> Result:
        step = StepRecord(candidates=(a_candidate(text=text),), chosen=0)
        return Result(a_solution(name, step), grade, reference)

    return build


def stored(folder: Path, config: Config, *results: Result, finished: bool = True) -> Path:
    """Write a run folder with its log as a run writes it, without an end if the run was killed."""

    async def write() -> None:
        problems = [Problem(one.solution.problem, one.solution.question, one.reference) for one in results]
        async with open_run(config, problems, folder) as run:
            for result in results:
                await run.add(result)
            if finished:
                summary = summary_of(config, results, wall_seconds=12.5)
                await run.finish(msgspec.structs.replace(summary, kv_memory=MEMORY))

    with start_blocking_portal() as portal:  # some callers are in an event loop
        portal.call(write)
    return folder


def read_back(folder: Path) -> tuple[list[Grade], Summary]:
    grades = [result.grade for result in read_records(folder / "results.jsonl", Result)]
    return grades, msgspec.json.decode(of_document((folder / "summary.json").read_bytes()), type=Summary)


async def refusal(folder: Path) -> str:
    with pytest.raises(RunError) as caught:
        await regrade(folder)
    return str(caught.value)


@pytest.mark.asyncio
@pytest.mark.slow
async def test_grades_and_summary_are_replaced_and_the_changes_told(
    tmp_path: Path, a_config: Configs, solved: Solved
) -> None:
    good = Grade(right=True, answer="\\frac{1}{2}")
    results = solved("a", "\\boxed{0.5}"), solved("b", "\\boxed{\\frac{1}{2}}", grade=good), solved("c", "none")
    folder = stored(tmp_path / "run", a_config(), *results)
    calls: list[tuple[int, int]] = []
    regraded = await regrade(folder, lambda done, of: calls.append((done, of)))
    right, missing = Grade(right=True, answer="0.5", found_by="box"), Grade(right=False, reason=NO_ANSWER)
    assert regraded.changes == (GradeChange("a", 0, STALE, right), GradeChange("c", 0, STALE, missing))
    grades, summary = read_back(folder)
    assert grades == [right, msgspec.structs.replace(good, found_by="box"), missing]
    assert summary == regraded.summary
    assert (summary.grader, summary.found_by) == (f"math {VERSION}", {"box": 2, "no answer": 1})
    assert (summary.graded, summary.accuracy, summary.wall_seconds, summary.interrupted) == (3, 2 / 3, 12.5, False)
    assert summary.kv_memory == MEMORY
    assert calls == [(1, 3), (2, 3), (3, 3)]


@pytest.mark.asyncio
@pytest.mark.slow
async def test_all_but_the_grades_stays_as_it_was(tmp_path: Path, a_config: Configs, solved: Solved) -> None:
    result = solved("a", "\\boxed{2, 1}", Reference(("1", "2"), "km", (0.1,)))
    folder = stored(tmp_path / "run", a_config(), result)
    names = {path.name for path in folder.iterdir()}
    await regrade(folder)
    [after] = read_records(folder / "results.jsonl", Result)
    assert msgspec.structs.replace(after, grade=STALE, grader=1) == result
    assert {path.name for path in folder.iterdir()} == names


@pytest.mark.asyncio
@pytest.mark.slow
async def test_new_grades_are_in_the_log_from_which_a_run_is_continued(
    tmp_path: Path, a_config: Configs, solved: Solved
) -> None:
    folder = stored(tmp_path / "run", a_config(), solved("a", "\\boxed{0.5}"), solved("b", "\\boxed{2}"))
    await regrade(folder)
    grades = Run.open(folder).grades()
    assert [(key, grade.right, grade.answer) for key, grade in grades.items()] == [
        (("a", 0), True, "0.5"),
        (("b", 0), False, "2"),
    ]


@pytest.mark.asyncio
async def test_a_run_without_texts_is_not_graded_again(tmp_path: Path, a_config: Configs, solved: Solved) -> None:
    folder = stored(tmp_path / "run", a_config(log={"record": "redacted"}), solved("a", "\\boxed{0.5}"))
    assert "it has no text to grade" in await refusal(folder)


@pytest.mark.asyncio
@pytest.mark.slow
async def test_grading_twice_changes_nothing_more(tmp_path: Path, a_config: Configs, solved: Solved) -> None:
    folder = stored(tmp_path / "run", a_config(), solved("a", "\\boxed{0.5}"))
    await regrade(folder)
    written = (folder / "results.jsonl").read_bytes(), (folder / "summary.json").read_bytes()
    assert (await regrade(folder)).changes == ()
    assert written == ((folder / "results.jsonl").read_bytes(), (folder / "summary.json").read_bytes())


@pytest.mark.asyncio
@pytest.mark.slow
async def test_a_run_that_was_killed_gets_a_summary_without_its_half_written_line(
    tmp_path: Path, a_config: Configs, solved: Solved
) -> None:
    folder = stored(tmp_path / "run", a_config(), solved("a", "\\boxed{0.5}"), finished=False)
    with (folder / "results.jsonl").open("ab") as file:
        file.write(b'{"solution": {"prob')
    regraded = await regrade(folder)
    assert regraded.torn
    grades, summary = read_back(folder)
    assert [grade.right for grade in grades] == [True]
    assert (summary.problems, summary.interrupted, summary.wall_seconds) == (1, True, None)


@pytest.mark.asyncio
async def test_a_line_that_cannot_be_read_is_told_and_nothing_is_changed(
    tmp_path: Path, a_config: Configs, solved: Solved
) -> None:
    folder = stored(tmp_path / "run", a_config(), solved("a", "\\boxed{0.5}"))
    path = folder / "results.jsonl"
    path.write_bytes(path.read_bytes() + b'{"grade": 3}\n')
    before = path.read_bytes()
    assert (await refusal(folder)).startswith(f"{path}, line 2: ")
    assert path.read_bytes() == before


@pytest.mark.asyncio
async def test_a_doubled_line_is_refused_with_both_numbers_and_nothing_is_changed(
    tmp_path: Path, a_config: Configs, solved: Solved
) -> None:
    folder = stored(tmp_path / "run", a_config(), solved("a", "\\boxed{0.5}"), solved("b", "\\boxed{1}"))
    path = folder / "results.jsonl"
    first, second = path.read_bytes().splitlines(keepends=True)
    path.write_bytes(first + second + first)
    assert await refusal(folder) == (
        f"{path}, line 3: it has sample 0 of the problem 'a', as line 1 has: it would count twice; remove one of the "
        "two lines"
    )
    assert path.read_bytes() == first + second + first


@pytest.mark.asyncio
@pytest.mark.slow
async def test_a_summary_that_cannot_be_read_is_told(tmp_path: Path, a_config: Configs, solved: Solved) -> None:
    folder = stored(tmp_path / "run", a_config(), solved("a", "\\boxed{0.5}"))
    (folder / "summary.json").write_bytes(b"{")
    assert (await refusal(folder)).startswith(f"{folder / 'summary.json'}: Input data was truncated; restore it ")


@pytest.mark.asyncio
@pytest.mark.slow
async def test_a_run_that_is_still_written_is_left_alone(tmp_path: Path, a_config: Configs, solved: Solved) -> None:
    folder = stored(tmp_path / "run", a_config(), solved("a", "\\boxed{0.5}"))
    path = folder / "results.jsonl"

    def one_more(done: int, of: int) -> None:
        path.write_bytes(path.read_bytes() * 2)

    with pytest.raises(RunError, match="changed during grading: is the run still in progress"):
        await regrade(folder, one_more)
    assert [result.grade for result in read_records(path, Result)] == [STALE, STALE]


@pytest.mark.asyncio
async def test_a_folder_without_a_run_is_named(tmp_path: Path) -> None:
    assert (await refusal(tmp_path / "none")).startswith(f"there is no run folder {str(tmp_path / 'none')!r}; ")
    assert await refusal(tmp_path) == (
        f"{str(tmp_path)!r} is not a run folder: it has no config.toml; name a folder that `arbiter bench` wrote"
    )


@pytest.mark.asyncio
async def test_a_run_without_results_is_named(tmp_path: Path, a_config: Configs) -> None:
    folder = stored(tmp_path / "run", a_config())
    (folder / "results.jsonl").unlink()
    assert await refusal(folder) == f"cannot read {folder / 'results.jsonl'}: No such file or directory"


def called(*arguments: str) -> subprocess.CompletedProcess[str]:
    return call_arbiter("grade", *arguments)


@pytest.mark.slow
def test_the_command_tells_each_change(tmp_path: Path, a_config: Configs, solved: Solved) -> None:
    folder = stored(tmp_path / "run", a_config(), solved("a", "\\boxed{0.5}"), solved("b [x]", "\\boxed{3}"))
    ended = called(str(folder))
    assert (ended.returncode, ended.stderr) == (0, "")
    assert ended.stdout.splitlines() == [
        "a: ungraded (the grader took longer than 20 s) → right",
        "b [x]: ungraded (the grader took longer than 20 s) → wrong (the right answer is \\frac{1}{2})",
        f"2 of 2 verdicts changed; 2 graded, 0 failed, accuracy 50.0% (math {VERSION})",
    ]


@pytest.mark.slow
def test_the_command_prints_json_alone_where_that_is_asked_for(
    tmp_path: Path, a_config: Configs, solved: Solved
) -> None:
    folder = stored(tmp_path / "run", a_config(), solved("a", "\\boxed{0.5}"))
    ended = called(str(folder), "--json")
    written = msgspec.json.decode(ended.stdout, type=dict[str, object])
    assert (ended.returncode, written["run"], written["torn"]) == (0, str(folder), False)
    assert written["changes"] == [
        {
            "problem": "a",
            "sample": 0,
            "before": msgspec.to_builtins(STALE),
            "after": {"right": True, "answer": "0.5", "reason": None, "found_by": "box"},
        }
    ]


def test_the_command_tells_an_error_in_a_line(tmp_path: Path) -> None:
    ended = called(str(tmp_path))
    assert (ended.returncode, ended.stdout) == (2, "")
    assert ended.stderr == (
        f"error: {str(tmp_path)!r} is not a run folder: it has no config.toml; "
        "name a folder that `arbiter bench` wrote\n"
    )
