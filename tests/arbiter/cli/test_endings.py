"""What commands say after Ctrl-C, how they print tables, and which parts a trial of the comparison has."""

import io
from collections.abc import Callable
from pathlib import Path

import pytest

from arbiter.cli import console
from arbiter.cli.console import INTERRUPTED, guarded, print_rows
from arbiter.cli.endings import continuing
from arbiter.cli.reproduce import problems_to_collect, trains_ablation
from arbiter.cli.terminal import SafeConsole
from arbiter.config.config import Config

Configs = Callable[..., Config]
ROWS = [["figure", "value"], ["auroc", "0.9"], ["a [b]", "–"]]


def interrupt() -> int:
    raise KeyboardInterrupt


def test_ctrl_c_says_how_to_continue(capsys: pytest.CaptureFixture[str]) -> None:
    assert guarded(False, interrupt, lambda: "to continue: [give] --resume") == INTERRUPTED
    assert guarded(False, interrupt) == INTERRUPTED
    assert capsys.readouterr().err.splitlines() == [
        "interrupted; to continue: [give] --resume",
        "interrupted; the same command begins again",
    ]


@pytest.mark.parametrize("name", ["events.jsonl", "sweep.json"])
def test_a_run_that_had_begun_is_resumed_by_its_folder(tmp_path: Path, name: str) -> None:
    (tmp_path / name).touch()
    assert continuing("bench", tmp_path, None, ("run",))() == f"to resume: arbiter bench --resume {tmp_path}"


def test_a_run_that_was_named_by_the_beginning_of_its_name_is_resumed_by_its_folder(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    (folder := Path("runs") / "first").mkdir(parents=True)
    (folder / "results.jsonl").touch()
    (folder / "events.jsonl").touch()
    for name in ("fi", "runs/first"):
        line = continuing("bench", None, Path(name), ("run",))()
        assert line == f"to resume: arbiter bench --resume {folder}"


def test_a_run_that_had_not_begun_is_begun_again(tmp_path: Path) -> None:
    assert (
        continuing("bench", tmp_path / "new", None, ("run",))()
        == "nothing had begun: repeat the command to start again"
    )


def test_a_run_whose_folder_is_not_known_is_found_in_the_list_of_runs() -> None:
    assert "arbiter runs lists its folder" in continuing("collect", None, None, ("collection",))()


def test_a_table_is_markdown_in_a_pipe(capsys: pytest.CaptureFixture[str]) -> None:
    print_rows(ROWS)
    assert capsys.readouterr().out == "| figure | value |\n|---|---|\n| auroc | 0.9 |\n| a [b] | – |\n"


def test_a_table_is_drawn_on_a_terminal(monkeypatch: pytest.MonkeyPatch) -> None:
    text = io.StringIO()
    monkeypatch.setattr(console, "stdout", SafeConsole(file=text, force_terminal=True, width=60, color_system=None))
    print_rows(ROWS)
    lines = [line.split() for line in text.getvalue().splitlines() if line.strip()]
    assert lines[0] == ["figure", "value"]
    assert lines[2:] == [["auroc", "0.9"], ["a", "[b]", "–"]]


@pytest.mark.parametrize(("width", "tables"), [(33, 1), (27, 1), (26, 2)])
def test_a_table_that_is_too_wide_is_a_table_for_each_column(
    width: int, tables: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    text = io.StringIO()
    monkeypatch.setattr(console, "stdout", SafeConsole(file=text, force_terminal=True, width=width, color_system=None))
    print_rows([["", "router", "rsd"], ["gain", "0.2 (0.1 to 0.3)", "0.4"]])
    lines = [line.split() for line in text.getvalue().splitlines() if line.strip()]
    assert [line for line in lines if line[-1] == "rsd"] == ([["router", "rsd"]] if tables == 1 else [["rsd"]])
    assert sum(line[0] == "gain" for line in lines) == tables


@pytest.mark.parametrize(
    ("limit", "option", "trained"),
    [(None, None, True), (1000, None, True), (12, None, False), (12, True, True), (None, False, False)],
)
def test_a_trial_of_the_comparison_trains_no_ablation_unless_it_is_asked_for(
    limit: int | None, option: bool | None, trained: bool, a_config: Configs, capsys: pytest.CaptureFixture[str]
) -> None:
    assert trains_ablation(a_config(data={"limit": limit}), option) is trained
    said = capsys.readouterr().err
    assert ("no ablation, because --limit 12 is a trial" in said) == (not trained and option is None)


@pytest.mark.parametrize(("limit", "problems"), [(None, 1000), (1, 100), (12, 120), (99, 990), (5000, 1000)])
def test_a_trial_of_the_comparison_collects_ten_problems_for_each_one_within_bounds(
    limit: int | None, problems: int
) -> None:
    assert problems_to_collect(limit) == problems
