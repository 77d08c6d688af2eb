"""The benchmarks' own commands, on a few problems."""

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

BENCHMARKS = Path(__file__).parent.parent / "benchmarks"


def printed(name: str, *options: str) -> dict[str, Any]:
    command = [sys.executable, str(BENCHMARKS / name), *options, "--json"]
    done = subprocess.run(command, capture_output=True, text=True, check=True, timeout=300)
    return json.loads(done.stdout)


def test_batching_is_compared_problem_by_problem() -> None:
    found = printed("batching.py", "--limit", "6")
    assert found["problems"] == 6


def test_the_clients_cost_is_measured_for_both_backends_over_the_same_requests() -> None:
    found = printed("throughput.py", "--limit", "8", "--repeats", "1")
    assert {backend: reading["problems"] for backend, reading in found.items()} == {"http": 8, "openai": 8}
    assert {reading["requests"] for reading in found.values()} == {8 * 5 * 2}
    assert all(reading["cpu"] > 0 for reading in found.values())


def test_steps_are_measured_for_the_writers_and_for_the_prm() -> None:
    found = printed("steps.py", "--problems", "96")
    assert found["draft"]["*"] < found["target"]["*"]
    assert found["prm"]["auroc"] > 0.9


def test_the_logs_cost_is_measured_beside_a_ring_without_one() -> None:
    found = printed("log.py", "--problems", "8", "--repeats", "1")
    assert set(found) == {"off", "full", "redacted", "decisions"}
    assert found["off"]["bytes"] == 0 < found["decisions"]["bytes"] < found["full"]["bytes"]


def test_the_rings_cost_is_measured_beside_a_bare_loop_with_the_same_requests() -> None:
    found = printed("overhead.py", "--problems", "6", "--repeats", "1", "--most", "10")
    assert set(found["http"]) == {"loop", "off", "on", "off_ratio", "on_ratio"}
    assert [one["problems"] for one in found["in_process"]] == [1, 10]
    assert all(one["cpu"] > 0 and one["text"] > 0 for one in found["in_process"])


def test_schedules_are_compared_in_virtual_time_and_no_two_runs_differ() -> None:
    found, again = (printed("schedules.py", "--problems", "6") for _ in range(2))
    assert found == again
    assert set(found) == {"published", "repaired", "gather", "plain", "bound", "latency", "ours"}
    assert set(found["latency"]) == {"published", "repaired", "gather", "plain", "bound"}
    for ratios in (found, found["latency"]):
        assert ratios["bound"] <= 1 < ratios["repaired"] < ratios["published"]
    assert set(found["ours"]["servers"]) == {"draft", "router", "target"}


def test_latency_is_compared_with_each_speculation_on_and_off() -> None:
    options = "--problems", "3", "--acceptance", "0.5,0.9"
    found: Any = printed("latency.py", *options)
    readings = {(one["acceptance"], one["schedule"]): one for one in found}
    schedules = "sequential", "ahead", "verified", "both", "auto"
    assert list(readings) == [(acceptance, schedule) for acceptance in (0.5, 0.9) for schedule in schedules]
    for (_, schedule), one in readings.items():
        assert (one["ratio"] < 1) == (schedule != "sequential")
        assert (one["hits"] > 0) == (one["wasted_tokens"] > 0) == (schedule in ("ahead", "both", "auto"))
        assert (one["agreed"] > 0) == (schedule in ("verified", "both", "auto"))
        assert one["hidden"] is None or 0.9 < one["hidden"] < 1.01


def test_where_nothing_agrees_the_scores_of_accepted_steps_are_all_that_is_hidden() -> None:
    options = "--problems", "3", "--acceptance", "0.9", "--agreeing", "0,0", "--lookahead"
    one, two = (printed("latency.py", *options, depth) for depth in ("1", "2"))
    (sequential, ahead, *_), deeper = list[Any](one), list[Any](two)[1]
    assert ahead["latency"] == deeper["latency"] < sequential["latency"]
    assert ahead["wasted_tokens"] < deeper["wasted_tokens"]


def test_matches_are_measured_where_drafts_are_rejected() -> None:
    found: Any = printed("matches.py", "--limit", "6")
    assert {one["run_type"] for one in found} == {"router", "rsd"}
    for one in found:
        assert one["deciles"] == sorted(one["deciles"])
        assert 0 <= one["same"] <= one["mean"] <= 1


def test_real_models_are_compared_with_the_target_and_servers_are_left_out_where_there_are_none() -> None:
    found = printed("models.py", "--limit", "1", "--repeats", "1", "--python", "nowhere")
    rows = {row["name"]: row for row in found["rows"]}
    assert set(rows) == {"target", "draft", "rsd", "router", "router, ahead", "router, verified", "router, both"}
    assert rows["target"]["wall"] == rows["target"]["latency"] == 1
    assert [row["differing"] for row in rows.values()] == [None] * 4 + [0] * 3
    assert "nowhere" in found["skipped"]


def test_a_sweep_is_compared_with_separate_runs_that_were_made() -> None:
    found = printed("sweep.py", "--limit", "2", "--thresholds", "0:1:0.5", "--problems", "3")
    assert set(found) == {"pocket", "routed", "uniform"}
    for one in found.values():
        assert one["points"] == 3
        assert one["made"]["requests"] == round(one["of_separate"] * one["separate"]["requests"])
        assert 1 / 3 < one["of_separate"] < 1 <= one["of_most"]
