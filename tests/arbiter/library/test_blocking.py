"""Arbiter for programs without an event loop."""

import asyncio
import gc
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor

import pytest

from arbiter import Arbiter, BlockingArbiter, ClosedError, ConfigError, DataError, StepPiece, Usage, solve
from arbiter.extending import Generation, GenerationRequest, ScriptedGenerator

Arbiters = Callable[..., Arbiter]


def in_one_step(request: GenerationRequest) -> Generation:
    return Generation(f"to {request.transcript.question}", "end", Usage(completion_tokens=1))


@pytest.fixture
def draft() -> ScriptedGenerator:
    """Answers immediately, except the question ``long``."""
    return ScriptedGenerator(
        in_one_step, seconds=lambda request: 3600.0 if request.transcript.question == "long" else 0.0
    )


def test_a_question_is_solved_with_overrides(an_arbiter: Arbiters, draft: ScriptedGenerator) -> None:
    with BlockingArbiter(an_arbiter(draft, draft)) as arbiter:
        assert arbiter.solve("q").text == "to q"
        assert arbiter.solve("q", run_type="target").steps[0].kept.author == "target"


def test_one_question_alone_opens_and_closes_the_models() -> None:
    assert "42" in solve("Compute 12+30.", run_type="draft").text


def test_errors_come_out_as_themselves(an_arbiter: Arbiters, draft: ScriptedGenerator) -> None:
    with BlockingArbiter(an_arbiter(draft)) as arbiter:
        with pytest.raises(DataError, match="empty"):
            arbiter.solve("")
        with pytest.raises(ConfigError, match="max_steps"):
            arbiter.map(["q"], max_steps=0)
        with pytest.raises(ConfigError, match="no configuration file"):
            BlockingArbiter("nowhere")
        assert arbiter.solve("q").text == "to q"


def test_many_threads_share_it(an_arbiter: Arbiters, draft: ScriptedGenerator) -> None:
    questions = [str(number) for number in range(50)]
    with BlockingArbiter(an_arbiter(draft, keys={"limits": {"problems": 4}})) as arbiter, ThreadPoolExecutor(8) as pool:
        assert [one.text for one in pool.map(arbiter.solve, questions)] == [f"to {question}" for question in questions]
    assert draft.most_running <= 4


def test_it_works_where_an_event_loop_is_running_as_in_a_notebook(
    an_arbiter: Arbiters, draft: ScriptedGenerator
) -> None:
    async def cell() -> str:
        with BlockingArbiter(an_arbiter(draft)) as arbiter:
            return arbiter.solve("q").text

    assert asyncio.run(cell()) == "to q"


def test_a_map_gives_each_solution(an_arbiter: Arbiters, draft: ScriptedGenerator) -> None:
    with BlockingArbiter(an_arbiter(draft)) as arbiter:
        assert sorted(one.question for one in arbiter.map(iter("abc"), concurrency=2)) == ["a", "b", "c"]


def test_a_map_that_is_left_early_cancels_the_rest(an_arbiter: Arbiters, draft: ScriptedGenerator) -> None:
    with BlockingArbiter(an_arbiter(draft)) as arbiter:
        for _ in arbiter.map(["q", "long", "long"]):
            break
    assert (draft.running, draft.cancelled) == (0, draft.calls - 1)


def test_a_source_that_takes_its_time_holds_up_nobody_else(an_arbiter: Arbiters, draft: ScriptedGenerator) -> None:
    has_come = threading.Event()

    def source() -> Iterator[str]:
        assert has_come.wait(60)
        yield "q"

    with BlockingArbiter(an_arbiter(draft)) as arbiter, ThreadPoolExecutor(1) as pool:
        mapped = pool.submit(lambda: [one.text for one in arbiter.map(source())])
        assert arbiter.solve("other").text == "to other"
        has_come.set()
        assert mapped.result(60) == ["to q"]


def test_an_error_of_the_source_comes_out_as_itself(an_arbiter: Arbiters, draft: ScriptedGenerator) -> None:
    def source() -> Iterator[str]:
        yield "q"
        raise OSError("the file is gone")

    with BlockingArbiter(an_arbiter(draft)) as arbiter, pytest.raises(OSError, match="the file is gone"):
        list(arbiter.map(source()))


def test_before_and_after_its_block_calls_are_refused(an_arbiter: Arbiters, draft: ScriptedGenerator) -> None:
    arbiter = BlockingArbiter(an_arbiter(draft))
    with pytest.raises(ClosedError, match="is not open"):
        arbiter.solve("q")
    with arbiter:
        begun = arbiter.map(["q", "p"], concurrency=1)
        next(begun)
    with pytest.raises(ClosedError, match="is not open"):
        next(begun)
    with pytest.raises(ClosedError, match="is not open"):
        arbiter.solve("q")


def test_steps_and_their_pieces_come_without_an_event_loop(an_arbiter: Arbiters) -> None:
    draft = ScriptedGenerator(in_one_step, texts=lambda _: ["to", "to q"])
    with BlockingArbiter(an_arbiter(draft)) as arbiter:
        with arbiter.stream("q") as steps:
            assert [step.kept.text for step in steps] == ["to q"]
            assert steps.solution.finish_reason == "answered"
        pieces = arbiter.stream_pieces("q")
        assert [piece.text if isinstance(piece, StepPiece) else piece.kept.text for piece in pieces] == [
            "to",
            " q",
            "to q",
        ]
        assert pieces.solution.text == "to q"


def test_leaving_the_block_of_a_stream_cancels_its_problem(an_arbiter: Arbiters) -> None:
    draft = ScriptedGenerator(lambda _: "one more", seconds=lambda request: 3600.0 * bool(request.transcript.steps))
    with BlockingArbiter(an_arbiter(draft)) as arbiter:
        with arbiter.stream("q") as steps:
            assert next(steps).kept.text == "one more"
        with pytest.raises(ClosedError, match="there is no solution"):
            _ = steps.solution
        with pytest.raises(ConfigError, match="max_steps"):
            arbiter.stream("q", max_steps=0)
    assert (draft.running, draft.cancelled) == (0, 1)


@pytest.mark.slow
def test_a_map_may_be_dropped_after_its_block(an_arbiter: Arbiters, draft: ScriptedGenerator) -> None:
    with BlockingArbiter(an_arbiter(draft)) as arbiter:
        begun, unbegun = arbiter.map(["q", "p"], concurrency=1), arbiter.map(["q"])
        next(begun)
    del begun, unbegun
    gc.collect()  # a warning or an unraisable error would fail this test


INTERRUPTED = """
import signal, threading
from arbiter import Arbiter, BlockingArbiter, Usage
from arbiter.extending import Models, ScriptedGenerator, ModelHandle
from arbiter.extending import Generation

def script(request):
    return Generation("done", "end", Usage(completion_tokens=1))

def seconds(request):
    if request.transcript.question == "interrupt":
        signal.pthread_kill(threading.main_thread().ident, signal.SIGINT)
        return 3600.0
    return 0.0

draft = ScriptedGenerator(script, seconds)
with BlockingArbiter(Arbiter(models=Models(draft=ModelHandle(draft)))) as arbiter:
    try:
        arbiter.solve("interrupt", run_type="draft")
    except KeyboardInterrupt:
        print("interrupted")
    try:
        list(arbiter.map(["interrupt"], run_type="draft"))
    except KeyboardInterrupt:
        print("interrupted")
    print(arbiter.solve("other", run_type="draft").text)
print(draft.running, draft.cancelled)
"""


def test_an_interrupted_call_is_cancelled_and_the_next_one_works() -> None:
    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", INTERRUPTED], capture_output=True, text=True, timeout=120, check=False
    )
    assert (done.stdout.split(), done.stderr) == (["interrupted", "interrupted", "done", "0", "2"], "")
