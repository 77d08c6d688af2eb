"""A run stops early if the first solutions to end have all failed for one cause."""

from collections.abc import Iterable

import pytest

from arbiter.protocols.records import Solution
from arbiter.runs.early_stop import FIRST, EarlyStop, kind_of


def ended(problem: str, error: str | None) -> Solution:
    return Solution(
        problem=problem,
        question="?",
        steps=(),
        finish_reason="answered" if error is None else "failed",
        seconds=1.0,
        requests={},
        error=error,
    )


def stops(early: EarlyStop, errors: Iterable[str | None]) -> list[bool]:
    return [early.add(ended(f"p{number}", error)) for number, error in enumerate(errors)]


def test_the_tenth_failure_of_one_cause_stops_the_run() -> None:
    early = EarlyStop(enabled=True)
    assert stops(early, ["connection refused"] * FIRST) == [*[False] * (FIRST - 1), True]
    assert early.cause == "connection refused"
    assert not early.add(ended("later", "connection refused"))


@pytest.mark.parametrize("other", [None, "another error"])
@pytest.mark.parametrize("place", [0, FIRST - 1])
def test_one_solution_that_ends_otherwise_lets_the_run_continue_for_good(other: str | None, place: int) -> None:
    early, errors = EarlyStop(enabled=True), ["down"] * (3 * FIRST)
    changed: list[str | None] = [*errors[:place], other, *errors[place:]]
    assert not any(stops(early, changed))
    assert early.cause is None


def test_unless_it_is_enabled_nothing_stops_a_run() -> None:
    assert not any(stops(EarlyStop(), ["down"] * 99))


def test_numbers_problem_and_actor_do_not_make_another_cause_but_another_address_does() -> None:
    assert kind_of("drafter, step 1: it is down", "p") == kind_of("escalator, step 12: it is down", "p")
    assert kind_of("p7: no answer in 30.1 s (request 4f2a)", "p7") == kind_of("p8: no answer in 2 s (request 9)", "p8")
    assert kind_of("http://a:1/v1 is down", "p") != kind_of("http://a:2/v1 is down", "p")


def test_samples_of_a_problem_and_points_of_a_sweep_count_once() -> None:
    early = EarlyStop(enabled=True)
    assert not any(early.add(ended("hard", "down")) for _ in range(3 * FIRST))
    assert stops(early, ["down"] * (FIRST - 1)) == [*[False] * (FIRST - 2), True]


@pytest.mark.parametrize("kind", ["ContextTooLongError", "ConversationError"])
def test_questions_that_a_model_cannot_read_are_no_cause_to_stop(kind: str) -> None:
    early = EarlyStop(enabled=True)
    assert not any(stops(early, [f"drafter, step 1: {kind}: the prompt has 900 tokens"] * (2 * FIRST)))
    assert stops(early, ["down"] * FIRST)[-1]
