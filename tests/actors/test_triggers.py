"""Which drafts the triggers escalate, as tables."""

from collections.abc import Callable, Sequence

import pytest

from arbiter.actors.policies import called_models
from arbiter.actors.ring_setup import Models
from arbiter.actors.triggers import Trigger, TriggeredEscalation, hesitates
from arbiter.backends.scripted import ScriptedGenerator
from arbiter.protocols.messages import Task
from arbiter.protocols.policy import Evidence
from arbiter.protocols.ports import Generation, GenerationRequest
from arbiter.protocols.records import Author, Candidate, Solution, StepRecord, Usage, Verdict

Tasks = Callable[..., Task]
MakeModels = Callable[..., Models]
Solved = Callable[..., list[Solution]]

WORDS = ("wait", "hold on")


def draft(text: str = "12+30: 42.", confidence: float | None = 0.9) -> Candidate:
    return Candidate("draft", text, "separator", Usage(), 1.0, confidence=confidence)


def kept(text: str, verdict: Verdict | None = "keep_draft") -> StepRecord:
    written = draft(text)
    target = Candidate("target", "better", "separator", Usage(), 1.0)
    return StepRecord((written, target) if verdict == "escalate" else (written,), int(verdict == "escalate"), verdict)


def evidence(of: Candidate, *history: StepRecord) -> Evidence:
    return Evidence("p", len(history), 0, of, history=history)


@pytest.mark.parametrize(
    ("confidence", "trigger"),
    [
        (1.0, "overconfident"),
        (0.981, "overconfident"),
        (0.98, None),
        (0.5, None),
        (0.3, None),
        (0.299, "unsure"),
        (0.001, "unsure"),
    ],
)
def test_a_draft_is_escalated_whose_confidence_is_above_or_below_what_is_usual(
    confidence: float, trigger: Trigger | None
) -> None:
    policy = TriggeredEscalation(0.98, unsure=0.3, words=WORDS)
    seen = evidence(draft(confidence=confidence))
    assert policy.trigger(seen) == trigger
    assert policy.decide(seen) == ("keep_draft" if trigger is None else "escalate")


def test_at_the_ends_of_the_scale_no_draft_is_escalated_for_its_confidence() -> None:
    policy = TriggeredEscalation(1.0, unsure=0.0)
    assert {policy.decide(evidence(draft(confidence=value))) for value in (1e-9, 0.5, 1.0)} == {"keep_draft"}


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("Wait, that is wrong.", True),
        ("So x = 2. WAIT!", True),
        ("But hold on: x is odd.", True),
        ("The waiter brings 3 plates.", False),
        ("I await the result.", False),
        ("They hold on-line votes.", True),
        ("They hold the line.", False),
        ("hold\non", False),
        ("", False),
    ],
)
def test_a_word_of_hesitation_stands_alone_in_any_case(text: str, found: bool) -> None:
    assert hesitates(draft(text), WORDS) is found


@pytest.mark.parametrize("word", ["a.b", "(hmm)", "wait...", "?"])
def test_a_word_is_a_text_and_no_pattern(word: str) -> None:
    assert hesitates(draft(f"x {word} y"), (word,))
    assert not hesitates(draft("axb hm wai"), (word,))


@pytest.mark.parametrize(
    ("history", "consecutive", "verdict"),
    [
        ((), 1, "escalate"),
        ((), 2, "keep_draft"),
        ((kept("wait"),), 2, "escalate"),
        ((kept("42"),), 2, "keep_draft"),
        ((kept("wait"), kept("42")), 2, "keep_draft"),
        ((kept("wait"), kept("wait")), 3, "escalate"),
        ((kept("42"), kept("wait"), kept("wait")), 3, "escalate"),
        ((kept("wait"), kept("wait", "escalate")), 3, "keep_draft"),
        ((kept("wait", "escalate"),), 1, "escalate"),
    ],
)
def test_hesitation_counts_over_drafts_in_a_row_that_were_kept(
    history: Sequence[StepRecord], consecutive: int, verdict: Verdict
) -> None:
    policy = TriggeredEscalation(1.0, words=WORDS, consecutive=consecutive)
    assert policy.decide(evidence(draft("Wait."), *history)) == verdict
    assert policy.decide(evidence(draft("42."), *history)) == "keep_draft"


def test_without_words_no_draft_hesitates() -> None:
    assert TriggeredEscalation(1.0).decide(evidence(draft("wait"))) == "keep_draft"


@pytest.mark.parametrize(
    ("first", "step", "authors"), [(0, 0, ("draft",)), (2, 0, ("target",)), (2, 1, ("target",)), (2, 2, ("draft",))]
)
def test_the_target_alone_proposes_the_first_steps(first: int, step: int, authors: tuple[Author, ...]) -> None:
    assert TriggeredEscalation(0.9, first=first).proposes(step) == authors


def test_a_draft_without_a_confidence_is_never_judged() -> None:
    with pytest.raises(ValueError, match="needs the draft's confidence, but the backend returned none"):
        TriggeredEscalation(0.9).decide(evidence(draft(confidence=None)))


def test_the_triggers_call_no_third_model() -> None:
    assert set(called_models(TriggeredEscalation(0.9), 0.0)) == {"draft", "target"}


def test_the_first_steps_are_not_drafted_and_a_hesitant_draft_is_replaced(
    solved: Solved, a_task: Tasks, make_models: MakeModels
) -> None:
    def write(request: GenerationRequest) -> Generation:
        ending = "end" if request.step == 3 else "separator"
        text = f"wait {request.step}" if request.step == 2 else f"step {request.step}"
        return Generation(text, ending, Usage(9, 3), confidence=0.9 if request.confidence else None)

    models = make_models(draft=ScriptedGenerator(write), target=ScriptedGenerator(write))
    [solution] = solved(models, [a_task(policy=TriggeredEscalation(0.95, words=WORDS))])
    assert [step.kept.author for step in solution.steps] == ["target", "draft", "target", "draft"]
    assert [step.verdict for step in solution.steps] == [None, "keep_draft", "escalate", "keep_draft"]
    assert solution.requests["draft"].requests == 3
