"""The page on the event log names every kind, field and column."""

import re
from collections.abc import Callable
from pathlib import Path
from typing import get_args

import pytest

from arbiter.actors.ring_setup import Models
from arbiter.config.config import Config
from arbiter.data import Problem
from arbiter.log.reader import LOG
from arbiter.log.run import Run, Table
from arbiter.protocols.events import AnyPayload, Event
from arbiter.runs.results import Result

DOCUMENT = (Path(__file__).parents[3] / "docs" / "reference" / "log.md").read_text(encoding="utf-8")


def rows(heading: str) -> dict[str, list[str]]:
    """The table under a heading: the names in the first column, and those in each row's others."""
    _, _, rest = DOCUMENT.partition(f"\n{heading}\n")
    lines = re.match(r"\n(?:[^|\n][^\n]*\n|\n)*((?:\|.*\n)+)", rest)
    assert lines, heading
    found: dict[str, list[str]] = {}
    for line in lines[1].splitlines()[2:]:
        name, *cells = line.strip("|").split(" | ")
        for one in re.findall(r"`([^`]+)`", name):
            found[one] = re.findall(r"`([^`]+)`", cells[-1] if heading == "### Tables" else cells[0])
    return found


def test_every_kind_is_documented_with_its_fields() -> None:
    kinds = {str(kind.__struct_config__.tag): list(kind.__struct_fields__) for kind in get_args(AnyPayload)}
    assert rows("### Kinds") == kinds


def test_the_documented_program_finds_damage_and_passes_a_whole_log(
    a_config: Callable[..., Config],
    a_world: Callable[..., Models],
    run_in: Callable[..., dict[tuple[str, int], Result]],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    [program] = [block for block in re.findall(r"```python.*?\n(.*?)```", DOCUMENT, re.DOTALL) if "zlib" in block]
    folder = tmp_path / "runs" / "first"
    run_in(folder, a_config(run_type="rsd"), a_world(1), [Problem("0", "question", "7")])
    monkeypatch.chdir(tmp_path)
    exec(program, {})  # noqa: S102 - it is in the repository
    log = folder / LOG
    log.write_bytes(log.read_bytes().replace(b'"question":"q', b'"question":"Q'))
    with pytest.raises(AssertionError, match=r"^line \d+ is damaged$"):
        exec(program, {})  # noqa: S102


def test_every_field_of_an_event_is_documented() -> None:
    assert rows("## An event").keys() == set(Event.__struct_fields__)


@pytest.mark.parametrize("table", get_args(Table))
def test_every_table_has_the_documented_columns_in_each_row(
    a_config: Callable[..., Config],
    a_world: Callable[..., Models],
    run_in: Callable[..., dict[tuple[str, int], Result]],
    tmp_path: Path,
    table: Table,
) -> None:
    problems = [Problem(str(n), f"question {n}", "7") for n in range(5)]
    run_in(tmp_path, a_config(run_type="rsd", audit=0.5), a_world(1, fails=0.02), problems)
    columns = [list(row) for row in Run.open(tmp_path).table(table)]
    assert len(columns) > 4
    assert all(names == rows("### Tables")[table] for names in columns)
