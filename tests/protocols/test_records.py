"""Records: frozen, strict when read from a file, and equal after a round trip."""

from collections.abc import Callable
from typing import get_args

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from arbiter.protocols import ports
from arbiter.protocols.errors import ConfigError
from arbiter.protocols.records import (
    AuditScores,
    Author,
    Candidate,
    FinishReason,
    Limits,
    Model,
    Rating,
    Record,
    RequestCounts,
    Sampling,
    Solution,
    Step,
    StepRecord,
    StopReason,
    Transcript,
    Usage,
    Verdict,
)

counts = st.integers(0, 2**31)
seconds = st.floats(0, 1e6)
usages = st.builds(Usage, counts, counts, counts)
ratings = st.builds(Rating, st.floats(0, 1), usages, seconds)
candidates = st.builds(
    Candidate,
    st.sampled_from(get_args(Author)),
    st.text(),
    st.sampled_from(get_args(StopReason)),
    usages,
    seconds,
    st.integers(0, 9),
    st.none() | ratings,
)
step_records = st.builds(
    StepRecord,
    st.lists(candidates, min_size=1, max_size=3).map(tuple),
    st.just(0),
    st.none() | st.sampled_from(get_args(Verdict)),
    st.none() | st.builds(AuditScores, st.floats(0, 1), st.floats(0, 1)),
)
solutions = st.builds(
    Solution,
    st.text(),
    st.text(),
    st.lists(step_records, max_size=3).map(tuple),
    st.sampled_from(get_args(FinishReason)),
    seconds,
    st.dictionaries(st.sampled_from(get_args(Model)), st.builds(RequestCounts, counts, counts, counts, usages)),
    st.none() | st.text(),
)


def candidate(author: Author, text: str = "a step", sample: int = 0) -> Candidate:
    return Candidate(author, text, "separator", Usage(), 1.0, sample)


@pytest.mark.parametrize("record", Record.__subclasses__())
def test_every_record_is_frozen_and_strict(record: type[Record]) -> None:
    config = record.__struct_config__
    assert config.frozen
    assert config.forbid_unknown_fields


def test_records_of_the_ports_are_records() -> None:
    assert {ports.GenerationRequest, ports.Generation, ports.ScoreRequest, ports.Score} <= set(Record.__subclasses__())


def test_a_field_cannot_be_set() -> None:
    step = Step("text", "draft")
    with pytest.raises(AttributeError):
        step.text = "other"  # pyright: ignore[reportAttributeAccessIssue]


def test_an_unknown_field_is_refused() -> None:
    with pytest.raises(msgspec.ValidationError, match="autor"):
        msgspec.json.decode(b'{"text": "", "author": "draft", "autor": "draft"}', type=Step)


def test_an_unknown_field_deep_inside_is_refused() -> None:
    with pytest.raises(msgspec.ValidationError, match="tokens"):
        msgspec.json.decode(b'{"requests": 1, "usage": {"tokens": 3}}', type=RequestCounts)


def test_a_word_outside_the_vocabulary_is_refused() -> None:
    with pytest.raises(msgspec.ValidationError, match="judge"):
        msgspec.json.decode(b'{"text": "", "author": "judge"}', type=Step)


@given(solutions)
@pytest.mark.slow
def test_a_solution_is_the_same_after_a_round_trip(solution: Solution) -> None:
    assert msgspec.json.decode(msgspec.json.encode(solution), type=Solution) == solution


def test_extending_a_transcript_leaves_the_old_one_as_it_was() -> None:
    before = Transcript("question", (Step("one", "draft"),))
    after = before.extended(Step("two", "target"))
    assert [step.text for step in before.steps] == ["one"]
    assert [step.text for step in after.steps] == ["one", "two"]


def test_usages_add_up_field_by_field() -> None:
    assert Usage(1, 2, 3) + Usage(10, 20, 30) == Usage(11, 22, 33)


def test_tallies_add_up_field_by_field() -> None:
    assert RequestCounts(1, 2, 3, Usage(4)) + RequestCounts(10, 20, 30, Usage(40)) == RequestCounts(
        11, 22, 33, Usage(44)
    )


def test_an_unrated_candidate_has_no_score() -> None:
    assert candidate("draft").score is None


def test_a_rated_candidate_has_its_ratings_score() -> None:
    rated = msgspec.structs.replace(candidate("draft"), rating=Rating(0.25, Usage(), 1.0))
    assert rated.score == 0.25


def test_a_step_record_tells_its_candidates_by_author() -> None:
    draft, first, second = candidate("draft"), candidate("target"), candidate("target", sample=1)
    record = StepRecord(candidates=(draft, first, second), chosen=1)
    assert (record.draft, record.targets, record.kept) == (draft, (first, second), first)


def test_a_step_record_without_a_draft_says_so() -> None:
    assert StepRecord(candidates=(candidate("target"),), chosen=0).draft is None


@pytest.mark.parametrize(("draft", "target", "improved"), [(0.2, 0.3, True), (0.3, 0.3, False), (0.4, 0.3, False)])
def test_an_audit_counts_only_a_higher_reward_as_improved(draft: float, target: float, improved: bool) -> None:
    assert AuditScores(draft=draft, target=target).improved is improved


def test_a_solutions_text_joins_the_kept_steps() -> None:
    steps = (
        StepRecord(candidates=(candidate("draft", "wrong"), candidate("target", "one")), chosen=1),
        StepRecord(candidates=(candidate("draft", "two"),), chosen=0),
    )
    solution = Solution("p", "question", steps, "answered", 1.0, {})
    assert solution.text == "one\n\ntwo"


def written(*texts: str, stop: tuple[str, ...] = (), ending: StopReason = "separator") -> Solution:
    """A solution with these draft steps; the last one has this stop reason."""
    steps = tuple(
        StepRecord((Candidate("draft", text, ending if number == len(texts) else "separator", Usage(), 1.0),), 0)
        for number, text in enumerate(texts, start=1)
    )
    return Solution("p", "question", steps, "stop", 1.0, {}, stop=stop)


@pytest.mark.parametrize(
    ("solution", "text"),
    [
        (written("one", "two"), "one\n\ntwo"),
        (written("one", "two", stop=("w",)), "one\n\nt"),
        (written("one", "two", stop=("e\n\nt",)), "on"),
        (written("one", "two", stop=("x", "o", "n")), ""),
        (written("one", stop=("e\n",)), "on"),  # ends in the separator after the last step
        (written("one", stop=("\n",)), "one"),
        (written("one", stop=("\n\n\n",)), "one"),
        (written("one", stop=("e\n",), ending="end"), "one"),
        (written("one", stop=("one\n\n", "n")), "o"),  # the one that is complete first, not the one that begins first
        (written("one", stop=("e", "ne")), "o"),
    ],
)
def test_a_solutions_text_ends_before_the_stop_text_that_is_whole_first(solution: Solution, text: str) -> None:
    assert solution.text == text


@given(
    st.lists(st.text("ab\n", max_size=5), min_size=1, max_size=5),
    st.lists(st.text("ab\n", min_size=1, max_size=4), max_size=3).map(tuple),
    st.sampled_from(get_args(StopReason)),
)
def test_a_solutions_text_holds_no_stop_text(texts: list[str], stop: tuple[str, ...], ending: StopReason) -> None:
    solution = written(*texts, stop=stop, ending=ending)
    assert not any(one in solution.text for one in stop)
    assert written(*texts, ending=ending).text.startswith(solution.text.removesuffix("\n"))


def test_a_solutions_usage_is_that_of_draft_and_target_kept_or_not() -> None:
    calls: dict[Model, RequestCounts] = {
        "draft": RequestCounts(requests=2, cancelled=1, usage=Usage(10, 2, 1)),
        "target": RequestCounts(requests=1, usage=Usage(20, 3)),
        "prm": RequestCounts(requests=2, usage=Usage(400)),
    }
    solution = Solution("p", "question", (), "answered", 1.0, calls)
    assert solution.usage == Usage(30, 5, 1)
    assert Solution("p", "question", (), "deadline", 1.0, {}).usage == Usage()


def test_a_problem_has_no_deadline_unless_it_is_given_one() -> None:
    assert Limits().deadline is None


@pytest.mark.parametrize(
    ("kind", "values"),
    [
        (Limits, {"max_steps": 0}),
        (Limits, {"max_tokens": 0}),
        (Limits, {"step_tokens": 0}),
        (Limits, {"repeats": 1}),
        (Limits, {"deadline": float("nan")}),
        (Sampling, {"temperature": -0.1}),
        (Sampling, {"top_p": 0.0}),
        (Sampling, {"target_samples": 0}),
    ],
)
def test_limits_and_sampling_out_of_range_are_refused_by_name(
    kind: Callable[..., object], values: dict[str, float]
) -> None:
    with pytest.raises(ConfigError, match=next(iter(values))):
        kind(**values)
