"""The metrics agree with the solutions, and hold nothing of ended problems."""

from collections import Counter
from collections.abc import Awaitable, Callable
from typing import Any, get_args

import anyio
import pytest
from hypothesis import given
from hypothesis import strategies as st
from prometheus_client.parser import text_string_to_metric_families

from arbiter import Arbiter
from arbiter.actors.policies import LearnedRouter
from arbiter.actors.requests import note_retry
from arbiter.actors.ring_setup import Models
from arbiter.backends.scripted import ScriptedGenerator, ScriptedScorer
from arbiter.config.config import Config, parse
from arbiter.gateway.prometheus import Metrics
from arbiter.protocols.errors import BackendError
from arbiter.protocols.ports import Generation, GenerationRequest, ModelHandle, ScoreRequest
from arbiter.protocols.records import LookaheadStats, Model, RequestCounts, ScoreKind, Solution, Target, Usage

InVirtualTime = Callable[[Callable[[], Awaitable[None]]], None]
Use = Callable[[Arbiter, Metrics], Awaitable[None]]
Samples = dict[tuple[str, ...], float]

RUN_TYPES = (
    "router",
    "rsd",
    "oracle",
    "generate",
    "draft",
    "target",
    "random",
    "confidence",
    "judge",
    "trigger",
    "paced",
    "glimpse",
    "pomdp",
)


def write(request: GenerationRequest) -> Generation:
    """Four steps, the target's being longer; ``break`` fails at the third step, ``again`` is slow there."""
    question = request.transcript.question
    if question == "break" and request.step == 2:
        raise BackendError("the model fell over")
    if question == "again" and not request.ahead:
        note_retry(1, 0.1, "busy")
    tokens = 3 + request.step + 4 * (request.author == "target")
    ending = "end" if request.step == 3 else "separator"
    text = f"{question}: step {request.step} by {request.author} {request.target}"
    return Generation(
        text, ending, Usage(10 + request.step, tokens, 2), Usage(1, 1), confidence=0.5 + request.step / 10
    )


def rate(request: ScoreRequest) -> float:
    """Draft and target alternate as the better author."""
    good = (request.step + len(request.transcript.question)) % 2 == (request.author == "draft")
    return 0.9 if good else 0.2


def models(seconds: float = 1.0, **targets: ModelHandle[Any]) -> Models:
    scorer = ModelHandle(ScriptedScorer(rate, seconds / 3))
    return Models(
        draft=ModelHandle(ScriptedGenerator(write, seconds)),
        target=ModelHandle(ScriptedGenerator(write, 2 * seconds)),
        scorers=dict.fromkeys(get_args(ScoreKind), scorer),
        targets=targets,
    )


def config(**keys: Any) -> Config:
    return parse({"models": {}, **keys}, "test")


async def followed(use: Use, given: Models | None = None, **keys: Any) -> None:
    """Call ``use`` with an Arbiter with scripted models, and with the metrics of its events."""
    arbiter = Arbiter(config(**keys), models=given or models())
    metrics = Metrics(arbiter)
    arbiter.watch(metrics)
    async with arbiter:
        await use(arbiter, metrics)


def samples(metrics: Metrics, name: str, *labels: str) -> Samples:
    """The values of one metric by the values of ``labels``."""
    families = text_string_to_metric_families(metrics.render()[0].decode())
    found = [sample for family in families for sample in family.samples if sample.name == f"arbiter_{name}"]
    return {tuple(sample.labels[label] for label in labels): sample.value for sample in found}


def value(metrics: Metrics, name: str) -> float:
    return samples(metrics, name)[()]


def request_counts(solutions: list[Solution]) -> dict[Model, RequestCounts]:
    sums: dict[Model, RequestCounts] = {}
    for solution in solutions:
        for model, counts in solution.requests.items():
            sums[model] = sums.get(model, RequestCounts()) + counts
    return sums


def assert_tells(metrics: Metrics, calls: dict[Model, RequestCounts]) -> None:
    requests = samples(metrics, "requests_total", "model", "outcome")
    tokens = samples(metrics, "tokens_total", "model", "kind")
    assert {model for model, _ in requests} == set(calls)
    for model, counts in calls.items():
        ended = [requests.get((model, outcome), 0) for outcome in ("answered", "failed", "cancelled")]
        assert ended == [counts.requests - counts.failed - counts.cancelled, counts.failed, counts.cancelled]
        usage = counts.usage
        told = [tokens.get((model, kind), 0) for kind in ("prompt", "cached", "completion")]
        assert told == [usage.prompt_tokens, usage.cached_tokens, usage.completion_tokens]


@pytest.mark.parametrize("lookahead", [0, 2])
@pytest.mark.parametrize("run_type", RUN_TYPES)
@pytest.mark.slow
def test_requests_steps_and_tokens_are_those_of_the_solutions(
    run_type: str, lookahead: int, in_virtual_time: InVirtualTime
) -> None:
    async def use(arbiter: Arbiter, metrics: Metrics) -> None:
        questions = ["one", "three", "break", "again", "four"]
        solutions = [solution async for solution in arbiter.map(questions, deadline=9.5)]
        assert_tells(metrics, request_counts(solutions))
        steps = [step for solution in solutions for step in solution.steps]
        told = samples(metrics, "steps_total", "author", "verdict")
        assert told == Counter((step.kept.author, step.verdict or "none") for step in steps)
        assert value(metrics, "escalations_total") == sum(step.verdict == "escalate" for step in steps)
        drafted = [step.kept.usage.completion_tokens for step in steps if step.kept.author == "draft"]
        assert value(metrics, "drafts_accepted_total") == len(drafted)
        assert value(metrics, "acceptance_ratio") == len(drafted) / len(steps)
        written = request_counts(solutions).get("draft", RequestCounts()).usage.completion_tokens
        assert value(metrics, "discarded_draft_tokens_total") == written - sum(drafted)
        predrafts = sum((solution.lookahead for solution in solutions), LookaheadStats())
        assert value(metrics, "predrafts_started_total") == predrafts.started
        assert value(metrics, "predrafts_used_total") == predrafts.hits + predrafts.salvaged
        assert samples(metrics, "problems_ended_total", "finish_reason") == Counter(
            (one.finish_reason,) for one in solutions
        )
        assert value(metrics, "step_seconds_count") == len(steps)
        assert value(metrics, "problem_seconds_sum") == pytest.approx(sum(one.seconds for one in solutions))
        assert metrics.followed == 0

    ahead = 0 if run_type == "glimpse" else lookahead  # which decides before it drafts
    in_virtual_time(lambda: followed(use, run_type=run_type, lookahead=ahead, audit=0.5, salvage=ahead > 0))


def test_targets_that_have_names_are_told_by_them(in_virtual_time: InVirtualTime) -> None:
    def estimate(request: ScoreRequest) -> tuple[float, float]:
        return (0.9, 0.1) if request.step % 2 else (0.1, 0.8)

    async def use(arbiter: Arbiter, metrics: Metrics) -> None:
        policy = LearnedRouter(0.5, (Target("big"), Target("huge")))
        solution = await arbiter.solve("one", policy=policy)
        requests = samples(metrics, "requests_total", "model", "outcome")
        told = {model: count for (model, _), count in requests.items() if model.startswith("targets.")}
        assert told == {f"targets.{name}": counts.requests for name, counts in solution.targets.items()}
        assert sum(told.values()) == solution.requests["target"].requests == 4
        assert set(told) <= {model for (model,) in samples(metrics, "requests_limit", "model")}

    handles = {name: ModelHandle(ScriptedGenerator(write)) for name in ("big", "huge")}
    scorers: dict[ScoreKind, Any] = {"router": ModelHandle(ScriptedScorer(estimate))}
    given = Models(draft=ModelHandle(ScriptedGenerator(write)), scorers=scorers, targets=handles)
    in_virtual_time(lambda: followed(use, given))


def test_attempts_that_are_made_again_are_counted_beside_the_requests(in_virtual_time: InVirtualTime) -> None:
    async def use(arbiter: Arbiter, metrics: Metrics) -> None:
        await arbiter.solve("again", run_type="draft")
        assert samples(metrics, "request_retries_total", "model") == {("draft",): 4}
        assert samples(metrics, "requests_total", "model", "outcome") == {("draft", "answered"): 4}

    in_virtual_time(lambda: followed(use))


def test_a_problem_that_its_client_gives_up_is_cancelled_with_its_requests(in_virtual_time: InVirtualTime) -> None:
    async def use(arbiter: Arbiter, metrics: Metrics) -> None:
        task = arbiter.task("one", run_type="draft")
        with anyio.move_on_after(1.5):
            await arbiter.run(task)
        metrics.left(task.id)
        assert metrics.followed == 0
        assert samples(metrics, "problems_ended_total", "finish_reason") == {("cancelled",): 1}
        told = samples(metrics, "requests_total", "model", "outcome")
        assert told == {("draft", "answered"): 1, ("draft", "cancelled"): 1}
        assert value(metrics, "discarded_draft_tokens_total") == 4 - 3  # without the tokens of the kept step

    in_virtual_time(lambda: followed(use))


def test_a_problem_that_has_ended_cannot_be_given_up_any_more(in_virtual_time: InVirtualTime) -> None:
    async def use(arbiter: Arbiter, metrics: Metrics) -> None:
        metrics.left((await arbiter.solve("one")).problem)
        assert samples(metrics, "problems_ended_total", "finish_reason") == {("answered",): 1}

    in_virtual_time(lambda: followed(use))


def test_who_is_in_the_ring_and_at_the_models_is_told_as_it_is_now(in_virtual_time: InVirtualTime) -> None:
    async def use(arbiter: Arbiter, metrics: Metrics) -> None:
        async with anyio.create_task_group() as tasks:
            for question in ("one", "two", "three"):
                tasks.start_soon(arbiter.solve, question)
            await anyio.sleep(0.5)
            assert [value(metrics, f"problems_{name}") for name in ("running", "waiting", "limit")] == [2, 1, 2]
            told = {name: samples(metrics, f"requests_{name}", "model") for name in ("running", "waiting", "limit")}
            assert [told[name]["draft",] for name in told] == [1, 1, 1]
            assert [told[name]["target",] for name in told] == [0, 0, 64]
        assert value(metrics, "problems_running") == 0

    given = Models(
        draft=ModelHandle(ScriptedGenerator(write, 1.0), 1),
        target=ModelHandle(ScriptedGenerator(write)),
        scorers={"router": ModelHandle(ScriptedScorer(rate))},
    )
    in_virtual_time(lambda: followed(use, given, limits={"problems": 2}))


def test_a_closed_arbiter_accepts_nothing(in_virtual_time: InVirtualTime) -> None:
    async def use(arbiter: Arbiter, metrics: Metrics) -> None:
        assert value(metrics, "accepting") == 1
        await arbiter.close()
        assert value(metrics, "accepting") == 0

    in_virtual_time(lambda: followed(use))


def test_what_clients_write_is_in_no_label(in_virtual_time: InVirtualTime) -> None:
    async def use(arbiter: Arbiter, metrics: Metrics) -> None:
        solution = await arbiter.solve("a secret question", tags={"client": "somebody"})
        told, kind = metrics.render()
        assert kind.startswith("text/plain")
        assert not [word for word in ("secret", "somebody", solution.problem) if word.encode() in told]

    in_virtual_time(lambda: followed(use))


def test_two_arbiters_in_a_process_count_apart(in_virtual_time: InVirtualTime) -> None:
    async def use(arbiter: Arbiter, metrics: Metrics) -> None:
        other = Metrics(arbiter)
        await arbiter.solve("one")
        assert (value(metrics, "problems_started_total"), value(other, "problems_started_total")) == (1, 0)
        assert list(samples(other, "build_info", "run_type")) == [("router",)]

    in_virtual_time(lambda: followed(use))


Calls = list[tuple[float, float | None, str]]


@given(
    calls=st.lists(
        st.tuples(
            st.floats(0, 5), st.none() | st.floats(0, 12), st.sampled_from(("one", "three", "break", "again", "seven"))
        ),
        max_size=12,
    ),
    run_type=st.sampled_from(("router", "oracle", "target")),
)
@pytest.mark.slow
def test_after_any_calls_some_of_them_given_up_nothing_is_held(
    calls: Calls, run_type: str, in_virtual_time: InVirtualTime
) -> None:
    async def use(arbiter: Arbiter, metrics: Metrics) -> None:
        solutions: list[Solution] = []

        async def call(begin: float, patience: float | None, question: str) -> None:
            await anyio.sleep(begin)
            task = arbiter.task(question)
            with anyio.move_on_after(patience):
                solutions.append(await arbiter.run(task))
            metrics.left(task.id)

        async with anyio.create_task_group() as tasks:
            for one in calls:
                tasks.start_soon(call, *one)
        assert metrics.followed == 0
        ended = samples(metrics, "problems_ended_total", "finish_reason")
        assert sum(ended.values()) == value(metrics, "problems_started_total") <= len(calls)
        assert sum(ended.values()) - ended.get(("cancelled",), 0) == len(solutions)
        if len(solutions) == len(calls):
            assert_tells(metrics, request_counts(solutions))

    in_virtual_time(lambda: followed(use, run_type=run_type, lookahead=2, limits={"problems": 4}))
