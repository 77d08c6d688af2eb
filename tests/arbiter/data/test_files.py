"""Files as people have them are read as they are; what cannot be read is refused by its kind."""

import csv
import io
import json
import os
import subprocess
import sys
import zipfile
from collections.abc import Callable, Sequence
from importlib import import_module
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from arbiter.data.loading import Fields, Problem, load_problems
from arbiter.protocols.errors import DataError

pyarrow: Any = import_module("pyarrow")  # it has no types
parquet: Any = import_module("pyarrow.parquet")
WriteFile = Callable[[str, str | bytes], str]
ROWS = [("What is 1+1?", "007"), ('What, is "x"?\nSay it.', "1.50"), ("q3", "true"), ("q4", "9223372036854775808")]
"""Questions with a comma, quotes and a line break, and answers that a number or a truth value would change."""


@pytest.fixture
def file(tmp_path: Path) -> WriteFile:
    def write(name: str, content: str | bytes) -> str:
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content if isinstance(content, bytes) else content.encode())
        return str(path)

    return write


def pairs(problems: Sequence[Problem]) -> list[tuple[str, object]]:
    return [(problem.question, problem.answer) for problem in problems]


def test_the_question_of_a_table_without_a_suffix_may_have_any_name(file: WriteFile) -> None:
    [problem] = load_problems(file("table", "Frage,Antwort\nq,5\n"), fields=Fields(question="Frage", answer="Antwort"))
    assert (problem.question, problem.answer) == ("q", "5")


def refusal(source: str) -> str:
    with pytest.raises(DataError) as caught:
        load_problems(source)
    return str(caught.value)


def as_csv(rows: Sequence[tuple[str, ...]], delimiter: str = ",") -> str:
    text = io.StringIO()
    csv.writer(text, delimiter=delimiter).writerows([("question", "answer"), *rows])
    return text.getvalue()


def as_json(rows: Sequence[tuple[str, str]]) -> list[dict[str, str]]:
    return [{"question": question, "answer": answer} for question, answer in rows]


def as_parquet(rows: Sequence[dict[str, object]]) -> bytes:
    sink = io.BytesIO()
    parquet.write_table(pyarrow.Table.from_pylist(list(rows)), sink, row_group_size=2)
    return sink.getvalue()


CONTENTS: dict[str, str | bytes] = {
    "a.csv": as_csv(ROWS),
    "semicolons.csv": as_csv(ROWS, ";"),
    "a.tsv": as_csv(ROWS, "\t"),
    "table.txt": as_csv(ROWS),
    "no-suffix": as_csv(ROWS),
    "a.jsonl": "\n".join(map(json.dumps, as_json(ROWS))),
    "list.json": json.dumps(as_json(ROWS), indent=1),
    "list.jsonl": json.dumps(as_json(ROWS)),
    "wrapped.json": json.dumps({"version": 1, "data": as_json(ROWS)}, indent=1),
    "wrapped-in-a-line.json": json.dumps({"examples": as_json(ROWS)}),
    "a.parquet": as_parquet([dict(row) for row in as_json(ROWS)]),
    "parquet-by-its-content": as_parquet([dict(row) for row in as_json(ROWS)]),
}


@pytest.mark.parametrize("name", CONTENTS)
@pytest.mark.parametrize("mark", [b"", b"\xef\xbb\xbf"], ids=["", "with a byte order mark"])
def test_the_same_rows_are_the_same_problems_in_every_kind_of_file(file: WriteFile, name: str, mark: bytes) -> None:
    content = CONTENTS[name]
    data = content.encode() if isinstance(content, str) else content
    source = file(name, data if data.startswith(b"PAR1") else mark + data)
    problems = load_problems(source)
    assert pairs(problems) == ROWS
    assert len({problem.id for problem in problems}) == len(ROWS)


texts = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0\r"), max_size=12)
cells = texts.filter(lambda text: text.strip() == text and text != "")


@given(rows=st.lists(st.tuples(cells, cells.filter(lambda text: "####" not in text)), min_size=1, max_size=5))
def test_a_cell_is_read_as_it_was_written(
    rows: list[tuple[str, str]], tmp_path_factory: pytest.TempPathFactory
) -> None:
    path = tmp_path_factory.mktemp("cells") / "a.csv"
    path.write_text(as_csv(rows), encoding="utf-8")
    assert [(problem.question, problem.row["answer"]) for problem in load_problems(str(path))] == rows


def test_a_number_of_json_is_read_as_it_is_written(file: WriteFile) -> None:
    answers = ["1.50", "70.0", "1e5", "true", "9223372036854775808", "-123456789012345678901234567890", "0.1"]
    lines = "".join(f'{{"question": "q", "answer": {answer}}}\n' for answer in answers)
    problems = load_problems(file("a.jsonl", lines))
    assert [problem.answer for problem in problems] == answers
    assert [type(problem.row["answer"]) for problem in problems] == [float, float, float, bool, int, int, float]


def test_a_column_with_a_bare_number_leaves_the_texts_as_they_are(file: WriteFile) -> None:
    lines = '{"question": "q", "answer": "007"}\n{"question": "q", "answer": 7}\n{"question": "q", "answer": "true"}\n'
    assert [problem.answer for problem in load_problems(file("a.jsonl", lines))] == ["007", "7", "true"]


@pytest.mark.parametrize("name", ["a.jsonl", "a.json"])
def test_pythons_nan_is_no_answer(file: WriteFile, name: str) -> None:
    rows = [
        '{"question": "q", "answer": NaN}',
        '{"question": "r", "answer": "NaN"}',
        '{"question": "s", "answer": 1.5}',
    ]
    text = "\n".join(rows) if name == "a.jsonl" else f"[{', '.join(rows)}]"
    assert pairs(load_problems(file(name, text))) == [("q", None), ("r", "NaN"), ("s", "1.5")]


def test_a_field_that_an_object_of_parquet_does_not_have_is_left_out(file: WriteFile) -> None:
    add, sub = ({"name": name, "arguments": {key: 1}} for name, key in (("add", "a"), ("sub", "b")))
    tools = [{"type": "function", "function": {"name": name}} for name in ("add", "sub")]
    rows: list[dict[str, object]] = [{"question": "q", "tools": tools, "answer": [call]} for call in (add, sub)]
    assert pairs(load_problems(file("a.parquet", as_parquet(rows)))) == [
        ("q", f"[{json.dumps(one)}]") for one in (add, sub)
    ]


def test_an_empty_cell_and_a_null_of_parquet_are_no_answer(file: WriteFile) -> None:
    assert pairs(load_problems(file("a.csv", "question,answer\nq,\n"))) == [("q", None)]
    content = as_parquet([{"question": "q", "answer": None}, {"question": "r", "answer": 2.0}])
    assert pairs(load_problems(file("a.parquet", content))) == [("q", None), ("r", "2")]


def test_a_text_has_one_question_per_line(file: WriteFile) -> None:
    source = file("a.txt", "What is {1, 2}?\r\n\n[0, 1) or (0, 1)?\n{x : x > 1}\n")
    assert [(problem.id, problem.question) for problem in load_problems(source)] == [
        ("1", "What is {1, 2}?"),
        ("3", "[0, 1) or (0, 1)?"),
        ("4", "{x : x > 1}"),
    ]


def test_a_list_of_texts_is_a_list_of_questions(file: WriteFile) -> None:
    assert pairs(load_problems(file("a.json", '["q", "r"]'))) == [("q", None), ("r", None)]


def test_a_table_is_recognised_by_the_mapped_name_of_its_question(file: WriteFile) -> None:
    source = file("a.data", "text,reply\nq,5\n")
    problems = load_problems(source, fields=Fields(question="text", answer="reply"))
    assert pairs(problems) == [("q", "5")]


def test_the_whole_row_is_kept(file: WriteFile) -> None:
    [problem] = load_problems(file("a.jsonl", '{"question": "q", "test": "assert f(1)", "error": 0.50}'))
    assert problem.row == {"question": "q", "test": "assert f(1)", "error": 0.5}


def an_archive(*names: str) -> bytes:
    content = io.BytesIO()
    with zipfile.ZipFile(content, "w") as archive:
        for name in names:
            archive.writestr(name, "text")
    return content.getvalue()


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("a.xlsx", an_archive("[Content_Types].xml", "xl/workbook.xml"), "an Excel workbook; save it as CSV"),
        ("a.csv", an_archive("[Content_Types].xml", "xl/workbook.xml"), "an Excel workbook; save it as CSV"),
        ("a.zip", an_archive("a.csv"), "a ZIP archive; unpack it, and give the file in it"),
        ("a.jsonl.gz", b"\x1f\x8b\x08\x00", "a gzip archive; unpack it with gunzip"),
        ("a.jsonl", b"\xff\xfe{\x00", "UTF-16 text; save it as UTF-8 (iconv -f UTF-16 -t UTF-8 does it)"),
        ("a.pdf", b"%PDF-1.7", "a PDF document; copy its questions to CSV, Parquet, JSON, JSONL or plain text"),
        ("a.parquet", b"version https://git-lfs.github.com/spec/v1\n", "a pointer of Git LFS to the file; "),
        ("a.json", b"<!DOCTYPE html><html>", "a web page; download the file itself; the address may need a login"),
        ("a.pkl", b"\x80\x04\x95", "a Python pickle, which can run any program when it is read; "),
        ("a.db", b"SQLite format 3\x00", "an SQLite database; export its table as CSV"),
        ("a.bin", b"abc\x00", "binary data of an unknown kind; "),
        ("a.yaml", b"- question: q\n", "YAML; its first line is '- question: q'. Name the file .csv if "),
        ("a.jsonl", b"one question\n", "not JSON, although its name says so; its first line is 'one question'. "),
        ("questions", b"one question\n", "text; its first line is 'one question'. Name the file .csv if it is a table"),
    ],
)
def test_what_is_not_read_is_refused_by_its_kind(file: WriteFile, name: str, content: bytes, message: str) -> None:
    source = file(name, content)
    assert refusal(source).startswith(f"{source}: this is {message}")


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("a.csv", "question,answer\nq,1\nq,1,2\n", ", line 3: the row has 3 cells, and the header 2: put a cell that"),
        ("a.csv", 'question,answer\n"q\nr",1\nq\n', ", line 4: the row has 1 cells, and the header 2"),
        (
            "a.tsv",
            "question\tanswer\nq\n",
            ", line 2: the row has 1 cells, and the header 2: put a cell that contains a tab",
        ),
        ("a.csv", "question,question\nq,r\n", ", line 1: two columns have the name 'question': rename one of them"),
        ("a.csv", 'question,answer\nq,"5\n', ", line 2: not CSV: unexpected end of data; write a cell"),
        ("a.csv", 'question,answer\nq,"a"b\n', ", line 2: not CSV: ',' expected after '\"'; write a cell"),
        (
            "a.csv",
            b"question,answer\nq,\xe4\n",
            ", line 2: not UTF-8 (invalid continuation byte at byte 2): save the file",
        ),
        ("a.txt", b"q\n\xe4\n", ", line 2: not UTF-8 ("),
        ("a.csv", "text,reply\nq,5\n", ", line 2: there is no question in any of the fields question, problem, "),
        (
            "a.json",
            '[{"question": "q"},\n {"question": "q" "answer": 1}]',
            ", line 2: not a JSON list: JSON is malformed",
        ),
        ("a.json", '[{"question": "q"}, 5]', ", row 2: not a JSON object, but 5"),
        ("a.jsonl", '{"question": "q"}\n["q"]\n', ', line 2: not a JSON object: it is ["q"]'),
        ("a.json", '{"question": "q",\n "answer"}', ", line 1: not a JSON object: "),
        (
            "a.parquet",
            b"PAR1 and no more",
            ": the Parquet file cannot be read: Parquet magic bytes not found in footer",
        ),
    ],
)
def test_a_fault_is_told_with_its_place(file: WriteFile, name: str, content: str | bytes, message: str) -> None:
    source = file(name, content)
    assert refusal(source).startswith(f"{source}{message}")


@pytest.mark.parametrize(
    ("row", "field"),
    [
        ('{"question": "q", "image": "figure.png"}', "image"),
        ('{"question": "q", "image_2": {"bytes": null, "path": "figure.png"}}', "image_2"),
        ('{"question": "q", "Images": ["figure.png"]}', "Images"),
    ],
)
def test_a_row_with_an_image_is_refused_by_its_field(file: WriteFile, row: str, field: str) -> None:
    source = file("a.jsonl", row)
    assert refusal(source).startswith(f"{source}, line 1: the field {field!r} has an image or a sound, and Arbiter's ")


def test_an_image_in_a_parquet_file_is_refused_by_its_field(file: WriteFile) -> None:
    source = file("a.parquet", as_parquet([{"question": "q", "figure": {"bytes": b"\x89PNG", "path": None}}]))
    assert refusal(source).startswith(f"{source}, row 1: the field 'figure' has an image or a sound")


@pytest.mark.parametrize("image", ["null", '""', "[]", '{"bytes": null, "path": null}'])
def test_an_empty_field_for_an_image_is_no_image(file: WriteFile, image: str) -> None:
    assert len(load_problems(file("a.jsonl", f'{{"question": "q", "image": {image}}}'))) == 1


def test_without_the_library_for_parquet_the_extra_is_named(file: WriteFile, monkeypatch: pytest.MonkeyPatch) -> None:
    source = file("a.parquet", CONTENTS["a.parquet"])
    monkeypatch.setitem(sys.modules, "pyarrow", None)
    assert refusal(source) == (
        f"{source}: a Parquet file needs pyarrow, which is not installed: pip install -e '.[parquet]' in the folder of "
        "Arbiter, or convert it to CSV or JSONL"
    )


@pytest.mark.parametrize("name", ["a.csv", "a.jsonl", "list.json", "a.parquet"])
def test_a_pipe_is_read_as_a_file(name: str) -> None:
    content = CONTENTS[name]
    reading, writing = os.pipe()
    os.write(writing, content.encode() if isinstance(content, str) else content)
    os.close(writing)
    try:
        assert pairs(load_problems(f"/dev/fd/{reading}")) == ROWS
    finally:
        os.close(reading)


PROGRAM = """
from arbiter.data import load_problems
first, second = load_problems("-"), load_problems("-")
assert first == second
print([problem.question for problem in first])
"""


@pytest.mark.slow
@pytest.mark.parametrize("content", ['{"question": "q"}', "question,answer\nq,1\n", "q\n", '["q"]'])
def test_standard_input_is_read_as_a_file_and_can_be_read_again(content: str) -> None:
    done = subprocess.run(
        [sys.executable, "-c", PROGRAM], input=content, capture_output=True, text=True, timeout=60, check=True
    )
    assert done.stdout == "['q']\n"
