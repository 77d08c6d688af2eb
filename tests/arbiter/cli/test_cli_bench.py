"""``arbiter bench`` on the screen: a few lines, a comparison at several widths, and all figures on request."""

import io
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest
from rich.console import Console

from arbiter.cli.bench_screen import print_comparison, print_figures
from arbiter.runs.reports.short_form import ComparisonTable

Ended = subprocess.CompletedProcess[str]
Arbiter = Callable[..., Ended]

ARBITER = Path(sys.executable).parent / "arbiter"
SECONDS = 120
COMPARED = ComparisonTable(
    ["1,000 problems", "accuracy", "95 % interval", "wall s", "CPU s", "target tokens", "s/problem"],
    [
        ["draft alone", "34.2%", "31.3% to 37.2%", "101.5", "190.2", "0", "10.11"],
        ["router", "49.8%", "46.7% to 52.9%", "303.2", "590.1", "16,231", "12.50"],
        ["target alone", "50.5%", "47.4% to 53.6%", "202.4", "399.9", "81,312", "11.52"],
    ],
)
SENTENCES = ["Compared with the target alone, router (τ = 0.5) needed " + "20.0% of the target tokens, " * 4 + "so."]


def printed(width: int) -> list[str]:
    text = io.StringIO()
    print_comparison(Console(file=text, width=width), COMPARED, SENTENCES)
    return text.getvalue().splitlines()


@pytest.mark.parametrize("width", [60, 70, 80, 82, 120])
def test_a_comparison_fits_its_console_and_nothing_is_cut(width: int) -> None:
    lines = printed(width)
    assert max(map(len, lines)) <= width
    words = " ".join(" ".join(lines).split())
    assert "…" not in words
    for cell in (cell for row in COMPARED.rows for cell in row):
        assert all(part in words for part in cell.split())
    assert words.endswith("20.0% of the target tokens, so.")


def test_a_wide_console_has_one_line_for_each_row() -> None:
    table = [line for line in printed(120) if not line.startswith(("Compared", "20.0%"))]
    assert table[0].split()[:2] == ["1,000", "problems"]
    assert [line.split("  ")[0].strip() for line in table[1:4]] == ["draft alone", "router", "target alone"]


def test_lines_do_not_end_in_spaces() -> None:
    assert [line for line in printed(120) if line != line.rstrip()] == []


def test_the_figures_of_a_run_are_aligned_and_wrapped_below_themselves() -> None:
    text = io.StringIO()
    print_figures(Console(file=text, width=24), "router", {"accuracy": "one two three four", "CPU time": "1 s"})
    assert text.getvalue() == "router\naccuracy  one two three\n          four\nCPU time  1 s\n"


@pytest.mark.slow
def test_a_comparison_is_made_resumed_and_printed_as_json(arbiter: Arbiter, tmp_path: Path) -> None:
    ended = arbiter("bench", "pocket", "--limit", "2", "--compare", "--out", "run")
    assert ended.returncode == 0, ended.stderr
    lines = ended.stdout.splitlines()
    assert [line.split("  ")[0] for line in lines[1:4]] == ["draft alone", "router", "target alone"]
    assert lines[4].startswith("Compared with the target alone, router (τ = 0.5) needed ")
    assert "the run is in run, compared with run-draft and run-target" in ended.stderr
    again = arbiter("bench", "--resume", "run", "--json")
    assert again.returncode == 0, again.stderr
    stored = json.loads((tmp_path / "run" / "summary.json").read_bytes())
    assert stored.pop("c")
    assert json.loads(again.stdout) == stored
    assert set(json.loads(again.stdout)["comparison"]) == {"draft", "target"}
    assert "loading models" not in again.stderr


@pytest.mark.slow
def test_all_figures_are_printed_on_request_and_a_few_without(arbiter: Arbiter) -> None:
    options = ("bench", "pocket", "--run-type", "draft", "--limit", "2")
    brief, whole = arbiter(*options), arbiter(*options, "--details")
    names = [line[:13].strip() for line in brief.stdout.splitlines()[1:]]
    assert names == ["accuracy", "acceptance", "target tokens", "wall time", "CPU time"]
    assert "--details prints all figures" in brief.stderr
    assert "--details" not in whole.stderr
    assert all(f"│ {name} " in whole.stdout for name in ("wasted escalations", "finish reasons", "CPU time"))


@pytest.mark.slow
def test_ctrl_c_in_a_baseline_names_the_command_that_goes_on(arbiter: Arbiter, tmp_path: Path) -> None:
    command = [ARBITER, "bench", "pocket", "--limit", "8", "--concurrency", "1", "--compare", "--out", "run"]
    with subprocess.Popen(command, cwd=tmp_path, stderr=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as running:
        until_a_grade(tmp_path / "run-target")
        running.send_signal(signal.SIGINT)
        output, errors = running.communicate(timeout=SECONDS)
    assert running.returncode == 130, errors
    assert "to resume: arbiter bench --resume run" in errors
    assert "the target alone was interrupted" in errors
    assert "problems, interrupted" in output or "problem, interrupted" in output
    ended = arbiter("bench", "--resume", "run", "--json")
    assert ended.returncode == 0, ended.stderr
    found = json.loads(ended.stdout)
    assert (found["problems"], found["comparison"]["target"]["problems"]) == (8, 8)
    assert (found["comparison"]["target"]["cpu_seconds"], found["cpu_seconds"] > 0) == (None, True)


def until_a_grade(out: Path) -> None:
    for _ in range(SECONDS * 100):
        log = out / "events.jsonl"
        if log.exists() and b'"graded"' in log.read_bytes():
            return
        time.sleep(0.01)
    raise TimeoutError(os.fspath(out))


def test_a_generate_run_is_not_compared(arbiter: Arbiter, tmp_path: Path) -> None:
    ended = arbiter("bench", "pocket", "--run-type", "generate", "--compare")
    assert (ended.returncode, ended.stdout) == (2, "")
    assert "compare: a run of the type 'generate' writes training rows" in ended.stderr
    assert list(tmp_path.iterdir()) == []


@pytest.mark.slow
def test_the_key_alone_does_not_forbid_a_generate_run(arbiter: Arbiter, tmp_path: Path) -> None:
    text = (Path(__file__).parents[3] / "configs" / "pocket.toml").read_text(encoding="utf-8")
    (tmp_path / "mine.toml").write_text(f"compare = true\n{text}", encoding="utf-8")
    ended = arbiter("bench", "mine.toml", "--run-type", "generate", "--limit", "1", "--json")
    assert ended.returncode == 0, ended.stderr
    assert "not compared" in ended.stderr
    assert json.loads(ended.stdout)["comparison"] is None


def test_a_configuration_without_a_target_names_what_the_comparison_lacks(arbiter: Arbiter, tmp_path: Path) -> None:
    draft = '[models.draft]\nmodel = "pocket:draft"\nprompt = "Problem: {question}\\nSolution:\\n"\n'
    (tmp_path / "mine.toml").write_text(f'run_type = "draft"\n{draft}', encoding="utf-8")
    ended = arbiter("bench", "mine.toml", "--compare", "--limit", "1")
    assert (ended.returncode, ended.stdout) == (2, "")
    assert "add a table [models.target], or leave compare out (--no-compare)" in ended.stderr
