"""Expressions: what they choose, and what is said of wrong ones. Nothing in them is evaluated."""

import sqlite3

import pytest
from hypothesis import given
from hypothesis import strategies as st

from arbiter.view.filters import CONTAINS, FilterError, FilterName, condition
from arbiter.view.row_index import contains

NAMES = {
    name.name: name
    for name in (
        FilterName("steps", "number", "", "steps"),
        FilterName("seconds", "number", "", "seconds"),
        FilterName("wrong", "boolean", "", '"right" = 0'),
        FilterName("question", "text", "", "question"),
        FilterName("answer", "text", "", "answer"),
    )
}
ROWS = [
    (3, 1.5, 0, "Find \\frac{1}{2} of it", "it"),
    (5, None, 1, 'say "hi"', None),
    (8, 0.5, None, "ЖЁЛТЫЙ цвет", "x"),
]


def chosen(expression: str) -> list[int]:
    base = sqlite3.connect(":memory:")
    base.create_function(CONTAINS, 2, contains)
    base.execute('CREATE TABLE rows (steps, seconds, "right", question, answer)')
    base.executemany("INSERT INTO rows VALUES (?, ?, ?, ?, ?)", ROWS)
    sql, values = condition(expression, NAMES)
    found = [row[0] for row in base.execute(f"SELECT steps FROM rows WHERE {sql}", values)]  # noqa: S608 - our SQL
    base.close()
    return found


@pytest.mark.parametrize(
    ("expression", "steps"),
    [
        ("wrong", [3]),
        ("not wrong", [5, 8]),
        ("wrong and steps > 3", []),
        ("wrong or steps > 5", [3, 8]),
        ("not (wrong or steps > 5)", [5]),
        ("3 < steps <= 8", [5, 8]),
        ("steps == 3 or steps == 5 and not wrong", [3, 5]),
        ("steps / 2 > 2", [5, 8]),
        ("steps * -1 < -4 - 2", [8]),
        ("seconds > 0", [3, 8]),
        ("not seconds > 0", [5]),
        ("seconds / 0 > 1", []),
        ('"\\frac" in question', [3]),
        ("'say \"hi\"' == question", [5]),
        ('"жёлтый" in question', [8]),
        ('"x" not in question', [3, 5, 8]),
        ("steps > 3e0", [5, 8]),
        ("answer in question", [3]),
        ("answer not in question", [8]),
        ('"x" not in answer', [3]),
    ],
)
def test_an_expression_chooses_the_rows_for_which_it_holds(expression: str, steps: list[int]) -> None:
    assert chosen(expression) == steps


@pytest.mark.parametrize(
    ("expression", "position", "text"),
    [
        ("", 0, "ends too early"),
        (
            "wrong and escalatd > 3",
            10,
            "there is no name 'escalatd'; the names are: answer, question, seconds, steps, wrong",
        ),
        ("steps = 3", 6, "write =="),
        ("steps", 0, "this is a number, where a boolean is needed"),
        ("wrong > 1", 6, "a boolean cannot be compared with a number"),
        ("question > 1", 9, "a text cannot be compared with a number"),
        ("steps in question", 0, "this is a number, where a text is needed"),
        ("(wrong", 6, "ends too early"),
        ("wrong)", 5, "')' cannot stand here"),
        ("question == 'x", 12, "this text has no end"),
        ("wrong && wrong", 6, "write and, or, not"),
        ("__import__('os')", 0, "there is no name '__import__'"),
        ("steps.real > 1", 5, "'.' cannot stand here"),
        ("wrong;DROP TABLE rows", 5, "';' cannot stand here"),
        ("(" * 60 + "wrong" + ")" * 60, 51, "nested"),
        ("x" * 2001, 2000, "more than 2000 characters"),
    ],
)
def test_an_error_names_the_place_and_the_way_out(expression: str, position: int, text: str) -> None:
    with pytest.raises(FilterError) as raised:
        condition(expression, NAMES)
    assert raised.value.position == position
    assert text in str(raised.value)
    assert raised.value.names == ["answer", "question", "seconds", "steps", "wrong"]


@given(st.text(max_size=40) | st.lists(st.sampled_from([*NAMES, "(", ")", "not", "in", "<", "==", "-", "/", "1"])))
def test_any_text_is_an_expression_or_an_error_with_a_place_in_it(given_text: str | list[str]) -> None:
    expression = given_text if isinstance(given_text, str) else " ".join(given_text)
    places = [0]
    try:
        chosen(expression)
    except FilterError as error:
        places.append(error.position)
    assert 0 <= places[-1] <= len(expression)
