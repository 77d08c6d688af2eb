"""Answers that must fit a JSON schema: they are checked before a policy decides, and no other answer is returned."""

from collections.abc import Callable, Sequence
from typing import Any

import pytest

from arbiter.actors.checked_generation import TRIES
from arbiter.actors.policies import DraftOnly, LearnedRouter, TargetOnly
from arbiter.actors.ring_setup import Models
from arbiter.backends.scripted import ScriptedGenerator
from arbiter.protocols.messages import Task
from arbiter.protocols.ports import Generation, GenerationRequest, Policy
from arbiter.protocols.records import Solution, Transcript, Usage
from arbiter.protocols.tools import AnswerRules, Tool, ToolCall
from arbiter.structured.validation import violation_of

Solve = Callable[..., list[Solution]]
MakeModels = Callable[..., Models]

SCHEMA = '{"type": "object", "properties": {"sum": {"type": "integer"}}, "required": ["sum"]}'
RULES = AnswerRules(schema=SCHEMA)
GOOD, BAD = '{"sum": 2}', '{"sum": "two"}'
KEEP, ESCALATE = LearnedRouter(1.0), LearnedRouter(0.0)


def a_task(policy: Policy, rules: AnswerRules = RULES, **fields: Any) -> Task:
    return Task("p", Transcript("What is 1+1?", rules=rules), policy, **fields)


class Writes(ScriptedGenerator):
    """Writes one of ``texts`` after the other, the last one again and again. All but those in ``ongoing`` end."""

    def __init__(self, *texts: str, ongoing: Sequence[str] = ()) -> None:
        self.requests: list[GenerationRequest] = []

        def write(request: GenerationRequest) -> Generation:
            text = texts[min(len(self.requests), len(texts) - 1)]
            self.requests.append(request)
            return Generation(text, "separator" if text in ongoing else "end", Usage(10, 4))

        super().__init__(write)

    @property
    def constraints(self) -> list[str | None]:
        return [request.constraint for request in self.requests]


def test_a_draft_that_fits_goes_to_the_policy(solved: Solve, make_models: MakeModels) -> None:
    (solution,) = solved(make_models(Writes(GOOD)), [a_task(KEEP)])
    assert (solution.text, solution.finish_reason) == (GOOD, "answered")
    (step,) = solution.steps
    assert (step.kept.author, step.kept.valid, step.kept.violation) == ("draft", True, None)
    assert solution.requests["router"].requests == 1


@pytest.mark.parametrize("draft", [BAD, "{", "The sum is 2.", "", f"{GOOD} {GOOD}"])
def test_a_draft_that_does_not_fit_escalates_without_a_request_to_a_scorer(
    solved: Solve, make_models: MakeModels, draft: str
) -> None:
    (solution,) = solved(make_models(Writes(draft), Writes(GOOD)), [a_task(KEEP)])
    assert solution.text == GOOD
    (step,) = solution.steps
    assert step.draft is not None
    assert (step.verdict, step.draft.valid, step.draft.score) == ("escalate", False, None)
    assert (step.draft.violation or "").startswith("the answer does not fit its schema: ")
    assert "router" not in solution.requests


def test_a_target_that_does_not_fit_is_requested_again_under_the_schema(solved: Solve, make_models: MakeModels) -> None:
    target = Writes(BAD, "{", GOOD)
    (solution,) = solved(make_models(Writes(BAD), target), [a_task(KEEP)])
    assert solution.text == GOOD
    assert target.constraints == [None, SCHEMA, SCHEMA]


@pytest.mark.parametrize(("policy", "author"), [(KEEP, "target"), (TargetOnly(), "target"), (DraftOnly(), "draft")])
def test_where_no_try_fits_the_problem_fails_with_the_reason(
    solved: Solve, make_models: MakeModels, policy: Policy, author: str
) -> None:
    draft, target = Writes(BAD), Writes(BAD)
    (solution,) = solved(make_models(draft, target), [a_task(policy)])
    assert solution.finish_reason == "failed"
    reason = (
        f"the {author} model broke the rules of the answer in each of 3 tries: the answer does not fit its schema: "
    )
    assert f"{reason}at /sum: the value is not of type" in (solution.error or "")
    assert {"draft": draft, "target": target}[author].calls == TRIES


def test_steps_of_a_thought_have_no_verdict_and_the_step_after_it_is_constrained_from_its_first_try(
    solved: Solve, make_models: MakeModels
) -> None:
    thought = ("<think>One and one.", "Two.</think>")
    draft = Writes(*thought, GOOD, ongoing=thought)
    (solution,) = solved(make_models(draft), [a_task(KEEP)])
    assert [step.kept.valid for step in solution.steps] == [None, None, True]
    assert draft.constraints == [None, None, SCHEMA]
    assert violation_of(SCHEMA, solution.steps[-1].kept.text) is None


def test_an_answer_that_ends_within_a_thought_does_not_fit(solved: Solve, make_models: MakeModels) -> None:
    (solution,) = solved(make_models(Writes(f"<think>{GOOD}"), Writes(f"<think>So</think>{GOOD}")), [a_task(KEEP)])
    (step,) = solution.steps
    assert step.draft is not None
    assert (step.draft.violation, step.kept.author) == ("it ends within a thought", "target")


@pytest.mark.parametrize("mark", ["<think>", "</think>"])
def test_marks_of_a_thought_within_an_answer_that_fits_are_text(
    solved: Solve, make_models: MakeModels, mark: str
) -> None:
    answer = f'{{"sum": 2, "how": "{mark}"}}'
    (solution,) = solved(make_models(Writes(answer)), [a_task(KEEP)])
    assert (solution.text, solution.steps[0].kept.author) == (answer, "draft")


def test_with_tools_an_answer_calls_one_or_fits_and_no_first_try_is_constrained(
    solved: Solve, make_models: MakeModels
) -> None:
    rules = AnswerRules((Tool("add"),), schema=SCHEMA)
    called = Generation("", "end", Usage(10, 4), calls=(ToolCall("", "add", "{}"),))
    (solution,) = solved(make_models(ScriptedGenerator(lambda _: called)), [a_task(KEEP, rules)])
    assert (solution.finish_reason, solution.steps[0].kept.valid) == ("tool_calls", True)
    target = Writes("<think>So</think>", BAD, GOOD, ongoing=["<think>So</think>"])
    (solution,) = solved(make_models(target=target), [a_task(TargetOnly(), rules)])
    assert solution.steps[-1].kept.text == GOOD
    assert target.constraints == [None, None, SCHEMA]


def test_where_a_call_is_required_no_answer_fits(solved: Solve, make_models: MakeModels) -> None:
    rules = AnswerRules((Tool("add"),), "required", schema=SCHEMA)
    target = Writes(GOOD)
    (solution,) = solved(make_models(target=target), [a_task(TargetOnly(), rules)])
    assert "must call a tool" in (solution.error or "")
    assert target.constraints[0] is None
    assert SCHEMA not in target.constraints
