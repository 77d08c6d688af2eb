"""Read the rows of a file: CSV, TSV, JSON, JSONL, plain text, and Parquet with the extra ``parquet``.

Texts stay as they are in the file: no value is converted to another type. Rows are read one after another. A JSON
list, an object over several lines and standard input are read whole.
"""

import codecs
import csv
import itertools
import json
import re
import sys
from collections.abc import Iterable, Iterator, Mapping
from functools import cache
from io import BytesIO
from pathlib import Path
from typing import Any, BinaryIO, NamedTuple, cast

import msgspec

from arbiter.data.chats import CONVERSATIONS
from arbiter.data.choices import CHOICES
from arbiter.data.file_kinds import HEAD, delimiter_of, kind_of
from arbiter.data.written_numbers import WrittenNumber
from arbiter.protocols.errors import DataError, not_installed

STANDARD_INPUT = "-"
LONGEST_LINE = 256 << 20
_BATCH = 256
_OF_A_ROW = {*CONVERSATIONS, *CHOICES, "question", "problem", "tools"}
_BYTE = re.compile(r"\(byte (\d+)\)")


class DataRow(NamedTuple):
    """A row of a data set: its fields, its place for error messages, and the number that is its id by default."""

    fields: dict[str, Any]
    place: str
    number: str


class _Source(NamedTuple):
    """An open file, which can be read more than once. ``start`` is the position after a byte order mark."""

    name: str
    suffix: str
    file: BinaryIO
    start: int


def file_rows(path: Path, questions: Iterable[str]) -> Iterator[DataRow]:
    """Yield the rows of a file. Lines of a plain text are rows with the field ``question``.

    ``questions`` are the names of fields that hold a question, in lower case. Raises ``DataError`` that names the file,
    the line or the row, and the kind of a file that cannot be read, and ``FileNotFoundError``.
    """
    try:
        with path.open("rb") as file:
            yield from _rows(str(path), path.suffix.lower(), file, questions)
    except FileNotFoundError:
        raise
    except (OSError, ValueError) as error:  # a path with a null character is a ValueError
        reason = error.strerror if isinstance(error, OSError) else error
        raise DataError(f"cannot read the problems in {str(path)!r}: {reason}") from error


def input_rows(questions: Iterable[str]) -> Iterator[DataRow]:
    """Yield the rows of standard input, as ``file_rows`` does. It is kept, so that it can be read again."""
    if sys.stdin.isatty():
        raise DataError("--data -: standard input is a terminal; send a file to it: arbiter … --data - < FILE")
    yield from _rows("standard input", ".txt", BytesIO(_standard_input()), questions)


@cache
def _standard_input() -> bytes:
    return sys.stdin.buffer.read()


def _rows(name: str, suffix: str, file: BinaryIO, questions: Iterable[str]) -> Iterator[DataRow]:
    file = file if file.seekable() else BytesIO(file.read())  # a pipe, such as <(zcat FILE)
    head = file.read(HEAD)
    start = len(codecs.BOM_UTF8) if head.startswith(codecs.BOM_UTF8) else 0
    source = _Source(name, suffix, file, start)
    kind = kind_of(name, suffix, head[start:], questions)
    file.seek(start)
    readers = {"objects": _objects, "list": _listed, "table": _table, "text": _text_lines, "parquet": _parquet}
    yield from readers[kind](source)


def _lines(source: _Source) -> Iterator[tuple[int, bytes]]:
    """Yield each line with its number. Refuses a line that is too long before it fills the memory."""
    for number in itertools.count(1):
        line = source.file.readline(LONGEST_LINE)
        if not line:
            return
        if len(line) == LONGEST_LINE:
            raise DataError(
                f"{source.name}, line {number}: longer than {LONGEST_LINE >> 20} MiB; a JSONL file has one object per "
                "line"
            )
        yield number, line


def _objects(source: _Source) -> Iterator[DataRow]:
    """Yield the object in each line, or the rows in the only object of the file."""
    filled = ((number, line) for number, line in _lines(source) if line.strip())
    number, line = next(filled)
    try:
        first = _object(line, f"{source.name}, line {number}")
    except DataError:
        rows = _wrapped(_whole(source))
        if not rows:
            raise
        yield from _items(source, rows)
        return
    second = next(filled, None)
    if second is None and (rows := _wrapped(first)):
        yield from _items(source, rows)
        return
    yield DataRow(first, f"{source.name}, line {number}", str(number))
    for number, line in itertools.chain([second] if second else [], filled):
        place = f"{source.name}, line {number}"
        yield DataRow(_object(line, place), place, str(number))


def _whole(source: _Source) -> object:
    """Return the one JSON value that is the file; None if it is none."""
    source.file.seek(source.start)
    try:
        return decode_json(source.file.read())
    except (msgspec.DecodeError, UnicodeDecodeError):
        return None


def _wrapped(value: object) -> list[object]:
    """Return the rows of ``{"data": [{…}, …], …}``: the only list of objects in an object that is no row itself."""
    if not isinstance(value, dict):
        return []
    fields = cast("dict[str, object]", value)
    lists = [cast("list[object]", one) for one in fields.values() if isinstance(one, list) and one]
    lists = [one for one in lists if all(isinstance(item, dict) for item in one)]
    return lists[0] if len(lists) == 1 and fields.keys().isdisjoint(_OF_A_ROW) else []


def _listed(source: _Source) -> Iterator[DataRow]:
    data = source.file.read()
    try:
        items = decode_json(data)
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        found = _BYTE.search(str(error))
        line = data.count(b"\n", 0, int(found[1])) + 1 if found else 1
        raise DataError(f"{source.name}, line {line}: not a JSON list: {error}") from error
    yield from _items(source, items)


def _items(source: _Source, items: list[object]) -> Iterator[DataRow]:
    for number, item in enumerate(items, start=1):
        place = f"{source.name}, row {number}"
        row: object = {"question": item} if isinstance(item, str) else item
        if not isinstance(row, dict):
            raise DataError(f"{place}: not a JSON object, but {_shown(item)}")
        yield DataRow(cast("dict[str, Any]", row), place, str(number))


def _object(line: bytes, place: str) -> dict[str, Any]:
    try:
        row = decode_json(line)
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise DataError(f"{place}: not a JSON object: {error}") from error
    if not isinstance(row, dict):
        raise DataError(f"{place}: not a JSON object: it is {_shown(row)}")
    return cast("dict[str, Any]", row)


def _shown(value: object) -> str:
    text = json.dumps(value, ensure_ascii=False)
    return text if len(text) <= 40 else f"{text[:40]}…"


_DECODER = msgspec.json.Decoder(float_hook=WrittenNumber)
_CONSTANTS = {"NaN": None, "Infinity": "Infinity", "-Infinity": "-Infinity"}


def decode_json(data: bytes) -> Any:  # noqa: ANN401 - any JSON value
    """Return a JSON value. Python's ``NaN`` is null. Raises ``msgspec.DecodeError`` or ``UnicodeDecodeError``."""
    try:
        return _DECODER.decode(data)
    except RecursionError as error:
        raise msgspec.DecodeError("it is nested too deeply") from error
    except msgspec.DecodeError:
        if b"NaN" not in data and b"Infinity" not in data:
            raise
    try:
        return json.loads(data, parse_float=WrittenNumber, parse_constant=_CONSTANTS.__getitem__)
    except UnicodeDecodeError:
        raise
    except (ValueError, RecursionError) as error:
        raise msgspec.DecodeError(str(error)) from error


def _text(line: bytes, place: str) -> str:
    try:
        return line.decode()
    except UnicodeDecodeError as error:
        raise DataError(
            f"{place}: not UTF-8 ({error.reason} at byte {error.start}): save the file as UTF-8; of a file of Excel, "
            "iconv -f WINDOWS-1252 -t UTF-8 does it"
        ) from error


def _text_lines(source: _Source) -> Iterator[DataRow]:
    for number, line in _lines(source):
        place = f"{source.name}, line {number}"
        if text := _text(line, place).strip():
            yield DataRow({"question": text}, place, str(number))


def _table(source: _Source) -> Iterator[DataRow]:
    """Yield the rows of a table, whose first line has the names of the columns. An empty cell is null."""
    texts = (_text(line, f"{source.name}, line {number}") for number, line in _lines(source))
    first = list[str]()
    for text in texts:
        first.append(text)
        if text.strip():
            break
    delimiter = delimiter_of("".join(first), source.suffix)
    csv.field_size_limit(LONGEST_LINE)
    reader = csv.reader(itertools.chain(first, texts), delimiter=delimiter, strict=True)
    try:
        names = [name.strip() for name in next((row for row in reader if row), list[str]())]
        _check_header(names, source)
        cells = (row for row in reader if row)
        for number, row in enumerate(cells, start=1):
            place = f"{source.name}, line {reader.line_num}"
            yield DataRow(_cells(names, row, place, delimiter), place, str(number))
    except csv.Error as error:
        raise DataError(
            f"{source.name}, line {reader.line_num}: not CSV: {error}; write a cell that has a quote as "
            '"a ""quoted"" word"'
        ) from error


def _check_header(names: list[str], source: _Source) -> None:
    twice = next((name for name in names if name and names.count(name) > 1), None)
    if twice is not None:
        raise DataError(f"{source.name}, line 1: two columns have the name {twice!r}: rename one of them")


def _cells(names: list[str], row: list[str], place: str, delimiter: str) -> dict[str, Any]:
    if len(row) != len(names):
        sign = {"\t": "a tab"}.get(delimiter, repr(delimiter))
        raise DataError(
            f"{place}: the row has {len(row)} cells, and the header {len(names)}: put a cell that contains {sign} or a "
            "line break between double quotes"
        )
    return {name: cell or None for name, cell in zip(names, row, strict=True)}


def _without_nulls(value: object) -> object:
    """Return a value without the null fields of its objects.

    In Arrow, the objects of a column all have the same fields. So a field that an object does not have is null there.
    """
    if isinstance(value, Mapping):
        fields = cast("Mapping[str, object]", value)
        return {name: _without_nulls(item) for name, item in fields.items() if item is not None}
    return [_without_nulls(item) for item in cast("list[object]", value)] if isinstance(value, list) else value


def _parquet(source: _Source) -> Iterator[DataRow]:
    try:
        import pyarrow  # pyright: ignore[reportMissingTypeStubs]
        from pyarrow import parquet  # pyright: ignore[reportMissingTypeStubs]
    except ImportError as error:
        what = f"{source.name}: a Parquet file"
        raise DataError(f"{not_installed(what, error.name, 'parquet')}, or convert it to CSV or JSONL") from error
    arrow, reader = cast("Any", pyarrow), cast("Any", parquet)
    try:
        batches = reader.ParquetFile(source.file).iter_batches(batch_size=_BATCH)
        rows = itertools.chain.from_iterable(batch.to_pylist() for batch in batches)
        for number, row in enumerate(cast("Iterator[Mapping[str, Any]]", rows), start=1):
            fields = {name: _without_nulls(value) for name, value in row.items()}
            yield DataRow(fields, f"{source.name}, row {number}", str(number))
    except (arrow.ArrowException, OSError) as error:
        reason = " ".join(str(error).split())[:200]
        raise DataError(f"{source.name}: the Parquet file cannot be read: {reason}") from error
