"""The live state has the open and the ended problems and the models, in bounded memory."""

import json
from collections.abc import Awaitable, Callable
from typing import Any

import anyio
import pytest
from hypothesis import given
from hypothesis import strategies as st

from arbiter import Arbiter
from arbiter.actors.requests import note_retry
from arbiter.actors.ring_setup import Models
from arbiter.backends.scripted import ScriptedGenerator, ScriptedScorer
from arbiter.config.config import parse
from arbiter.gateway.live_state import RECENT, SHOWN, STEPS, LiveState
from arbiter.protocols.errors import BackendError
from arbiter.protocols.ports import Generation, GenerationRequest, ModelHandle, ScoreRequest
from arbiter.protocols.records import Usage
from tests.hypothesis_profiles import examples

InVirtualTime = Callable[[Callable[[], Awaitable[None]]], None]
Use = Callable[[Arbiter, LiveState], Awaitable[None]]

TABLES = {
    "draft": {"model": "small", "prompt": "{question}", "backend": "http", "url": "http://localhost:1/v1"},
    "target": {"model": "pocket:target", "prompt": "{question}"},
}


def write(request: GenerationRequest) -> Generation:
    """As many steps as the question says, three if it is no number; the question ``break`` fails."""
    question = request.transcript.question
    if question == "break":
        raise BackendError("the model fell over " * 40)
    steps = int(question) if question.isdigit() else 3
    text = f"step {request.step} by the {request.author}" + " and so on" * 400 * (question == "long")
    return Generation(text, "end" if request.step + 1 >= steps else "separator", Usage(10, 3))


def rate(request: ScoreRequest) -> float:
    """The second step is escalated."""
    return 0.75 if request.step == 1 else 0.25


async def shown(use: Use, in_flight: int = 64, **keys: Any) -> None:
    given = Models(
        draft=ModelHandle(ScriptedGenerator(write, 1.0), in_flight),
        target=ModelHandle(ScriptedGenerator(write, 4.0)),
        scorers={"router": ModelHandle(ScriptedScorer(rate, 0.5))},
    )
    arbiter = Arbiter(parse({"models": TABLES, "thresholds": {"router": 0.5}, **keys}, "test"), models=given)
    live_state = LiveState(arbiter)
    arbiter.watch(live_state)
    async with arbiter:
        await use(arbiter, live_state)


def contents(live_state: LiveState) -> dict[str, Any]:
    """The live state as the page reads it."""
    return json.loads(json.dumps(live_state.contents(), allow_nan=False))


def model(live_state: LiveState, name: str) -> dict[str, Any]:
    return next(one for one in contents(live_state)["models"] if one["name"] == name)


def test_an_open_problem_shows_what_is_done_for_it_now(in_virtual_time: InVirtualTime) -> None:
    async def use(arbiter: Arbiter, live_state: LiveState) -> None:
        seen: list[tuple[str, int]] = []
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(arbiter.solve, "3")
            for pause in (0.5, 0.75, 1.0, 0.5, 1.0, 3.0):
                await anyio.sleep(pause)
                (problem,) = contents(live_state)["open"]
                seen.append((problem["doing"], len(problem["steps"])))
        assert seen == [
            ("the draft is writing", 0),
            ("the router is scoring", 0),
            ("the draft is writing", 1),
            ("the router is scoring", 1),
            ("the target is writing", 1),
            ("the target is writing", 1),
        ]
        assert contents(live_state)["open"] == []

    in_virtual_time(lambda: shown(use))


def test_a_problem_waits_for_a_model_without_room(in_virtual_time: InVirtualTime) -> None:
    async def use(arbiter: Arbiter, live_state: LiveState) -> None:
        async with anyio.create_task_group() as tasks:
            for _ in range(3):
                tasks.start_soon(arbiter.solve, "1")
            await anyio.sleep(0.5)
            doing = sorted(problem["doing"] for problem in contents(live_state)["open"])
            assert doing == ["the draft is writing", "the draft is writing", "waiting for the draft"]
            draft = model(live_state, "draft")
            assert [draft[name] for name in ("running", "limit", "waiting")] == [2, 2, 1]

    in_virtual_time(lambda: shown(use, in_flight=2))


def test_an_ended_problem_has_its_steps_with_scores_and_rejected_drafts(in_virtual_time: InVirtualTime) -> None:
    async def use(arbiter: Arbiter, live_state: LiveState) -> None:
        solution = await arbiter.solve("3", tags={"client": "me"})
        (problem,) = contents(live_state)["ended"]
        steps = problem.pop("steps")
        assert problem == {
            "id": solution.problem,
            "question": "3",
            "tags": {"client": "me"},
            "policy": "router",
            "threshold": 0.5,
            "before": 0,
            "seconds": solution.seconds,
            "finish_reason": "answered",
            "error": None,
        }
        names = ("number", "author", "text", "tokens", "score", "verdict", "rejected")
        assert [tuple(step[name] for name in names) for step in steps] == [
            (1, "draft", "step 0 by the draft", 3, 0.25, "keep_draft", None),
            (2, "target", "step 1 by the target", 3, 0.75, "escalate", "step 1 by the draft"),
            (3, "draft", "step 2 by the draft", 3, 0.25, "keep_draft", None),
        ]
        assert [step["seconds"] for step in steps] == [1.5, 5.5, 1.5]

    in_virtual_time(lambda: shown(use))


@pytest.mark.parametrize("run_type", ["draft", "target", "random"])
def test_each_run_type_is_shown_with_its_knob(run_type: str, in_virtual_time: InVirtualTime) -> None:
    async def use(arbiter: Arbiter, live_state: LiveState) -> None:
        solution = await arbiter.solve("3")
        (problem,) = contents(live_state)["ended"]
        assert problem["policy"] == run_type
        assert problem["threshold"] == (0.4 if run_type == "random" else None)
        assert [(step["author"], step["text"]) for step in problem["steps"]] == [
            (step.kept.author, step.kept.text) for step in solution.steps
        ]

    in_virtual_time(lambda: shown(use, run_type=run_type, thresholds={"random": 0.4}))


def test_a_failed_problem_shows_its_error_and_a_cancelled_one_that_it_was(in_virtual_time: InVirtualTime) -> None:
    async def use(arbiter: Arbiter, live_state: LiveState) -> None:
        await arbiter.solve("break")
        task = arbiter.task("3")
        with anyio.move_on_after(2.0):
            await arbiter.run(task)
        live_state.left(task.id)
        cancelled, failed = contents(live_state)["ended"]
        assert (failed["finish_reason"], failed["error"][:44]) == (
            "failed",
            "drafter, step 1: BackendError: the model fel",
        )
        assert (cancelled["finish_reason"], len(cancelled["steps"]), cancelled["error"]) == ("cancelled", 1, None)
        totals = contents(live_state)["totals"]
        assert [totals[name] for name in ("ended", "failed", "cancelled", "running")] == [2, 1, 1, 0]

    in_virtual_time(lambda: shown(use))


def test_the_totals_are_those_of_the_solutions(in_virtual_time: InVirtualTime) -> None:
    async def use(arbiter: Arbiter, live_state: LiveState) -> None:
        solutions = [solution async for solution in arbiter.map(["1", "2", "3", "4"])]
        totals = contents(live_state)["totals"]
        authors = [step.kept.author for solution in solutions for step in solution.steps]
        assert (totals["steps"], totals["accepted"]) == (len(authors), authors.count("draft"))
        assert totals["acceptance"] == totals["recent_acceptance"] == authors.count("draft") / len(authors)
        assert sorted(totals["recent"]) == sorted(author[0] for author in authors)
        for role in ("draft", "target"):
            written = sum(one.requests[role].usage.completion_tokens for one in solutions if role in one.requests)
            assert totals["tokens"][role]["completion_tokens"] == written
        assert totals["predrafts"] == sum(solution.lookahead.started for solution in solutions) > 0
        assert totals["hits"] == sum(solution.lookahead.hits for solution in solutions) > 0

    in_virtual_time(lambda: shown(use, lookahead=1))


def test_a_model_is_told_with_its_address_and_is_idle_until_it_is_asked(in_virtual_time: InVirtualTime) -> None:
    async def use(arbiter: Arbiter, live_state: LiveState) -> None:
        assert [
            (one["name"], one["model"], one["address"], one["state"]) for one in contents(live_state)["models"]
        ] == [
            ("draft", "small", "http://localhost:1", "idle"),
            ("target", "pocket:target", "in process", "idle"),
            ("router", None, "in process", "idle"),
        ]
        await arbiter.solve("1")
        draft = model(live_state, "draft")
        assert [draft[name] for name in ("state", "answered", "mean", "error")] == ["ok", 1, 1.0, None]
        assert model(live_state, "target")["state"] == "idle"

    in_virtual_time(lambda: shown(use))


def test_a_model_is_failing_from_a_failure_to_its_next_answer(in_virtual_time: InVirtualTime) -> None:
    async def use(arbiter: Arbiter, live_state: LiveState) -> None:
        await arbiter.solve("break")
        draft = model(live_state, "draft")
        assert [draft[name] for name in ("state", "failed", "answered", "since")] == ["failing", 1, 0, None]
        assert draft["error"].startswith("BackendError: the model fell over")
        assert len(draft["error"]) == 200
        await arbiter.solve("1")
        draft = model(live_state, "draft")
        assert [draft[name] for name in ("state", "failed", "answered", "error")] == ["ok", 1, 1, None]

    in_virtual_time(lambda: shown(use))


def test_a_model_whose_request_is_made_again_is_failing_meanwhile(in_virtual_time: InVirtualTime) -> None:
    class Retrying(ScriptedGenerator):
        async def generate(self, request: GenerationRequest) -> Generation:
            note_retry(1, 5.0, "503: too busy")
            await anyio.sleep(5.0)
            return await super().generate(request)

    async def body() -> None:
        handle = ModelHandle(Retrying(write))
        arbiter = Arbiter(parse({"models": {}, "run_type": "draft"}, "test"), models=Models(draft=handle))
        live_state = LiveState(arbiter)
        arbiter.watch(live_state)
        async with arbiter, anyio.create_task_group() as tasks:
            tasks.start_soon(arbiter.solve, "1")
            await anyio.sleep(1.0)
            draft = model(live_state, "draft")
            assert [draft[name] for name in ("state", "retried", "error")] == ["failing", 1, "503: too busy"]
        assert model(live_state, "draft")["state"] == "ok"

    in_virtual_time(body)


def test_long_texts_are_cut_and_of_many_steps_the_last_are_held(in_virtual_time: InVirtualTime) -> None:
    async def use(arbiter: Arbiter, live_state: LiveState) -> None:
        await arbiter.solve("40")
        await arbiter.solve([{"role": "user", "content": "q" * 1000}], tags={"t": "x" * 1000}, run_type="draft")
        await arbiter.solve("long", run_type="draft")
        long, asked, many = contents(live_state)["ended"]
        assert (many["before"], [step["number"] for step in many["steps"]]) == (10, list(range(11, 41)))
        assert (len(asked["question"]), len(asked["tags"]["t"])) == (301, 100)
        assert len(long["steps"][0]["text"]) == 2001

    in_virtual_time(lambda: shown(use, limits={"repeats": 100}))


def test_the_newest_problems_come_first_and_of_more_only_the_number_is_told(in_virtual_time: InVirtualTime) -> None:
    async def use(arbiter: Arbiter, live_state: LiveState) -> None:
        async with anyio.create_task_group() as tasks:
            for number in range(100, 150):
                tasks.start_soon(lambda question: arbiter.solve(question, max_steps=1), str(number))
                await anyio.sleep(0.001)
            told = contents(live_state)
            assert [problem["question"] for problem in told["open"]] == [str(n) for n in range(149, 109, -1)]
            assert told["more"] == 10
        told = contents(live_state)
        assert [problem["question"] for problem in told["ended"]] == [str(n) for n in range(149, 109, -1)]
        assert (told["open"], told["more"], told["totals"]["ended"]) == ([], 0, 50)

    in_virtual_time(lambda: shown(use))


def test_a_board_can_be_read_before_and_after_its_arbiter_is_open(in_virtual_time: InVirtualTime) -> None:
    async def body() -> None:
        given = Models(draft=ModelHandle(ScriptedGenerator(write)))
        arbiter = Arbiter(parse({"models": {}, "run_type": "draft"}, "test"), models=given)
        live_state = LiveState(arbiter)
        arbiter.watch(live_state)
        assert (contents(live_state)["totals"]["accepting"], contents(live_state)["models"]) == (False, [])
        async with arbiter:
            await arbiter.solve("1")
        assert (contents(live_state)["totals"]["accepting"], contents(live_state)["totals"]["ended"]) == (False, 1)

    in_virtual_time(body)


@examples(0.5)
@given(
    calls=st.lists(
        st.tuples(st.floats(0, 30), st.none() | st.floats(0, 60), st.sampled_from(("1", "3", "50", "break"))),
        max_size=60,
    ),
)
@pytest.mark.slow
def test_after_any_calls_some_of_them_given_up_what_is_held_is_bounded(
    calls: list[tuple[float, float | None, str]], in_virtual_time: InVirtualTime
) -> None:
    async def use(arbiter: Arbiter, live_state: LiveState) -> None:
        async def call(begin: float, patience: float | None, question: str) -> None:
            await anyio.sleep(begin)
            task = arbiter.task(question)
            with anyio.move_on_after(patience):
                await arbiter.run(task)
            live_state.left(task.id)

        async with anyio.create_task_group() as tasks:
            for one in calls:
                tasks.start_soon(call, *one)
        told = contents(live_state)
        assert (told["open"], told["more"], live_state.followed) == ([], 0, 0)
        assert len(told["ended"]) == min(SHOWN, told["totals"]["ended"])
        assert all(len(problem["steps"]) <= STEPS for problem in told["ended"])
        assert len(told["totals"]["recent"]) == min(RECENT, told["totals"]["steps"])

    in_virtual_time(lambda: shown(use, limits={"problems": 8, "repeats": 100}))
