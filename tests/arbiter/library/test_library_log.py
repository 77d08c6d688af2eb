"""Hooks, and the log of all calls, which can be read, shown and replayed like that of a run."""

import subprocess
from collections.abc import Awaitable, Callable
from pathlib import Path

import anyio
import pytest

from arbiter import Arbiter, Event, Problem, Run
from arbiter.extending import Generation, GenerationRequest, ScriptedGenerator, Turn
from arbiter.protocols.errors import RunError
from arbiter.replay.check import check

Virtual = Callable[[Callable[[], Awaitable[None]]], None]
Arbiters = Callable[..., Arbiter]
Command = Callable[..., subprocess.CompletedProcess[str]]

CONVERSATION = [
    {"role": "system", "content": "be short"},
    {"role": "user", "content": "1+1"},
    {"role": "assistant", "content": "2"},
    {"role": "user", "content": "2+2"},
]


@pytest.fixture
def recorded(an_arbiter: Arbiters, in_virtual_time: Virtual, tmp_path: Path) -> Path:
    """A folder with the log of many kinds of calls.

    They are of several run types, with a conversation, stop texts, a map, a stream that is left, and a cancelled call.
    """

    async def body() -> None:
        async with an_arbiter(out=tmp_path / "log", keys={"lookahead": 1}) as arbiter:
            await arbiter.solve("plain")
            await arbiter.solve(CONVERSATION, run_type="rsd", threshold=0.6, temperature=0.5, seed=3)
            await arbiter.solve("stopped", run_type="target", stop=["step 1"], tags={"who": "me"})
            await arbiter.solve(Problem("mine", "both"), run_type="oracle", max_steps=2)
            async for _ in arbiter.map(["a", "b"], run_type="random"):
                pass
            async for _ in arbiter.stream("left"):
                break
            with anyio.move_on_after(1.5):
                await arbiter.solve("cancelled")

    in_virtual_time(body)
    return tmp_path / "log"


def test_the_log_has_every_call_and_no_end_of_those_that_were_cancelled(recorded: Path) -> None:
    ended = {
        problem.task.question: problem.end and problem.end.finish_reason for problem in Run.open(recorded).problems()
    }
    assert ended == {
        "plain": "answered",
        "2+2": "answered",
        "stopped": "stop",
        "both": "max_steps",
        "a": "answered",
        "b": "answered",
        "left": None,
        "cancelled": None,
    }


def test_the_log_tells_conversations_stop_texts_tags_and_policies(recorded: Path) -> None:
    tasks = {problem.task.question: problem.task for problem in Run.open(recorded).problems()}
    assert tasks["2+2"].turns == (Turn("system", "be short"), Turn("user", "1+1"), Turn("assistant", "2"))
    assert tasks["2+2"].policy == {"type": "rsd", "threshold": 0.6}
    assert (tasks["stopped"].stop, tasks["stopped"].tags) == (("step 1",), {"who": "me"})


def test_the_log_replays_without_a_difference(recorded: Path) -> None:
    verdict = check(Run.open(recorded))
    assert (verdict.problems, verdict.unfinished, verdict.differences) == (8, 2, ())


def test_a_session_that_ended_in_good_order_says_so(recorded: Path) -> None:
    assert [event.kind for event in Run.open(recorded).events()][-1] == "run_ended"


def test_the_commands_read_the_folder(recorded: Path, arbiter: Command) -> None:
    shown = arbiter("show", str(recorded), "mine")
    assert (shown.returncode, "both" in shown.stdout) == (0, True)
    replayed = arbiter("replay", str(recorded))
    assert replayed.returncode == 0, replayed.stdout + replayed.stderr


def test_a_second_session_goes_on_in_the_same_folder(
    recorded: Path, an_arbiter: Arbiters, in_virtual_time: Virtual
) -> None:
    async def body() -> None:
        async with an_arbiter(out=recorded, keys={"lookahead": 1}) as arbiter:
            await arbiter.solve("later")

    in_virtual_time(body)
    problems = list(Run.open(recorded).problems())
    assert len(problems) == 9
    assert len({problem.key for problem in problems}) == 9
    assert check(Run.open(recorded)).differences == ()


def test_a_problem_that_was_left_in_an_earlier_session_may_be_asked_otherwise_in_a_later_one(
    an_arbiter: Arbiters, in_virtual_time: Virtual, tmp_path: Path
) -> None:
    async def left() -> None:
        async with an_arbiter(out=tmp_path) as arbiter:
            with anyio.move_on_after(1.5):
                await arbiter.solve(Problem("mine", "q"))

    async def asked_again() -> None:
        async with an_arbiter(out=tmp_path) as arbiter:
            assert (
                await arbiter.solve(Problem("mine", "q"), run_type="target", max_steps=1)
            ).finish_reason == "max_steps"

    in_virtual_time(left)
    in_virtual_time(asked_again)
    assert check(Run.open(tmp_path)).differences == ()


def test_a_folder_of_another_configuration_is_refused(
    recorded: Path, an_arbiter: Arbiters, in_virtual_time: Virtual
) -> None:
    async def body() -> None:
        with pytest.raises(RunError, match="holds another run"):
            await an_arbiter(out=recorded, keys={"separator": "|"}).__aenter__()

    in_virtual_time(body)


def test_hooks_are_told_every_event_on_the_event_loop(an_arbiter: Arbiters, in_virtual_time: Virtual) -> None:
    seen: list[Event] = []

    def hook(event: Event) -> None:
        anyio.get_current_task()  # raises if there is no event loop
        seen.append(event)

    async def body() -> None:
        async with an_arbiter(hooks=[hook, seen.append]) as arbiter:
            solution = await arbiter.solve("q", tags={"who": "me"})
        of_problem = [event.kind for event in seen[::2] if event.problem == solution.problem]
        step = ["draft_step", "call_started", "call_generated", "step_drafted"]
        assert of_problem == ["start_problem", *(3 * step), "problem_ended"]
        assert seen[::2] == seen[1::2]

    in_virtual_time(body)


def test_hooks_see_the_texts_that_the_log_leaves_out(
    an_arbiter: Arbiters, in_virtual_time: Virtual, tmp_path: Path
) -> None:
    seen: list[Event] = []

    async def body() -> None:
        async with an_arbiter(hooks=[seen.append], out=tmp_path / "log", keys={"log": {"record": "decisions"}}) as one:
            await one.solve("a secret")

    in_virtual_time(body)
    assert "a secret" in "".join(map(str, seen))
    assert "a secret" not in (tmp_path / "log" / "events.jsonl").read_text()


def test_a_hook_that_raises_disturbs_nobody(an_arbiter: Arbiters, in_virtual_time: Virtual) -> None:
    seen: list[Event] = []

    def broken(event: Event) -> None:
        raise ValueError("I cannot look")

    async def body() -> None:
        async with an_arbiter(hooks=[broken, seen.append]) as arbiter:
            assert (await arbiter.solve("q")).finish_reason == "answered"

    in_virtual_time(body)
    assert seen


def test_a_problem_that_was_cancelled_may_be_given_again_with_its_id(
    an_arbiter: Arbiters, in_virtual_time: Virtual, tmp_path: Path, three_steps: Callable[..., Generation]
) -> None:
    requests: list[GenerationRequest] = []

    def script(request: GenerationRequest) -> Generation:
        requests.append(request)
        return three_steps(request)

    async def body() -> None:
        draft = ScriptedGenerator(script, seconds=1.0)
        async with an_arbiter(draft, out=tmp_path / "log") as arbiter:
            with anyio.move_on_after(1.5):
                await arbiter.solve(Problem("mine", "q"))
            assert (await arbiter.solve(Problem("mine", "q"), max_steps=2)).finish_reason == "max_steps"

    in_virtual_time(body)
    assert len(requests) == 3
    assert check(Run.open(tmp_path / "log")).differences == ()


def test_the_name_of_the_newest_run_is_no_folder_to_write(an_arbiter: Arbiters, in_virtual_time: Virtual) -> None:
    async def body() -> None:
        with pytest.raises(RunError, match="@last"):
            async with an_arbiter(out="@last"):
                pass

    in_virtual_time(body)
