"""Where steps end: the rules as tables, and the steps that a model writes under them."""

import asyncio
import itertools

import pytest
from hypothesis import given
from hypothesis import strategies as st

from arbiter.backends.bounded_steps import BoundedSteps
from arbiter.backends.fences import open_fence
from arbiter.backends.step_boundaries import (
    AfterPattern,
    AfterSentence,
    AfterTokens,
    AllOf,
    BeforeMark,
    OutsideBlocks,
    SeparatorPlace,
    StepBoundary,
)
from arbiter.protocols.ports import Generation, Proposal
from arbiter.protocols.records import Step, Transcript, Usage
from tests.arbiter.backends.test_whole_blocks import Writer, a_request

MARKS = BeforeMark(("wait", "hold on"))


def steps_of(answer: str, boundary: StepBoundary, separator: str = "\n\n") -> list[Generation]:
    """Return the steps of a model that writes ``answer``."""
    model, transcript, steps = BoundedSteps(Writer(answer), boundary), Transcript("q"), list[Generation]()
    while not steps or steps[-1].stop_reason == "separator":
        request = a_request(transcript=transcript, separator=separator)
        steps.append(asyncio.run(model.generate(request)))
        transcript = transcript.extended(Step(steps[-1].text, "draft"))
    return steps


@pytest.mark.parametrize(
    ("step", "ends"),
    [
        ("The sum is 42.", True),
        ("Is it 42?", True),
        ("It is **42.**", True),
        ('He said "no."', True),
        ("It is 42.\n", True),
        ("我们得到 42。", True),
        ("Consider the sum:", False),
        ("# The sum", False),
        ("We use e.g.", False),
        ("as in Fig.", False),
        ("by J.", False),
        ("First.\n2.", False),
        ("It is 2.", True),
        ("", False),
    ],
)
def test_a_sentence_ends_with_its_mark_but_not_with_an_abbreviation_or_a_number(step: str, ends: bool) -> None:
    assert AfterSentence().ends(SeparatorPlace(f"{step}\n\n", step)) == ends


@pytest.mark.parametrize(
    ("pattern", "step", "ends"),
    [
        (r"= \d+", "1 + 2 = 3", True),
        (r"= \d+", "1 + 2 = 3, so", False),
        (r"a|b", "ends with a", True),
        (r"(?i)therefore.*", "THEREFORE 3", True),
    ],
)
def test_a_pattern_must_match_the_end_of_the_step(pattern: str, step: str, ends: bool) -> None:
    assert AfterPattern(pattern).ends(SeparatorPlace("", step)) == ends


@pytest.mark.parametrize(
    ("ahead", "ends"),
    [
        ("Wait, that is wrong.", True),
        ("\nWAIT", True),
        ("Hold on. No.", True),
        ("Waiting for it", False),
        ("I wait", False),
        ("", False),
        (None, False),
    ],
)
def test_a_mark_stands_alone_at_the_beginning_of_what_follows(ahead: str | None, ends: bool) -> None:
    assert MARKS.ends(SeparatorPlace("", "a step", 3, ahead)) == ends


def test_several_boundaries_hold_together() -> None:
    both = AllOf((AfterTokens(3), OutsideBlocks(open_fence)))
    assert both.ends(SeparatorPlace("text\n\n", "text", 3))
    assert not both.ends(SeparatorPlace("text\n\n", "text", 2))
    assert not both.ends(SeparatorPlace("```\n\n", "```", 3))
    assert (both.looks_ahead, AllOf((both, MARKS)).looks_ahead) == (False, True)


def test_a_step_goes_on_until_it_has_its_tokens() -> None:
    steps = steps_of("one\n\ntwo\n\nthree\n\nend", AfterTokens(8))
    assert [step.text for step in steps] == ["one\n\ntwo", "three\n\nend"]
    assert [step.stop_reason for step in steps] == ["separator", "end"]


def test_what_is_read_ahead_belongs_to_no_step_twice_and_is_counted_as_overhead() -> None:
    steps = steps_of("It is 1.\n\nSo 2.\n\nWait, no.\n\nIt is 3.", MARKS)
    assert [step.text for step in steps] == ["It is 1.\n\nSo 2.", "Wait, no.\n\nIt is 3."]
    assert steps[0].usage.completion_tokens == len("It is 1.\n\nSo 2.\n\n")
    assert steps[0].overhead.completion_tokens == len("Wait, no.\n\n")


def test_a_limit_ends_a_step_that_would_read_ahead() -> None:
    model = BoundedSteps(Writer("It is 1.\n\nIt is 2."), MARKS)
    made = asyncio.run(model.generate(a_request(max_tokens=10)))
    assert (made.stop_reason, made.text) == ("limit", "It is 1.\n\n")


def test_a_proposal_is_read_part_by_part_also_by_a_boundary_that_reads_ahead() -> None:
    answer = "It is 1.\n\nSo 2.\n\nWait, no."
    model = BoundedSteps(Writer(answer), MARKS)
    plain = asyncio.run(model.generate(a_request()))
    made = asyncio.run(model.generate(a_request(proposal=Proposal("It is 1.\n\nSo 2.", "separator"))))
    assert (made.text, made.stop_reason) == (plain.text, plain.stop_reason)
    assert made.prefix_match is not None
    assert made.prefix_match.matched == made.prefix_match.proposed


BOUNDARIES = st.sampled_from(
    [AfterTokens(5), AfterTokens(12), AfterSentence(), AfterPattern("b"), MARKS, AllOf((AfterSentence(), MARKS))]
)
TEXTS = st.lists(st.sampled_from(["a", "b", ".", " ", "\n", "\n\n", "wait", "Wait, "]), max_size=24).map("".join)


@given(TEXTS, BOUNDARIES)
def test_under_any_boundary_the_steps_make_up_what_the_model_writes(answer: str, boundary: StepBoundary) -> None:
    steps = steps_of(answer, boundary)
    assert "\n\n".join(step.text for step in steps) == answer
    assert sum((step.usage for step in steps), Usage()).completion_tokens == len(answer) + 1


@given(TEXTS, BOUNDARIES)
def test_a_step_ends_at_the_first_separator_at_which_the_boundary_says_so(answer: str, boundary: StepBoundary) -> None:
    before = ""
    for step, following in itertools.pairwise(steps_of(answer, boundary)):
        parts, ahead = step.text.split("\n\n"), following.text.split("\n\n")[0]
        for count in range(1, len(parts) + 1):
            text, follows = "\n\n".join(parts[:count]), parts[count] if count < len(parts) else ahead
            place = SeparatorPlace(
                f"{before}{text}\n\n", text, len(text) + 2, follows if boundary.looks_ahead else None
            )
            assert boundary.ends(place) == (count == len(parts))
        before += f"{step.text}\n\n"
