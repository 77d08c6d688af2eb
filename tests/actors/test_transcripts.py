"""When a problem ends, and what the next context is."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from arbiter.actors.policies import DraftOnly
from arbiter.actors.transcripts import context_after, finish_reason, first_context, stopped
from arbiter.protocols.messages import Context, Task
from arbiter.protocols.records import Candidate, FinishReason, Limits, Step, StopReason, Transcript, Usage

WIDE = Limits(max_steps=100, max_tokens=1000, repeats=3)


def step(text: str, ending: StopReason = "separator", tokens: int = 10) -> Candidate:
    return Candidate("draft", text, ending, Usage(completion_tokens=tokens), 1.0)


def after(steps: list[Candidate], limits: Limits) -> Context:
    """The context after ``steps`` of a problem that starts with one step."""
    context = first_context(Task("p", Transcript("question", (Step("given", "target"),)), DraftOnly(), limits))
    for kept in steps:
        context = context_after(context, kept)
    return context


def reason_at(steps: list[Candidate], limits: Limits) -> FinishReason | None:
    return finish_reason(after(steps[:-1], limits), steps[-1])


@pytest.mark.parametrize(
    ("steps", "limits", "reason"),
    [
        ([step("a")], WIDE, None),
        ([step("a"), step("b")], WIDE, None),
        ([step("a", "end")], WIDE, "answered"),
        ([step("a", "limit")], WIDE, "step_limit"),
        ([step("a", tokens=1000)], WIDE, "max_tokens"),
        ([step("a", tokens=1001)], WIDE, "max_tokens"),
        ([step("a", tokens=999)], WIDE, None),
        ([step("a", tokens=500), step("b", tokens=500)], WIDE, "max_tokens"),
        ([step("a"), step("b")], Limits(max_steps=2), "max_steps"),
        ([step("a"), step("b")], Limits(max_steps=3), None),
        ([step("a"), step("a"), step("a")], WIDE, "loop"),
        ([step("a"), step("a")], WIDE, None),
        ([step("b"), step("a"), step("a"), step("a")], WIDE, "loop"),
        ([step("a"), step("a"), step("b"), step("a")], WIDE, None),
        ([step("a"), step(" a "), step("a\n")], WIDE, "loop"),
        ([step(""), step(""), step("")], WIDE, "empty_steps"),
        ([step(""), step("  "), step("\n")], WIDE, "empty_steps"),
        ([step(""), step("")], WIDE, None),
        ([step(""), step("a"), step("")], WIDE, None),
        ([step("a"), step("a")], Limits(repeats=2), "loop"),
    ],
)
def test_a_problem_ends_at_its_first_reason(
    steps: list[Candidate], limits: Limits, reason: FinishReason | None
) -> None:
    assert reason_at(steps, limits) == reason


@pytest.mark.parametrize(
    ("steps", "limits", "reason"),
    [
        ([step("a", "end", 1000)], Limits(max_steps=1, max_tokens=1000), "answered"),
        ([step("a", "limit", 1000)], Limits(max_steps=1, max_tokens=1000), "max_tokens"),
        ([step("a", tokens=1000)], Limits(max_steps=1, max_tokens=1000), "max_tokens"),
        ([step("a"), step("a", "limit")], Limits(max_steps=2, repeats=2), "step_limit"),
        ([step("a"), step("a")], Limits(max_steps=2, repeats=2), "loop"),
        ([step(""), step("")], Limits(max_steps=2, repeats=2), "empty_steps"),
    ],
)
def test_of_several_reasons_the_one_nearest_to_the_answer_is_told(
    steps: list[Candidate], limits: Limits, reason: FinishReason
) -> None:
    assert reason_at(steps, limits) == reason


@pytest.mark.parametrize(
    ("step_tokens", "max_tokens", "used", "left"),
    [(100, 1000, [], 100), (100, 1000, [10, 20], 100), (100, 110, [10, 20], 80), (100, 31, [10, 20], 1)],
)
def test_a_step_may_take_what_its_own_and_the_problems_limit_leave(
    step_tokens: int, max_tokens: int, used: list[int], left: int
) -> None:
    steps = [step("a", tokens=tokens) for tokens in used]
    assert after(steps, Limits(step_tokens=step_tokens, max_tokens=max_tokens)).max_tokens == left


def test_the_next_context_stands_after_the_kept_steps() -> None:
    context = after([step("a", tokens=4), step("b", tokens=5)], WIDE)
    assert context.transcript == Transcript(
        "question", (Step("given", "target"), Step("a", "draft"), Step("b", "draft"))
    )
    assert (context.step, context.kept_tokens) == (2, 9)


def test_steps_that_a_problem_is_given_with_are_no_repeats_of_its_own() -> None:
    assert reason_at([step("given")], Limits(repeats=2)) is None


STOPPING = [
    ([step("one")], ("e",), True),
    ([step("one")], ("two",), False),
    ([step("on"), step("e")], ("on\n\ne",), True),  # across two steps
    ([step("a"), step("b"), step("c")], ("a\n\nb\n\nc",), True),  # across several steps
    ([step("a"), step("")], ("\n\n\n\n",), True),
    ([step("one")], ("\n",), True),  # it stopped at the separator, so it has written that
    ([step("one")], ("e\n\n",), True),
    ([step("one", "end")], ("\n",), False),
    ([step("one", "limit")], ("e\n",), False),
    ([step("one")], (), False),
    ([step("one")], ("two", "ne"), True),
]


@pytest.mark.parametrize(("steps", "stop", "stops"), STOPPING)
def test_a_stop_text_ends_the_problem_where_it_comes_up(
    steps: list[Candidate], stop: tuple[str, ...], stops: bool
) -> None:
    context = first_context(Task("p", Transcript("question"), DraftOnly(), WIDE, stop=stop))
    for kept in steps[:-1]:
        context = context_after(context, kept)
    assert stopped(context, steps[-1]) is stops


def test_a_stop_text_goes_before_the_end_of_the_answer() -> None:
    context = first_context(Task("p", Transcript("question"), DraftOnly(), WIDE, stop=("one",)))
    assert finish_reason(context, step("one", "end")) == "stop"


@given(
    st.lists(st.text("ab|", max_size=4), min_size=1, max_size=6),
    st.lists(st.text("ab|", min_size=1, max_size=5), min_size=1, max_size=3),
)
def test_the_problem_stops_at_the_first_step_with_which_a_stop_text_is_written(
    texts: list[str], stop: list[str]
) -> None:
    context = first_context(Task("p", Transcript("question"), DraftOnly(), separator="|", stop=tuple(stop)))
    written = ""
    for text in texts:
        written += f"{text}|"
        has_come = any(one in written for one in stop)
        assert stopped(context, step(text)) is has_come
        if has_come:
            return
        context = context_after(context, step(text))
