"""A run that is interrupted anywhere and resumed has the results of an uninterrupted run."""

from collections.abc import Callable
from itertools import pairwise
from pathlib import Path

import msgspec
import pytest

from arbiter.actors.ring_setup import Models
from arbiter.config.config import Config
from arbiter.data import Problem
from arbiter.data.training_rows import TrainingRow
from arbiter.log.reader import LOG, LogFile
from arbiter.log.run import Run
from arbiter.protocols.events import CallCancelled, Event, Outcome
from arbiter.protocols.ports import GenerationRequest, ScoreRequest
from arbiter.protocols.records import Solution
from arbiter.runs.folder import read_records
from arbiter.runs.results import Result

pytestmark = pytest.mark.slow

Configs = Callable[..., Config]
Worlds = Callable[..., Models]
Results = dict[tuple[str, int], Result]
RunIn = Callable[..., Results]

PROBLEMS = [Problem(str(n), f"question {n}", "7") for n in range(3)]
RUN_TYPES = ["draft", "target", "random", "router", "rsd", "confidence", "judge", "oracle", "generate"]
FAILS = 0.15


def a_short_run(a_config: Configs, run_type: str, **keys: object) -> Config:
    limits = {"max_steps": 3, "problems": 2}
    return a_config(run_type=run_type, limits=limits, thresholds={"router": 0.4, "rsd": 0.6}, audit=0.5, **keys)


def answered(log: Path) -> set[str]:
    """The requests whose outcome is in the log."""
    return {
        event.cause or ""
        for event in LogFile(log)
        if isinstance(event.payload, Outcome) and not isinstance(event.payload, CallCancelled)
    }


def cut(whole: bytes, folder: Path, size: int) -> Path:
    """A folder with only the first ``size`` bytes of a log."""
    folder.mkdir()
    log = folder / LOG
    log.write_bytes(whole[:size])
    return log


def ends_of_lines(whole: bytes) -> list[int]:
    return [place + 1 for place, byte in enumerate(whole) if byte == ord("\n")]


def told(log: Path) -> dict[tuple[str, int], Solution | None]:
    return {problem.key: problem.solution() for problem in Run.open(log).problems()}


def stored(folder: Path) -> dict[tuple[str, int], Solution | None]:
    results = read_records(folder / "results.jsonl", Result)
    return {(result.solution.problem, result.solution.sample): result.solution for result in results}


class Asked(list[str]):
    """The requests that reached a model."""

    def __call__(self, request: GenerationRequest | ScoreRequest) -> None:
        self.append(request.call)


@pytest.mark.parametrize("run_type", RUN_TYPES)
def test_a_run_cut_at_any_event_and_continued_is_the_run_that_was_not_cut(
    a_config: Configs, a_world: Worlds, run_in: RunIn, tmp_path: Path, run_type: str
) -> None:
    config = a_short_run(a_config, run_type)
    undisturbed = run_in(tmp_path / "undisturbed", config, a_world(1, FAILS), PROBLEMS)
    whole = (tmp_path / "undisturbed" / LOG).read_bytes()
    for size in ends_of_lines(whole):
        log = cut(whole, tmp_path / str(size), size)
        before, asked = answered(log), Asked()
        continued = run_in(log.parent, config, a_world(1, FAILS, asked=asked), PROBLEMS)
        assert without_chance(continued) == without_chance(undisturbed), size
        logged, kept = told(log), stored(log.parent)
        assert {key: settled(logged[key]) for key in logged} == {key: settled(kept[key]) for key in kept}
        assert before.isdisjoint(asked)
        assert len(set(asked)) == len(asked)
        check_whole(list(LogFile(log)))


@pytest.mark.parametrize("run_type", ["router", "generate"])
def test_a_run_of_several_targets_goes_on_as_the_run_that_was_not_cut(
    a_config: Configs, a_world: Worlds, run_in: RunIn, tmp_path: Path, run_type: str
) -> None:
    model = {"model": "nowhere", "prompt": "{question}"}
    targets = {"small": {**model, "cost": 1.0}, "large": {**model, "cost": 1.5}}
    models = {"draft": model, "prm": model, "router": model, "targets": targets}
    config = a_config(run_type=run_type, models=models, limits={"max_steps": 3}, thresholds={"router": 0.4})
    undisturbed = run_in(tmp_path / "undisturbed", config, a_world(1, several=True), PROBLEMS)
    assert {name for result in undisturbed.values() for name in result.solution.targets} == {"small", "large"}
    whole = (tmp_path / "undisturbed" / LOG).read_bytes()
    for size in ends_of_lines(whole)[::7]:
        log = cut(whole, tmp_path / str(size), size)
        assert run_in(log.parent, config, a_world(1, several=True), PROBLEMS) == undisturbed, size


def test_a_run_with_a_budget_goes_on_by_its_recorded_decisions_and_from_the_threshold_that_it_had_come_to(
    a_config: Configs, a_world: Worlds, run_in: RunIn, tmp_path: Path
) -> None:
    """One problem at a time, so that the order of decisions is the same."""
    config = a_config(run_type="rsd", budget=0.4, limits={"max_steps": 4, "problems": 1})
    undisturbed = run_in(tmp_path / "undisturbed", config, a_world(1), PROBLEMS)
    whole = (tmp_path / "undisturbed" / LOG).read_bytes()
    moved = [at for problem in Run.open(tmp_path / "undisturbed").problems() for at in problem.thresholds().values()]
    assert len(set(moved)) > 3
    for size in ends_of_lines(whole)[::3]:
        log = cut(whole, tmp_path / str(size), size)
        continued = run_in(log.parent, config, a_world(1), PROBLEMS)
        assert continued.keys() == undisturbed.keys()
        before, after = LogFile(tmp_path / "undisturbed" / LOG), list(LogFile(log))
        recorded = [event for event in before if event.seq < whole[:size].count(b"\n")]
        assert [event.payload for event in after[: len(recorded)]] == [event.payload for event in recorded]
        known = [at for event in recorded if (at := getattr(event.payload, "threshold", None)) is not None]
        new = [at for event in after[len(recorded) :] if (at := getattr(event.payload, "threshold", None)) is not None]
        assert not new or new[0] == (known[-1] if known else moved[0])


@pytest.mark.parametrize("run_type", ["router", "generate"])
def test_a_run_cut_in_any_line_and_continued_is_the_run_that_was_not_cut(
    a_config: Configs, a_world: Worlds, run_in: RunIn, tmp_path: Path, run_type: str
) -> None:
    config = a_short_run(a_config, run_type)
    undisturbed = run_in(tmp_path / "undisturbed", config, a_world(2), PROBLEMS)
    whole = (tmp_path / "undisturbed" / LOG).read_bytes()
    starts = [0, *ends_of_lines(whole)]
    for start, end in pairwise(starts):
        size = start + 1 + (start * 7919) % (end - start - 1)  # another position within each line
        log = cut(whole, tmp_path / str(size), size)
        assert run_in(log.parent, config, a_world(2), PROBLEMS) == undisturbed, size
        assert LogFile(log).torn == 0
        check_whole(list(LogFile(log)))


def without_chance(results: Results) -> Results:
    """Results without the parts that depend on chance."""
    return {key: msgspec.structs.replace(result, solution=settled(result.solution)) for key, result in results.items()}


def settled(solution: Solution | None) -> Solution:
    """When a problem fails, the progress of its other requests and its audits depends on chance."""
    assert solution is not None
    if solution.finish_reason != "failed":
        return solution
    steps = tuple(msgspec.structs.replace(step, audit=None) for step in solution.steps)
    return msgspec.structs.replace(solution, steps=steps, requests={})


def check_whole(events: list[Event]) -> None:
    """Check for gapless numbers of lines, times that never go back within a problem, and one end and one last grade
    per problem."""
    numbers = [event.seq for event in events]
    assert numbers == sorted(numbers)
    assert set(numbers) == set(range(numbers[-1] + 1))
    for problem in ("0", "1", "2"):
        times = [event.mono for event in events if event.problem == problem]
        assert times == sorted(times)
    assert len({event.run for event in events}) == 1
    for kind in ("start_problem", "problem_ended", "graded"):
        assert sorted(event.problem or "" for event in events if event.kind == kind) == ["0", "1", "2"]
    assert [event.kind for event in events].count("run_started") in (1, 2)


def test_several_samples_are_continued_one_by_one(
    a_config: Configs, a_world: Worlds, run_in: RunIn, tmp_path: Path
) -> None:
    config = a_short_run(a_config, "rsd", sampling={"samples": 2, "temperature": 0.5})
    undisturbed = run_in(tmp_path / "undisturbed", config, a_world(1), PROBLEMS)
    whole = (tmp_path / "undisturbed" / LOG).read_bytes()
    assert len(undisturbed) == 6
    for size in ends_of_lines(whole)[::3]:
        log = cut(whole, tmp_path / str(size), size)
        before, asked = answered(log), Asked()
        assert run_in(log.parent, config, a_world(1, asked=asked), PROBLEMS) == undisturbed
        assert before.isdisjoint(asked)


def test_a_run_may_be_cut_again_and_again(a_config: Configs, a_world: Worlds, run_in: RunIn, tmp_path: Path) -> None:
    config = a_short_run(a_config, "oracle")
    undisturbed = run_in(tmp_path / "undisturbed", config, a_world(1), PROBLEMS)
    run_in(tmp_path / "cut", config, a_world(1), PROBLEMS)
    log = tmp_path / "cut" / LOG
    for session in range(1, 6):
        log.write_bytes(log.read_bytes()[: 1000 * session])
        assert run_in(tmp_path / "cut", config, a_world(1), PROBLEMS) == undisturbed
    kinds = [event.kind for event in LogFile(log)]
    assert kinds.count("problem_ended") == 3


def test_a_finished_run_is_continued_without_any_request(
    a_config: Configs, a_world: Worlds, run_in: RunIn, tmp_path: Path
) -> None:
    asked, config = Asked(), a_short_run(a_config, "oracle")
    first = run_in(tmp_path, config, a_world(1), PROBLEMS)
    assert run_in(tmp_path, config, a_world(1, asked=asked), PROBLEMS) == first
    assert asked == []


def test_a_request_that_failed_before_the_cut_fails_again_without_being_made(
    a_config: Configs, a_world: Worlds, run_in: RunIn, tmp_path: Path
) -> None:
    config = a_short_run(a_config, "draft")
    undisturbed = run_in(tmp_path / "undisturbed", config, a_world(1, fails=1.0), PROBLEMS[:1])
    whole = (tmp_path / "undisturbed" / LOG).read_bytes()
    [failure] = [event.seq for event in LogFile(tmp_path / "undisturbed" / LOG) if event.kind == "call_failed"]
    log, asked = cut(whole, tmp_path / "cut", ends_of_lines(whole)[failure]), Asked()
    assert run_in(log.parent, config, a_world(1, fails=0.0, asked=asked), PROBLEMS[:1]) == undisturbed
    assert asked == []
    assert "BackendError: the draft fell over at step 0, caused by OSError: no route" in str(undisturbed)


def test_results_and_rows_are_made_again_from_the_log(
    a_config: Configs, a_world: Worlds, run_in: RunIn, tmp_path: Path
) -> None:
    config = a_short_run(a_config, "generate")
    run_in(tmp_path, config, a_world(1), PROBLEMS)
    files = {path: sorted(path.read_bytes().splitlines()) for path in tmp_path.glob("*.jsonl") if path.name != LOG}
    assert len(list(read_records(tmp_path / "rows.jsonl", TrainingRow))) > 3
    for path in files:
        path.unlink()
    run_in(tmp_path, config, a_world(1), PROBLEMS)
    assert {path: sorted(path.read_bytes().splitlines()) for path in files} == files


def test_a_problem_that_ended_without_a_grade_is_graded_and_not_solved_again(
    a_config: Configs, a_world: Worlds, run_in: RunIn, tmp_path: Path
) -> None:
    config, asked = a_short_run(a_config, "draft"), Asked()
    undisturbed = run_in(tmp_path / "undisturbed", config, a_world(1), PROBLEMS[:1])
    whole = (tmp_path / "undisturbed" / LOG).read_bytes()
    [graded] = [event.seq for event in LogFile(tmp_path / "undisturbed" / LOG) if event.kind == "graded"]
    log = cut(whole, tmp_path / "cut", ends_of_lines(whole)[graded - 1])
    assert run_in(log.parent, config, a_world(1, asked=asked), PROBLEMS[:1]) == undisturbed
    assert asked == []
    assert [grade.right for grade in Run.open(log).grades().values()] == [True]
