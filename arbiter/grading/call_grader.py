"""Grade calls of tools: those of the answer must be the expected ones, with equal arguments."""

from collections.abc import Sequence
from decimal import Decimal
from typing import NamedTuple

from arbiter.grading.grader import LONGEST, NO_REFERENCE, Grade, GradingRequest, right_answer_is
from arbiter.structured.json_text import Json, NotJsonError, read_json

_NUMBERS = (int, Decimal)


class ExpectedCall(NamedTuple):
    """A tool, and the arguments of its call as JSON data."""

    name: str
    arguments: Json


class CallGrader:
    """Grades the calls of an answer by those of its reference (``docs/reference/other-graders.md`` has the rules)."""

    name = "calls"
    version = 1

    async def grade(self, request: GradingRequest) -> Grade:
        """Grade the calls of an answer; its text does not count."""
        if request.reference is None:
            return Grade(None, reason=NO_REFERENCE)
        expected = calls_in(str(request.reference))
        if expected is None:
            return Grade(None, reason="the reference is no list of calls, each with a name and arguments")
        found = [ExpectedCall(call.name, _data(call.arguments)) for call in request.calls]
        text = "\n".join(call.text for call in request.calls)[:LONGEST]
        if _same_calls(found, expected):
            return Grade(True, text)
        return Grade(False, text or None, right_answer_is(request.reference) if text else "it calls no tool")


def calls_in(reference: str) -> list[ExpectedCall] | None:
    """Return the calls of a reference: a JSON list of objects with a name and arguments. None if it is no such list."""
    try:
        found = read_json(reference)
    except NotJsonError:
        return None
    calls = [_call(one) for one in found] if isinstance(found, list) else [None]
    known = [call for call in calls if call is not None]
    return known if len(known) == len(calls) else None


def _call(value: Json) -> ExpectedCall | None:
    if not isinstance(value, dict) or value.keys() != {"name", "arguments"}:
        return None
    name = value["name"]
    return ExpectedCall(name, value["arguments"]) if isinstance(name, str) else None


def _data(arguments: str) -> Json:
    try:
        return read_json(arguments)
    except NotJsonError:
        return arguments


def _same_calls(found: Sequence[ExpectedCall], expected: Sequence[ExpectedCall]) -> bool:
    """Return whether both have the same calls, in any order."""
    left = list(expected)
    for call in found:
        same = next((at for at, one in enumerate(left) if one.name == call.name and _equal(*one[1:], *call[1:])), None)
        if same is None:
            return False
        del left[same]
    return not left


def _equal(one: Json, other: Json) -> bool:
    """Return whether two values of JSON are equal: numbers by value, and objects without regard to order."""
    match one, other:
        case dict(), dict():
            return one.keys() == other.keys() and all(_equal(value, other[key]) for key, value in one.items())
        case list(), list():
            return len(one) == len(other) and all(map(_equal, one, other))
        case _:
            same_kind = type(one) is type(other) or (_is_number(one) and _is_number(other))
            return same_kind and one == other


def _is_number(value: Json) -> bool:
    return isinstance(value, _NUMBERS) and not isinstance(value, bool)
