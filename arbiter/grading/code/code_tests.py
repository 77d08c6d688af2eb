"""Read the tests of a row: in the forms of HumanEval, MBPP, LiveCodeBench and APPS, also with their extensions.

====================================================  ==================================================================
fields                                                tests
====================================================  ==================================================================
``test``, ``entry_point``                             a function ``check(candidate)``
``test``                                              a script
``test_list``, ``test_imports``, ``test_setup_code``  assertions
``public_test_cases``, ``private_test_cases``         inputs and outputs of the program, or of a function
``input_output``                                      the same
====================================================  ==================================================================
"""

import ast
import base64
import builtins
import json
import pickletools
import re
import zlib
from collections.abc import Iterable, Mapping, Sequence
from contextlib import suppress
from typing import Any, cast

import msgspec


class PythonTests(msgspec.Struct, frozen=True):
    """Tests that run after the program, in its process."""

    tests: tuple[str, ...]


class OutputTest(msgspec.Struct, frozen=True):
    """A test of a whole program: its standard input, and the standard output that it must write."""

    input: str
    output: str


CodeTest = PythonTests | OutputTest
Row = Mapping[str, Any]


class NoTestsError(ValueError):
    """A row has no tests that can be read. The text says why."""


def read_tests(row: Row) -> list[CodeTest]:
    """Return the tests of a row. Raises ``NoTestsError``."""
    try:
        found = _checked(row) or _script(row) or _listed(row) or _cases(row)
    except NoTestsError:
        raise
    except (ValueError, TypeError, KeyError, AttributeError, zlib.error) as error:
        raise NoTestsError(f"the tests of the row cannot be read: {type(error).__name__}: {error}") from error
    if not found:
        fields = ", ".join(row) or "none"
        raise NoTestsError(
            "the row has no tests: none of the fields test, test_list, public_test_cases and input_output; its fields "
            f"are {fields}"
        )
    return found


def needed_names(row: Row, tests: Sequence[CodeTest]) -> set[str]:
    """Return the names that the program must define: those that the row names, else those that its tests need."""
    if isinstance(name := row.get("entry_point"), str) and name:
        return {name}
    with suppress(ValueError, TypeError, AttributeError):
        cases = _json(row.get("input_output") or "{}")
        if name := cases.get("fn_name") or _json(row.get("metadata") or "{}").get("func_name"):
            return {str(name), "Solution"}
    scripts = [script for test in tests if isinstance(test, PythonTests) for script in test.tests]
    try:
        nodes = [node for script in scripts for node in ast.walk(ast.parse(script))]
    except (SyntaxError, ValueError, RecursionError, MemoryError):
        return set()
    names = [node for node in nodes if isinstance(node, ast.Name)]
    read = {node.id for node in names if isinstance(node.ctx, ast.Load)}
    return read - {node.id for node in names if not isinstance(node.ctx, ast.Load)} - _defined(nodes) - {*dir(builtins)}


def _defined(nodes: Iterable[ast.AST]) -> set[str]:
    """Return the names of functions, classes, parameters and imports."""
    found: set[str] = set()
    for node in nodes:
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
            found.add(node.name)
        elif isinstance(node, ast.arg):
            found.add(node.arg)
        elif isinstance(node, ast.alias):
            found.add(node.asname or node.name.partition(".")[0])
    return found


def program_of(code: str, row: Row) -> str:
    """Return the program of an answer. One that continues the function in the row's ``prompt`` comes after it."""
    prompt = row.get("prompt")
    if "entry_point" in row and isinstance(prompt, str) and _compiles(whole := f"{prompt.rstrip()}\n{code}"):
        return whole
    return code


def _compiles(program: str) -> bool:
    try:
        compile(program, "answer.py", "exec")
    except (SyntaxError, ValueError, RecursionError, MemoryError):
        return False
    return True


def _checked(row: Row) -> list[CodeTest]:
    test, name = row.get("test"), row.get("entry_point")
    if not isinstance(test, str) or not isinstance(name, str) or not name:
        return []
    if not re.search(r"^def check\(", test, re.MULTILINE):
        raise NoTestsError("the field test has no function check(candidate), which the field entry_point requires")
    return [PythonTests((f"{test}\n\ncheck({name})\n",))]


def _listed(row: Row) -> list[CodeTest]:
    tests = [str(test) for test in _list(row.get("test_list"))]
    before = [*map(str, _list(row.get("test_imports"))), str(row.get("test_setup_code") or "")]
    return [PythonTests(("\n".join(before), *tests) if any(before) else tuple(tests))] if tests else []


def _script(row: Row) -> list[CodeTest]:
    test = row.get("test")
    return [PythonTests((test,))] if isinstance(test, str) and test.strip() else []


def _cases(row: Row) -> list[CodeTest]:
    if row.get("input_output"):
        return _input_output(_json(row["input_output"]))
    cases = [case for name in ("public_test_cases", "private_test_cases") for case in _list(_packed(row.get(name)))]
    name = _json(row.get("metadata") or "{}").get("func_name")
    return [_case(case, name) for case in cases]


def _case(case: Mapping[str, Any], name: str | None) -> CodeTest:
    if case.get("testtype") != "functional":
        return OutputTest(str(case["input"]), str(case["output"]))
    if not name:
        raise NoTestsError("a test calls a function, but metadata.func_name does not name it")
    given = [json.loads(line) for line in str(case["input"]).splitlines() if line.strip()]
    return PythonTests((_call(name, given, [json.loads(str(case["output"]))]),))


def _input_output(found: Mapping[str, Any]) -> list[CodeTest]:
    """Return the tests of APPS and TACO. A function's output may be in a list of one."""
    pairs = list(zip(found["inputs"], found["outputs"], strict=True))
    if name := found.get("fn_name"):
        wanted = [_either(output) for _, output in pairs]
        return [PythonTests((_call(name, given, both),)) for (given, _), both in zip(pairs, wanted, strict=True)]
    return [OutputTest(_text(given), _text(output)) for given, output in pairs]


def _either(output: Any) -> list[Any]:  # noqa: ANN401 - JSON
    """Return the values that a function may return: APPS has most outputs in a list of one."""
    return [output, output[0]] if isinstance(output, list) and len(cast("list[Any]", output)) == 1 else [output]


def _call(name: str, given: list[Any], wanted: list[Any]) -> str:
    """Return a test that calls a function, of the class ``Solution`` if there is one, and compares as JSON."""
    return (
        "import json as _json\n"
        f"_function = getattr(Solution(), {name!r}) if 'Solution' in globals() else globals()[{name!r}]\n"
        f"_found = _json.loads(_json.dumps(_function(*_json.loads({json.dumps(given)!r}))))\n"
        f"assert _found in _json.loads({json.dumps(wanted)!r}), f'{{_found!r:.100}} is returned'\n"
    )


def _text(part: object) -> str:
    return "\n".join(map(str, cast("list[object]", part))) if isinstance(part, list) else str(part)


def _list(value: object) -> list[Any]:
    value = _json(value) if isinstance(value, str) else value
    return list(cast("list[Any]", value)) if isinstance(value, list | tuple) else []


def _json(value: Any) -> Any:  # noqa: ANN401 - JSON
    return json.loads(value) if isinstance(value, str) else value


def _packed(value: object) -> object:
    """Return a list of cases; LiveCodeBench packs the private ones: pickle of a text, compressed, in base 64."""
    if not isinstance(value, str) or value.lstrip().startswith("["):
        return value
    return _pickled_text(zlib.decompress(base64.b64decode(value, validate=True)))


def _pickled_text(content: bytes) -> str:
    """Return the text in a pickle, read from its operations: nothing is unpickled, so nothing runs."""
    for operation, argument, _ in pickletools.genops(content):
        if "UNICODE" in operation.name:
            return str(argument)
    raise ValueError("no text is packed there")
