"""Samples, prices and reports on the command line, with the pocket models."""

import csv
import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from PIL import Image

Ended = subprocess.CompletedProcess[str]
Arbiter = Callable[..., Ended]

SAMPLED = ("bench", "pocket", "--limit", "3", "--samples", "2", "--temperature", "0.7", "--out", "run")


def error_line(ended: Ended) -> str:
    """Return the one line on standard error of a command that failed."""
    assert (ended.returncode, ended.stdout) == (2, "")
    assert "Traceback" not in ended.stderr
    assert ended.stderr.count("\n") == 1
    return ended.stderr.strip()


@pytest.mark.slow
def test_samples_are_decoded_summarised_and_reported_with_plots(arbiter: Arbiter, tmp_path: Path) -> None:
    ended = arbiter(*SAMPLED)
    assert ended.returncode == 0, ended.stderr
    assert all(
        figure in ended.stdout
        for figure in ("3 problems, 2 samples each", "pass@2", "majority vote", "95 % interval", "s per sample")
    )
    lines = [json.loads(line) for line in (tmp_path / "run" / "results.jsonl").read_text(encoding="utf-8").splitlines()]
    numbered = {(line["solution"]["problem"], line["solution"]["sample"]) for line in lines}
    assert numbered == {(f"pocket-1-{problem}", sample) for problem in range(3) for sample in range(2)}
    summary = json.loads((tmp_path / "run" / "summary.json").read_text(encoding="utf-8"))
    assert (summary["problems"], summary["samples"], summary["decoded"]) == (3, 2, 6)
    assert set(summary["pass_at_k"]) == {"1", "2"}

    reported = arbiter("report", "run", "--out", "report")
    assert reported.returncode == 0, reported.stderr
    assert "the report is in report" in reported.stderr
    assert "| run | router | 0.5 | 3 |" in reported.stdout
    written = (tmp_path / "report" / "report.md").read_text(encoding="utf-8")
    assert written.startswith(reported.stdout.rstrip())
    with (tmp_path / "report" / "report.csv").open(encoding="utf-8") as text:
        [row] = csv.DictReader(text)
    assert float(row["accuracy"]) == summary["accuracy"]
    for name in ("accuracy.png", "latency.png", "tokens.png"):
        assert f"({name})" in written
        with Image.open(tmp_path / "report" / name) as image:
            assert len(image.convert("RGB").getcolors(image.width * image.height) or []) > 10


def test_a_report_as_json_is_alone_on_standard_output(arbiter: Arbiter) -> None:
    assert arbiter("bench", "pocket", "--limit", "1", "--run-type", "draft", "--out", "run").returncode == 0
    ended = arbiter("report", "run", "--json")
    assert (ended.returncode, ended.stderr) == (0, "")
    assert json.loads(ended.stdout)["runs"][0]["summary"]["run_type"] == "draft"


@pytest.mark.slow
def test_without_matplotlib_table_and_csv_are_written_and_the_extra_is_named(arbiter: Arbiter, tmp_path: Path) -> None:
    assert arbiter("bench", "pocket", "--limit", "1", "--run-type", "draft", "--out", "run").returncode == 0
    program = (
        "import sys; sys.modules['matplotlib'] = None; sys.argv = ['arbiter', 'report', 'run', '--out', 'report'];"
        "from arbiter.cli.main import main; main()"
    )
    ended = subprocess.run(
        [sys.executable, "-c", program], cwd=tmp_path, capture_output=True, text=True, timeout=120, check=False
    )
    assert ended.returncode == 0
    assert "no plots: a plot needs matplotlib, which is not installed: pip install -e '.[plot]'" in (
        " ".join(ended.stderr.split())
    )
    assert sorted(path.name for path in (tmp_path / "report").iterdir()) == ["report.csv", "report.md"]
    assert "No plots: " in (tmp_path / "report" / "report.md").read_text(encoding="utf-8")


def test_help_of_report_teaches_with_examples(arbiter: Arbiter) -> None:
    shown = arbiter("report", "--help").stdout
    assert all(text in shown for text in ("arbiter report runs/", "--out", "--json", "--debug", "report.csv"))


@pytest.mark.parametrize(
    ("arguments", "named"),
    [
        (["bench", "pocket", "--samples", "2"], "at temperature 0 all samples of a problem are the same"),
        (["bench", "pocket", "--samples", "0"], "sampling.samples: "),
        (["bench", "pocket", "--temperature", "-1"], "sampling.temperature: "),
        (["report", "nowhere"], "there is no run folder 'nowhere'"),
        (["report"], "no run given"),
        (["report", "."], "is not a run folder: it has no config.toml"),
    ],
)
def test_what_cannot_be_done_is_told_in_one_line_that_names_it(
    arbiter: Arbiter, arguments: list[str], named: str
) -> None:
    line = error_line(arbiter(*arguments))
    assert line.startswith("error: ")
    assert named in line
