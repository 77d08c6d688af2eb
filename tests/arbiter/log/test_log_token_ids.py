"""Numbers of tokens in a log: a resumed run goes on from them, and a log without texts has none."""

from collections.abc import Awaitable, Callable
from pathlib import Path

import pytest

from arbiter.actors.policies import RandomEscalation
from arbiter.actors.ring import open_ring, solve_all
from arbiter.actors.ring_setup import Models
from arbiter.backends.scripted import ScriptedGenerator
from arbiter.config.config import Config
from arbiter.log.identity import identity
from arbiter.log.reader import LOG
from arbiter.log.redaction import without_text, without_token_ids
from arbiter.log.run import Run
from arbiter.log.sessions import open_journal
from arbiter.protocols.errors import RunError
from arbiter.protocols.events import Detail
from arbiter.protocols.messages import Task
from arbiter.protocols.ports import Generation, GenerationRequest, ModelHandle
from arbiter.protocols.records import Solution, Usage
from arbiter.replay.check import check
from arbiter.replay.recorded_tasks import task_of

Virtual = Callable[[Callable[[], Awaitable[None]]], None]
Tasks = Callable[..., Task]
Configs = Callable[..., Config]
Solve = Callable[..., Solution]
STEPS = 5


def write(request: GenerationRequest) -> Generation:
    """Write a step that depends on the tokens of the steps which the same model wrote, and a blank too many."""
    ending = "end" if request.step == STEPS - 1 else "separator"
    own = [token for step in request.transcript.steps if request.wrote(step) for token in step.token_ids]
    ids, overrun = ((1000 + sum(own), 7), " ") if request.token_exact else ((), "")
    text = f"step {request.step} of {ids[:1]}"
    return Generation(text, ending, Usage(9, 2), token_ids=ids, overrun=overrun if ending == "separator" else "")


def models() -> Models:
    writer = ModelHandle(ScriptedGenerator(write))
    return Models(draft=writer, target=writer)


@pytest.fixture
def solved(in_virtual_time: Virtual, a_task: Tasks) -> Solve:
    """Solve a task into the log of a folder, and return the solution."""

    def solve(folder: Path, detail: Detail = "full", token_exact: bool = True) -> Solution:
        found, task = list[Solution](), a_task(policy=RandomEscalation(0.5), token_exact=token_exact)

        async def done(solution: Solution) -> None:
            found.append(solution)

        async def body() -> None:
            async with (
                open_journal(folder / LOG, detail=detail) as journal,
                open_ring(models(), journal=journal, lookahead=0) as ring,
            ):
                await solve_all(ring, [task], 1, done)

        in_virtual_time(body)
        return found[0]

    return solve


def ids(solution: Solution) -> list[tuple[int, ...]]:
    return [step.kept.token_ids for step in solution.steps]


def test_a_log_has_the_tokens_of_a_solution_and_the_rule_that_it_follows(solved: Solve, tmp_path: Path) -> None:
    solution = solved(tmp_path)
    (problem,) = Run.open(tmp_path).problems()
    read = problem.solution()
    assert read is not None
    assert ids(read) == ids(solution)
    assert all(ids(solution))
    assert read.text == solution.text
    assert "\n\n " in solution.text
    assert task_of(problem).token_exact


def test_a_log_of_steps_as_text_is_that_of_earlier_versions(solved: Solve, tmp_path: Path) -> None:
    solved(tmp_path, token_exact=False)
    logged = (tmp_path / LOG).read_bytes()
    assert not any(name in logged for name in (b"token_exact", b"token_ids", b"overrun"))
    (problem,) = Run.open(tmp_path).problems()
    assert not task_of(problem).token_exact


@pytest.mark.parametrize("lines", range(2, 8))
def test_a_resumed_run_goes_on_from_the_recorded_tokens(solved: Solve, tmp_path: Path, lines: int) -> None:
    whole = solved(tmp_path / "whole")
    kept = (tmp_path / "whole" / LOG).read_bytes().splitlines(keepends=True)[:lines]
    (tmp_path / "cut").mkdir()
    (tmp_path / "cut" / LOG).write_bytes(b"".join(kept))
    resumed = solved(tmp_path / "cut")
    assert (ids(resumed), resumed.text) == (ids(whole), whole.text)


@pytest.mark.parametrize("token_exact", [True, False])
def test_a_replay_of_either_rule_equals_its_log(solved: Solve, tmp_path: Path, token_exact: bool) -> None:
    solved(tmp_path, token_exact=token_exact)
    assert check(Run.open(tmp_path)).differences == ()


@pytest.mark.parametrize("detail", ["redacted", "decisions"])
def test_a_log_without_texts_has_no_numbers_of_tokens(solved: Solve, tmp_path: Path, detail: Detail) -> None:
    solution = solved(tmp_path, detail)
    assert not any(name in (tmp_path / LOG).read_bytes() for name in (b"token_ids", b"overrun"))
    hidden = without_text(solution)
    assert not any(one.token_ids or one.overrun for step in hidden.steps for one in step.candidates)


def test_results_have_the_text_after_a_separator_but_no_numbers(solved: Solve, tmp_path: Path) -> None:
    solution = solved(tmp_path)
    stored = without_token_ids(solution)
    assert stored.text == solution.text
    assert not any(one.token_ids for step in stored.steps for one in step.candidates)


def test_the_rule_decides_a_run_and_is_left_out_while_it_is_off(a_config: Configs) -> None:
    assert identity(a_config(), [])["token_exact"] is True
    assert "token_exact" not in identity(a_config(token_exact=False), [])


@pytest.mark.asyncio
async def test_a_run_of_an_earlier_version_is_continued_only_with_its_rule(a_config: Configs, tmp_path: Path) -> None:
    earlier = identity(a_config(token_exact=False), [])
    async with open_journal(tmp_path / LOG, earlier):
        pass
    refusal = r"token_exact: not set in the run, true now\n.*set token_exact = false there"
    with pytest.raises(RunError, match=refusal):
        async with open_journal(tmp_path / LOG, identity(a_config(), [])):
            pass
    async with open_journal(tmp_path / LOG, earlier) as journal:
        assert journal.kept
