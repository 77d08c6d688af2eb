"""Judge whether an answer is right as mathematics. Runs only in worker processes.

Both sides are read (``answer_reader``) and compared (``agreement``). What it does not know, such as integrals and
sums, is read by ``math-verify``. It imports sympy, which takes seconds, so it is imported only for such an answer.
"""

import re
import signal
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from functools import cache
from itertools import product
from typing import Any, cast

import msgspec

from arbiter.grading.agreement import agree
from arbiter.grading.answer_reader import read
from arbiter.grading.answers import Reference, plain, same_words, split_answers
from arbiter.grading.arithmetic import real_value
from arbiter.grading.atoms import name_of
from arbiter.grading.limits import MEMORY, OutOfTime, cpu_limit, limit_memory, over_limit
from arbiter.grading.operations import TooLarge
from arbiter.grading.readings import Named, Reading, Value
from arbiter.grading.spelling import normalised, unmarked
from arbiter.grading.structure import split_at
from arbiter.grading.terms import Style, Unreadable
from arbiter.grading.units import split_unit

_ROUNDING = 1.01  # as in OlympiadBench's own judge: an error equal to the tolerance is right
_ADVANCED = re.compile(
    r"\\(?:int|iint|oint|sum|prod|lim|limsup|liminf|begin|det|partial|bigcup|bigcap|Gamma|zeta)(?![A-Za-z])"
)
_SHORT_UNIT = re.compile(r"(?<=[\d}])\s+([a-zA-Z])$")
"""A unit of one letter, which is one only if the reference has a unit: ``10 m``."""
_AMBIGUOUS = {
    "thousands": re.compile(r"\d,\d{3}(?!\d)"),
    "powers_of_ten": re.compile(r"(?<![\d.])[2-9][eE][+-]\d(?!\d)"),
    "natural_log": re.compile(r"(?<![A-Za-z])log(?![A-Za-z]|\s?_)"),
}


_LEAST = 0.001  # seconds: a timer of 0 is none
_ERRORS = (ArithmeticError, RecursionError, Unreadable, ValueError)
"""What a text may cause for which no rule is made: it is nested too deeply, or has no value. It then has no reading.

This is the only guard, since each number and each function may fail in its own way. Other errors are bugs of the
grader, so the verdict names them.
"""


class EquivalenceVerdict(msgspec.Struct, frozen=True):
    """The verdict. ``right`` is None if the grader failed; ``reason`` says how."""

    right: bool | None
    reason: str | None = None


_prepared = False


def prepare() -> None:
    """Prepare a new worker, once: ignore Ctrl-C, limit the memory."""
    global _prepared
    if not _prepared:
        # Ctrl-C reaches every process of the terminal; the parent decides when its workers end
        signal.signal(signal.SIGINT, signal.SIG_IGN)
        limit_memory()
        _prepared = True


def judge(answer: str, reference: Reference, seconds: float) -> EquivalenceVerdict:
    """Judge whether ``answer`` gives everything that the reference requires, in ``seconds`` of CPU time.

    The time to start the worker and to import libraries does not count. An error is the reason of the verdict.
    """
    try:
        prepare()
        began = time.process_time()
        with cpu_limit(seconds):
            right = _judged(answer, reference, equal_mathematics)
            needs_library = not right and _needs_library(answer, reference)
        left = seconds - (time.process_time() - began)
        if needs_library:
            _warm_library()  # neither its import nor what it loads at its first use counts
            with cpu_limit(max(left, _LEAST)):
                right = _judged(answer, reference, _same_by_library)
        return EquivalenceVerdict(right=right)
    except OutOfTime:
        return EquivalenceVerdict(right=None, reason=over_limit(seconds))
    except TooLarge as error:
        return EquivalenceVerdict(right=None, reason=str(error))
    except MemoryError:
        return EquivalenceVerdict(right=None, reason=f"comparing needs more than {MEMORY >> 30} GiB of memory")
    except Exception as error:  # no error may reach the run
        return EquivalenceVerdict(right=None, reason=f"the grader failed: {type(error).__name__}: {str(error)[:200]}")


def equal_mathematics(answer: str, expected: str) -> bool:
    """Return whether both are equal as mathematics, without a comparison of their texts."""
    return _compared(answer, expected) is True


Same = Callable[[str, str], bool]


def _judged(answer: str, reference: Reference, same: Same) -> bool:
    count = len(reference.answers)
    tolerances = reference.tolerance if len(reference.tolerance) == count else reference.tolerance[:1] * count
    each = tolerances or (None,) * count
    if count == 1:
        return _matches(answer, reference.answers[0], reference.unit, each[0], same)
    given = split_answers(answer, count)
    if len(given) != count:
        given = list(dict.fromkeys(given))  # a repeated answer counts once
    return len(given) == count and _paired(given, reference, each, same)


def _paired(given: list[str], reference: Reference, tolerances: Sequence[float | None], same: Same) -> bool:
    """Return whether the given answers match the expected ones one to one, in any order."""
    left = list(given)
    # identical texts first: they need no mathematics, and take no other answer's match
    for answer, tolerance in sorted(
        zip(reference.answers, tolerances, strict=True), key=lambda pair: plain(pair[0]) not in map(plain, given)
    ):
        ordered = sorted(left, key=lambda part: plain(part) != plain(answer))
        match = next((part for part in ordered if _matches(part, answer, reference.unit, tolerance, same)), None)
        if match is None:
            return False
        left.remove(match)
    return True


def _matches(answer: str, expected: str, unit: str | None, tolerance: float | None, same: Same) -> bool:
    if plain(answer) == plain(expected) or _letters_of(answer) == _letters_of(expected):
        return True
    if unit is not None:
        expected = _with_unit(expected, unit)
    answer = _SHORT_UNIT.sub(r"\\text{ \1}", answer) if split_unit(normalised(expected))[1] is not None else answer
    words = same_words(answer, expected)
    if words is not None:
        return words
    if tolerance is not None:
        near = _near(answer, expected, tolerance)
        if near is not None:
            return near
    return same(answer, expected)


def _letters_of(text: str) -> list[str]:
    """Return a text with its words as plain letters: ``10\\text{m}`` is ``10 m``."""
    return unmarked(normalised(text)).split()


def _with_unit(expected: str, unit: str) -> str:
    """Return the expected value with its unit, if it has none yet."""
    _, own, _ = split_unit(normalised(expected))
    bare = unit.replace("$", "").strip()
    written = bare if bare.startswith(("\\", "^", "%", "°")) else rf"\text{{ {bare}}}"
    return expected if own is not None else f"{expected.replace('$', '')} {written}"


def _compared(answer: str, expected: str) -> bool | None:
    """Return whether a reading of the answer agrees with one of the reference; None if one side has no reading."""
    given, wanted = list(_readings(answer)), list(_readings(expected))
    if not given or not wanted:
        return None
    return any(_agree(one, other) for one, other in product(given, wanted))


def _agree(one: Reading, other: Reading) -> bool:
    try:
        return agree(one, other)
    except _ERRORS:
        return False


def _readings(text: str) -> Iterator[Reading]:
    """Yield what ``text`` can mean: usually one reading, or none if it is not understood."""
    spelled = normalised(text)
    doubtful = [name for name, pattern in _AMBIGUOUS.items() if pattern.search(spelled)]
    for choices in product((True, False), repeat=len(doubtful)):
        with suppress(*_ERRORS):
            yield read(spelled, Style(**dict(zip(doubtful, choices, strict=True))))


def _near(answer: str, expected: str, tolerance: float) -> bool | None:
    """Return whether two numbers differ by at most the tolerance; None if one of them is not a number."""
    numbers = [_number(answer), _number(expected)]
    given, value = numbers
    if given is None or value is None:
        return None
    return given[1] in (None, value[1]) and abs(given[0] - value[0]) <= tolerance * _ROUNDING


def _number(text: str) -> tuple[float, object] | None:
    """Return the value and the unit of a number; None if ``text`` is no number."""
    reading = next(_readings(text), None)
    reading = reading.reading if isinstance(reading, Named) else reading
    if not isinstance(reading, Value):
        return None
    with suppress(*_ERRORS):
        return float(real_value(reading.expression)), reading.unit
    return None


def _needs_library(answer: str, reference: Reference) -> bool:
    """Return whether a side cannot be read here, and has mathematics that ``math-verify`` may know."""
    return any(_ADVANCED.search(text) and not list(_readings(text)) for text in (answer, *reference.answers))


def _library() -> tuple[Any, Any, Any]:
    from math_verify import LatexExtractionConfig, parse, verify  # pyright: ignore

    return cast("Any", LatexExtractionConfig), cast("Any", parse), cast("Any", verify)


@cache
def _warm_library() -> None:
    """Import the library, and let it read and compare once, which loads its parser."""
    _, _, verify = _library()
    verify(_read_by_library("\\int_0^1 x dx"), _read_by_library("\\frac12"), timeout_seconds=None)


def _same_by_library(answer: str, expected: str) -> bool:
    compared = _compared(answer, expected)
    if compared is not None:
        return compared
    one, other = _unnamed(answer), _unnamed(expected)
    if len(split_at(one, {"="})[0]) != len(split_at(other, {"="})[0]):
        return False  # math-verify drops whatever is before the equals sign
    _, _, verify = _library()
    gold, given = _read_by_library(other), _read_by_library(one)
    if any(all(isinstance(reading, str) for reading in side) for side in (gold, given)):
        return False
    return bool(verify(gold, given, raise_on_error=True, timeout_seconds=None, allow_set_relation_comp=True))


def _unnamed(text: str) -> str:
    parts, _ = split_at(text.replace("$", ""), {"="})
    return parts[1] if len(parts) == 2 and name_of(normalised(parts[0])) else text


def _read_by_library(text: str) -> list[Any]:
    """Return all readings of a text: a sympy expression if it can be parsed, and the text."""
    extraction, parse, _ = _library()
    boxed_alone = [extraction(boxed_match_priority=0)]
    return parse(f"\\boxed{{{text}}}", boxed_alone, raise_on_error=True, parsing_timeout=None)
