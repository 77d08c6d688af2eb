"""Make a problem of a row of a data set: field names of the usual releases, and formats of their answers.

Names are matched without regard to case; the first that is present and not null is taken.

- MATH500, MATH, Minerva, AIME, GSM8K, OlympiadBench and the Qwen2.5-Math evaluation files are read as published.
- ``arbiter.data.choices`` has the shapes of multiple-choice questions, ``arbiter.data.chats`` those of conversations.
- Other data needs ``Fields``, which the configuration fills in (``[data] fields = {…}``).
"""

import math
import re
from collections.abc import Iterable, Mapping
from typing import Any, cast

import msgspec

from arbiter.config.run_tables import USUAL, Fields
from arbiter.data.chats import CONVERSATIONS, Chat, chat_of
from arbiter.data.choices import ANSWER_FIELDS, CHOICES, Choices, cannot_name, choices_of, right_letters
from arbiter.data.tool_rows import Dialogue, dialogue_of, expected_calls, rules_of
from arbiter.data.training_rows import Split
from arbiter.data.written_numbers import WrittenNumber, plain
from arbiter.grading.answers import Reference, extract_answer, split_answers
from arbiter.grading.call_grader import calls_in
from arbiter.protocols.errors import DataError
from arbiter.protocols.records import Transcript, Turn
from arbiter.protocols.tools import AnswerRules

QUESTIONS = ("question", "problem", "input", "prompt", "content")
_ANSWER = (
    "answer",
    "final_answer",
    "expected_answer",
    "ground_truth",
    "gt",
    "target",
    "correct",
    "label",
    "answerkey",
    "answer_key",
    "choice_answer",
    "correct_option",
)
_ID = ("id", "unique_id", "problem_id", "task_id", "question_id", "idx")
_SOURCE = ("source",)
_BEFORE = ("context", "body", "table")  # OlympiadBench's physics; SVAMP and ASDiv; TabMWP

_AFTER_HASHES = re.compile(r"####\s*(?P<answer>.*?)\s*$", re.DOTALL)
_WITH_UNIT = re.compile(r"(?P<number>[\d.,/:]+) \((?P<unit>[A-Za-z %/.'’-]+)\)")  # ASDiv: 9 (apples), 62 (push-ups)
_IMAGE = re.compile(r"(?:decoded_)?images?(?:_\d+)?", re.IGNORECASE)


class Problem(msgspec.Struct, frozen=True, omit_defaults=True):
    """A question and its reference answer, if there is one. ``id`` is unique within a data set.

    The answer is a text, or a ``Reference`` where grading needs several answers, a unit or a tolerance. ``source`` is
    the stratum for sampling a collection. ``split`` is the part of the data that its training rows belong to.

    ``choices`` has the texts of a multiple-choice question, whose letters are A to Z in their order. The answer is then
    the letter of the right choice, or the letters of all right choices in order, as in ``ABD``. ``row`` has all fields
    of the row of the data set, for graders that need more than the answer.

    ``rules`` has the tools that the answer may call. The answer is then a text, or the calls that are right, as a list
    in JSON: ``[{"name": "add", "arguments": {"a": 1}}]``. ``turns`` are turns of a conversation before the question,
    and ``after`` turns after it: calls of tools and their results.
    """

    id: str
    question: str
    answer: str | Reference | None = None
    source: str = ""
    split: Split = "train"
    choices: tuple[str, ...] = ()
    row: Mapping[str, Any] = {}
    turns: tuple[Turn, ...] = ()
    after: tuple[Turn, ...] = ()
    rules: AnswerRules | None = None

    @property
    def transcript(self) -> Transcript:
        """The conversation that an answer continues."""
        return Transcript(self.question, turns=self.turns, after=self.after, rules=self.rules)

    @property
    def expects_calls(self) -> bool:
        """Whether the right answer is a list of calls of its tools."""
        return self.rules is not None and isinstance(self.answer, str) and calls_in(self.answer) is not None


def problem_of(row: Mapping[str, Any], place: str, default_id: str, fields: Fields = USUAL, seed: int = 0) -> Problem:
    """Return the problem in ``row``. ``seed`` shuffles the choices of GPQA.

    Raises ``DataError`` that names ``place`` and the fields of the row, and says how to fix it.
    """
    _refuse_images(row, place)
    named = {key.lower(): value for key, value in reversed(list(row.items()))}
    rules = rules_of(named, place)
    dialogue = dialogue_of(_asked(row, named, place, fields), place, rules is not None)
    question, reply = _question(row, named, place, fields) if dialogue is None else (dialogue.question, dialogue)
    listed = _given(row, fields.choices, place) if fields.choices else _first(named, CHOICES)
    choices = choices_of(row, listed, place, seed)
    given_id = _given(row, fields.id, place) if fields.id else _first(named, _ID)
    source = _given(row, fields.source, place) if fields.source else _first(named, _SOURCE)
    lines = choices.listed() if choices else [listed] if isinstance(listed, str) and listed else []
    return Problem(
        id=default_id if given_id is None else str(given_id),
        question="\n".join([*_before(named), question, *lines]),
        answer=_chosen(row, named, choices, place, fields) if choices else _answer(row, named, reply, place, fields),
        source="" if source is None else str(source),
        choices=choices.texts if choices else (),
        row=plain(dict(row)),
        turns=dialogue.turns if dialogue else (),
        after=dialogue.after if dialogue else (),
        rules=rules,
    )


def _refuse_images(row: Mapping[str, Any], place: str) -> None:
    for name, value in row.items():
        parts = cast("Mapping[str, object]", value).values() if isinstance(value, Mapping) else [value]
        if any(parts) and (_IMAGE.fullmatch(name) or _is_media(cast("object", value))):
            raise DataError(
                f"{place}: the field {name!r} has an image or a sound, and Arbiter's models read text alone: leave out "
                "such rows, or remove the field if the question does not need it"
            )


def _is_media(value: object) -> bool:
    """Return whether ``value`` is an image or a sound, as the library ``datasets`` stores or decodes it."""
    if isinstance(value, list | tuple):
        return any(map(_is_media, cast("list[object]", value)))
    if isinstance(value, Mapping):
        fields = cast("Mapping[object, object]", value)
        return isinstance(fields.get("bytes"), bytes) or "image_url" in fields
    return isinstance(value, bytes) or type(value).__module__.partition(".")[0] == "PIL"


def _asked(row: Mapping[str, Any], named: Mapping[str, Any], place: str, fields: Fields) -> object:
    """Return what a row asks, a text or the turns of a conversation; None if it asks nothing."""
    question = _given(row, fields.question, place) if fields.question else _first(named, QUESTIONS)
    return _first(named, CONVERSATIONS) if question is None else question


def _question(row: Mapping[str, Any], named: Mapping[str, Any], place: str, fields: Fields) -> tuple[str, Chat | None]:
    """Return the question of a row, and the conversation that it ends, if it is one."""
    question = _asked(row, named, place, fields)
    if isinstance(named.get("content"), str) and "role" in named and question is named["content"]:
        raise DataError(
            f"{place}: this is one turn of a conversation: put all turns of a conversation into one row, as "
            '{"messages": […]}'
        )
    chat = chat_of(question, place)
    if chat is not None:
        question = chat.question
    if not isinstance(question, str) or not question.strip():
        raise DataError(_no_question(row, question, place, fields))
    return question, chat


def _no_question(row: Mapping[str, Any], question: object, place: str, fields: Fields) -> str:
    if isinstance(question, str):
        return f"{place}: the question is empty: fill it in, or remove the row"
    names = repr(fields.question) if fields.question else ", ".join(QUESTIONS)
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


def _answer(
    row: Mapping[str, Any], named: Mapping[str, Any], reply: Chat | Dialogue | None, place: str, fields: Fields
) -> str | Reference | None:
    """Return the answer, else the last box of ``solution`` (MATH, Minerva) or of the reply in a conversation.

    If the row has tools, the answer may be calls of them.
    """
    answer = _given(row, fields.answer, place) if fields.answer else _first(named, _ANSWER)
    if named.get("tools"):
        calls = reply.calls if answer is None and isinstance(reply, Dialogue) else answer
        if (expected := expected_calls(calls, place)) is not None:
            return expected
    solution = named.get("solution") or (reply and reply.reply)
    if answer is None and isinstance(solution, str):
        answer = extract_answer(solution)
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


def _chosen(
    row: Mapping[str, Any], named: Mapping[str, Any], choices: Choices, place: str, fields: Fields
) -> str | None:
    """Return the letters of the right choices, by the first field whose value can name a choice, else by the first."""
    if fields.answer:
        return right_letters(choices, _given(row, fields.answer, place), fields.answer, place)
    present = [name for name in dict.fromkeys((*_ANSWER, *ANSWER_FIELDS)) if named.get(name) is not None]
    naming = [name for name in present if not cannot_name(choices, named[name])]
    name = next(iter(naming or present), "answer")
    return right_letters(choices, named.get(name), name, place)


def _texts(answer: object) -> list[str]:
    """Return the parts of an answer. OlympiadBench gives answers as a list, usually of one."""
    if isinstance(answer, list | tuple):
        return [text for part in cast("list[object]", answer) for text in _texts(part)]
    if answer is None or (isinstance(answer, float) and math.isnan(answer)):
        return []
    if isinstance(answer, bool):
        return ["true" if answer else "false"]
    if isinstance(answer, float) and answer.is_integer() and not isinstance(answer, WrittenNumber):
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
