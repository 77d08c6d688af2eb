"""The marked tables of the documents are what ``benchmarks/tables.py`` computes."""

import sys
from importlib import import_module
from pathlib import Path
from typing import Any
from unittest.mock import patch

import pytest

ROOT = Path(__file__).parent.parent
with patch.object(sys, "path", [str(ROOT / "benchmarks"), *sys.path]):  # benchmarks import each other by their names
    tables: Any = import_module("tables")

PLACES = tables.find_tables(ROOT)
NAMES = [
    pytest.param(name, marks=getattr(pytest.mark, table.marker) if table.marker else ())
    for name, table in tables.TABLES.items()
]


def test_every_marked_table_is_known_and_every_known_table_is_in_a_document() -> None:
    assert {place.name for place in PLACES} == tables.TABLES.keys()


def test_every_marker_has_its_end() -> None:
    text = "".join(path.read_text(encoding="utf-8") for path in {place.document for place in PLACES})
    assert text.count("<!-- table: ") == len(PLACES)


@pytest.mark.parametrize("name", NAMES)
def test_a_table_is_what_its_benchmark_computes(name: str) -> None:
    computed = tables.framed(tables.TABLES[name].compute())
    for place in PLACES:
        if place.name == name:
            assert place.text == computed, f"run: python benchmarks/tables.py --only {name} --write"


def test_a_table_that_differs_is_named_and_written_on_request(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "docs").mkdir()
    (tmp_path / "README.md").write_text("No table.\n")
    page = tmp_path / "docs" / "page.md"
    page.write_text("Before.\n\n<!-- table: speeds -->\nold\n<!-- end -->\n\nAfter.\n")
    monkeypatch.setattr(tables, "ROOT", tmp_path)
    assert tables.main() == 1
    assert "differs: speeds in docs/page.md" in capsys.readouterr().out
    assert tables.main(write=True) == 0
    assert page.read_text().startswith("Before.\n\n<!-- table: speeds -->\n\n| model | GPU |")
    assert page.read_text().endswith(" |\n\n<!-- end -->\n\nAfter.\n")
    assert tables.main() == 0
