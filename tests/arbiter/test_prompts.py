"""How a context is written for a model."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from arbiter.backends.prompts import PromptTemplate
from protocols.errors import ConfigError
from protocols.records import Role, Step, Transcript

TEMPLATE = PromptTemplate("Problem: {question}\nSolution:\n")
ANNOTATED = PromptTemplate("{question}\n", annotate=True)
TWO_STEPS = Transcript("why?", (Step("first", "draft"), Step("second", "target")))

STEPS = st.lists(st.builds(Step, st.text(max_size=5), st.sampled_from(["draft", "target"])), max_size=4).map(tuple)


@pytest.mark.parametrize("prompt", ["", "no question", "{question} and {question}", "{Question}"])
def test_a_prompt_holds_the_question_exactly_once(prompt: str) -> None:
    with pytest.raises(ConfigError, match="exactly once"):
        PromptTemplate(prompt)


def test_a_context_without_a_step_ends_with_the_template() -> None:
    assert TEMPLATE.render(Transcript("why?"), "\n\n") == "Problem: why?\nSolution:\n"


def test_every_step_is_followed_by_the_separator() -> None:
    assert TEMPLATE.render(TWO_STEPS, "\n\n") == "Problem: why?\nSolution:\nfirst\n\nsecond\n\n"


def test_the_separator_is_the_requests_own() -> None:
    assert TEMPLATE.render(TWO_STEPS, "|") == "Problem: why?\nSolution:\nfirst|second|"


def test_an_annotated_context_names_the_author_of_each_step() -> None:
    assert ANNOTATED.render(TWO_STEPS, ";") == "why?\nModel 0: first;Model 1: second;"


@pytest.mark.parametrize(("author", "number"), [("draft", 0), ("target", 1)])
def test_an_annotated_candidate_is_closed_by_its_separator_and_has_its_author(author: Role, number: int) -> None:
    text = ANNOTATED.render_candidate(TWO_STEPS, "third", author, ";")
    assert text == f"why?\nModel 0: first;Model 1: second;Model {number}: third;"


@pytest.mark.parametrize("question", ["{question}", "{", "{0} % s \\1", "{candidate}"])
def test_a_question_is_written_as_it_is(question: str) -> None:
    assert TEMPLATE.render(Transcript(question), "\n\n") == f"Problem: {question}\nSolution:\n"


def test_braces_of_the_template_stay() -> None:
    template = PromptTemplate("Put it in \\boxed{}. {question}")
    assert template.render(Transcript("why?"), "\n\n") == "Put it in \\boxed{}. why?"


@given(steps=STEPS, annotate=st.booleans(), candidate=st.text(max_size=5))
def test_a_candidate_is_read_after_exactly_the_context_that_it_was_written_for(
    steps: tuple[Step, ...], annotate: bool, candidate: str
) -> None:
    template = PromptTemplate("{question}", annotate)
    context = Transcript("q", steps)
    assert template.render_candidate(context, candidate, "draft", "|").startswith(template.render(context, "|"))


@given(steps=STEPS, annotate=st.booleans(), text=st.text(max_size=5))
def test_a_context_only_grows_at_its_end(steps: tuple[Step, ...], annotate: bool, text: str) -> None:
    template = PromptTemplate("{question}", annotate)
    context = Transcript("q", steps)
    longer = template.render(context.extended(Step(text, "target")), "|")
    assert longer.startswith(template.render(context, "|"))
