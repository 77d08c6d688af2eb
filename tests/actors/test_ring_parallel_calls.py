"""Several calls in one answer: each is a step with a verdict of its own, if a policy decides about steps."""

from collections.abc import Callable
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from arbiter.actors.checked_generation import separated
from arbiter.actors.policies import DraftOnly, LearnedRouter, Oracle, TargetOnly
from arbiter.actors.ring_setup import Models
from arbiter.backends.scripted import ScriptedGenerator, ScriptedScorer
from arbiter.protocols.messages import Task
from arbiter.protocols.policy import Policy
from arbiter.protocols.ports import Generation, GenerationRequest, ScoreRequest
from arbiter.protocols.records import Limits, Solution, Transcript, Usage
from arbiter.protocols.tools import AnswerRules, Tool, ToolCall

Solve = Callable[..., list[Solution]]
MakeModels = Callable[..., Models]

ADD = Tool("add", parameters='{"type": "object", "properties": {"a": {"type": "integer"}}, "required": ["a"]}')
KEEP, ESCALATE = LearnedRouter(1.0), LearnedRouter(0.0)
BAD = "two"


def a_task(policy: Policy, rules: AnswerRules | None = None, **fields: Any) -> Task:
    return Task("p", Transcript("What is 1+1?", rules=rules or AnswerRules((ADD,))), policy, **fields)


def writes(*values: object, text: str = "", watch: Callable[[GenerationRequest], object] = lambda _: None) -> Any:
    """A model whose whole answer is ``text`` and a call of each value. It goes on after the calls that it reads."""

    def write(request: GenerationRequest) -> Generation:
        watch(request)
        made = sum(len(step.calls) for step in request.transcript.steps)
        calls = tuple(ToolCall("", "add", f'{{"a": {value}}}'.replace(BAD, f'"{BAD}"')) for value in values[made:])
        return Generation("" if made else text, "end", Usage(10, 4 * len(calls) + 1), calls=calls)

    return ScriptedGenerator(write)


def given_values(solution: Solution) -> list[str]:
    return [call.arguments for call in solution.tool_calls]


def test_each_of_several_calls_is_a_step_that_is_scored_as_one(solved: Solve, make_models: MakeModels) -> None:
    read: list[ScoreRequest] = []
    router = ScriptedScorer(lambda request: read.append(request) or 0.5)
    draft = writes(1, 2, 3, text="I add.")
    (solution,) = solved(make_models(draft, router=router), [a_task(KEEP)])
    assert solution.finish_reason == "tool_calls"
    assert given_values(solution) == ['{"a": 1}', '{"a": 2}', '{"a": 3}']
    assert [step.kept.stop_reason for step in solution.steps] == ["call", "call", "end"]
    assert [step.kept.valid for step in solution.steps] == [True] * 3
    assert [one.candidate for one in read] == [step.kept.text for step in solution.steps]
    assert read[0].candidate == 'I add.\n{"name": "add", "arguments": {"a": 1}}'
    assert solution.text == "I add."
    assert solution.requests["draft"].requests == 1  # the answer has all of them
    assert len({call.id for call in solution.tool_calls}) == 3


def test_only_the_call_that_breaks_the_rules_is_replaced(solved: Solve, make_models: MakeModels) -> None:
    (solution,) = solved(make_models(writes(1, BAD, 3), writes(1, 2, 3)), [a_task(KEEP)])
    assert given_values(solution) == ['{"a": 1}', '{"a": 2}', '{"a": 3}']
    assert [step.kept.author for step in solution.steps] == ["draft", "target", "draft"]
    assert [step.verdict for step in solution.steps] == ["keep_draft", "escalate", "keep_draft"]
    assert solution.requests["target"].requests == 1
    assert solution.requests["router"].requests == 2  # the broken call costs none


def test_after_a_rejected_call_the_drafts_further_calls_are_not_used(solved: Solve, make_models: MakeModels) -> None:
    (solution,) = solved(make_models(writes(1, 2), writes(7, 8)), [a_task(ESCALATE)])
    assert given_values(solution) == ['{"a": 7}', '{"a": 8}']
    assert [step.kept.author for step in solution.steps] == ["target", "target"]
    assert solution.requests["draft"].requests == 2


def test_a_model_reads_the_calls_before_its_step_as_data(solved: Solve, make_models: MakeModels) -> None:
    seen: list[GenerationRequest] = []
    solved(make_models(writes(1, BAD), writes(1, 2, watch=seen.append)), [a_task(KEEP)])
    [request] = seen
    [before] = request.transcript.steps
    assert [call.arguments for call in before.calls] == ['{"a": 1}']
    assert (before.author, before.ended("\n\n")) == ("draft", f"{before.text}\n")
    assert request.proposal is None


def test_an_answer_that_makes_no_further_call_ends_with_those_before_it(solved: Solve, make_models: MakeModels) -> None:
    (solution,) = solved(make_models(writes(1, BAD), writes(1)), [a_task(KEEP)])
    assert given_values(solution) == ['{"a": 1}']
    assert (solution.finish_reason, solution.text) == ("tool_calls", "")


@pytest.mark.parametrize("policy", [DraftOnly(), TargetOnly()])
def test_where_no_policy_decides_the_calls_of_an_answer_are_one_step(
    solved: Solve, make_models: MakeModels, policy: Policy
) -> None:
    (solution,) = solved(make_models(writes(1, 2), writes(1, 2)), [a_task(policy)])
    assert [len(step.kept.calls) for step in solution.steps] == [2]


def test_where_only_one_call_is_allowed_two_are_one_step_that_breaks_the_rules(
    solved: Solve, make_models: MakeModels
) -> None:
    (solution,) = solved(make_models(writes(1, 2), writes(1)), [a_task(KEEP, AnswerRules((ADD,), parallel=False))])
    assert [(step.kept.author, len(step.kept.calls)) for step in solution.steps] == [("target", 1)]


def test_where_both_models_write_each_call_is_compared_alone(solved: Solve, make_models: MakeModels) -> None:
    prm = ScriptedScorer(lambda request: 0.1 if "2" in request.candidate else 0.9)
    (solution,) = solved(make_models(writes(1, 2), writes(1, 3), prm=prm), [a_task(Oracle(0.0))])
    assert [step.kept.author for step in solution.steps] == ["draft", "target"]


def test_a_required_call_was_made_by_the_steps_before(solved: Solve, make_models: MakeModels) -> None:
    rules = AnswerRules((ADD,), "required")
    (solution,) = solved(make_models(writes(1, BAD), writes(1)), [a_task(KEEP, rules)])
    assert (solution.finish_reason, given_values(solution)) == ("tool_calls", ['{"a": 1}'])


def test_the_step_limit_counts_calls(solved: Solve, make_models: MakeModels) -> None:
    (solution,) = solved(make_models(writes(1, 2, 3)), [a_task(KEEP, limits=Limits(max_steps=2))])
    assert (solution.finish_reason, len(solution.tool_calls)) == ("max_steps", 2)


@given(
    st.lists(st.text("ab", max_size=5), min_size=1, max_size=6),
    st.integers(0, 500),
    st.sampled_from(["end", "separator", "limit"]),
)
def test_the_steps_of_an_answer_have_its_calls_and_its_tokens(names: list[str], tokens: int, stop: Any) -> None:
    calls = tuple(ToolCall("", name, "{}") for name in names)
    answer = Generation("I add.", stop, Usage(9, tokens, 3), Usage(1, 1), calls=calls)
    steps = separated(answer)
    assert tuple(call for step in steps for call in step.calls) == calls
    assert sum((step.usage for step in steps), Usage()) == answer.usage
    assert sum((step.overhead for step in steps), Usage()) == answer.overhead
    assert [step.stop_reason for step in steps] == ["call"] * (len(names) - 1) + [stop]
    assert [step.text for step in steps] == ["I add.", *[""] * (len(names) - 1)]
    assert all(step.usage.completion_tokens >= 0 for step in steps)


def test_an_answer_with_one_call_is_its_own_step() -> None:
    answer = Generation("", "end", Usage(9, 5), calls=(ToolCall("", "add", "{}"),), token_ids=(1, 2))
    assert separated(answer) == (answer,)
    assert separated(msgspec.structs.replace(answer, calls=())) == (msgspec.structs.replace(answer, calls=()),)
