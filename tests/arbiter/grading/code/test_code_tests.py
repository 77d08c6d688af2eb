"""The tests of rows, in the forms of the usual releases."""

import base64
import json
import pickle
import zlib
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from arbiter.grading.code.code_grader import code_of
from arbiter.grading.code.code_tests import (
    NoTestsError,
    OutputTest,
    PythonTests,
    needed_names,
    program_of,
    read_tests,
)
from arbiter.grading.code.sandbox_supervisor import checked_verdict, same_output

PROMPT = 'from typing import List\n\ndef add(a: int, b: int) -> int:\n    """Add two numbers."""\n'


def packed(cases: list[dict[str, str]]) -> str:
    return base64.b64encode(zlib.compress(pickle.dumps(json.dumps(cases)))).decode()


def test_humaneval_has_a_check_of_its_entry_point() -> None:
    check = "def check(candidate):\n    assert candidate(1, 2) == 3"
    row = {"task_id": "HumanEval/0", "prompt": PROMPT, "entry_point": "add", "canonical_solution": "x", "test": check}
    assert read_tests(row) == [PythonTests((f"{check}\n\ncheck(add)\n",))]


def test_mbpp_has_assertions_with_their_imports_and_set_up() -> None:
    row = {"text": "Add.", "code": "x", "test_list": ["assert add(1, 2) == 3", "assert add(0, 0) == 0"]}
    assert read_tests(row) == [PythonTests(("assert add(1, 2) == 3", "assert add(0, 0) == 0"))]
    row |= {"test_imports": ["import math"], "test_setup_code": "one = 1"}
    assert read_tests(row) == [PythonTests(("import math\none = 1", *row["test_list"]))]


def test_a_test_without_an_entry_point_is_a_script() -> None:
    assert read_tests({"prompt": "Add.", "test": "assert add(1, 2) == 3"}) == [PythonTests(("assert add(1, 2) == 3",))]


def test_mbpp_plus_has_a_script_next_to_the_assertions_of_mbpp_and_the_script_counts() -> None:
    row = {"prompt": "Add.", "test_list": ["assert add(1, 2) == 3"], "test": "assert add(5, 6) == 11"}
    assert read_tests(row) == [PythonTests(("assert add(5, 6) == 11",))]


def test_livecodebench_has_public_and_packed_private_inputs_and_outputs() -> None:
    public = json.dumps([{"input": "1\n", "output": "2\n", "testtype": "stdin"}])
    private = packed([{"input": "3\n", "output": "4\n", "testtype": "stdin"}])
    row = {"question_content": "q", "public_test_cases": public, "private_test_cases": private, "metadata": "{}"}
    assert read_tests(row) == [OutputTest("1\n", "2\n"), OutputTest("3\n", "4\n")]


@pytest.mark.parametrize(
    "row",
    [
        {
            "public_test_cases": json.dumps([{"input": "[1, 2]\n3", "output": "[1]", "testtype": "functional"}]),
            "metadata": json.dumps({"func_name": "pick"}),
        },
        {"input_output": json.dumps({"inputs": [[[1, 2], 3]], "outputs": [[1]], "fn_name": "pick"})},
        {"input_output": json.dumps({"inputs": [[[1, 2], 3]], "outputs": [[[1]]], "fn_name": "pick"})},
    ],
)
def test_a_function_is_called_with_its_inputs_and_compared_with_its_output(row: dict[str, Any]) -> None:
    [found] = read_tests(row)
    assert isinstance(found, PythonTests)
    [test] = found.tests

    class Solution:
        def pick(self, numbers: list[int], more: int) -> tuple[int]:
            return (numbers[0],)

    def wrong(numbers: list[int], more: int) -> int:
        return more

    exec(test, {"Solution": Solution})  # noqa: S102
    with pytest.raises(AssertionError, match="3 is returned"):
        exec(test, {"pick": wrong})  # noqa: S102


def test_apps_has_inputs_and_outputs_of_the_program() -> None:
    row = {"question": "q", "input_output": json.dumps({"inputs": ["1\n", ["2", "3"]], "outputs": ["4\n", ["5"]]})}
    assert read_tests(row) == [OutputTest("1\n", "4\n"), OutputTest("2\n3", "5")]


@pytest.mark.parametrize(
    ("row", "reason"),
    [
        ({"question": "q", "answer": "1"}, "the row has no tests: .* its fields are question, answer"),
        ({}, "the row has no tests: .* its fields are none"),
        ({"test": "import unittest", "entry_point": "f"}, r"the field test has no function check\(candidate\)"),
        ({"public_test_cases": "[{]"}, "the tests of the row cannot be read: JSONDecodeError"),
        ({"private_test_cases": "no base 64"}, "the tests of the row cannot be read: Error"),
        ({"input_output": '{"inputs": ["1"]}'}, "the tests of the row cannot be read: KeyError: 'outputs'"),
        (
            {"public_test_cases": [{"input": "1", "output": "2", "testtype": "functional"}]},
            "metadata.func_name does not name it",
        ),
    ],
)
def test_a_row_without_tests_that_can_be_read_is_told_with_the_reason(row: dict[str, Any], reason: str) -> None:
    with pytest.raises(NoTestsError, match=reason):
        read_tests(row)


class Opens:
    """What unpickling would turn into a call of a function."""

    def __reduce__(self) -> tuple[Any, tuple[str]]:
        return print, ("called",)


def test_packed_tests_that_would_call_a_function_are_refused(capsys: pytest.CaptureFixture[str]) -> None:
    row = {"private_test_cases": base64.b64encode(zlib.compress(pickle.dumps(Opens()))).decode()}
    with pytest.raises(NoTestsError, match="the tests of the row cannot be read"):
        read_tests(row)
    assert capsys.readouterr().out == ""


@pytest.mark.parametrize(
    ("text", "code", "found_by"),
    [
        ("Here:\n```python\nx = 1\n```\nDone.", "x = 1\n", "code block"),
        ("```python\na\n```\nOutput:\n```\n2\n```", "a\n", "code block"),
        ("```Python copy\na\n```\nOutput:\n```\n2\n```", "a\n", "code block"),
        ("```text\na\n```\n```\nb\n```\n```text\nc\n```", "b\n", "code block"),
        ("```\na\n```\n\nBetter:\n\n```py\nb\n```\nIt prints\n```text\nc\n```", "b\n", "code block"),
        ("```java\na\n```", "a\n", "code block"),
        ("```python\ndef f():\n\n    return 1", "def f():\n\n    return 1", "code block"),  # it was cut off
        ("~~~python\n    return 1\n~~~", "    return 1\n", "code block"),
        ("````python\ns = '''\n```\n'''\n````", "s = '''\n```\n'''\n", "code block"),
        ("x = 1", "x = 1", "whole text"),
    ],
)
def test_the_program_is_the_last_block_of_python_or_the_whole_text(text: str, code: str, found_by: str) -> None:
    assert code_of(text) == (code, found_by)


DOUBLE = "```python\ndef double(x):\n    return 2 * x\n```\n"
USAGE = "Usage:\n```python\nprint(double(2))\n```\n"


@pytest.mark.parametrize(
    "row",
    [
        {"test": "def check(candidate):\n    assert candidate(2) == 4\n", "entry_point": "double"},
        {"test_imports": ["import math"], "test_list": ["assert math.floor(double(2)) == 4"]},
        {"test": "inputs = [2]\nfor i, one in enumerate(inputs):\n    assert double(one) == 4\n"},
        {"input_output": {"inputs": [[2]], "outputs": [4], "fn_name": "double"}},
        {
            "public_test_cases": [{"input": "2", "output": "4", "testtype": "functional"}],
            "metadata": '{"func_name": "double"}',
        },
    ],
)
def test_the_last_block_that_defines_what_is_tested_comes_before_a_block_that_uses_it(row: dict[str, Any]) -> None:
    names = needed_names(row, read_tests(row))
    check = "```python\ndef check(candidate):\n    assert candidate(2) == 4\n```\n"
    text = DOUBLE.replace("2 *", "3 *") + DOUBLE + check + USAGE
    assert code_of(text, names)[0] == "def double(x):\n    return 2 * x\n"
    assert code_of("```python\nx = 1\n```\n" + USAGE, names)[0] == "print(double(2))\n"


def test_tests_that_are_no_python_name_nothing() -> None:
    assert needed_names({"test": "assert f("}, read_tests({"test": "assert f("})) == set()


def test_a_program_continues_the_function_of_the_prompt_or_follows_it() -> None:
    row = {"prompt": PROMPT, "entry_point": "add"}
    for code in ("    return a + b\n", "def add(a, b):\n    return a + b\n"):
        assert program_of(code, row) == f"{PROMPT.rstrip()}\n{code}"
    assert program_of("x = 1", {"prompt": "Write a program that sets x.", "entry_point": "x"}) == "x = 1"
    assert program_of("x = 1", {"prompt": "y = 2"}) == "x = 1"


def test_a_failure_of_the_judging_process_itself_is_no_wrong_answer() -> None:
    without_limits = {"token": "t", "program": "print(1)", "tests": [{"input": "", "output": "1"}]}
    assert checked_verdict(without_limits) == {"token": "t", "right": None, "reason": "KeyError: 'limits'"}


@given(st.lists(st.integers() | st.from_regex(r"[a-z]{1,5}", fullmatch=True)), st.sampled_from(["", " ", "\n", "\n\n"]))
def test_outputs_are_the_same_whatever_the_spaces_at_the_ends(parts: list[object], end: str) -> None:
    text = "\n".join(map(str, parts))
    assert same_output(f"{end}{text}{end}", text)
    assert not same_output(f"{text}\nmore", text)


def test_numbers_of_an_output_are_compared_by_their_values() -> None:
    assert same_output("0.50 2", "0.5 2.0")
    assert not same_output("0.5", "0.51")
    assert not same_output("1\n2", "1 2")
    assert not same_output("yes", "Yes")


@pytest.mark.parametrize("output", ["sNaN", "NaN", "1_0", "\u0661\u0660", "Infinity", "1e", ".", f"1e{10**30}"])
def test_an_output_that_is_no_number_in_digits_is_compared_as_a_text(output: str) -> None:
    assert not same_output(output, "10")
    assert same_output(output, output)


def test_numbers_of_an_output_may_have_signs_and_exponents() -> None:
    assert same_output("+1e1 .5 5.", "10 0.50 5")
