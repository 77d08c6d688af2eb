"""The commands of the benchmarks, on a few problems."""

import json
import os
import subprocess
import sys
from importlib import import_module
from pathlib import Path
from typing import Any
from unittest.mock import patch

import cyclopts
import pytest
from msgspec.structs import replace

from arbiter.protocols.errors import ConfigError
from arbiter.protocols.records import Author, Candidate, Solution, StepRecord, Usage
from arbiter.runs.results import summarise
from arbiter.servers.interpreters import find_interpreter, likely_interpreter
from arbiter.servers.plan import plan
from tests.command_line import call
from tests.servers.starting import free_ports

pytestmark = pytest.mark.slow

BENCHMARKS = Path(__file__).parent.parent / "benchmarks"


def called(name: str, *options: str) -> subprocess.CompletedProcess[str]:
    """Run a benchmark as its file does, in this process: the models and their libraries are imported once."""
    app = cyclopts.App(default_command=load(name.removesuffix(".py")).main, result_action="return_value")
    return call(app, *options)


def printed(name: str, *options: str) -> Any:
    ended = called(name, *options, "--json")
    assert ended.returncode == 0, ended.stderr
    return json.loads(ended.stdout)


def refused(name: str, *options: str) -> str:
    """What a benchmark prints that refuses to run."""
    ended = called(name, *options)
    assert ended.returncode == 2
    return " ".join(ended.stderr.split())


def load(name: str) -> Any:
    """Import a benchmark as a module; it finds the modules next to it as it does when it is run."""
    with patch.object(sys, "path", [str(BENCHMARKS), *sys.path]):
        return import_module(name)


def solution(*steps: tuple[Author, str]) -> Solution:
    records = (StepRecord((Candidate(author, text, "separator", Usage(1, 1), 1.0),), 0) for author, text in steps)
    return Solution("p", "q", tuple(records), "answered", 1.0, {})


def test_honest_clients_are_answered_and_slow_and_silent_ones_closed_and_no_fuzzed_request_fails() -> None:
    numbers = ["--silent", "30", "--slow", "10", "--honest", "10", "--pause", "0.05", "--fuzzed", "500"]
    told = printed("clients.py", *numbers, "--patience", "1", "--head", "1")
    crowd, fuzzing = told["crowd"], told["fuzzing"]
    assert (crowd["answered"], crowd["silent_closed"], crowd["slow_closed"]) == (10, 30, 10)
    assert sum(fuzzing["statuses"].values()) == 500
    assert [status for status in fuzzing["statuses"] if int(status) >= 500] == []
    for state in (crowd["after"], fuzzing["after"]):
        assert (state["connections"], state["problems"], state["running"]) == (0, 0, 0)


def test_a_server_with_faults_loses_no_problem_and_changes_no_transcript_silently() -> None:
    told = printed("faults.py", "--steps", "300", "--share", "0.4")
    assert told["steps"] >= 300
    assert len(told["faults"]) > 15
    assert (told["lost"], told["different"], told["unexplained"], told["believed"]) == ([], [], {}, [])


def test_a_run_with_faults_passes_only_if_nothing_is_lost_different_unexplained_or_believed() -> None:
    faults, server = load("faults"), load("faulty_server")
    right = faults.Ended("answered", "a", 3, None)
    failed = faults.Ended("failed", "", 1, "drafter: http://h answered 400: bad seed. The server …")
    clean = faults.Outcome({"0": [right], "1": [right]}, 50.0, server.Sent(0, {}, {}))

    def compared(second: Any, hopeless: dict[str, list[str]], memory: float = 50.0) -> Any:
        ended = {"0": [right], "1": second}
        return faults.compare(clean, faults.Outcome(ended, memory, server.Sent(9, {}, hopeless)), 2)

    refused = {"1": ["a refusal"]}
    assert compared([right], {}).passed
    assert compared([failed], refused).passed
    wrong = {
        "lost": compared([], {}),
        "different": compared([replace(right, digest="b")], {}),
        "unexplained": compared([failed], {"1": ["a page"]}),
        "believed": compared([right], refused),
    }
    for name, measured in wrong.items():
        assert [*getattr(measured, name)] == ["1"]
        assert not measured.passed
    assert not compared([right, right], {}).passed
    assert not compared([right], {}, memory=56.0).passed


def test_nothing_is_lost_paid_twice_or_different_after_kills() -> None:
    command = [sys.executable, BENCHMARKS / "kills.py", "--kills", "20", "--only", "bench,sweep,serve", "--json"]
    ended = subprocess.run(command, capture_output=True, text=True, timeout=300, check=False)
    assert ended.returncode == 0, ended.stderr
    found = json.loads(ended.stdout)
    assert sum(one["kills"] for one in found.values()) in range(18, 23)
    for one in found.values():
        assert (one["lost"], one["twice"], one["different"], one["failures"]) == (0, 0, 0, 0)


@pytest.mark.nightly
def test_batching_is_compared_problem_by_problem() -> None:
    found = printed("batching.py", "--limit", "6")
    assert found["problems"] == 6


def test_the_clients_cost_is_measured_for_both_backends_over_the_same_requests() -> None:
    found = printed("throughput.py", "--limit", "8", "--repeats", "1", "--requests", "64")
    backends: dict[str, Any] = found["backends"]
    assert {backend: reading["problems"] for backend, reading in backends.items()} == {"http": 8, "openai": 8}
    assert {reading["requests"] for reading in backends.values()} == {8 * 5 * 2}
    assert all(reading["cpu"] > 0 for reading in backends.values())
    transports: dict[str, Any] = {row["transport"]: row for row in found["transports"]}
    assert (list(transports), transports["aiohttp"]["ratio"]) == (["aiohttp", "plain", "openai"], 1)
    assert all(row["cpu"] > 0 for row in transports.values())


@pytest.mark.nightly
def test_steps_are_measured_for_the_writers_and_for_the_prm() -> None:
    found = printed("steps.py", "--problems", "96")
    assert found["draft"]["*"] < found["target"]["*"]
    assert found["prm"]["auroc"] > 0.9


def test_the_logs_cost_is_measured_beside_a_ring_without_one() -> None:
    found = printed("log.py", "--problems", "8", "--repeats", "1")
    assert set(found) == {"off", "full", "redacted", "decisions"}
    assert found["off"]["bytes"] == 0 < found["decisions"]["bytes"] < found["full"]["bytes"]
    assert found["off"]["checksums"] == 0 < found["full"]["checksums"] < 1


@pytest.mark.nightly
def test_the_rings_cost_is_measured_beside_a_bare_loop_with_the_same_requests() -> None:
    found = printed("overhead.py", "--problems", "6", "--repeats", "1", "--most", "10")
    assert set(found["http"]) == {"loop", "off", "on", "off_ratio", "on_ratio"}
    assert [one["problems"] for one in found["in_process"]] == [1, 10]
    assert all(one["cpu"] > 0 and one["text"] > 0 for one in found["in_process"])


@pytest.mark.nightly
def test_the_cost_of_a_step_is_compared_with_that_of_another_checkout() -> None:
    options = ["--before", str(BENCHMARKS.parent), "--rounds", "1"]
    found = printed("step_costs.py", *options, "--problems", "20", "--in-flight", "1", "--over-http", "6")
    waiting = ["waiting, log off", "waiting, log on"]
    http = ["HTTP, plain loop", "HTTP, log off", "HTTP, log on"]
    assert [one["name"] for one in found] == [
        "1 in flight", "64 in flight, log", *waiting, *http, "bytes", "show", "replay"
    ]  # fmt: skip
    assert all(one["here"] > 0 and one["before"] > 0 and one["ratio"] > 0 for one in found)


@pytest.mark.slow
def test_chosen_parts_of_the_cost_of_a_step_are_compared_alone() -> None:
    options = ["--before", str(BENCHMARKS.parent), "--rounds", "1"]
    found = printed("step_costs.py", *options, "--only", "show", "--only", "log", "--problems", "20")
    assert [one["name"] for one in found] == ["bytes", "show"]


def test_schedules_are_compared_in_virtual_time_and_no_two_runs_differ() -> None:
    found, again = (printed("schedules.py", "--problems", "6") for _ in range(2))
    assert found == again
    others = {"published", "repaired", "gather", "plain", "one by one", "listed", "listed, grouped"}
    assert set(found) == others | {"latency", "best_known", "schedules"}
    assert set(found["latency"]) == others
    for ratios in (found, found["latency"]):
        assert 1 < ratios["repaired"] < ratios["published"]
    assert min(1, *(found[name] for name in others)) == found.get(found["best_known"], 1)
    assert set(found["schedules"]) == others | {"ours"}
    for each in found["schedules"].values():
        assert set(each["servers"]) == {"draft", "router", "target"}
        assert all(0 < load["passes"] <= load["requests"] for load in each["servers"].values())


def test_gathering_is_compared_with_none_over_the_same_steps() -> None:
    held, none = (called("gathering.py", "--problems", "12", "--seconds", seconds) for seconds in ("0.03", "0"))
    assert held.returncode == none.returncode == 0, held.stderr
    figures = [dict(line.split(": ", 1) for line in each.stdout.splitlines()[:4]) for each in (held, none)]
    assert int(figures[0]["held"]) > int(figures[1]["held"]) == 0
    assert (figures[1]["makespan"], figures[1]["mean latency"]) == ("1.00", "1.00")


def test_blocks_keep_the_same_steps_with_at_most_half_of_the_requests_at_high_acceptance() -> None:
    rows = printed("blocks.py", "--problems", "12", "--acceptance", "0.9", "--block", "1,4")
    alone, together = rows
    assert (alone["block"], together["block"]) == (1, 4)
    assert together["scores"] <= alone["scores"] / 2
    assert together["requests"] <= alone["requests"] / 2


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


def test_a_run_is_compared_with_both_models_alone_with_many_problems_and_with_one_in_flight() -> None:
    found: Any = printed("routing.py", "--problems", "3", "--single", "2", "--rounds", "2")
    names = ["draft alone", "router", "target alone"]
    assert [(row["in_flight"], row["problems"], row["name"]) for row in found] == [
        *((64, 3, name) for name in names),
        *((1, 2, name) for name in names),
    ]
    for draft, router, target in (found[:3], found[3:]):
        assert (draft["token_share"], target["token_share"]) == (0, 1)
        assert router["token_share"] is not None
        assert (target["wall_ratio"], target["cpu_ratio"], target["agrees"]) == (1, 1, True)


def test_the_ratios_of_routing_are_those_within_a_round_and_their_median_counts() -> None:
    routing = load("routing")
    of_round = {"draft alone": (1.0, 1.0, 1.0), "router": (1.0, 5.0, 2.0), "target alone": (2.0, 30.0, 3.0)}
    found = {
        name: [summarise([], "router", 0.5, wall_seconds=seconds) for seconds in rounds]
        for name, rounds in of_round.items()
    }
    timed = {name: [replace(one, cpu_seconds=one.wall_seconds) for one in each] for name, each in found.items()}
    row = routing.row("router", 64, timed)
    assert (row.wall, row.wall_ratio, row.cpu_ratio) == (2.0, 2.0, 2.0)
    assert (row.accuracy, row.agrees, row.token_share) == (None, None, None)
    assert routing.table([row]).count("\n") == 3


def test_a_router_over_random_weights_is_compared_with_the_target_in_each_variant() -> None:
    found = printed("gpu.py", "--pair", "tiny", "--in-flight", "4", "--steps", "2")
    gpu = load("gpu")
    cells = {(cell["variant"], cell["acceptance"]): cell for cell in found["cells"]}
    variants = {variant.name: variant for variant, _ in gpu.CELLS}
    assert list(cells) == [(one.name, accepted) for one, accepted in gpu.CELLS]
    for (name, accepted), cell in cells.items():
        variant = variants[name]
        assert cell["ratio"] == found["target"]["4"] / cell["seconds"]
        assert abs(cell["accepted"] - accepted) < 0.2
        assert (cell["reused"] > 0) == variant.keeps
        assert (cell["ahead"] > 0) == (variant.lookahead > 0)
        assert (cell["matched"] > 0) == (variant.verify == "on" and cell["accepted"] < 1)
        assert not cell["held"] or variant.gathers
    assert cells["gathering", 0.7]["held"] > 0
    assert found["checks"]["variants"] == {"no KV kept": 0, "gathering": 0, "drafting ahead": 0}
    assert [speed["model"] for speed in found["speeds"]] == ["tiny draft", "tiny target"]
    assert found["left_out"] == []


def test_a_sweep_is_compared_with_separate_runs_that_were_made() -> None:
    found = printed("sweep.py", "--limit", "2", "--thresholds", "0:1:0.5", "--problems", "3")
    assert set(found) == {"pocket", "routed", "uniform"}
    for one in found.values():
        assert one["points"] == 3
        assert one["made"]["requests"] == round(one["of_separate"] * one["separate"]["requests"])
        assert 1 / 3 < one["of_separate"] < 1 <= one["of_most"]


def test_a_server_that_no_run_asks_is_not_killed() -> None:
    assert "draft never calls target" in refused("servers.py", "--run-types", "draft", "--kill", "target")


def test_a_run_type_or_a_lookahead_that_does_not_exist_is_refused_before_a_server_starts() -> None:
    assert "run_type" in refused("servers.py", "--run-types", "router,rooter")
    assert "--lookahead" in refused("servers.py", "--lookahead", "far")


def test_the_servers_of_the_pocket_models_stand_at_consecutive_ports() -> None:
    fleets = load("fleets")
    config = fleets.behind_servers(fleets.load_config("pocket"), 4000, {"target": {"verifies": "sglang"}})
    tables = config.models.configured()
    assert [table.url for table in tables.values()] == [f"http://127.0.0.1:{4000 + index}" for index in range(4)]
    assert [name for name, table in tables.items() if table.verifies] == ["target"]


def test_a_transcript_is_another_one_if_a_step_has_another_text_or_another_author() -> None:
    here = {
        "same": solution(("draft", "1")),
        "text": solution(("draft", "1"), ("draft", "2")),
        "author": solution(("draft", "1")),
        "missing": solution(("draft", "1")),
    }
    there = {
        "same": solution(("draft", "1")),
        "text": solution(("draft", "1"), ("draft", "3")),
        "author": solution(("target", "1")),
    }
    assert load("fleets").differing(here, there) == ["text", "author", "missing"]


def test_a_cache_is_judged_by_what_happened_between_two_looks() -> None:
    before = {"draft": (10.0, 100.0), "prm": (5.0, 5.0), "target": (90.0, 100.0)}
    after = {"draft": (60.0, 200.0), "prm": (5.0, 5.0), "target": (10.0, 40.0)}  # the target was restarted
    assert load("fleets").hit_rates(before, after) == {"draft": 0.5, "target": 0.25}


def test_a_transcript_that_differs_is_told_with_both_steps_and_why_they_were_kept() -> None:
    servers = load("servers")
    kept = servers.KeptStep("draft", "a", "kept: ŷ = 0.5 ≤ τ = 0.5")
    row = servers.Row(
        run_type="router",
        place="sglang",
        problems=2,
        failed=0,
        accuracy=0.5,
        seconds=1.0,
        steps=4,
        requests={"draft": 1.0},
        caches={},
        hit_rates={"draft": 0.5},
        lookahead=servers.LookaheadStats(3, 2),
        cancelled=1,
        retries={"target": 7},
        limits={"draft": servers.Moves(2, 16)},
        different=["p1", "p2"],
        divergences=[servers.FirstDifference("p1", 0, 1, kept, None)],
    )
    text = servers.table([row])
    assert "3 / 2 / 1" in text
    assert "draft 2 (16)" in text
    assert "p1 differs from step 2 on" in text
    assert "draft: 'a' (kept: ŷ = 0.5 ≤ τ = 0.5)" in text
    assert "p2 has the same steps by different authors" in text


def test_a_configuration_that_does_not_speculate_in_its_engine_has_nothing_to_compare() -> None:
    assert "[models.target.server.speculation]" in refused("speculation.py", "llama3-1b-8b")


def test_the_plain_configuration_neither_speculates_nor_has_other_problems() -> None:
    both = refused("speculation.py", "llama3-1b-8b-eagle3", "--plain", "llama3-1b-8b-eagle3")
    assert "target speculates as well" in both
    assert "data differs between" in refused("speculation.py", "llama3-1b-8b-eagle3", "--plain", "pocket-sglang")


@pytest.mark.parametrize("plain", [None, "llama3-1b-8b"])
def test_two_configurations_are_compared_that_differ_in_the_engines_speculation(plain: str | None) -> None:
    speculation = load("speculation")
    without, speculating = speculation.chosen("llama3-1b-8b-eagle3", plain, 0)
    assert speculation.speculation_of(without) is None
    assert speculation.speculation_of(speculating).algorithm == "EAGLE3"
    assert without.data == speculating.data


def test_the_pocket_draft_proposes_inside_the_targets_server_alone() -> None:
    _, speculating = load("speculation").chosen(None, None, 4100)
    launches = plan(speculating, "pocket", likely_interpreter).launches
    assert [one.name for one in launches if "--speculative-config" in one.command] == ["target"]


def test_tokens_a_step_are_what_each_engine_tells_of_them() -> None:
    decoding_of = load("speculation").decoding_of
    metrics = (
        "# HELP vllm:spec_decode_num_drafts_total\n"
        'vllm:generation_tokens_total{engine="0"} 60.0\n'
        'vllm:spec_decode_num_drafts_total{engine="0"} 19.0\n'
        'vllm:spec_decode_num_drafts_created{engine="0"} 1.8e9\n'
        'vllm:spec_decode_num_accepted_tokens_total{engine="0"} 38.0\n'
        'vllm:spec_decode_num_accepted_tokens_per_pos_total{engine="0",position="0"} 16.0\n'
    )
    vllm = decoding_of("vllm", metrics, {}, True)
    assert (vllm.written, vllm.a_step) == (60, 3)
    sglang = decoding_of("sglang", "", {"internal_states": [{"avg_spec_accept_length": 2.5}]}, True)
    assert sglang.a_step == 2.5
    assert decoding_of("sglang", "", {"internal_states": [{}]}, True).a_step is None
    assert decoding_of("sglang", "sglang:generation_tokens_total 7", {}, False).a_step == 1


def test_replicas_are_told_together_by_their_passes() -> None:
    speculation = load("speculation")
    replicas = [speculation.Decoding(90, 3.0), speculation.Decoding(30, 1.0), speculation.Decoding(0, None)]
    assert speculation.together(replicas) == speculation.Decoding(120, 2.0)
    assert speculation.together([]) is None


def test_gains_are_told_apart_and_together() -> None:
    speculation = load("speculation")
    rows = [
        speculation.Row(kind, inside, 1, 0, 1.0, latency, latency, {}, {}, None, 0 if inside else None)
        for kind, inside, latency in (
            ("target", False, 12.0),
            ("target", True, 6.0),
            ("router", False, 4.0),
            ("router", True, 3.0),
        )
    ]
    found = speculation.gains(rows)
    assert (found.step, found.token, found.both, found.product) == (3, 2, 4, 6)
    text = speculation.table(speculation.Found(rows, found))
    assert "step-level alone 3.00, token-level alone 2.00, both 4.00 (product 6.00)" in text
    assert speculation.table(speculation.Found(rows, None)).count("\n") == 5


def sglang_is_here() -> bool:
    try:
        return bool(find_interpreter("sglang"))
    except ConfigError:
        return False


@pytest.mark.skipif(
    os.environ.get("ARBITER_TEST_SERVERS") != "all" or not sglang_is_here(),
    reason="not in the core: run just test-servers, with sglang (just sglang-env)",
)
def test_a_server_that_is_killed_in_the_middle_costs_no_problem_and_changes_no_transcript() -> None:
    port = str(free_ports(1)[0])
    options = "--limit", "6", "--concurrency", "6", "--kill", "target", "--port", port
    rows: Any = printed("servers.py", *options)
    assert [row["place"] for row in rows][:2] == ["in process", "sglang"]
    assert all(row["failed"] == 0 and row["different"] == [] for row in rows)
    assert rows[-1]["killed"]["starts"] == 2
    assert rows[-1]["retries"]["target"] > 0


def test_the_grader_is_measured_on_pairs_next_to_the_library_alone_and_next_to_a_busy_process(tmp_path: Path) -> None:
    pairs = tmp_path / "pairs.txt"
    pairs.write_text("[case]\nwrong n ← N\nright n ← n\n\n# a remark\n[e]\nright 1000 ← 1e3\n", encoding="utf-8")
    found = printed("grading.py", "--pairs", str(pairs), "--data", str(tmp_path / "none"), "--busy", "1")
    case, exponent = (
        {"kind": "case", "right": 1, "wrong": 1, "failed": 0},
        {"kind": "e", "right": 1, "wrong": 0, "failed": 0},
    )
    assert found["arbiter"] == [case | {"found": 1, "false_right": 0}, exponent | {"found": 1, "false_right": 0}]
    assert found["math_verify"] == [case | {"found": 1, "false_right": 1}, exponent | {"found": 0, "false_right": 0}]
    assert (found["data"], found["ratio"], found["changed_by_load"]) == ({}, None, [0, 3])
    assert found["milliseconds"]["this checkout"] >= 0


def test_a_drafted_call_that_breaks_its_schema_costs_the_time_of_the_target_on_top() -> None:
    calls = load("call_times")
    world = calls.CallWorkload(12, 1.0, steps=calls.TURNS["the call alone"], invalid=0.0)
    router, alone = calls.RUNS["router"], calls.RUNS["target alone"]
    kept, written, broken = (
        calls.times(each, policy, 1)[0]
        for each, policy in ((world, router), (world, alone), (replace(world, invalid=1.0), router))
    )
    assert kept < written < broken
