"""The problems and annotated solutions of CHAMP, from the package ``champ-dataset`` (the extra ``champ``).

CHAMP has 270 competition problems with answers, and 540 solutions of models with the first wrong step marked
(Mao, Kim and Zhou, 2024). The package needs no network.
"""

import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, cast

import msgspec

from arbiter.data.file_rows import DataRow
from arbiter.protocols.errors import DataError, not_installed

CHAMP = "champ"
_FILE = Path("dataset_files") / "v0.json"
_SAME = re.compile(r"(?P<first>.+?), or (?P<how>equivalently|approximately|an equivalent form such as) (?P<second>.+)")
_REMARK = re.compile(r"\s*\([^()]*i\.e\.,.*\)|\s*\((?:none|no such)[^()]*\)")
_IN_A_SENTENCE = re.compile(
    r"(?P<before>.+?) is the only possible value"
    r"|(?:The limit exists and is equal to|The only possible value for the limit is) (?P<after>.+)"
    r"|(?P<count>\d+) (?:inequalities|values|pairs|roots)"
)


def champ_rows() -> Iterator[DataRow]:
    """Yield the problems as rows with the fields ``question``, ``answer``, ``id`` and ``source`` (the subject).

    Raises ``DataError`` if the package is missing.
    """
    for number, problem in enumerate(_problems(), start=1):
        name = str(problem["identifier"])
        fields = {
            "question": problem["_text"],
            "answer": reference_of(str(problem["_raw_answer"])),
            "id": name,
            "source": problem["category"],
        }
        yield DataRow(fields, f"{CHAMP}, {name}", str(number))


def champ_solutions() -> Iterator[tuple[str, str, str, int | None]]:
    """Yield the id, the question, the text and the position of the first wrong step of each solution.

    The position is an index of the text; it is None if the solution is right. Raises ``DataError`` if the package is
    missing.
    """
    for problem in _problems():
        annotations = cast("Mapping[str, Mapping[str, Any]]", problem["fws_annotations"] or {})
        for writer, annotation in annotations.items():
            name = f"{problem['identifier']}/{writer}"
            yield name, str(problem["_text"]), str(annotation["text"]), annotation["start_idx"]


def reference_of(answer: str) -> str:
    """Return the answer of a problem without remarks, other forms of it, and the sentence around it."""
    text = _REMARK.sub("", answer.replace("@@", "")).strip()
    if same := _SAME.fullmatch(text):
        text = same["first"] if same["how"] == "approximately" else same["second"]
    if sentence := _IN_A_SENTENCE.fullmatch(text):
        return sentence["before"] or sentence["after"] or sentence["count"]
    return text


def _problems() -> list[Mapping[str, Any]]:
    try:
        import champ_dataset  # pyright: ignore[reportMissingImports, reportMissingTypeStubs]
    except ImportError as error:
        what = not_installed("the data set 'champ'", error.name, "champ")
        raise DataError(f"{what}, or give --data the path of a file") from error
    file = Path(str(cast("Any", champ_dataset).__file__)).parent / _FILE
    try:
        found = msgspec.json.decode(file.read_bytes(), type=dict[str, dict[str, dict[str, Any]]])["problems"]
    except (OSError, KeyError, msgspec.DecodeError) as error:
        raise DataError(f"{file}: it cannot be read as champ-dataset 1.0.0 has it: {error}") from error
    return list(found.values())
