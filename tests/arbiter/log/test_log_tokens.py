"""Tokens in a log: recorded if they are requested, returned to a resumed run, and left out of a log without texts."""

from collections.abc import Awaitable, Callable
from pathlib import Path

import pytest

from arbiter.actors.policies import LearnedRouter
from arbiter.actors.ring import open_ring, solve_all
from arbiter.actors.ring_setup import Models
from arbiter.backends.scripted import ScriptedGenerator, ScriptedScorer
from arbiter.config.config import Config
from arbiter.log.identity import identity
from arbiter.log.reader import LOG
from arbiter.log.redaction import without_text
from arbiter.log.run import Run
from arbiter.log.sessions import open_journal
from arbiter.protocols.answer_tokens import TokenAlternative, WrittenToken
from arbiter.protocols.events import Detail
from arbiter.protocols.messages import Task
from arbiter.protocols.ports import Generation, GenerationRequest, ModelHandle
from arbiter.protocols.records import Sampling, Solution, Usage
from arbiter.replay.check import check
from arbiter.replay.recorded_tasks import task_of

Virtual = Callable[[Callable[[], Awaitable[None]]], None]
Tasks = Callable[..., Task]
Configs = Callable[..., Config]
WORD = "wordofatoken"


class Writing:
    """Models that write tokens, whose ``requests`` are counted."""

    def __init__(self) -> None:
        self.requests = 0

    def write(self, request: GenerationRequest) -> Generation:
        self.requests += 1
        texts, ending = [request.author, f" {WORD}"], "end" if request.step == 2 else "separator"
        text = "".join(texts)
        texts[-1] += request.separator if ending == "separator" else ""
        top = (TokenAlternative(WORD, -0.25),) * (request.top_logprobs or 0)
        tokens = None if request.top_logprobs is None else tuple(WrittenToken(one, -0.5, top) for one in texts)
        return Generation(text, ending, Usage(9, 2), tokens=tokens)

    @property
    def models(self) -> Models:
        writer = ModelHandle(ScriptedGenerator(self.write))
        router = ModelHandle(ScriptedScorer(lambda request: 0.9 if request.step == 1 else 0.1))
        return Models(draft=writer, target=writer, scorers={"router": router})


@pytest.fixture
def solved(in_virtual_time: Virtual, a_task: Tasks) -> Callable[..., tuple[Solution, int]]:
    """Solve a task into the log of a folder, and return the solution and the number of requests to writing models."""

    def solve(folder: Path, detail: Detail = "full", top: int | None = 1) -> tuple[Solution, int]:
        found, writing = list[Solution](), Writing()
        task = a_task(policy=LearnedRouter(0.5), top_logprobs=top, sampling=Sampling(presence_penalty=0.5))

        async def done(solution: Solution) -> None:
            found.append(solution)

        async def body() -> None:
            async with (
                open_journal(folder / LOG, detail=detail) as journal,
                open_ring(writing.models, journal=journal, lookahead=0) as ring,
            ):
                await solve_all(ring, [task], 1, done)

        in_virtual_time(body)
        return found[0], writing.requests

    return solve


def test_a_log_has_the_tokens_of_a_solution_and_the_settings_that_gave_them(
    solved: Callable[..., tuple[Solution, int]], tmp_path: Path
) -> None:
    solution, _ = solved(tmp_path)
    (problem,) = Run.open(tmp_path).problems()
    read = problem.solution()
    assert read is not None
    assert read.tokens == solution.tokens is not None
    task = task_of(problem)
    assert (task.top_logprobs, task.sampling.presence_penalty) == (1, 0.5)


def test_tokens_that_are_not_requested_take_no_room(
    solved: Callable[..., tuple[Solution, int]], tmp_path: Path
) -> None:
    solved(tmp_path, top=None)
    assert b"logprob" not in (tmp_path / LOG).read_bytes()
    assert b'"tokens":' not in (tmp_path / LOG).read_bytes()


@pytest.mark.parametrize("lines", range(2, 8))
def test_a_resumed_run_returns_the_recorded_tokens(
    solved: Callable[..., tuple[Solution, int]], tmp_path: Path, lines: int
) -> None:
    whole, all_requests = solved(tmp_path / "whole")
    kept = (tmp_path / "whole" / LOG).read_bytes().splitlines(keepends=True)[:lines]
    (tmp_path / "cut").mkdir()
    (tmp_path / "cut" / LOG).write_bytes(b"".join(kept))
    resumed, requests = solved(tmp_path / "cut")
    recorded = sum(b'"kind":"call_generated"' in line for line in kept)
    assert resumed.tokens == whole.tokens is not None
    assert requests == all_requests - recorded


def test_a_replay_of_a_run_with_tokens_equals_its_log(
    solved: Callable[..., tuple[Solution, int]], tmp_path: Path
) -> None:
    solved(tmp_path)
    assert check(Run.open(tmp_path)).differences == ()


@pytest.mark.parametrize("detail", ["redacted", "decisions"])
def test_a_log_without_texts_has_no_tokens(
    solved: Callable[..., tuple[Solution, int]], tmp_path: Path, detail: Detail
) -> None:
    solution, _ = solved(tmp_path, detail)
    logged = (tmp_path / LOG).read_bytes()
    assert solution.tokens is not None
    assert WORD.encode() not in logged
    assert b'"tokens":' not in logged
    assert without_text(solution).tokens is None


def test_the_identity_of_a_run_has_its_penalties_unless_they_are_0(a_config: Configs) -> None:
    plain = identity(a_config(), ())
    penalized = identity(a_config(sampling={"presence_penalty": 0.5, "frequency_penalty": -1}), ())
    assert not {key for key in plain if key.endswith("_penalty")}
    assert penalized == {**plain, "sampling.presence_penalty": 0.5, "sampling.frequency_penalty": -1.0}
