"""Equal requests are sent to the model once."""

from collections.abc import Awaitable, Callable
from typing import Any

import anyio
import anyio.lowlevel
import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from arbiter.actors.policies import LearnedRouter
from arbiter.actors.ring import open_ring, solve_all
from arbiter.actors.ring_setup import Models
from arbiter.actors.supervision import services
from arbiter.backends.scripted import ScriptedGenerator, ScriptedScorer
from arbiter.config.config import parse
from arbiter.protocols.errors import BackendError
from arbiter.protocols.messages import Task
from arbiter.protocols.ports import Generation, GenerationRequest, ModelHandle, Proposal, ScoreRequest
from arbiter.protocols.records import PrefixMatch, Solution, Step, Transcript, Usage
from arbiter.sweep.answer_cache import AnswerStore, annotated_models, key_of

Virtually = Callable[[Callable[[], Awaitable[None]]], None]

CONTEXT = Transcript("why?", (Step("since", "draft"), Step("so", "target")))
OTHERS = Transcript("why?", (Step("since", "target"), Step("so", "target")))
SECONDS = 10.0


def writing(**fields: Any) -> GenerationRequest:
    request = GenerationRequest("p", 2, 0, "draft", CONTEXT, "\n\n", 50, 0.0, 1.0, 7)
    return msgspec.structs.replace(request, **fields)


def rating(**fields: Any) -> ScoreRequest:
    return msgspec.structs.replace(ScoreRequest("p", 2, "prm", CONTEXT, "thus", "draft", "\n\n"), **fields)


@pytest.mark.parametrize(
    "fields",
    [
        {"problem": "q"},
        {"step": 3},
        {"sample": 1},
        {"call": "p/2/draft_step/draft/0"},
        {"proposal": Proposal("thus", "separator")},
        {"ahead": True},
        {"seed": 8},
        {"top_p": 0.5},
        {"transcript": OTHERS},
    ],
)
def test_whose_request_it_is_and_what_greedy_models_do_not_see_is_in_no_key(fields: dict[str, Any]) -> None:
    assert key_of(writing(**fields), ()) == key_of(writing(), ())


@pytest.mark.parametrize(
    "fields",
    [
        {"author": "target"},
        {"transcript": Transcript("why?")},
        {"transcript": Transcript("when?", CONTEXT.steps)},
        {"separator": "\n"},
        {"max_tokens": 49},
        {"temperature": 0.5},
        {"confidence": "mean"},
        {"author": "target", "target": "large"},
        {"presence_penalty": 0.5},
        {"frequency_penalty": -0.5},
        {"top_logprobs": 0},
        {"top_logprobs": 2},
    ],
)
def test_what_decides_a_step_is_in_its_key(fields: dict[str, Any]) -> None:
    assert key_of(writing(**fields), ()) != key_of(writing(), ())


@pytest.mark.parametrize("fields", [{"seed": 8}, {"top_p": 0.5}, {"temperature": 0.6}])
def test_above_temperature_0_the_noise_is_in_the_key(fields: dict[str, Any]) -> None:
    assert key_of(writing(**{"temperature": 0.5, **fields}), ()) != key_of(writing(temperature=0.5), ())


@pytest.mark.parametrize(
    "fields",
    [{"score_kind": "router"}, {"candidate": "hence"}, {"separator": "\n"}, {"transcript": Transcript("why?")}],
)
def test_what_decides_a_score_is_in_its_key(fields: dict[str, Any]) -> None:
    assert key_of(rating(**fields), ()) != key_of(rating(), ())


def test_authors_count_for_a_model_that_is_told_them() -> None:
    for changed in (rating(author="target"), rating(transcript=OTHERS)):
        assert key_of(changed, ()) == key_of(rating(), ())
        assert key_of(changed, {"router"}) == key_of(rating(), {"router"})
        assert key_of(changed, {"prm"}) != key_of(rating(), {"prm"})
    assert key_of(writing(transcript=OTHERS), {"draft"}) != key_of(writing(), {"draft"})


@pytest.mark.parametrize("annotate", [False, True])
def test_a_head_on_the_draft_reads_authors_where_the_draft_does(annotate: bool) -> None:
    draft = {"model": "m", "prompt": "{question}", "annotate": annotate}
    config = parse({"models": {"draft": draft, "router": {"backend": "draft-head", "model": "head"}}}, "test")
    assert annotated_models(config) == (frozenset({"draft", "router"}) if annotate else frozenset())


def a_store_of(tasks: Any, model: ScriptedGenerator, in_flight: int = 64) -> AnswerStore:
    return AnswerStore(Models(draft=ModelHandle(model, in_flight), target=ModelHandle(model, in_flight)), (), tasks)


def test_equal_requests_at_once_are_one_and_all_have_its_seconds(in_virtual_time: Virtually) -> None:
    model, answers = ScriptedGenerator(lambda _: "thus", seconds=SECONDS), list[Generation]()

    async def body() -> None:
        async with services() as tasks:
            store = a_store_of(tasks, model)

            async def ask(after: float) -> None:
                await anyio.sleep(after)
                answers.append(await store.generate(writing(problem=str(after))))

            async with anyio.create_task_group() as group:
                for after in (0.0, 4.0, 9.0, 12.0, 50.0):
                    group.start_soon(ask, after)

    in_virtual_time(body)
    assert model.calls == 1
    assert [(one.text, one.seconds, one.fresh) for one in answers] == [
        ("thus", SECONDS, number == 0) for number in range(5)
    ]


def test_a_failure_is_that_of_all_who_wait_and_of_nobody_later(in_virtual_time: Virtually) -> None:
    ended: list[str] = []

    def script(request: GenerationRequest) -> str:
        if model.calls == 1:
            raise BackendError("it fell over")
        return "thus"

    model = ScriptedGenerator(script, seconds=SECONDS)

    async def body() -> None:
        async with services() as tasks:
            store = a_store_of(tasks, model)

            async def ask() -> None:
                try:
                    ended.append((await store.generate(writing())).text)
                except BackendError as error:
                    ended.append(str(error))

            async with anyio.create_task_group() as group:
                for _ in range(3):
                    group.start_soon(ask)
            await ask()

    in_virtual_time(body)
    assert ended == ["it fell over"] * 3 + ["thus"]
    assert model.calls == 2


@given(
    requested=st.lists(st.tuples(st.integers(0, 2), st.integers(0, 30), st.integers(1, 30)), min_size=1, max_size=12),
    in_flight=st.integers(1, 3),
)
def test_whoever_is_cancelled_the_others_have_the_answer_and_nobody_leaves_a_request_behind(
    in_virtual_time: Virtually, requested: list[tuple[int, int, int]], in_flight: int
) -> None:
    """Each caller makes one of three requests, and gives up after some time.

    No caller gives up at the moment of an answer, where the order would be random: each has its own fraction of a
    second.
    """
    model = ScriptedGenerator(lambda request: request.transcript.question, seconds=SECONDS)
    answered: dict[int, list[Generation]] = {0: [], 1: [], 2: []}
    patient: dict[int, bool] = {}

    async def body() -> None:
        async with services() as tasks:
            store = a_store_of(tasks, model, in_flight)

            async def ask(number: int, what: int, after: int, patience: int) -> None:
                await anyio.sleep(after)
                with anyio.move_on_after(patience + (number + 1) / 100):
                    answered[what].append(await store.generate(writing(transcript=Transcript(str(what)))))
                    patient[number] = True

            async with anyio.create_task_group() as group:
                for number, (what, after, patience) in enumerate(requested):
                    group.start_soon(ask, number, what, after, patience)
            await anyio.lowlevel.checkpoint()
            assert model.running == 0

    in_virtual_time(body)
    assert model.most_running <= in_flight
    for what, answers in answered.items():
        assert {(one.text, one.seconds) for one in answers} <= {(str(what), SECONDS)}
        assert sum(one.fresh for one in answers) == bool(answers)
    made = model.calls - model.cancelled
    assert made == len([answers for answers in answered.values() if answers])
    if in_flight == 3:
        alone = (number for number, (_, _, patience) in enumerate(requested) if patience >= SECONDS)
        assert all(patient.get(number) for number in alone)


def test_who_waits_for_anothers_request_takes_no_seat(in_virtual_time: Virtually) -> None:
    """With two slots, two different requests run while ten callers wait for one of them."""
    model, ended = ScriptedGenerator(lambda _: "thus", seconds=SECONDS), list[float]()

    async def body() -> None:
        async with services() as tasks:
            store = a_store_of(tasks, model, in_flight=2)

            async def ask(question: str) -> None:
                await store.generate(writing(transcript=Transcript(question)))
                ended.append(anyio.current_time())

            began = anyio.current_time()
            async with anyio.create_task_group() as group:
                for question in ["one"] * 10 + ["two"]:
                    group.start_soon(ask, question)
            assert set(ended) == {began + SECONDS}

    in_virtual_time(body)
    assert model.most_running == 2


def test_seconds_leave_out_the_wait_for_a_seat(in_virtual_time: Virtually) -> None:
    model, taken = ScriptedGenerator(lambda _: "thus", seconds=SECONDS), list[float | None]()

    async def body() -> None:
        async with services() as tasks:
            store = a_store_of(tasks, model, in_flight=1)

            async def ask(question: str) -> None:
                taken.append((await store.generate(writing(transcript=Transcript(question)))).seconds)

            async with anyio.create_task_group() as group:
                for question in ("one", "two", "three"):
                    group.start_soon(ask, question)

    in_virtual_time(body)
    assert taken == [SECONDS] * 3


def test_how_far_a_draft_was_agreed_with_is_told_to_those_who_proposed_one(in_virtual_time: Virtually) -> None:
    agreement, proposal = PrefixMatch(5, 3), Proposal("thus", "separator")
    model = ScriptedGenerator(lambda _: Generation("thus", "separator", Usage(9, 4), prefix_match=agreement))
    found: list[PrefixMatch | None] = []

    async def body() -> None:
        async with services() as tasks:
            store = a_store_of(tasks, model)
            requested = (writing(proposal=proposal), writing(), writing(proposal=proposal))
            found.extend([(await store.generate(request)).prefix_match for request in requested])

    in_virtual_time(body)
    assert found == [agreement, None, agreement]
    assert model.calls == 1


def test_rings_over_one_store_ask_as_one_and_each_candidate_has_the_models_seconds(in_virtual_time: Virtually) -> None:
    """Three rings with one threshold start at three times; their candidates have the model's seconds."""
    writer = ScriptedGenerator(
        lambda r: Generation(f"{r.step}", "end" if r.step == 3 else "separator", Usage(1, 1)), 5.0
    )
    scorer = ScriptedScorer(lambda _: 0.0, seconds=2.0)
    models = Models(draft=ModelHandle(writer), target=ModelHandle(writer), scorers={"router": ModelHandle(scorer)})
    solutions: list[Solution] = []

    async def body() -> None:
        async with services() as tasks:
            store = AnswerStore(models, (), tasks)

            async def solve(after: float) -> None:
                await anyio.sleep(after)

                async def done(solution: Solution) -> None:
                    solutions.append(solution)

                async with open_ring(store.handles()) as ring:
                    await solve_all(ring, [Task("p", Transcript("why?"), LearnedRouter(0.5))], 1, done)

            async with anyio.create_task_group() as rings:
                for after in (0.0, 6.0, 100.0):
                    rings.start_soon(solve, after)

    in_virtual_time(body)
    assert (writer.calls, scorer.calls) == (4, 4)
    steps = [step.kept for solution in solutions for step in solution.steps]
    assert len(steps) == 12
    assert {(kept.seconds, kept.rating.seconds if kept.rating else None) for kept in steps} == {(5.0, 2.0)}
    assert min(round(solution.seconds) for solution in solutions) == 0  # the ring measured no time for stored answers
