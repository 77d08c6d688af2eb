"""Recognise the kind of a file by its content, and say how to convert what cannot be read."""

import csv
import re
from collections.abc import Iterable
from typing import Literal

from arbiter.protocols.errors import DataError

HEAD = 1 << 16
"""How many bytes from the start of a file decide its kind."""

Kind = Literal["objects", "list", "table", "text", "parquet"]
"""JSON objects one after another, a JSON list, CSV or TSV, one question per line, and Parquet."""

_READABLE = "CSV, Parquet, JSON, JSONL or plain text"
_CONVERT = f"convert it to {_READABLE}"
_UNPACK = "unpack it, and give the file in it"
_SAVE_AS_CSV = "save it as CSV"
_KINDS: tuple[tuple[bytes, str, str], ...] = (
    (b"\x1f\x8b", "a gzip archive", "unpack it with gunzip"),
    (b"\x28\xb5\x2f\xfd", "a Zstandard archive", "unpack it with unzstd"),
    (b"BZh", "a bzip2 archive", "unpack it with bunzip2"),
    (b"\xfd7zXZ\x00", "an xz archive", "unpack it with unxz"),
    (b"7z\xbc\xaf", "a 7-Zip archive", _UNPACK),
    (b"Rar!", "a RAR archive", _UNPACK),
    (b"\xd0\xcf\x11\xe0", "a file of an old version of Microsoft Office", _SAVE_AS_CSV),
    (b"%PDF", "a PDF document", f"copy its questions to {_READABLE}"),
    (b"ARROW1", "an Arrow file", "write it as Parquet (Dataset.to_parquet of the library datasets does it)"),
    (
        b"\xff\xff\xff\xff",
        "an Arrow stream",
        "write it as Parquet (Dataset.to_parquet of the library datasets does it)",
    ),
    (b"SQLite format 3", "an SQLite database", "export its table as CSV"),
    (b"\x93NUMPY", "a NumPy array", _CONVERT),
    (b"\x89HDF", "an HDF5 file", _CONVERT),
    (b"\x89PNG", "an image", f"give a file of problems: {_READABLE}"),
    (b"\xff\xd8\xff", "an image", f"give a file of problems: {_READABLE}"),
    (b"GIF8", "an image", f"give a file of problems: {_READABLE}"),
    (b"Obj\x01", "an Avro file", _CONVERT),
    (b"ORC", "an ORC file", _CONVERT),
    (b"\xff\xfe", "UTF-16 text", "save it as UTF-8 (iconv -f UTF-16 -t UTF-8 does it)"),
    (b"\xfe\xff", "UTF-16 text", "save it as UTF-8 (iconv -f UTF-16 -t UTF-8 does it)"),
    (b"version https://git-lfs", "a pointer of Git LFS to the file", "fetch the file with git lfs pull"),
    (b"<?xml", "XML", _CONVERT),
)
_WEB_PAGE = re.compile(rb"\s*<(?:!doctype html|html|head|body)\b", re.IGNORECASE)
_PICKLE = re.compile(rb"\x80[\x02-\x05]")
_OBJECT = re.compile(rb'\s*\{\s*(?:["}]|$)')
_LIST = re.compile(rb'\s*\[\s*(?:[\[{"\]]|$)')
_JSON = {".json", ".jsonl", ".ndjson"}
_DELIMITERS = ",\t;|"


def kind_of(name: str, suffix: str, head: bytes, questions: Iterable[str]) -> Kind:
    """Return the kind of the file ``name`` with the first bytes ``head``, which have no byte order mark.

    The content decides. The ``suffix`` decides only between texts: JSON, CSV or lines. ``questions`` are the names of
    columns that hold a question. Raises ``DataError`` that names the kind of a file that cannot be read.
    """
    if head.startswith(b"PAR1"):
        return "parquet"
    if refused := _refused(head):
        what, remedy = refused
        raise DataError(f"{name}: this is {what}; {remedy}")
    lines = suffix in {".txt", ".csv", ".tsv"}
    if _OBJECT.match(head) if lines else head.lstrip().startswith(b"{"):
        return "objects"
    if _LIST.match(head) if lines else head.lstrip().startswith(b"["):
        return "list"
    if suffix in {".csv", ".tsv"} or _names_a_question(head, questions):
        return "table"
    if suffix == ".txt" or not head.strip():
        return "text"
    raise DataError(_unknown(name, suffix, head))


def delimiter_of(header: str, suffix: str) -> str:
    """Return what separates the cells of a table: the most frequent of comma, tab, semicolon and bar in its header."""
    if suffix == ".tsv":
        return "\t"
    bare = re.sub(r'"[^"]*"', "", header)
    return max(_DELIMITERS, key=bare.count)


def _refused(head: bytes) -> tuple[str, str] | None:
    """Return what a file is that cannot be read, and how to make one that can."""
    if head.startswith(b"PK\x03\x04"):
        return _zipped(head)
    for start, what, remedy in _KINDS:
        if head.startswith(start):
            return what, remedy
    if _WEB_PAGE.match(head):
        return "a web page", "download the file itself; the address may need a login"
    if _PICKLE.match(head):
        return "a Python pickle, which can run any program when it is read", _CONVERT
    if head[257:262] == b"ustar":
        return "a tar archive", _UNPACK
    return ("binary data of an unknown kind", _CONVERT) if b"\x00" in head else None


def _zipped(head: bytes) -> tuple[str, str]:
    if b"xl/" in head:
        return "an Excel workbook", _SAVE_AS_CSV
    if b"opendocument.spreadsheet" in head:
        return "an OpenDocument spreadsheet", _SAVE_AS_CSV
    if b"word/" in head or b"opendocument.text" in head:
        return "a text document", "save it as plain text"
    return "a ZIP archive", _UNPACK


def _names_a_question(head: bytes, questions: Iterable[str]) -> bool:
    """Return whether the first line is the header of a table with a question."""
    header = head.lstrip().split(b"\n", 1)[0].decode(errors="replace").strip()
    try:
        cells = next(csv.reader([header], delimiter=delimiter_of(header, "")), list[str]())
    except csv.Error:
        return False
    return len(cells) > 1 and not {cell.strip().lower() for cell in cells}.isdisjoint(questions)


def _unknown(name: str, suffix: str, head: bytes) -> str:
    first = head.split(b"\n", 1)[0].decode(errors="replace").strip()
    what = "YAML" if suffix in {".yaml", ".yml"} else "text"
    if suffix in _JSON:
        what = "not JSON, although its name says so"
    return (
        f"{name}: this is {what}; its first line is {first[:60]!r}. Name the file .csv if it is a table with a header, "
        f".txt if each line is a question, or {_CONVERT}"
    )
