"""Read the choices of a multiple-choice question, and which of them are right, in the shapes of published data sets.

The choices of a problem have the letters A to Z in their order. The reference answer is the letter of the right choice,
or the letters of all right choices in order, as in ``ABD``.

- ``choices`` or ``options`` is a list of texts (MMLU, AQuA), a list of ``{label, text}``, a mapping of letters to texts
  (MedQA), ``{text: […], label: […]}`` (ARC, CommonsenseQA), or a text that holds one of these (CSV).
- The columns ``A``, ``B``, ``C``, … have a choice each (C-Eval, CMMLU).
- ``target_scores`` has the choices with their scores (BIG-bench). Those with the highest score are right.
- ``Correct Answer`` and ``Incorrect Answer 1`` to ``3`` are shuffled by a seed (GPQA).
"""

import ast
import io
import itertools
import random
import re
import string
import tokenize
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple, cast

import msgspec

from arbiter.protocols.errors import DataError

LETTERS = string.ascii_uppercase
CHOICES = ("choices", "options")
_INDEX = ("answer_index", "answer_idx", "label", "gold", "cop")
"""Fields whose whole numbers are indices, from 0 on."""
ANSWER_FIELDS = ("answerkey", "answer_key", "choice_answer", "correct_option", *_INDEX)
"""Fields with the right choice, next to those of any answer."""

_LABELLED = re.compile(r"\(?(?P<letter>[A-Za-z])\s*[).:]\s*(?P<text>.*)", re.DOTALL)
_SEVERAL = re.compile(r"[A-Za-z](?:(?:\s*[,;&/]\s*|\s+and\s+|\s*)[A-Za-z])+")
_INCORRECT = re.compile(r"incorrect answer \d+")
_WHOLE = re.compile(r"-?[0-9]+(?:\.0+)?")
_PRINTED = re.compile(r"\[\s*-?[\d.]+(?:\s+-?[\d.]+)+\s*\]|[\[{].*\barray\(\[.*", re.DOTALL)  # numpy: [1 2 3]
_EXPLAINS = 4  # words more than the longest choice


class Choices(NamedTuple):
    """The texts of the choices, their names in the data, and the positions of the right ones, if the choices say so."""

    texts: tuple[str, ...]
    labels: tuple[str, ...]
    right: tuple[int, ...] = ()

    def listed(self) -> list[str]:
        """Return one line per choice, with its letter."""
        return [f"({letter}) {text}" for letter, text in zip(LETTERS, self.texts, strict=False)]


def choices_of(row: Mapping[str, Any], given: object, place: str, seed: int) -> Choices | None:
    """Return the choices in a row; None if it has none. ``given`` is the value of the field that holds them, if known.

    ``seed`` shuffles the choices of GPQA. Raises ``DataError`` that names ``place``.
    """
    named = {key.lower(): value for key, value in row.items()}
    listed = _parsed(given, place)
    if isinstance(listed, str) and _PRINTED.fullmatch(listed.strip()):
        raise _printed(listed, place)
    found = _shaped(listed, place) or _columns(row) or _scored(named, place) or _shuffled(named, seed)
    if found is None or not found.texts:
        return None
    if len(found.texts) > len(LETTERS):
        raise DataError(f"{place}: there are {len(found.texts)} choices; at most {len(LETTERS)} can have a letter")
    return found


def right_letters(choices: Choices, answer: object, field: str, place: str) -> str | None:
    """Return the letters of the right choices; None if there is no answer.

    ``answer`` is the value of ``field``: a text, a letter or another label, an index from 0 on, or a list of these.
    Raises ``DataError`` that names ``place`` if it is none of the choices, or if it is the index of one choice and the
    text of another. In a field of indices it is the index, and so is a whole number of JSON in the field ``answer``.
    """
    if choices.right:
        return _letters(choices.right)
    parsed = _parsed(answer, place)
    values = cast("list[object]", parsed) if isinstance(parsed, list | tuple) else [answer]
    found = [_position(choices, value, field, place) for value in values if value is not None and value != ""]
    if any(positions is None for positions in found):
        last = LETTERS[len(choices.texts) - 1]
        raise DataError(
            f"{place}: the answer {answer!r} in the field {field!r} is none of the {len(choices.texts)} choices: give "
            f"the text of a choice, its letter (A to {last}), or its index (0 to {len(choices.texts) - 1})"
        )
    right = {position for positions in found for position in positions or () if position >= 0}
    return _letters(sorted(right)) if right else None


def cannot_name(choices: Choices, value: object) -> bool:
    """Return whether a value is no name of a choice, right or wrong: an explanation, an object, or true and false.

    A text is an explanation if it has four or more words more than the longest choice.
    """
    if isinstance(value, bool):
        return str(value).casefold() not in map(str.casefold, choices.texts)
    if isinstance(value, str):
        longest = max(len(text.split()) for text in choices.texts)
        return len(value.split()) >= longest + _EXPLAINS and value.lstrip()[:1] != "["
    return not isinstance(value, int | float | list | tuple)


def _letters(positions: Sequence[int]) -> str:
    return "".join(LETTERS[position] for position in positions)


def _position(choices: Choices, value: object, field: str, place: str) -> tuple[int, ...] | None:
    """Return the positions of what one answer names; None if it is none of the choices. -1 is a hidden answer."""
    text = ("true" if value else "false") if isinstance(value, bool) else str(value).strip()
    if isinstance(value, bool) or not _WHOLE.fullmatch(text):
        return _named(choices, text)
    number = int(text.partition(".")[0])
    index = number if -1 <= number < len(choices.texts) else None
    if field.lower() in _INDEX:
        return None if index is None else (index,)
    for known in (text, str(number)):
        if known in choices.labels:
            return (choices.labels.index(known),)
    same = next((choices.texts.index(known) for known in (text, str(number)) if known in choices.texts), None)
    if same is None:
        return None if index is None else (index,)
    if index is None or index < 0 or index == same:
        return (same,)
    if field != "answer" or not isinstance(value, int):
        raise DataError(
            f"{place}: the answer {value!r} in the field {field!r} is both the index of the choice {LETTERS[index]} "
            f"and the text of the choice {LETTERS[same]}: give the letter of the right choice, or give the index in "
            'the field "answer_index" (with [data] fields = {answer = "answer_index"} if other fields have answers too)'
        )
    return (index,)


def _named(choices: Choices, text: str) -> tuple[int, ...] | None:
    """Return the positions of the choices that ``text`` names: a label, a text, both, or several letters."""
    texts = [" ".join(choice.split()).casefold() for choice in choices.texts]
    folded = " ".join(text.split()).casefold()
    for known in (choices.labels, choices.texts, texts):
        for one in (text, folded):
            if one in known:
                return (known.index(one),)
    labels = [label.casefold() for label in choices.labels]
    bare = folded.strip("().: ")
    if bare in labels:
        return (labels.index(bare),)
    if (labelled := _LABELLED.fullmatch(folded)) and labelled["letter"] in labels:
        position = labels.index(labelled["letter"])
        return (position,) if labelled["text"].strip() == texts[position] else None
    letters = re.findall("[a-z]", re.sub(r"\band\b", " ", folded)) if _SEVERAL.fullmatch(text) else []
    if letters and len(set(letters)) == len(letters) and {*letters} <= {*labels}:
        return tuple(labels.index(letter) for letter in letters)
    return None


def _parsed(value: object, place: str) -> object:
    """Return the list or mapping that a text holds, as JSON or as Python writes it; else the value."""
    if not isinstance(value, str) or value.lstrip()[:1] not in ("[", "{"):
        return value
    try:
        return msgspec.json.decode(value)
    except msgspec.DecodeError:
        pass
    try:
        found = ast.literal_eval(value.strip())
    except (ValueError, SyntaxError, RecursionError, MemoryError):
        return value
    kinds = [
        one.type for one in tokenize.generate_tokens(io.StringIO(value.strip()).readline) if one.type != tokenize.NL
    ]
    if (tokenize.STRING, tokenize.STRING) in itertools.pairwise(kinds):
        raise _printed(value, place)
    return found


def _printed(text: str, place: str) -> DataError:
    shown = text if len(text) <= 40 else f"{text[:40]}…"
    return DataError(
        f"{place}: {shown!r} is a list as numpy and pandas print it, without commas, so it is unclear where "
        'an item ends: save the data as JSONL (in pandas: to_json(PATH, orient="records", lines=True)) or as Parquet'
    )


def _shaped(value: object, place: str) -> Choices | None:
    if isinstance(value, Mapping):
        return _mapped({str(key).lower(): one for key, one in cast("Mapping[object, object]", value).items()}, place)
    if not isinstance(value, list | tuple):
        return None
    items = cast("Sequence[object]", value)
    if items and all(isinstance(item, Mapping) for item in items):
        columns = [cast("Mapping[str, object]", item) for item in items]
        return _mapped({name: [item.get(name) for item in columns] for name in ("text", "label")}, place)
    texts = tuple(map(_written, items))
    labelled = [_LABELLED.fullmatch(text.strip()) for text in texts]
    if all(one and one["letter"].upper() == letter for one, letter in zip(labelled, LETTERS, strict=False)):
        texts = tuple(one["text"].strip() for one in labelled if one)
    return Choices(texts, tuple(LETTERS[: len(texts)]))


def _mapped(value: Mapping[str, object], place: str) -> Choices:
    """Return the choices in ``{text: […], label: […]}``, or in a mapping of labels to texts."""
    texts, labels = value.get("text"), value.get("label")
    if isinstance(texts, list | tuple):
        found = tuple(map(_written, cast("Sequence[object]", texts)))
        names = tuple(map(str, cast("Sequence[object]", labels))) if isinstance(labels, list | tuple) else ()
        if names and len(names) != len(found):
            raise DataError(
                f"{place}: there are {len(found)} choices with {len(names)} labels: give each choice its label"
            )
        return Choices(found, names or tuple(LETTERS[: len(found)]))
    present = {key: one for key, one in value.items() if one is not None}
    return Choices(tuple(map(_written, present.values())), tuple(key.upper() for key in present))


def _written(value: object) -> str:
    return ("true" if value else "false") if isinstance(value, bool) else str(value)


def _columns(row: Mapping[str, Any]) -> Choices | None:
    """Return the choices in the columns ``A``, ``B``, ``C`` and so on. Two of them may be other things than choices."""
    letters: list[str] = []
    for letter in LETTERS:
        if row.get(letter) is None:
            break
        letters.append(letter)
    return Choices(tuple(_written(row[letter]) for letter in letters), tuple(letters)) if len(letters) > 2 else None


def _scored(named: Mapping[str, Any], place: str) -> Choices | None:
    scores = _parsed(named.get("target_scores"), place)
    if not isinstance(scores, Mapping) or not scores:
        return None
    found = {str(text): float(cast("Any", score)) for text, score in cast("Mapping[object, object]", scores).items()}
    best = max(found.values())
    right = tuple(position for position, score in enumerate(found.values()) if score == best > 0)
    return Choices(tuple(found), tuple(LETTERS[: len(found)]), right)


def _shuffled(named: Mapping[str, Any], seed: int) -> Choices | None:
    """Return the choices of GPQA, in an order that depends on the seed, the question and the choices alone."""
    correct = named.get("correct answer")
    others = [named[name] for name in sorted(named) if _INCORRECT.fullmatch(name) and named[name] is not None]
    if correct is None or not others:
        return None
    texts = [str(text).strip() for text in (correct, *others)]
    order = list(range(len(texts)))
    random.Random("\n".join([f"{seed}/{named.get('question')}", *texts])).shuffle(order)
    return Choices(tuple(texts[one] for one in order), tuple(LETTERS[: len(texts)]), (order.index(0),))
