"""The prompt of a judge, and the score of its answer."""

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from arbiter.backends.judge_prompts import JUDGE_TEMPLATES, JudgePrompt, judge_prompt, judged
from arbiter.protocols.errors import BackendError, ConfigError
from arbiter.protocols.records import Step, Transcript

CONTEXT = Transcript("why {step}?", (Step("first {steps}", "draft"), Step("second", "target")))


def test_the_judge_reads_question_steps_and_candidate_each_in_its_place_and_nothing_is_filled_in_twice() -> None:
    prompt = JudgePrompt("Q {question} | {steps} | {step} =")
    assert prompt.render(CONTEXT, "so {question}", "\n\n") == (
        "Q why {step}? | first {steps}\n\nsecond | so {question} ="
    )


def test_without_a_step_before_it_the_candidate_stands_alone() -> None:
    assert JudgePrompt("{question}|{steps}|{step}").render(Transcript("q"), "s", "\n\n") == "q||s"


@pytest.mark.parametrize("prompt", ["", "{question} {step}", "{question} {steps} {step} {step}"])
def test_a_prompt_holds_each_placeholder_exactly_once(prompt: str) -> None:
    with pytest.raises(ConfigError, match=r"there are judge, chat, levels\).*exactly once each"):
        judge_prompt(prompt, "nowhere")


def test_the_default_prompt_is_found_by_its_name_and_ends_where_a_digit_is_a_token_of_its_own() -> None:
    assert judge_prompt("judge", "nowhere").text == JUDGE_TEMPLATES["judge"]
    assert JUDGE_TEMPLATES["judge"].endswith(":\n")


@pytest.mark.parametrize(
    ("chances", "score"),
    [
        ({"9": 1.0}, 1.0),
        ({"0": 1.0}, 0.0),
        ({" 3": 0.2, "Ġ6": 0.2, "the": 0.6}, 0.5),
        ({"▁9": 0.3, "0": 0.1}, 0.75),
        ({"7": 0.5, " 7": 0.25, "77": 0.25}, 7 / 9),
        ({"²": 0.9, "5": 1e-30}, 5 / 9),
    ],
)
def test_the_score_is_the_expected_digit_renormalised_over_digits(chances: dict[str, float], score: float) -> None:
    assert judged({token: math.log(chance) for token, chance in chances.items()}, "here") == pytest.approx(score)


@pytest.mark.parametrize("alternatives", [{}, {"": 0.0}, {"good": -0.1, "\n": -2.0}, {"12": 0.0}, {"5": -math.inf}])
def test_an_answer_without_a_digit_is_no_score(alternatives: dict[str, float]) -> None:
    with pytest.raises(BackendError, match=r"^here judged a step without a digit"):
        judged(alternatives, "here")


@given(st.dictionaries(st.sampled_from("0123456789abc"), st.floats(-1e3, 0.0), min_size=1))
def test_a_score_lies_between_the_lowest_and_the_highest_digit(alternatives: dict[str, float]) -> None:
    digits = [int(token) for token in alternatives if token.isdigit()]
    if digits:
        assert min(digits) / 9 - 1e-9 <= judged(alternatives, "here") <= max(digits) / 9 + 1e-9
