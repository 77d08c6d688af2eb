"""Multiple-choice questions in the shapes of the usual data sets, and their right answers."""

import json
from pathlib import Path
from string import ascii_uppercase
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from arbiter.config.run_tables import Fields
from arbiter.data.loading import load_problems
from arbiter.data.problems import Problem, problem_of
from arbiter.protocols.errors import DataError

COLOURS = ["red", "blue", "green", "white"]
LISTED = "q\n(A) red\n(B) blue\n(C) green\n(D) white"


def read(row: dict[str, Any], seed: int = 0, **fields: str) -> Problem:
    return problem_of(row, "here, line 1", "1", Fields(**fields), seed)


@pytest.mark.parametrize(
    "row",
    [
        {"choices": COLOURS, "answer": "blue"},
        {"Options": COLOURS, "answer": 1},
        {"options": ["A) red", "B) blue", "C) green", "D) white"], "correct": "B"},
        {"options": ["(A) red", "(B) blue", "(C) green", "(D) white"], "answer": "(B) blue"},
        {"options": dict(zip("ABCD", COLOURS, strict=True)), "answer": "blue", "answer_idx": "B"},
        {"options": dict(zip("abcd", COLOURS, strict=True)), "answer": "b"},
        {"choices": {"text": COLOURS, "label": list("ABCD")}, "answerKey": "B"},
        {"choices": {"text": COLOURS, "label": list("1234")}, "answerKey": "2"},
        {"choices": [{"text": text, "label": label} for text, label in zip(COLOURS, "ABCD", strict=True)], "label": 1},
        {"A": "red", "B": "blue", "C": "green", "D": "white", "answer": "B"},
        {"choices": json.dumps(COLOURS), "answer": "1"},
        {"choices": str(COLOURS), "answer": "Blue"},
        {"target_scores": {"red": 0, "blue": 1, "green": 0, "white": 0}},
        {"choices": COLOURS, "answer": "Its colour is blue, since …", "answer_index": 1},
        {"choices": COLOURS, "gold": [1]},
        {"choices": COLOURS, "choice_answer": "B."},
        {"choices": COLOURS, "label": 1.0},
    ],
)
def test_choices_are_read_in_every_shape_and_the_answer_becomes_a_letter(row: dict[str, Any]) -> None:
    problem = read({"question": "q", **row})
    assert (problem.question, problem.choices, problem.answer) == (LISTED, tuple(COLOURS), "B")


@pytest.mark.parametrize(
    ("answer", "letters"),
    [
        ("ABD", "ABD"),
        ("A, B and D", "ABD"),
        ("d b a", "ABD"),
        (["D", "A"], "AD"),
        ("['A', 'D']", "AD"),
        (["white", 0], "AD"),
        ([2], "C"),
    ],
)
def test_several_right_choices_are_letters_in_order(answer: object, letters: str) -> None:
    assert read({"question": "q", "choices": COLOURS, "answer": answer}).answer == letters


@pytest.mark.parametrize("answer", [None, "", [], -1])
def test_a_hidden_answer_is_no_answer(answer: object) -> None:
    assert read({"question": "q", "choices": COLOURS, "label": answer}).answer is None


@pytest.mark.parametrize(
    ("choices", "row", "letter"),
    [
        (["3", "4", "5"], {"answer": "4"}, "B"),
        (["3", "4", "2"], {"answer": "2"}, "C"),
        (["3", "4", "0"], {"answer_index": "0"}, "A"),
        (["3", "4", "0"], {"label": "1.0"}, "B"),
        (["1", "-1", "0"], {"answer": -1}, "B"),
        ([1.5, 2.0], {"target": 2.0}, "B"),
        (["3", "4", "0"], {"answer": 0}, "A"),
        ([30, 40], {"answer": 40}, "B"),
        (["3", "4"], {"answer_index": 1}, "B"),
        (["B", "A"], {"answer": "A"}, "A"),
        ([True, False], {"answer": False}, "B"),
        (["a bad one", "BAD"], {"answer": "bad"}, "B"),
        (["x", "X"], {"answer": "X"}, "B"),
    ],
)
def test_what_could_be_read_in_two_ways_is_read_by_the_rule(
    choices: list[object], row: dict[str, object], letter: str
) -> None:
    assert read({"question": "q", "choices": choices, **row}).answer == letter


@pytest.mark.parametrize("answer", ["yellow", 4, "E", "(B) green", "BB", 1.5])
def test_an_answer_that_is_none_of_the_choices_is_refused(answer: object) -> None:
    with pytest.raises(DataError) as caught:
        read({"question": "q", "choices": COLOURS, "answer": answer})
    assert str(caught.value) == (
        f"here, line 1: the answer {answer!r} in the field 'answer' is none of the 4 choices: give the text of a "
        "choice, its letter (A to D), or its index (0 to 3)"
    )


@pytest.mark.parametrize(
    "row", [{"answer": "1"}, {"target": 1}, {"target": "1"}, {"answer": [4, "1"]}, {"correct": 1.0}]
)
def test_a_number_that_is_the_index_of_one_choice_and_the_text_of_another_is_refused(row: dict[str, Any]) -> None:
    with pytest.raises(
        DataError, match="is both the index of the choice B and the text of the choice C: give the letter"
    ):
        read({"question": "q", "choices": ["4", "2", "1", "0"], **row})


def test_a_table_and_json_of_one_set_have_the_same_answers_or_none(tmp_path: Path) -> None:
    rows = {"a.csv": 'question,choices,answer\nq,"[4, 2, 1, 0]",1\n', "b.csv": "question,A,B,C,D,label\nq,4,2,1,0,1\n"}
    for name, text in rows.items():
        (tmp_path / name).write_text(text, encoding="utf-8")
    with pytest.raises(DataError, match="line 2: the answer '1' in the field 'answer' is both the index"):
        load_problems(str(tmp_path / "a.csv"))
    [problem] = load_problems(str(tmp_path / "b.csv"))
    in_json = [read({"question": "q", "choices": [4, 2, 1, 0], field: 1}).answer for field in ("answer", "label")]
    assert [problem.answer, *in_json] == ["B", "B", "B"]


@pytest.mark.parametrize(
    ("row", "answer"),
    [
        ({"answer": "Pariss", "label": 0}, "Pariss"),
        ({"answer": "Paris, France", "answer_index": 1}, "Paris, France"),
        ({"answer": 7, "label": 0}, 7),
        ({"target": {"text": "Rome"}}, {"text": "Rome"}),
    ],
)
def test_a_field_that_could_name_a_choice_and_names_none_is_an_error_whatever_other_fields_say(
    row: dict[str, Any], answer: object
) -> None:
    with pytest.raises(DataError) as caught:
        read({"question": "q", "choices": ["Rome", "Paris"], **row})
    assert f"the answer {answer!r} in the field" in str(caught.value)


@pytest.mark.parametrize("answer", ["It is Paris, as the text says.", {"why": "Paris"}, True])
def test_a_field_that_can_name_no_choice_leaves_the_answer_to_another(answer: object) -> None:
    assert read({"question": "q", "choices": ["Rome", "Paris"], "answer": answer, "label": 1}).answer == "B"


@pytest.mark.parametrize(
    "listed",
    [
        "['red' 'blue']",
        "['red'\n 'blue' 'it is red']",
        "[1 2 3]",
        "[ 0.5 -1. ]",
        "{'text': array(['red', 'blue'], dtype=object), 'label': array(['A', 'B'], dtype=object)}",
        "{'text': ['red' 'blue'], 'label': ['A' 'B']}",
    ],
)
def test_a_list_as_numpy_prints_it_is_refused(listed: str) -> None:
    with pytest.raises(
        DataError, match=r"here, line 1: .* is a list as numpy and pandas print it, .*: save the data as JSONL"
    ):
        read({"question": "q", "choices": listed, "answer": "A"})


def test_choices_that_have_quoted_words_are_no_printed_list() -> None:
    assert read({"question": "q", "choices": """["'a' 'b'", 'c', '[1 2]']""", "answer": "[1 2]"}).answer == "C"


def test_letters_reach_z_and_no_further() -> None:
    texts = [f"choice {number}" for number in range(27)]
    problem = read({"question": "q", "choices": texts[:26], "answer": 25})
    assert problem.answer == "Z"
    assert problem.question.endswith("\n(Z) choice 25")
    with pytest.raises(DataError, match="here, line 1: there are 27 choices; at most 26 can have a letter"):
        read({"question": "q", "choices": texts})


@given(
    texts=st.lists(
        st.text("abcxyz ", min_size=2, max_size=8).map(str.strip).filter(lambda text: len(text) > 1),
        min_size=2,
        unique=True,
        max_size=26,
    ),
    position=st.integers(0),
)
def test_text_letter_and_index_name_the_same_choice(texts: list[str], position: int) -> None:
    place = position % len(texts)
    named = [{"answer": texts[place]}, {"answer": ascii_uppercase[place]}, {"answer": place}, {"label": place}]
    answers = {read({"question": "q", "choices": texts, **one}).answer for one in named}
    assert answers == {ascii_uppercase[place]}


GPQA = {
    "Question": "q",
    "Correct Answer": "right",
    "Incorrect Answer 1": "wrong 1",
    "Incorrect Answer 2": "wrong 2\n",
    "Incorrect Answer 3": "wrong 3",
}


def test_rows_of_gpqa_with_the_question_in_another_field_have_orders_of_their_own() -> None:
    row = {key: text for key, text in GPQA.items() if key != "Question"}
    rows = [{**row, "problem": f"q{number}", "Correct Answer": f"right {number}"} for number in range(40)]
    assert {read(row).answer for row in rows} == set("ABCD")


def test_the_choices_of_gpqa_are_shuffled_by_the_seed_and_the_row_alone() -> None:
    problems = [read({**GPQA, "Question": f"q{number}"}, seed) for seed in (0, 1) for number in range(40)]
    for problem in problems:
        assert sorted(problem.choices) == ["right", "wrong 1", "wrong 2", "wrong 3"]
        assert problem.choices[ascii_uppercase.index(str(problem.answer))] == "right"
    orders = [problem.choices for problem in problems]
    assert {problem.answer for problem in problems} == set("ABCD")
    assert orders[:40] != orders[40:]
    assert orders[:40] == [read({**GPQA, "Question": f"q{number}"}, 0).choices for number in range(40)]


def test_the_field_of_the_choices_can_be_mapped() -> None:
    problem = read({"question": "q", "candidates": ["x", "y"], "right": "y"}, choices="candidates", answer="right")
    assert (problem.choices, problem.answer) == (("x", "y"), "B")


def test_choices_in_an_unknown_text_are_shown_and_the_answer_is_left() -> None:
    problem = read({"question": "q", "options": "A) 1 B) 2", "answer": "A"})
    assert (problem.question, problem.choices, problem.answer) == ("q\nA) 1 B) 2", (), "A")


@pytest.mark.parametrize("choices", [None, [], "", {}])
def test_no_choices_are_no_choices(choices: object) -> None:
    problem = read({"question": "q", "choices": choices, "answer": "A"})
    assert (problem.question, problem.choices, problem.answer) == ("q", (), "A")


def test_two_columns_with_letters_are_no_choices() -> None:
    problem = read({"question": "q", "A": "3", "B": "5", "answer": "8"})
    assert (problem.question, problem.choices, problem.answer) == ("q", (), "8")


def test_labels_that_do_not_fit_the_choices_are_refused() -> None:
    with pytest.raises(DataError, match="here, line 1: there are 2 choices with 1 labels: give each choice its label"):
        read({"question": "q", "choices": {"text": ["x", "y"], "label": ["A"]}})


def test_a_table_with_a_column_for_each_choice_is_multiple_choice(tmp_path: Path) -> None:
    path = tmp_path / "a.csv"
    path.write_text("question,A,B,C,D,answer\nq,red,blue,green,white,B\n", encoding="utf-8")
    [problem] = load_problems(str(path))
    assert (problem.question, problem.choices, problem.answer) == (LISTED, tuple(COLOURS), "B")
