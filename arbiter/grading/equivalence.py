"""Judge whether an answer is right as mathematics. Runs only in worker processes.

Functions import ``math-verify`` (which imports sympy): it takes seconds, and only the workers need it.
"""

import math
import re
import signal
from collections.abc import Sequence
from contextlib import suppress
from typing import Any, cast

import msgspec

from arbiter.grading.answers import Reference, plain, same_words, split_answers
from arbiter.grading.units import without_unit

INNER_SECONDS = 5
_MEMORY = 4 << 30
_ROUNDING = 1.01  # as in OlympiadBench's own judge: an error equal to the tolerance is right
_NAME = re.compile(
    r"\s*(?:\\angle\s*[A-Z_{}\d\s]+|\\?[A-Za-z]+'?(?:_\s*(?:\w|\{[^{}]*\}))?(?:\s*\([^()]*\))?)\s*=(?P<value>[^=]*)"
)


class EquivalenceVerdict(msgspec.Struct, frozen=True):
    """The verdict. ``right`` is None if the answer could not be judged; ``reason`` says why."""

    right: bool | None
    reason: str | None = None


class Unreadable(Exception):  # noqa: N818 - the name describes the reference
    """The reference cannot be read as mathematics."""


_prepared = False


def prepare() -> None:
    """Prepare a new worker, once: import math-verify, ignore Ctrl-C, limit the memory."""
    global _prepared
    if _prepared:
        return

    # Ctrl-C reaches every process of the terminal; the parent decides when its workers end
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    with suppress(ImportError, ValueError, OSError):  # no such limit on this system
        import resource

        resource.setrlimit(resource.RLIMIT_AS, (_MEMORY, resource.getrlimit(resource.RLIMIT_AS)[1]))
    _read("1")
    _prepared = True


def judge(answer: str, reference: Reference) -> EquivalenceVerdict:
    """Judge whether ``answer`` gives everything that the reference requires. Never raises."""
    try:
        prepare()
        return EquivalenceVerdict(right=_judged(answer, reference))
    except Unreadable as error:
        return EquivalenceVerdict(right=None, reason=str(error))
    except RecursionError:
        return EquivalenceVerdict(right=None, reason="the answer is nested too deeply to read")
    except MemoryError:
        return EquivalenceVerdict(right=None, reason=f"comparing needs more than {_MEMORY >> 30} GiB of memory")
    except BaseException as error:  # math-verify's time-out is not an Exception, and no error may reach the run
        if type(error).__name__ == "TimeoutException":
            return EquivalenceVerdict(right=None, reason=f"reading or comparing took longer than {INNER_SECONDS} s")
        return EquivalenceVerdict(right=None, reason=f"the grader failed: {type(error).__name__}: {str(error)[:200]}")


def _judged(answer: str, reference: Reference) -> bool:
    count = len(reference.answers)
    tolerances = reference.tolerance if len(reference.tolerance) == count else reference.tolerance[:1] * count
    if count == 1:
        return _same(answer, reference.answers[0], reference.unit, tolerances[0] if tolerances else None)
    given = split_answers(answer, count)
    if len(given) != count:
        given = list(dict.fromkeys(given))  # a repeated answer counts once
    if len(given) != count:
        return False
    return _paired(given, reference.answers, reference.unit, tolerances or (None,) * count)


def _paired(given: list[str], expected: Sequence[str], unit: str | None, tolerances: Sequence[float | None]) -> bool:
    """Return whether the given answers match the expected ones one to one, in any order."""
    left = list(given)
    # identical texts first: they need no mathematics, and take no other answer's match
    for answer, tolerance in sorted(
        zip(expected, tolerances, strict=True), key=lambda pair: plain(pair[0]) not in map(plain, given)
    ):
        ordered = sorted(left, key=lambda part: plain(part) != plain(answer))
        match = next((part for part in ordered if _same(part, answer, unit, tolerance)), None)
        if match is None:
            return False
        left.remove(match)
    return True


def _same(answer: str, expected: str, unit: str | None, tolerance: float | None) -> bool:
    if unit is not None:
        answer, expected, agree = without_unit(answer, expected, unit)
        if not agree:
            return False
    if plain(answer) == plain(expected):
        return True
    words = same_words(answer, expected)
    if words is not None:
        return words
    if tolerance is not None:
        near = _near(answer, expected, tolerance)
        if near is not None:
            return near
    return equal_mathematics(answer, expected)


def equal_mathematics(answer: str, expected: str) -> bool:
    """Return whether both are equal as mathematics. A name before an equals sign may be missing on either side.

    Raises ``Unreadable`` if ``expected`` cannot be read.
    """
    unreadable: Unreadable | None = None
    try:
        if _verified(answer, expected):
            return True
    except Unreadable as error:
        unreadable = error
    value, expected_value = _value(answer), _value(expected)
    named = (answer != value, expected != expected_value)
    if not any(named) or (all(named) and _name(answer) != _name(expected)):
        if unreadable is not None:
            raise unreadable
        return False
    return _verified(value, expected_value)


def _value(text: str) -> str:
    named = _NAME.fullmatch(text.replace("$", ""))
    return named["value"].strip() if named else text


def _name(text: str) -> str:
    return plain(text).partition("=")[0]


def _verified(answer: str, expected: str) -> bool:
    from math_verify import verify  # pyright: ignore[reportMissingTypeStubs, reportUnknownVariableType]

    gold, given = _read(expected), _read(answer)
    if all(isinstance(reading, str) for reading in gold):
        raise Unreadable(f"the reference {expected!r} cannot be read as mathematics, and the answer is another text")
    compare = cast("Any", verify)
    return bool(compare(gold, given, raise_on_error=True, timeout_seconds=INNER_SECONDS, allow_set_relation_comp=True))


def _near(answer: str, expected: str, tolerance: float) -> bool | None:
    """Return whether two numbers differ by at most the tolerance; None if one of them is not a number."""
    given, value = _number(answer), _number(expected)
    return None if given is None or value is None else abs(given - value) <= tolerance * _ROUNDING


def _number(text: str) -> float | None:
    from math_verify.utils import timeout  # pyright: ignore

    limited = cast("Any", timeout)(INNER_SECONDS)(_evaluated)
    for reading in _read(_value(text)):
        with suppress(AttributeError, TypeError, ValueError, OverflowError):
            number = cast("float", limited(reading))
            return number if math.isfinite(number) else None
    return None


def _evaluated(reading: Any) -> float:  # noqa: ANN401 - sympy has no types
    return float(reading.doit().evalf())


def _read(text: str) -> list[Any]:
    """Return all readings of an answer: a sympy expression if it can be parsed, and the text."""
    from math_verify import LatexExtractionConfig, parse  # pyright: ignore

    read = cast("Any", parse)
    boxed_alone = [cast("Any", LatexExtractionConfig)(boxed_match_priority=0)]
    return read(f"\\boxed{{{text}}}", boxed_alone, raise_on_error=True, parsing_timeout=INNER_SECONDS)
