"""``arbiter runs``, and runs named by ``@last`` and by the beginnings of their names, with the pocket models."""

import json
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

Arbiter = Callable[..., subprocess.CompletedProcess[str]]


@pytest.mark.slow
def test_runs_are_listed_and_named_by_last_and_by_the_beginning_of_their_names(arbiter: Arbiter) -> None:
    assert arbiter("bench", "pocket", "--limit", "1", "--run-type", "draft", "--out", "runs/first").returncode == 0
    ended = arbiter("runs")
    assert (ended.returncode, ended.stderr) == (0, "")
    [line] = [line for line in ended.stdout.splitlines() if "runs/first" in line]
    assert all(text in line for text in ("pocket:draft + pocket:target, pocket:1", "draft", "100.0%", "finished"))
    assert arbiter("runs", "--paths").stdout == "runs/first\n"
    [listed] = map(json.loads, arbiter("runs", "--json").stdout.splitlines())
    assert (listed["run"], listed["kind"], listed["state"]) == ("runs/first", "run", "finished")
    shown = arbiter("show", "runs/first").stdout
    assert "pocket-1-0" in shown
    assert shown == arbiter("show", "@last").stdout == arbiter("show", "fi").stdout
    assert arbiter("diff", "fi", "@last").returncode == 0
    assert arbiter("replay", "@last").returncode == 0
    assert arbiter("grade", "fir").returncode == 0
    assert arbiter("export", "@last", "--html", "page.html").returncode == 0
    assert "runs/first" in arbiter("report", "@last").stdout
    assert "resuming the run: 1 of 1 are done" in arbiter("bench", "--resume", "fi").stderr


def test_without_runs_there_is_a_line_that_says_so(arbiter: Arbiter) -> None:
    ended = arbiter("runs")
    assert (ended.returncode, ended.stdout) == (0, "")
    assert ended.stderr == "no runs in runs/; arbiter bench pocket makes one\n"


@pytest.mark.parametrize(
    "command", ["bench pocket", "bench pocket --compare", "sweep pocket", "collect pocket", "serve pocket"]
)
def test_no_command_makes_a_folder_with_the_name_of_the_newest_run(
    arbiter: Arbiter, tmp_path: Path, command: str
) -> None:
    ended = arbiter(*command.split(), "--out", "@last")
    assert (ended.returncode, ended.stdout) == (2, "")
    assert "error: @last means the newest run, so no folder can have that name" in ended.stderr
    assert not (tmp_path / "@last").exists()


def test_a_damaged_sweep_has_no_number_of_points(arbiter: Arbiter, tmp_path: Path) -> None:
    (tmp_path / "runs" / "curve").mkdir(parents=True)
    (tmp_path / "runs" / "curve" / "sweep.json").write_text("{}")
    ended = arbiter("runs")
    [line] = [line for line in ended.stdout.splitlines() if "runs/curve" in line]
    assert "sweep" in line.split()
    assert "None" not in line
    assert "repeat the command of the sweep" in ended.stderr


def test_last_without_a_run_is_refused(arbiter: Arbiter) -> None:
    ended = arbiter("show", "@last")
    assert (ended.returncode, ended.stdout) == (2, "")
    assert "@last: there is no run below runs/" in ended.stderr


def test_a_report_passes_over_folders_without_a_run_and_says_so(arbiter: Arbiter, tmp_path: Path) -> None:
    (tmp_path / "runs" / "servers").mkdir(parents=True)
    assert arbiter("bench", "pocket", "--limit", "1", "--run-type", "draft", "--out", "runs/first").returncode == 0
    ended = arbiter("report", "runs/first", "runs/servers")
    assert (ended.returncode, ended.stderr) == (0, "passed over, because they hold no run: runs/servers\n")
    assert "runs/first" in ended.stdout
    alone = arbiter("report", "runs/servers")
    assert alone.returncode == 2
    assert "is not a run folder" in alone.stderr
