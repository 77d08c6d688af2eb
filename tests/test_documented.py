"""The generated references explain every key and option, and written ones name every public name, error and figure."""

import re
from pathlib import Path

import pytest

import arbiter
from arbiter import extending
from arbiter.protocols import errors
from arbiter.runs.results import Summary
from docs import cli_reference, config_reference

REFERENCE = Path(__file__).parent.parent / "docs" / "reference"


def page(name: str) -> str:
    return (REFERENCE / f"{name}.md").read_text(encoding="utf-8")


def test_every_key_of_a_configuration_has_an_explanation() -> None:
    keys = [key for section in config_reference.sections() for key in section.keys]
    assert len(keys) > 80
    assert [key.name for key in keys if not re.match(r"[^a-z].*\.\"?$", key.text)] == []


def test_a_key_without_an_explanation_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    explained = config_reference._docs  # pyright: ignore[reportPrivateUsage]

    def without_seed(table: type) -> dict[str, str]:
        return {name: text for name, text in explained(table).items() if name != "seed"}

    monkeypatch.setattr(config_reference, "_docs", without_seed)
    with pytest.raises(LookupError, match=r"Config\.seed has no docstring below it"):
        list(config_reference.sections())


def test_every_table_of_a_configuration_has_its_own_heading() -> None:
    headings = [section.heading for section in config_reference.sections()]
    assert len(headings) == len(set(headings))
    assert {"`[limits]`", "`[data.fields]`", "`[models.NAME.server.speculation]`"} <= set(headings)


def test_every_command_and_option_has_an_explanation() -> None:
    assert list(cli_reference.unexplained()) == []


def test_the_python_api_has_every_public_name_once() -> None:
    public = [f"arbiter.{name}" for name in vars(arbiter)["__all__"]]
    public += [f"arbiter.extending.{name}" for name in extending.__all__]
    assert sorted(re.findall(r"^::: (\S+)$", page("python-api"), re.MULTILINE)) == sorted(public)


def test_every_error_is_explained() -> None:
    names = {name for name, found in vars(errors).items() if isinstance(found, type)}
    assert set(re.findall(r"^\| `(\w+)` \|", page("errors"), re.MULTILINE)) == names


def test_every_figure_of_a_summary_is_explained() -> None:
    _, _, table = page("runs").partition("## `summary.json`")
    rows = re.findall(r"^\| (`[^|]*) \|", table.partition("\n## ")[0], re.MULTILINE)
    assert {key for row in rows for key in re.findall(r"`(\w+)`", row)} == set(Summary.__struct_fields__)
