"""Steps that call tools: they are checked before a policy decides, and end the answer."""

from collections.abc import Callable
from typing import Any

import msgspec
import pytest

from arbiter.actors.checked_generation import TRIES
from arbiter.actors.policies import DraftOnly, GenerateRows, LearnedRouter, Oracle, RewardThreshold, TargetOnly
from arbiter.actors.ring_setup import Models
from arbiter.backends.scripted import ScriptedGenerator, ScriptedScorer
from arbiter.protocols.messages import Task
from arbiter.protocols.policy import Evidence, Policy
from arbiter.protocols.ports import Generation, GenerationRequest, ModelHandle
from arbiter.protocols.records import Limits, Solution, Target, Transcript, Usage, Verdict
from arbiter.protocols.tools import AnswerRules, Tool, ToolCall

Script = Callable[[GenerationRequest], Generation]
Solve = Callable[..., list[Solution]]
MakeModels = Callable[..., Models]

ADD = Tool("add", parameters='{"type": "object", "properties": {"a": {"type": "integer"}}, "required": ["a"]}')
RULES = AnswerRules((ADD,))


def a_task(policy: Policy, rules: AnswerRules | None = RULES, **fields: Any) -> Task:
    return Task("p", Transcript("What is 1+1?", rules=rules), policy, **fields)


def calls(*arguments: str, name: str = "add", text: str = "") -> Generation:
    return Generation(text, "end", Usage(10, 4), calls=tuple(ToolCall("", name, one) for one in arguments))


def writes(*answers: Generation) -> ScriptedGenerator:
    """Write one of ``answers`` after the other, the last one again and again."""
    left = list(answers)
    return ScriptedGenerator(lambda _: left.pop(0) if len(left) > 1 else left[0])


GOOD, BAD = '{"a": 1}', '{"a": "one"}'
DEEP = '{"a": ' * 2000 + "1" + "}" * 2000
KEEP, ESCALATE = LearnedRouter(1.0), LearnedRouter(0.0)


def test_a_call_ends_the_answer(solved: Solve, make_models: MakeModels) -> None:
    (solution,) = solved(make_models(writes(calls(GOOD, GOOD, text="I add."))), [a_task(KEEP)])
    assert solution.finish_reason == "tool_calls"
    assert [(call.name, call.arguments) for call in solution.tool_calls] == [("add", GOOD)] * 2
    assert solution.text == "I add."
    assert [step.kept.text for step in solution.steps] == [
        'I add.\n{"name": "add", "arguments": {"a": 1}}',
        '{"name": "add", "arguments": {"a": 1}}',
    ]
    assert {(step.kept.valid, step.kept.violation) for step in solution.steps} == {(True, None)}


def test_each_call_has_an_id_of_its_own_that_depends_on_nothing_but_its_request(
    solved: Solve, make_models: MakeModels
) -> None:
    first, second = (
        [call.id for call in one.tool_calls]
        for one in (solved(make_models(writes(calls(GOOD, GOOD))), [a_task(KEEP)])[0] for _ in range(2))
    )
    assert first == second
    assert len({*first}) == 2
    assert all(name.startswith("call_") for name in first)


def test_the_router_reads_a_call_as_json(solved: Solve, make_models: MakeModels) -> None:
    read: list[str] = []
    router = ScriptedScorer(lambda request: read.append(request.candidate) or 0.5)
    solved(make_models(writes(calls('{"a":\n1}')), router=router), [a_task(KEEP)])
    assert read == ['{"name": "add", "arguments": {"a": 1}}']


@pytest.mark.parametrize("policy", [KEEP, RewardThreshold(0.0), LearnedRouter(1.0, budget=0.5)])
@pytest.mark.parametrize(
    "draft",
    [
        calls(BAD),
        calls(DEEP),
        calls(GOOD, name="subtract"),
        Generation("<tool_call>", "end", Usage(), valid=False, violation="cut"),
    ],
)
def test_a_draft_that_breaks_the_rules_escalates_without_a_request_to_a_scorer(
    solved: Solve, make_models: MakeModels, policy: Policy, draft: Generation
) -> None:
    (solution,) = solved(make_models(writes(draft), writes(calls(GOOD))), [a_task(policy, audit=1.0)])
    (step,) = solution.steps
    assert step.verdict == "escalate"
    assert step.draft is not None
    assert (step.draft.valid, step.draft.score) == (False, None)
    assert step.draft.violation
    assert (step.kept.author, step.kept.valid) == ("target", True)
    assert {model: counts.requests for model, counts in solution.requests.items()} == {"draft": 1, "target": 1}


def test_a_draft_that_keeps_the_rules_goes_to_the_policy_with_the_verdict_as_evidence(
    solved: Solve, make_models: MakeModels
) -> None:
    seen: list[bool | None] = []

    class Watching(LearnedRouter, frozen=True):
        def decide(self, evidence: Evidence) -> Verdict:
            seen.append(evidence.valid)
            return super().decide(evidence)

    plain = Generation("First I think.", "separator", Usage(10, 4))
    (solution,) = solved(make_models(writes(plain, calls(GOOD)), writes(calls(GOOD))), [a_task(Watching(0.0))])
    assert seen == [None]  # the target's step is a call, and ends the answer
    (solution,) = solved(make_models(writes(plain, calls(GOOD))), [a_task(Watching(1.0))])
    assert seen == [None, None, True]
    assert solution.requests["router"].requests == 2


def test_of_several_targets_the_first_replaces_a_draft_that_breaks_the_rules(
    solved: Solve, make_models: MakeModels
) -> None:
    models = make_models(writes(calls(BAD)))
    targets = {name: ModelHandle(writes(calls(GOOD)), 1) for name in ("small", "large")}
    policy = LearnedRouter(0.5, (Target("small"), Target("large")))
    (solution,) = solved(msgspec.structs.replace(models, targets=targets), [a_task(policy)])
    assert solution.steps[0].kept.target == "small"


@pytest.mark.parametrize("policy", [Oracle(0.9), GenerateRows()])
def test_where_both_models_write_the_targets_step_replaces_a_draft_that_breaks_the_rules(
    solved: Solve, make_models: MakeModels, policy: Policy
) -> None:
    (solution,) = solved(make_models(writes(calls(BAD)), writes(calls(GOOD))), [a_task(policy)])
    (step,) = solution.steps
    assert (step.verdict, step.kept.author) == ("keep_target", "target")
    assert solution.requests["prm"].requests == 1  # that of the target's step


def test_a_target_that_breaks_the_rules_is_requested_again_under_a_constraint(
    solved: Solve, make_models: MakeModels
) -> None:
    requests: list[GenerationRequest] = []
    answers = [calls(BAD), calls("{}"), calls(GOOD)]

    def write(request: GenerationRequest) -> Generation:
        requests.append(request)
        return answers[len(requests) - 1]

    (solution,) = solved(make_models(writes(calls(BAD)), ScriptedGenerator(write)), [a_task(KEEP)])
    assert solution.finish_reason == "tool_calls"
    assert [request.constraint is None for request in requests] == [True, False, False]
    assert [request.temperature > 0 for request in requests] == [False, True, True]
    assert len({request.seed for request in requests}) == 3
    counts = solution.requests["target"]
    assert (counts.requests, counts.usage.completion_tokens) == (1, 12)
    assert solution.steps[0].kept.usage.completion_tokens == 4


@pytest.mark.parametrize(("policy", "author"), [(KEEP, "target"), (TargetOnly(), "target"), (DraftOnly(), "draft")])
def test_where_no_model_keeps_the_rules_the_problem_fails_with_the_reason(
    solved: Solve, make_models: MakeModels, policy: Policy, author: str
) -> None:
    draft, target = writes(calls(BAD)), writes(calls(BAD))
    (solution,) = solved(make_models(draft, target), [a_task(policy)])
    reason = f"the {author} model broke the rules of the answer in each of 3 tries: the arguments of add"
    assert reason in (solution.error or "")
    assert {"draft": draft, "target": target}[author].calls == TRIES


CUT = Generation('<tool_call>\n{"name": "add"', "limit", Usage(10, 4), valid=False, violation="the call is cut")


@pytest.mark.parametrize(("limit", "reason"), [(9, "step_limit"), (4, "max_tokens")])
@pytest.mark.parametrize("policy", [KEEP, TargetOnly(), DraftOnly()])
def test_a_call_that_the_limit_cuts_is_no_call_and_ends_the_problem_at_the_limit_without_another_try(
    solved: Solve, make_models: MakeModels, policy: Policy, limit: int, reason: str
) -> None:
    draft, target = writes(CUT), writes(CUT)
    (solution,) = solved(make_models(draft, target), [a_task(policy, limits=Limits(max_tokens=limit))])
    assert (solution.finish_reason, solution.tool_calls, solution.error) == (reason, (), None)
    assert (draft.calls, target.calls) == (int(policy != TargetOnly()), int(policy != DraftOnly()))


def test_a_whole_call_that_breaks_the_rules_is_written_again_also_at_the_limit(
    solved: Solve, make_models: MakeModels
) -> None:
    bad = msgspec.structs.replace(calls(BAD), stop_reason="limit")
    (solution,) = solved(make_models(target=writes(bad, calls(GOOD))), [a_task(TargetOnly())])
    assert [call.arguments for call in solution.tool_calls] == [GOOD]


def test_an_answer_without_the_call_that_it_needs_is_replaced(solved: Solve, make_models: MakeModels) -> None:
    said = Generation("It is two.", "end", Usage(10, 4))
    task = a_task(KEEP, AnswerRules((ADD,), "required"))
    (solution,) = solved(make_models(writes(said), writes(calls(GOOD))), [task])
    assert solution.tool_calls
    assert solution.steps[0].verdict == "escalate"


def test_steps_without_a_call_have_no_verdict(solved: Solve, make_models: MakeModels) -> None:
    (solution,) = solved(make_models(), [a_task(KEEP)])
    assert (solution.finish_reason, len(solution.steps)) == ("answered", 3)
    assert {one.valid for step in solution.steps for one in step.candidates} == {None}


@pytest.mark.parametrize("draft", [calls(GOOD), calls(BAD), Generation("plain", "end", Usage())])
def test_a_target_reads_a_rejected_draft_only_if_it_calls_no_tool(
    in_virtual_time: Callable[..., None], open_ring: Callable[..., Any], make_models: MakeModels, draft: Generation
) -> None:
    read: list[bool] = []

    def write(request: GenerationRequest) -> Generation:
        read.append(request.proposal is not None)
        return calls(GOOD)

    async def body() -> None:
        models = make_models(writes(draft), ScriptedGenerator(write))
        async with open_ring(models, verify="on") as ring:
            await ring.solve(a_task(ESCALATE))

    in_virtual_time(body)
    assert read == [not draft.calls]


@pytest.mark.parametrize("draft", [calls(GOOD), calls(BAD)])
def test_nothing_is_drafted_ahead_of_a_call(
    in_virtual_time: Callable[..., None], open_ring: Callable[..., Any], make_models: MakeModels, draft: Generation
) -> None:
    async def body() -> None:
        async with open_ring(make_models(writes(draft), writes(calls(GOOD))), lookahead=2) as ring:
            solution = await ring.solve(a_task(ESCALATE))
        assert solution.requests["draft"].requests == 1

    in_virtual_time(body)
