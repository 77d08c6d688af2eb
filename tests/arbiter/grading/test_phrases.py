"""Answers in solutions: in a box, or after one of the usual phrases."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from arbiter.grading.phrases import FoundBy, find_answer

PIECES = st.lists(
    st.sampled_from(["Answer:", "Final answer", " is ", "####", "\\boxed{4}", "5", "$x$", "\n", "**", ". ", "answer"]),
    max_size=12,
).map("".join)


@pytest.mark.parametrize(
    ("text", "answer", "rule"),
    [
        ("so \\boxed{5}", "5", "box"),
        ("#### 1,234", "1,234", "####"),
        ("some steps\n#### 5\n", "5", "####"),
        ("Final answer: 5", "5", "final answer"),
        ("The final answer is $5$.", "$5$", "final answer"),
        ("Final Answer: The final answer is $5$. I hope it is correct.", "$5$", "final answer"),
        ("**Final Answer**: $\\frac{1}{2}$", "$\\frac{1}{2}$", "final answer"),
        ("**Final Answer:**\n\n\\[ 5 \\]", "5", "final answer"),
        ("### Final Answer\n5", "5", "final answer"),
        ("#### Final Answer\n5", "5", "final answer"),
        ("#### Step 3: Compute the sum.\nThe final answer is 5.", "5", "final answer"),
        ("#### Step 3: Compute the sum. The final answer is 5.", "5", "final answer"),
        ("##### Step 3\nThe answer is 5.", "5", "answer is"),
        ("#### Answer: 5", "5", "answer:"),
        ("#### Conclusion\nso\n#### 5 apples\nThat is all.", "5 apples", "####"),
        ("#### yes", "yes", "####"),
        ("The final answer is 5. \\boxed{}", "5", "final answer"),
        ("\\boxed{4}. The final answer is 5. \\boxed{}", "4", "box"),
        ("**Answer:** 5", "5", "answer:"),
        ("**Answer: 5**", "5", "answer:"),
        ("ANSWER: B", "B", "answer:"),
        ("Answer:\n\n$$x = 5$$", "x = 5", "answer:"),
        ("# Answer\n\n42", "42", "answer:"),
        ("答案：12 个", "12 个", "answer:"),
        ("The answer is 3.5 because x.", "3.5", "answer is"),
        ("So the answer is (C).", "(C)", "answer is"),
        ("the answer is \\(x=1\\) or \\(x=2\\).", "\\(x=1\\) or \\(x=2\\)", "answer is"),
        ("Thus, the answer is therefore 5.", "5", "answer is"),
        ("The correct answer is **12**.", "12", "answer is"),
        ("The answer is 4:30 p.m.", "4:30 p.m", "answer is"),
        ("The answer is $-1.5$, since $x>0$.", "$-1.5$", "answer is"),
        ("答案是5。", "5", "answer is"),
    ],
)
def test_the_usual_phrases_give_an_answer(text: str, answer: str, rule: FoundBy) -> None:
    found = find_answer(text)
    assert found is not None
    assert (found.text.removesuffix("."), found.by) == (answer.removesuffix("."), rule)


@pytest.mark.parametrize(
    "text", ["", "it is 3", "What is the answer?\nIt is 5.", "Answer:", "#### ", "\\boxed{", "\\boxed{}"]
)
def test_a_text_without_box_and_phrase_has_no_answer(text: str) -> None:
    assert find_answer(text) is None


@pytest.mark.parametrize(
    ("text", "rule"),
    [
        ("Answer: 1\n#### 2\nThe answer is 3. So \\boxed{4}", "box"),
        ("Answer: 1\n#### 2\nFinal answer: 3", "####"),
        ("The answer is 1.\nAnswer: 2\nFinal answer: 3", "final answer"),
        ("The answer is 1.\nAnswer: 2", "answer:"),
    ],
)
def test_the_rules_have_an_order(text: str, rule: FoundBy) -> None:
    found = find_answer(text)
    assert found is not None
    assert found.by == rule


@pytest.mark.parametrize(
    ("prompt", "answer"),
    [
        ("Give your answer after '#### '.", "2"),
        ("End with 'Answer: ' and a number.", "1"),
        ("Conclude with: the answer is X.", "3"),
        ("End with 'Final answer: X'.", "4"),
        ("", "2"),
    ],
)
def test_the_phrase_of_the_prompt_comes_first_behind_the_box(prompt: str, answer: str) -> None:
    text = "Answer: 1\n#### 2\nThe answer is 3.\nFinal answer: 4"
    found, boxed = find_answer(text, prompt), find_answer(f"{text} \\boxed{{5}}", prompt)
    assert found is not None
    assert boxed is not None
    assert (found.text, boxed.text) == (answer, "5")


def test_the_last_phrase_counts() -> None:
    found = find_answer("The answer is 4. No, wait: the answer is 5.")
    assert found is not None
    assert found.text == "5"


def test_a_phrase_with_nothing_behind_it_does_not_count() -> None:
    found = find_answer("The answer is 4. The final answer is:")
    assert found is not None
    assert (found.text, found.by) == ("4", "answer is")


@pytest.mark.parametrize(
    "piece",
    [
        "\n",
        "#",
        "*",
        "\nAnswer:",
        "#### ",
        "final ",
        "answer is ",
        "The answer is 5. ",
        "\n# answer",
        "#### a",
        "#### Step\n",
    ],
)
def test_the_answer_at_the_end_of_a_very_long_text_is_found(piece: str) -> None:
    found = find_answer(piece * 20_000 + "\n\n#### 7")  # more than one pass would take minutes
    assert found is not None
    assert (found.text, found.by) == ("7", "####")


@given(PIECES)
def test_a_found_answer_is_not_empty_and_is_a_part_of_the_text(text: str) -> None:
    found = find_answer(text)
    assert found is None or (found.text in text and found.text.strip())
