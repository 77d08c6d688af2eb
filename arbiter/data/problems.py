"""Make a problem of a row of a data set: field names of the usual releases, and formats of their answers.

Names are matched without regard to case; the first that is present and not null is taken.

- MATH500, MATH, Minerva, AIME, GSM8K, OlympiadBench and the Qwen2.5-Math evaluation files are read as published.
- Other data needs ``Fields``, which the configuration fills in (``[data] fields = {…}``).
"""

import re
from collections.abc import Iterable, Mapping
from typing import Any, cast

import msgspec

from arbiter.config.run_tables import USUAL, Fields
from arbiter.data.training_rows import Split
from arbiter.grading.answers import Reference, extract_answer, split_answers
from arbiter.protocols.errors import DataError

_QUESTION = ("question", "problem", "input", "prompt", "content")
_ANSWER = ("answer", "final_answer", "expected_answer", "ground_truth", "gt", "target", "correct", "label")
_ID = ("id", "unique_id", "problem_id", "idx")
_SOURCE = ("source",)
_BEFORE = ("context", "body", "table")  # OlympiadBench's physics; SVAMP and ASDiv; TabMWP
_CHOICES = ("choices", "options")  # MMLU; SAT, AQuA and Gaokao

_AFTER_HASHES = re.compile(r"####\s*(?P<answer>.*?)\s*$", re.DOTALL)
_WITH_UNIT = re.compile(r"(?P<number>[\d.,/:]+) \((?P<unit>[A-Za-z %]+)\)")  # ASDiv: 9 (apples)
_LABELLED = re.compile(r"\(?A[).:]")
_LETTERS = "ABCDEFGHIJ"


class Problem(msgspec.Struct, frozen=True, omit_defaults=True):
    """A question and its reference answer, if there is one. ``id`` is unique within a data set.

    The answer is a text, or a ``Reference`` where grading needs several answers, a unit or a tolerance. ``source`` is
    the stratum for sampling a collection. ``split`` is the part of the data that its training rows belong to.
    ``choices`` are the texts of the choices, in the order of their letters A, B, …; the answer is then a letter, or
    several letters such as ``ABD``. ``row`` has all fields of the row, for graders that need more than the answer.
    """

    id: str
    question: str
    answer: str | Reference | None = None
    source: str = ""
    split: Split = "train"
    choices: tuple[str, ...] = ()
    row: Mapping[str, Any] = {}


def problem_of(row: Mapping[str, Any], place: str, default_id: str, fields: Fields = USUAL) -> Problem:
    """Return the problem in ``row``.

    Raises ``DataError`` that names ``place`` and the fields of the row, and says how to fix it.
    """
    named = {key.lower(): value for key, value in reversed(list(row.items()))}
    question = _given(row, fields.question, place) if fields.question else _first(named, _QUESTION)
    if not isinstance(question, str) or not question.strip():
        raise DataError(_no_question(row, question, place, fields))
    answer = _given(row, fields.answer, place) if fields.answer else _answer(named)
    given_id = _given(row, fields.id, place) if fields.id else _first(named, _ID)
    source = _given(row, fields.source, place) if fields.source else _first(named, _SOURCE)
    choices = _first(named, _CHOICES)
    return Problem(
        id=default_id if given_id is None else str(given_id),
        question="\n".join([*_before(named), question, *_listed(choices)]),
        answer=_reference(answer, choices, named, place),
        source="" if source is None else str(source),
        row=dict(row),
    )


def _no_question(row: Mapping[str, Any], question: object, place: str, fields: Fields) -> str:
    if isinstance(question, str):
        return f"{place}: the question is empty: fill it in, or remove the row"
    names = repr(fields.question) if fields.question else ", ".join(_QUESTION)
    return f"{place}: there is no question in any of the fields {names}. {_name_the_field(row)}"


def _name_the_field(row: Mapping[str, Any]) -> str:
    present = ", ".join(str(key) for key in row) or "none"
    return f'Fields here: {present}; name the right one in the configuration: [data] fields = {{question = "…"}}'


def _given(row: Mapping[str, Any], field: str, place: str) -> object:
    if field not in row:
        raise DataError(f"{place}: there is no field {field!r}, which data.fields names. {_name_the_field(row)}")
    return row[field]


def _first(named: Mapping[str, Any], names: Iterable[str]) -> object:
    return next((named[name] for name in names if named.get(name) is not None), None)


def _before(named: Mapping[str, Any]) -> list[str]:
    """Return the texts that belong before the question."""
    parts = (named.get(name) for name in _BEFORE)
    return [part for part in parts if isinstance(part, str) and part.strip()]


def _listed(choices: object) -> list[str]:
    """Return the choices of a multiple-choice question, one line per choice, with their letters."""
    if isinstance(choices, str):
        return [choices]
    if isinstance(choices, Mapping):
        return [f"({letter}) {choice}" for letter, choice in cast("Mapping[str, object]", choices).items()]
    if isinstance(choices, list):
        texts = [str(choice) for choice in cast("list[object]", choices)]
        if texts and _LABELLED.match(texts[0]):
            return texts
        return [f"({letter}) {text}" for letter, text in zip(_LETTERS, texts, strict=False)]
    return []


def _answer(named: Mapping[str, Any]) -> object:
    """Return the answer, else the last box of the field ``solution`` (MATH and Minerva have no answer field)."""
    answer = _first(named, _ANSWER)
    if answer is None and isinstance(named.get("solution"), str):
        return extract_answer(named["solution"])
    return answer


def _reference(answer: object, choices: object, named: Mapping[str, Any], place: str) -> str | Reference | None:
    if isinstance(answer, int) and not isinstance(answer, bool) and isinstance(choices, list):
        return _LETTERS[answer] if 0 <= answer < len(_LETTERS) else str(answer)
    texts = _texts(answer)
    if not texts:
        return None
    if "is_multiple_answer" in named:
        return _olympiad(texts, named, place)
    if len(texts) > 1:
        return Reference(answers=tuple(texts))
    if with_unit := _WITH_UNIT.fullmatch(texts[0]):
        return Reference(answers=(with_unit["number"],), unit=with_unit["unit"])
    return texts[0]


def _texts(answer: object) -> list[str]:
    """Return the parts of an answer. OlympiadBench gives answers as a list, usually of one."""
    if isinstance(answer, list | tuple):
        return [text for part in cast("list[object]", answer) for text in _texts(part)]
    if answer is None:
        return []
    if isinstance(answer, float) and answer.is_integer():
        return [str(int(answer))]
    text = str(answer).strip()
    if hashes := _AFTER_HASHES.search(text):  # GSM8K: the answer follows the solution and four hashes
        text = hashes["answer"].replace(",", "")
    return [text] if text else []


def _olympiad(texts: list[str], named: Mapping[str, Any], place: str) -> str | Reference:
    several = str(named["is_multiple_answer"]).lower() == "true"
    answers = [part for text in texts for part in split_answers(text)] if several else texts
    unit, tolerance = str(named.get("unit") or "").strip() or None, _tolerance(named.get("error"), place)
    if len(answers) == 1 and unit is None and not tolerance:
        return answers[0]
    return Reference(answers=tuple(answers), unit=unit, tolerance=tolerance)


def _tolerance(error: object, place: str) -> tuple[float, ...]:
    """Parse one tolerance for all answers, or one per answer, comma-separated. An empty part means 1e-8."""
    parts = str("" if error is None else error).split(",")
    try:
        return tuple(float(part) if part.strip() else 1e-8 for part in parts) if any(parts) else ()
    except ValueError as failure:
        raise DataError(
            f"{place}: the field 'error' is {error!r}, but it must be a number, or one number per answer, separated by "
            "commas"
        ) from failure
