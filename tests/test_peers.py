"""The loops that ``benchmarks/peers.py`` compares the ring with."""

import os
import sys
from pathlib import Path
from typing import Any

import anyio
import pytest

from arbiter.backends.prompts import prompt_template
from arbiter.protocols.records import Step, Transcript
from tests.test_benchmarks import BENCHMARKS, load, printed


def frameworks() -> Path:
    return Path(os.environ.get("ARBITER_FRAMEWORKS_PYTHON", BENCHMARKS.parent / ".frameworks/bin/python"))


@pytest.mark.nightly
def test_the_ring_is_compared_with_loops_of_users_over_the_same_requests() -> None:
    options = "--problems", "4", "--rounds", "1", "--in-flight", "3", "--python", str(frameworks())
    found: Any = printed("peers.py", *options)
    clients = [row["client"] for row in found["costs"]]
    assert clients[:2] == ["ours", "openai"]
    assert sorted(clients[1:] + found["left_out"]) == ["inspect_ai", "litellm", "openai"]
    assert found["costs"][0]["ratio"] == 1
    assert all(row["cpu"] > 0 for row in found["costs"])
    longest = max(load("fixed_server").chain_seconds(number) for number in range(3))
    assert found["walls"]["chain"] == longest < min(found["walls"]["ours"], found["walls"]["loop"])


@pytest.mark.slow  # imports the command line
def test_a_client_that_is_installed_nowhere_is_named() -> None:
    peers = load("peers")
    cost, walls = peers.Cost("ours", 1.0, 1.0), peers.Walls(2.0, 2.0, 1.0, 1.0, 2.0)
    text = peers.tables(peers.Found([cost], walls, ["litellm"]))
    assert "Left out, because it is not installed: litellm (just frameworks-env)" in text
    assert peers.interpreter_with("no_such_package", [Path(sys.executable), Path("nowhere")]) is None


def test_the_loops_of_users_read_what_the_rings_models_read() -> None:
    loops = load("peer_loops")
    transcript = Transcript("1 + 1?", (Step("It is 2.", "draft"), Step("So 2.", "target")))
    rendered = prompt_template("qwen2.5-math", False, "").render(transcript, "\n\n")
    assert rendered == loops.prompt("1 + 1?", ["It is 2.", "So 2."])


def test_a_loop_of_a_user_lets_the_target_write_the_steps_with_low_scores() -> None:
    loops, written = load("peer_loops"), list[str]()

    async def write(model: str, question: str, steps: list[str]) -> str:
        written.append(model)
        return "\\boxed{2}" if len(steps) == 2 else f"{question} {len(steps)} {model}"

    async def rate(text: str) -> float:
        return -2.0 if text.endswith("q 1 draft\n\n") else 2.0

    steps = anyio.run(loops.solve, loops.Client(write, rate), "q")
    assert steps == ["q 0 draft", "q 1 target", "\\boxed{2}"]
    assert written == ["draft", "draft", "target", "draft"]
