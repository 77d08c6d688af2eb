"""``arbiter sweep`` with the pocket models: interrupted, continued, and read by the other commands."""

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest

pytestmark = pytest.mark.slow

ARBITER = Path(sys.executable).parent / "arbiter"
SECONDS = 120


def test_a_sweep_is_interrupted_continued_and_reported(
    arbiter: Callable[..., subprocess.CompletedProcess[str]], tmp_path: Path
) -> None:
    options = ["--run-types", "draft,router", "--thresholds", "0.2,0.8", "--limit", "4", "--out", "curve"]
    with subprocess.Popen(
        [ARBITER, "sweep", "pocket", *options], cwd=tmp_path, stderr=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as running:
        until_an_answer(tmp_path / "curve")
        running.send_signal(signal.SIGINT)
        _, errors = running.communicate(timeout=SECONDS)
    assert running.returncode == 130, errors
    assert "to resume: arbiter sweep --resume curve" in errors

    ended = arbiter("sweep", "--resume", "curve", "--json")
    assert ended.returncode == 0, ended.stderr
    found = json.loads(ended.stdout)
    assert [row["point"] for row in found["points"]] == ["draft", "router-0.2", "router-0.8"]
    assert {row["summary"]["problems"] for row in found["points"]} == {4}
    assert found["made"]["requests"] < found["needed"]["requests"]

    inside = [path.name for path in sorted((tmp_path / "curve").iterdir())]
    reported = arbiter("report", *(f"curve/{name}" for name in inside))
    assert reported.stdout.count("(simulated)") == 6, reported.stderr


def until_an_answer(out: Path) -> None:
    for _ in range(SECONDS * 100):
        if any(b'"call_generated"' in log.read_bytes() for log in out.glob("*/events.jsonl")):
            return
        time.sleep(0.01)
    raise TimeoutError(os.fspath(out))


def test_what_belongs_to_a_single_run_is_refused(arbiter: Callable[..., subprocess.CompletedProcess[str]]) -> None:
    ended = arbiter("sweep", "pocket", "--threshold", "0.5")
    assert ended.returncode == 2
    assert "--run-types and --thresholds" in ended.stderr


def test_what_is_no_sweep_is_not_continued(arbiter: Callable[..., subprocess.CompletedProcess[str]]) -> None:
    ended = arbiter("sweep", "--resume", "nowhere")
    assert ended.returncode == 2
    assert "holds no sweep" in ended.stderr
