"""AIPerf, unmodified, measures the endpoint, and finds what ``/metrics`` counts."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import httpx2
import pytest
from prometheus_client.parser import text_string_to_metric_families

from tests.servers.starting import Launch, free_ports, started
from tests.watching.viewers import ROOT, interpreter

REQUESTS = 6
TOKENIZER = ROOT / "arbiter/pocket/models/target"
"""The own tokenizer of AIPerf, ``builtin``, is downloaded."""

HOUR, NANOSECOND = 3600.0, 1e-9


@pytest.fixture(scope="module")
def aiperf() -> Path:
    """The command of AIPerf."""
    python = interpreter("aiperf")
    if python is None:
        pytest.skip("aiperf is not installed: just watch-env")
    return python.parent / "aiperf"


def profile(aiperf: Path, url: str, folder: Path, *, goodput: str) -> dict[str, Any]:
    """Let AIPerf send streamed chats, and return its results."""
    questions = folder / "questions.jsonl"
    questions.write_text("".join(json.dumps({"text": f"Compute ({n}+30)*7."}) + "\n" for n in range(REQUESTS)))
    arguments = ["--url", url, "--model", "arbiter", "--endpoint-type", "chat", "--streaming"]
    asked = ["--input-file", str(questions), "--custom-dataset-type", "single_turn", "--tokenizer", str(TOKENIZER)]
    load = ["--request-count", str(REQUESTS), "--concurrency", "2", "--request-timeout-seconds", "600"]
    written = ["--ui", "none", "--output-artifact-dir", str(folder), "--goodput", goodput]
    command = [str(aiperf), "profile", *arguments, *asked, *load, *written]
    subprocess.run(command, check=True, cwd=folder, timeout=1200)
    [results] = folder.rglob("profile_export_aiperf.json")
    return json.loads(results.read_text())


def counted(url: str) -> dict[str, float]:
    text = httpx2.get(f"{url}/metrics", timeout=60).text
    samples = [sample for family in text_string_to_metric_families(text) for sample in family.samples]
    return {f"{sample.name}/{sample.labels.get('outcome', '')}": sample.value for sample in samples}


@pytest.mark.parametrize(("seconds", "is_good"), [(HOUR, True), (NANOSECOND, False)])
def test_aiperf_and_the_metrics_agree_on_the_answers_and_the_good_ones(
    aiperf: Path, tmp_path: Path, seconds: float, is_good: bool
) -> None:
    config = tmp_path / "watched.toml"
    pocket = (ROOT / "configs/pocket.toml").read_text()
    config.write_text(f"{pocket}\n[serve.slo]\nfirst_token = {seconds}\nlatency = {seconds}\n")
    [port] = free_ports(1)
    command = [sys.executable, "-m", "arbiter", "serve", str(config), "--port", str(port)]
    with started([Launch("arbiter", command, {}, port, "/ready", tmp_path / "log")]) as [server]:
        bound = seconds * 1000  # AIPerf states its bounds in milliseconds
        results = profile(
            aiperf, server.launch.url, tmp_path, goodput=f"time_to_first_token:{bound} request_latency:{bound}"
        )
        metrics = counted(server.launch.url)
    good = REQUESTS if is_good else 0
    assert results["request_count"]["avg"] == REQUESTS
    assert results["good_request_count"]["avg"] == good
    assert metrics.get("arbiter_slo_answers_total/met", 0) == good
    names = ("first_chunk", "first_output", "stream")
    assert {metrics[f"arbiter_{name}_seconds_count/"] for name in names} == {REQUESTS}
    assert {"time_to_first_token", "time_to_first_output_token", "inter_token_latency"} <= results.keys()
