"""The command line as a user calls it: its help, and its error messages."""

import json
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

from arbiter.config.config import load_config
from arbiter.runs.stored_config import as_toml

Ended = subprocess.CompletedProcess[str]
Arbiter = Callable[..., Ended]


def error_line(ended: Ended) -> str:
    """Return the one line on standard error of a command that failed without printing anything else."""
    assert (ended.returncode, ended.stdout) == (2, "")
    assert "Traceback" not in ended.stderr
    assert ended.stderr.count("\n") == 1
    return ended.stderr.strip()


def test_help_names_the_commands(arbiter: Arbiter) -> None:
    ended = arbiter("--help")
    assert (ended.returncode, ended.stderr) == (0, "")
    assert "bench" in ended.stdout


def test_help_of_a_command_teaches_each_option(arbiter: Arbiter) -> None:
    options = "run-type threshold data limit concurrency samples temperature audit seed out resume log-level json debug"
    ended = arbiter("bench", "--help")
    lines = [line for line in ended.stdout.splitlines() if "--" in line]
    for option in options.split():
        [line] = [line for line in lines if f"│ --{option} " in line]
        assert len(line.split()) > 5, line


def test_help_names_every_run_type(arbiter: Arbiter) -> None:
    shown = arbiter("bench", "--help").stdout
    assert all(name in shown for name in ("rsd", "oracle", "router", "generate", "draft", "target", "random"))


@pytest.mark.parametrize(
    ("arguments", "named"),
    [
        (["nowhere"], "'nowhere'"),
        (["pocket", "--threshold", "2"], "--threshold: thresholds.router: "),
        (["pocket", "--run-type", "draft", "--threshold", "0.5"], "'draft' has no threshold"),
        (["pocket", "--data", "nowhere.jsonl"], "'nowhere.jsonl'"),
        (["pocket", "--data", "pocket:one"], "pocket:one"),
        (["pocket", "--limit", "0"], "data.limit: "),
        ([], "no configuration is given: name a file, or a built-in one (gpt-oss-20b-120b, llama3-1b-8b-eagle3, "),
        (["--resume", "nowhere"], "there is no run 'nowhere'"),
        (["--resume", "here", "--out", "there"], "--resume here continues in that folder: leave out --out"),
        (["pocket", "--log-level", "off", "--resume", "."], "'.' holds no run: there is no events.jsonl in it"),
    ],
)
def test_what_cannot_be_done_is_told_in_one_line_that_names_it(
    arbiter: Arbiter, tmp_path: Path, arguments: list[str], named: str
) -> None:
    line = error_line(arbiter("bench", *arguments))
    assert line.startswith("error: ")
    assert named in line
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("arguments", "named"),
    [
        (["bench", "pocket", "--run-type", "ruter"], '"ruter"'),
        (["bench", "pocket", "--threshold", "high"], '"high"'),
        (["bench", "pocket", "--treshold", "0.5"], "--treshold"),
        (["bench", "pocket", "--log-level", "loud"], '"loud"'),
        (["bensh"], '"bensh"'),
    ],
)
def test_a_command_line_that_cannot_be_read_is_told_by_name(arbiter: Arbiter, arguments: list[str], named: str) -> None:
    ended = arbiter(*arguments)
    assert (ended.returncode, ended.stdout) == (2, "")
    assert named in ended.stderr
    assert "Traceback" not in ended.stderr


def test_a_command_line_that_cannot_be_read_is_told_in_one_line(arbiter: Arbiter) -> None:
    assert "high" in error_line(arbiter("bench", "pocket", "--threshold", "high"))


def test_an_unknown_key_of_a_file_is_told_with_the_file_and_the_nearest_key(arbiter: Arbiter, tmp_path: Path) -> None:
    (tmp_path / "mine.toml").write_text("[models]\n[limits]\nmax_stepz = 3\n", encoding="utf-8")
    line = error_line(arbiter("bench", "mine.toml"))
    assert line == "error: mine.toml: unknown key 'limits.max_stepz'; did you mean 'max_steps'?"


def test_an_error_with_brackets_is_told_as_it_is(arbiter: Arbiter, tmp_path: Path) -> None:
    (tmp_path / "mine.toml").write_text("[models]\n", encoding="utf-8")
    assert "[models.draft]" in error_line(arbiter("bench", "mine.toml"))


def test_debug_shows_the_traceback(arbiter: Arbiter) -> None:
    ended = arbiter("bench", "pocket", "--data", "nowhere.jsonl", "--debug")
    assert ended.returncode != 0
    assert "Traceback" in ended.stderr
    assert "DataError" in ended.stderr


@pytest.mark.slow
def test_events_are_shown_from_the_given_level_on_and_a_run_is_continued_by_its_folder_alone(arbiter: Arbiter) -> None:
    ended = arbiter("bench", "pocket", "--run-type", "draft", "--limit", "2", "--out", "run", "--log-level", "info")
    kinds = [line.split()[2] for line in ended.stderr.splitlines() if line.startswith("[")]
    assert ended.returncode == 0, ended.stderr
    assert [kinds.count(kind) for kind in ("run_started", "start_problem", "graded", "call_started")] == [1, 2, 2, 0]
    again = arbiter("bench", "--resume", "run", "--json", "--log-level", "off")
    assert (again.returncode, json.loads(again.stdout)["problems"]) == (0, 2), again.stderr
    assert "resuming the run: 2 of 2 are done" in again.stderr
    assert "run_started" not in again.stderr
    other = arbiter("bench", "--resume", "run", "--seed", "1")
    assert (other.returncode, other.stdout) == (2, "")
    assert "  seed: 0 in the run, 1 now" in other.stderr.splitlines()


@pytest.mark.parametrize(
    ("run_type", "why"),
    [
        ("draft", "escalates nothing"),
        ("target", "escalates nothing"),
        ("oracle", "scores both candidates of every step anyway"),
    ],
)
def test_an_audit_that_would_have_nothing_to_score_is_refused(arbiter: Arbiter, run_type: str, why: str) -> None:
    ended = arbiter("bench", "pocket", "--run-type", run_type, "--audit", "0.5")
    assert (ended.returncode, ended.stdout) == (2, "")
    assert why in ended.stderr
    assert "leave --audit out" in ended.stderr


def test_an_audit_of_the_configuration_that_has_nothing_to_score_is_left_out_with_a_line(
    arbiter: Arbiter, tmp_path: Path
) -> None:
    (tmp_path / "mine.toml").write_bytes(as_toml(load_config("pocket", {"audit": 0.5})))
    ended = arbiter("bench", "mine.toml", "--run-type", "draft", "--limit", "1", "--out", "run")
    assert ended.returncode == 0, ended.stderr
    assert "not audited, although audit is 0.5: a run of the type 'draft' escalates nothing" in ended.stderr
    assert load_config(str(tmp_path / "run" / "config.toml")).audit == 0.0
