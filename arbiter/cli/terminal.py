"""What the commands write on a terminal, with the control characters of foreign texts shown.

If the reader closed the output, as in ``arbiter show RUN | head``, a command ends quietly.
"""

import os
import sys
from typing import Any, NoReturn

import msgspec
from rich.console import Console
from rich.table import Table
from rich.text import Text

BROKEN_PIPE = 141
"""The exit status if the reader closed standard output: that of a process which SIGPIPE ended."""

UNLIMITED = 100_000
"""The width, in characters, at which a table is measured: no table is as wide."""

_OBEYED = (
    *(set(range(0x20)) - {ord("\t"), ord("\n")}),  # C0
    *range(0x7F, 0xA0),  # DEL and C1
    *(0x061C, 0x200E, 0x200F, *range(0x202A, 0x202F), *range(0x2066, 0x206A)),  # they change the direction of writing
    *(0x2028, 0x2029),  # they break lines
    *range(0xD800, 0xE000),  # halves of a character, which cannot be written
)
_SHOWN = {code: f"\\x{code:02x}" if code < 0x100 else f"\\u{code:04x}" for code in _OBEYED}
_IN_JSON = {code: f"\\u{code:04x}" for code in _OBEYED if code >= 0x7F}


def visible(text: str) -> str:
    r"""Return ``text`` with the characters that a terminal would obey as ``\x1b`` or ``\u202e``.

    Tabs and ends of lines stay.
    """
    return text if text.isascii() and text.isprintable() else text.replace("\r\n", "\n").translate(_SHOWN)


class SafeConsole(Console):
    """A console that writes each text as ``visible`` returns it.

    If the reader closed the output, standard output ends the program quietly; on standard error the program continues
    without it.
    """

    def render_str(self, text: str, **options: Any) -> Text:  # noqa: ANN401 - those of ``Console``
        return super().render_str(visible(text), **options)

    def on_broken_pipe(self) -> None:
        if not self.stderr:
            end_quietly()
        self.quiet = True
        _to_nowhere(sys.stderr.fileno())


def print_table(console: Console, table: Table) -> None:
    """Print a table, wider than the console if a column that does not wrap would be cut otherwise."""
    unlimited = console.options.update(width=UNLIMITED)
    for column in table.columns:
        if column.no_wrap:
            cells = column.header, *column.cells
            column.min_width = max(console.measure(cell, options=unlimited).maximum for cell in cells)
    least = console.measure(table, options=unlimited).minimum
    if least > console.width:
        table.width = least
    console.print(table, crop=False)


def write_text(text: str) -> None:
    """Write a text on standard output as ``visible`` returns it.

    If the reader closed the output, the program ends quietly.
    """
    _write(visible(text))


def write_json(value: Any) -> None:  # noqa: ANN401 - any value that has a form in JSON
    """Write a value on standard output as a line of JSON.

    If the reader closed the output, the program ends quietly.
    """
    _write(msgspec.json.encode(value).decode().translate(_IN_JSON) + "\n")


def flush() -> None:
    """Write what standard output still holds. If the reader closed the output, the program ends quietly."""
    _write("", flush=True)


def end_quietly() -> NoReturn:
    """End the program without a message."""
    _to_nowhere(sys.stdout.fileno())  # else Python reports what it could not write
    raise SystemExit(BROKEN_PIPE)


def _write(text: str, flush: bool = False) -> None:
    try:
        sys.stdout.write(text)
        if flush:
            sys.stdout.flush()
    except BrokenPipeError:
        end_quietly()


def _to_nowhere(number: int) -> None:
    nowhere = os.open(os.devnull, os.O_WRONLY)
    os.dup2(nowhere, number)
    os.close(nowhere)
