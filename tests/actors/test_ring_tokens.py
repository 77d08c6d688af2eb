"""Tokens travel from the models into the solution, or their problem fails. Penalties travel to the models."""

from collections.abc import Awaitable, Callable
from contextlib import AbstractAsyncContextManager
from typing import Any

import msgspec
import pytest

from arbiter.actors.policies import DraftOnly, LearnedRouter, RewardThreshold, TargetOnly
from arbiter.actors.ring import Ring
from arbiter.actors.ring_setup import Models
from arbiter.backends.scripted import ScriptedGenerator
from arbiter.protocols.answer_tokens import WrittenToken
from arbiter.protocols.errors import ConfigError
from arbiter.protocols.messages import Task
from arbiter.protocols.policy import Policy
from arbiter.protocols.ports import Generation, GenerationRequest, ModelHandle
from arbiter.protocols.records import Sampling, Solution, Usage

MakeModels = Callable[..., Models]
Solved = Callable[..., list[Solution]]
Tasks = Callable[..., Task]
OpenRing = Callable[..., AbstractAsyncContextManager[Ring]]
Virtual = Callable[[Callable[[], Awaitable[None]]], None]


def with_tokens(request: GenerationRequest) -> Generation:
    """Three steps, in tokens of a word each; the separator is part of the last token."""
    texts, ending = [request.author, " step", f" {request.step}"], "end" if request.step == 2 else "separator"
    text = "".join(texts)
    texts[-1] += request.separator if ending == "separator" else ""
    tokens = tuple(WrittenToken(one, -0.5) for one in texts)
    return Generation(text, ending, Usage(10, 3), tokens=tokens)


def models_of(make_models: MakeModels, write: Callable[[GenerationRequest], Generation] = with_tokens) -> Models:
    return make_models(draft=ScriptedGenerator(write, seconds=1.0), target=ScriptedGenerator(write, seconds=1.0))


@pytest.mark.parametrize("policy", [DraftOnly(), TargetOnly(), LearnedRouter(0.4), RewardThreshold(0.6)])
def test_the_tokens_of_a_solution_are_those_of_the_kept_steps(
    make_models: MakeModels, solved: Solved, a_task: Tasks, policy: Policy
) -> None:
    (solution,) = solved(models_of(make_models), [a_task(policy=policy, top_logprobs=0)])
    assert solution.tokens is not None
    assert "".join(token.text for token in solution.tokens) == solution.text
    authors = [step.kept.author for step in solution.steps for _ in range(3)]
    assert [token.author for token in solution.tokens] == authors


def test_tokens_that_nothing_requested_are_not_kept(make_models: MakeModels, solved: Solved, a_task: Tasks) -> None:
    (solution,) = solved(models_of(make_models), [a_task()])
    assert solution.tokens is None
    assert solution.steps[0].kept.tokens is None


@pytest.mark.parametrize(
    ("fields", "error"),
    [
        ({"tokens": None}, "the draft model returned no log-probabilities, which the request needs"),
        ({"tokens": ()}, "cannot be: its tokens do not make up its text"),
        ({"tokens": (WrittenToken("draft step 0\n\n", 0.5),)}, "the log-probability of a token is 0.5"),
        ({"text": "draft step 0 and more"}, "its tokens do not make up its text"),
    ],
)
def test_a_model_without_the_tokens_fails_its_problem_alone(
    make_models: MakeModels, solved: Solved, a_task: Tasks, fields: dict[str, Any], error: str
) -> None:
    def write(request: GenerationRequest) -> Generation:
        return msgspec.structs.replace(with_tokens(request), **fields)

    tasks = [a_task("with", top_logprobs=2), a_task("without")]
    found = {solution.problem: solution for solution in solved(models_of(make_models, write), tasks)}
    assert error in (found["with"].error or "")
    assert found["without"].finish_reason == "answered"


@pytest.mark.parametrize(
    "fields",
    [{"top_logprobs": 0}, {"sampling": Sampling(presence_penalty=0.5)}, {"sampling": Sampling(frequency_penalty=-1.0)}],
)
def test_no_draft_is_verified_with_tokens_or_penalties(
    in_virtual_time: Virtual, make_models: MakeModels, open_ring: OpenRing, a_task: Tasks, fields: dict[str, Any]
) -> None:
    requests: list[GenerationRequest] = []

    def write(request: GenerationRequest) -> Generation:
        requests.append(request)
        return with_tokens(request)

    async def body() -> None:
        async with open_ring(models_of(make_models, write), 1, verify="on") as ring:
            await ring.solve(a_task(policy=LearnedRouter(0.4), **fields))
            await ring.solve(a_task("plain", policy=LearnedRouter(0.4)))

    in_virtual_time(body)
    proposed = [request.problem for request in requests if request.proposal is not None]
    assert proposed == ["plain"] * 3


def test_penalties_and_the_number_of_alternatives_are_in_each_request(
    make_models: MakeModels, solved: Solved, a_task: Tasks
) -> None:
    requests: list[GenerationRequest] = []

    def write(request: GenerationRequest) -> Generation:
        requests.append(request)
        return with_tokens(request)

    sampling = Sampling(presence_penalty=0.5, frequency_penalty=-1.5)
    solved(models_of(make_models, write), [a_task(policy=LearnedRouter(0.4), sampling=sampling, top_logprobs=7)])
    assert {request.author for request in requests} == {"draft", "target"}
    assert {(one.presence_penalty, one.frequency_penalty, one.top_logprobs) for one in requests} == {(0.5, -1.5, 7)}


class WithoutLogprobs(ScriptedGenerator):
    """A model that is known to return none."""

    without_logprobs = "It is scripted."


@pytest.mark.parametrize(
    ("policy", "is_refused"), [(TargetOnly(), True), (LearnedRouter(0.4), True), (DraftOnly(), False)]
)
def test_a_model_that_is_known_to_return_none_is_refused_if_the_policy_calls_it(
    make_models: MakeModels, solved: Solved, a_task: Tasks, policy: Policy, is_refused: bool
) -> None:
    models = make_models(draft=ScriptedGenerator(with_tokens), target=WithoutLogprobs(with_tokens))
    if not is_refused:
        assert solved(models, [a_task(policy=policy, top_logprobs=0)])[0].error is None
        return
    with pytest.raises(ConfigError, match=r"top_logprobs: a model returns no log-probabilities. It is scripted."):
        models.require_logprobs(policy)
    assert isinstance(models.target, ModelHandle)


@pytest.mark.parametrize("name", ["presence_penalty", "frequency_penalty"])
@pytest.mark.parametrize("value", [2.1, -2.1, float("nan")])
def test_a_penalty_is_from_minus_2_to_2(name: str, value: float) -> None:
    with pytest.raises(ConfigError, match=f"{name} must be from -2 to 2, but it is {value}"):
        Sampling(**{name: value})  # pyright: ignore[reportArgumentType]
