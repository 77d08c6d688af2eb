"""Foreign texts cannot control a terminal, nothing is cut, and nobody has to read to the end."""

import io
import json
import os
import subprocess
import sys
from contextlib import redirect_stdout
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from rich.markup import escape
from rich.table import Table

from arbiter.cli.terminal import BROKEN_PIPE, SafeConsole, print_table, visible, write_json, write_text

CLEAR = "\x1b[2J\x1b]0;title\x07"
OBEYED = st.sampled_from("\x00\x07\x08\r\x1b\x7f\x80\x9b\u200f\u202e\u2066\u2028\ud800")


def printed(*texts: str, markup: bool = True, terminal: bool = False) -> str:
    file = io.StringIO()
    console = SafeConsole(file=file, width=400, force_terminal=terminal, emoji=False)
    for text in texts:
        console.print(text, markup=markup, highlight=False, soft_wrap=True)
    return file.getvalue()


@given(st.lists(st.text() | OBEYED).map("".join))
def test_a_text_has_only_characters_that_a_terminal_shows(text: str) -> None:
    shown = visible(text)
    assert all(character.isprintable() or character in "\t\n" or ord(character) > 0x9F for character in shown)
    assert not set(shown) & set("\u061c\u200e\u200f\u202a\u202e\u2066\u2069\u2028\u2029")
    shown.encode()
    assert visible(shown) == shown


def test_escapes_are_shown_and_plain_texts_stay() -> None:
    assert visible(CLEAR) == r"\x1b[2J\x1b]0;title\x07"
    assert visible("é → 数\n\tx\r\ny") == "é → 数\n\tx\ny"
    assert visible("a\rb\u202ec\x9b") == r"a\x0db\u202ec\x9b"


@pytest.mark.parametrize("markup", [True, False])
def test_a_console_shows_what_it_prints_and_keeps_its_own_styles(markup: bool) -> None:
    text = escape(CLEAR) if markup else CLEAR
    assert printed(text, markup=markup) == r"\x1b[2J\x1b]0;title\x07" + "\n"
    assert printed(f"[red]{escape(CLEAR)}[/red]", terminal=True).startswith("\x1b[31m\\x1b[2J")


def test_the_cells_of_a_table_are_shown_and_a_name_is_never_cut() -> None:
    table, file, name = Table(), io.StringIO(), "an-id-that-is-long" * 9 + CLEAR
    table.add_column("problem", no_wrap=True)
    table.add_column("two words", no_wrap=True)
    table.add_row(name, "what a long question")
    print_table(SafeConsole(file=file, width=40), table)
    assert visible(name) in file.getvalue()
    assert "what a long question" in file.getvalue()


def test_json_stays_json_and_obeys_nothing() -> None:
    value = {"text": CLEAR + "é\x9b\u202e\x7f"}
    file = io.StringIO()
    with redirect_stdout(file):
        write_json(value)
        write_text(CLEAR)
    line, rest = file.getvalue().split("\n")
    assert json.loads(line) == value
    assert line.isprintable()
    assert rest == visible(CLEAR)


PROGRAMS = {
    "console": "from arbiter.cli.console import stdout\nfor _ in range(99999): stdout.print('x' * 70)",
    "json": "from arbiter.cli.terminal import write_json\nfor _ in range(99999): write_json('x' * 70)",
    "text": "from arbiter.cli.terminal import write_text\nfor _ in range(99999): write_text('x' * 70)",
    "flush": "import time\nfrom arbiter.cli.terminal import flush, write_text\nwrite_text('x'); time.sleep(1); flush()",
}


@pytest.mark.parametrize("program", PROGRAMS)
def test_a_reader_that_leaves_ends_the_program_quietly(program: str) -> None:
    command = [sys.executable, "-c", PROGRAMS[program]]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE) as running:
        assert running.stdout is not None
        assert running.stderr is not None
        if program != "flush":
            assert running.stdout.read(10)
        running.stdout.close()
        errors = running.stderr.read()
        assert (running.wait(60), errors) == (BROKEN_PIPE, b"")


def test_a_program_goes_on_although_nobody_reads_its_standard_error(tmp_path: Path) -> None:
    program = (
        "import sys, time\nfrom arbiter.cli.console import stderr\n"
        "for _ in range(9): stderr.print('x' * 70); time.sleep(0.02)\nopen(sys.argv[1], 'w').write('the end')"
    )
    reading, writing = os.pipe()
    with subprocess.Popen([sys.executable, "-c", program, str(tmp_path / "end")], stderr=writing) as running:
        os.close(writing)
        os.close(reading)
        assert running.wait(60) == 0
    assert (tmp_path / "end").read_text(encoding="utf-8") == "the end"
