"""Answers that must fit a JSON schema: they are checked before a policy decides, and no other answer is returned."""

from collections.abc import Callable, Sequence
from typing import Any

import pytest

from arbiter.actors.checked_generation import TRIES
from arbiter.actors.policies import DraftOnly, LearnedRouter, TargetOnly
from arbiter.actors.ring_setup import Models
from arbiter.backends.calling import CallingGenerator
from arbiter.backends.scripted import ScriptedGenerator
from arbiter.protocols.errors import ConfigError
from arbiter.protocols.messages import Task
from arbiter.protocols.policy import Policy
from arbiter.protocols.ports import Generation, GenerationRequest
from arbiter.protocols.records import Limits, Solution, Transcript, Usage
from arbiter.protocols.tools import AnswerRules, Effort, Tool, ToolCall
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
    assert target.constraints == [SCHEMA, SCHEMA, SCHEMA]
    assert [request.temperature for request in target.requests] == [0.0, 0.7, 0.7]
    assert len({request.seed for request in target.requests}) == 3


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


@pytest.mark.parametrize(
    ("opens", "first", "constraints"),
    [
        (False, "<think>One and one.", [None, None, SCHEMA]),
        (True, "One and one.", [None, None, SCHEMA]),
    ],
)
def test_steps_of_a_thought_have_no_verdict_and_the_step_after_it_is_constrained_from_its_first_try(
    solved: Solve, make_models: MakeModels, opens: bool, first: str, constraints: list[str | None]
) -> None:
    thought = (first, "Two.</think>")
    draft = Writes(*thought, GOOD, ongoing=thought)
    thinking = CallingGenerator(draft, None, opens_thought=opens, thinks=not opens)
    (solution,) = solved(make_models(thinking), [a_task(KEEP)])
    assert [step.kept.valid for step in solution.steps] == [None, None, True]
    assert draft.constraints == constraints
    assert violation_of(SCHEMA, solution.steps[-1].kept.text) is None


@pytest.mark.parametrize(
    ("effort", "thinks", "constraint"),
    [
        (None, False, SCHEMA),
        (None, True, None),
        ("none", True, SCHEMA),
        ("minimal", True, SCHEMA),
        ("low", False, None),
    ],
)
def test_a_model_that_may_think_first_writes_its_first_step_freely(
    solved: Solve, make_models: MakeModels, effort: Effort | None, thinks: bool, constraint: str | None
) -> None:
    class Thinker(Writes):
        opens_thought = False

        def __init__(self) -> None:
            super().__init__(GOOD)
            self.thinks = thinks

    draft = Thinker()
    (solution,) = solved(make_models(draft), [a_task(KEEP, AnswerRules(schema=SCHEMA, effort=effort))])
    assert (solution.text, draft.constraints) == (GOOD, [constraint])


def test_where_the_prompt_of_one_model_opens_a_thought_answers_of_both_begin_within_it(
    solved: Solve, make_models: MakeModels
) -> None:
    target = CallingGenerator(Writes(f"So it is two.</think>\n\n{GOOD}"), None, opens_thought=True)
    draft = Writes("One and one.", GOOD, ongoing=["One and one."])
    (solution,) = solved(make_models(draft, target), [a_task(KEEP)])
    assert solution.steps[1].candidates[0].violation == "it ends within a thought"
    assert [(step.kept.author, step.kept.valid) for step in solution.steps] == [("draft", None), ("target", True)]


def test_a_rejected_draft_is_no_proposal_under_a_constraint(solved: Solve, make_models: MakeModels) -> None:
    target = Writes(GOOD)
    (solution,) = solved(make_models(Writes(GOOD), target), [a_task(ESCALATE)])
    assert solution.steps[0].kept.author == "target"
    assert [request.proposal for request in target.requests] == [None]


@pytest.mark.parametrize("closes", [True, False])
def test_a_closing_mark_after_the_first_is_text(solved: Solve, make_models: MakeModels, closes: bool) -> None:
    answer = f"{GOOD}</think>{GOOD}" if closes else '{"sum": 2, "a": "</think>"}'
    (solution,) = solved(make_models(target=Writes(f"<think>So</think>{answer}")), [a_task(TargetOnly())])
    assert solution.finish_reason == ("failed" if closes else "answered")


CUT = '{"sum": '


def limited(text: str, tokens: int) -> ScriptedGenerator:
    """A model whose answer ``text`` its limit cuts, after as many ``tokens``."""
    return ScriptedGenerator(lambda _: Generation(text, "limit", Usage(10, tokens)))


@pytest.mark.parametrize(("limits", "reason"), [(Limits(step_tokens=9), "step_limit"), (Limits(9), "step_limit")])
def test_a_draft_that_its_limit_cuts_escalates_and_a_target_that_its_limit_cuts_ends_the_problem(
    solved: Solve, make_models: MakeModels, limits: Limits, reason: str
) -> None:
    target = limited(CUT, 9)
    (solution,) = solved(make_models(limited("{", 9), target), [a_task(KEEP, limits=limits)])
    (step,) = solution.steps
    assert (step.verdict, step.kept.author, solution.text) == ("escalate", "target", CUT)
    assert (solution.finish_reason, target.calls, "router" in solution.requests) == (reason, 1, False)
    for one in step.candidates:
        assert (one.valid, (one.violation or "").partition(": ")[0]) == (False, "its token limit cut it")


def test_a_draft_that_is_whole_where_its_limit_cuts_it_goes_to_the_policy(
    solved: Solve, make_models: MakeModels
) -> None:
    (solution,) = solved(make_models(limited(GOOD, 9)), [a_task(KEEP)])
    (step,) = solution.steps
    assert (step.kept.author, step.kept.valid, solution.finish_reason) == ("draft", True, "step_limit")


def test_a_draft_alone_that_its_limit_cuts_ends_the_problem(solved: Solve, make_models: MakeModels) -> None:
    draft = limited(CUT, 9)
    (solution,) = solved(make_models(draft), [a_task(DraftOnly())])
    assert (solution.finish_reason, solution.text, draft.calls) == ("step_limit", CUT, 1)


@pytest.mark.parametrize("ending", ["end", "limit", "separator"])
def test_what_precedes_a_stop_text_must_fit(solved: Solve, make_models: MakeModels, ending: Any) -> None:
    def writes(text: str) -> ScriptedGenerator:
        return ScriptedGenerator(lambda _: Generation(text, ending, Usage(10, 4)))

    stopped, whole = f"{CUT}STOP2}}", f"{GOOD}STOP and more"
    (solution,) = solved(make_models(writes(stopped), writes(whole)), [a_task(KEEP, stop=("STOP",))])
    (step,) = solution.steps
    assert step.draft is not None
    assert (step.draft.valid, step.kept.valid, solution.text, solution.finish_reason) == (False, True, GOOD, "stop")
    target = writes(stopped)
    (solution,) = solved(make_models(target=target), [a_task(TargetOnly(), stop=("STOP",))])
    assert (solution.finish_reason, target.calls) == ("failed", TRIES)


def test_a_stop_text_that_the_separator_completes_ends_the_answer(solved: Solve, make_models: MakeModels) -> None:
    def writes(text: str) -> ScriptedGenerator:
        return ScriptedGenerator(lambda _: Generation(text, "separator", Usage(10, 4)))

    models = make_models(writes("Two."), writes(GOOD))
    (solution,) = solved(models, [a_task(KEEP, stop=("\n\n",))])
    assert (solution.text, solution.finish_reason) == (GOOD, "stop")
    assert [step.kept.author for step in solution.steps] == ["target"]


def test_an_answer_that_must_call_a_tool_may_not_stop_before(solved: Solve, make_models: MakeModels) -> None:
    target = Writes("I stop.", ongoing=["I stop."])
    rules = AnswerRules((Tool("add"),), "required")
    (solution,) = solved(make_models(target=target), [a_task(TargetOnly(), rules, stop=("stop",))])
    assert (solution.finish_reason, target.calls) == ("failed", TRIES)


def test_a_model_that_fails_under_a_constraint_is_refused_before_the_problem_begins(
    solved: Solve, make_models: MakeModels
) -> None:
    class Lacking(Writes):
        without_constraints = "install it"

    draft = Lacking(GOOD)
    with pytest.RaisesGroup(pytest.RaisesExc(ConfigError, match="^schema: install it"), flatten_subgroups=True):
        solved(make_models(draft), [a_task(KEEP)])
    assert draft.calls == 0
    (solution,) = solved(make_models(draft, Writes(GOOD)), [a_task(TargetOnly())])
    assert solution.finish_reason == "answered"


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
