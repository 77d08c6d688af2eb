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


def test_the_table_of_policies_has_a_run_for_each_and_compares_with_chance_at_equal_rates() -> None:
    found = printed("policies.py", "--limit", "12")
    points = found["points"]
    assert set(points) == {
        "draft",
        "rsd",
        "router",
        "oracle",
        "target",
        "random at router's rate",
        "random at rsd's rate",
    }
    assert {point["problems"] for point in points.values()} == {12}
    assert points["random at router's rate"]["threshold"] == 1 - points["router"]["acceptance_rate"]


def test_batching_is_compared_problem_by_problem() -> None:
    found = printed("batching.py", "--limit", "6")
    assert found["problems"] == 6


def test_the_clients_cost_is_measured_for_both_backends_over_the_same_requests() -> None:
    found = printed("throughput.py", "--limit", "8", "--repeats", "1")
    assert {backend: reading["problems"] for backend, reading in found.items()} == {"http": 8, "openai": 8}
    assert {reading["requests"] for reading in found.values()} == {8 * 5 * 2}
    assert all(reading["cpu"] > 0 for reading in found.values())


def test_steps_are_measured_for_the_writers_and_for_the_prm() -> None:
    found = printed("steps.py", "--problems", "24")
    assert found["draft"]["*"] < found["target"]["*"]
    assert found["prm"]["auroc"] > 0.9


def test_the_logs_cost_is_measured_beside_a_ring_without_one() -> None:
    found = printed("log.py", "--problems", "8", "--repeats", "1")
    assert set(found) == {"off", "full", "redacted", "decisions"}
    assert found["off"]["bytes"] == 0 < found["decisions"]["bytes"] < found["full"]["bytes"]


def test_schedules_are_compared_in_virtual_time_and_no_two_runs_differ() -> None:
    found, again = (printed("schedules.py", "--problems", "6") for _ in range(2))
    assert found == again
    assert set(found) == {"published", "repaired", "gather", "bound", "latency", "ours"}
    assert set(found["latency"]) == {"published", "repaired", "gather", "bound"}
    for ratios in (found, found["latency"]):
        assert ratios["bound"] <= 1 < ratios["repaired"] < ratios["published"]
    assert set(found["ours"]["servers"]) == {"draft", "router", "target"}


def test_looking_ahead_hides_time_and_keeps_every_step() -> None:
    found: Any = printed("latency.py", "--problems", "3")
    assert {(one["acceptance"], one["lookahead"]) for one in found} == {
        (acceptance, lookahead) for acceptance in (0.5, 0.7, 0.9, 0.95) for lookahead in (0, 1, 2)
    }
    assert all(one["hidden"] > 0.9 for one in found if one["lookahead"])
