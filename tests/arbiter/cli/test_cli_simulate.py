"""``arbiter simulate`` as a user calls it."""

import json
import subprocess
from collections.abc import Callable

import pytest

Command = Callable[..., subprocess.CompletedProcess[str]]


@pytest.mark.slow
def test_a_row_for_each_combination_and_the_same_bytes_twice(arbiter: Command) -> None:
    options = ("--problems", "8", "--concurrency", "1,8", "--lookahead", "0,auto", "--acceptance", "0.5,0.9", "--json")
    first, second = (arbiter("simulate", "pocket", *options) for _ in range(2))
    assert first.returncode == 0, first.stderr
    assert first.stdout == second.stdout
    found = json.loads(first.stdout)
    cases = [
        (row["case"]["concurrency"], row["case"]["lookahead"], row["case"]["acceptance"]) for row in found["cases"]
    ]
    assert cases == [(n, depth, rate) for n in (1, 8) for depth in (0, "auto") for rate in (0.5, 0.9)]
    assert "not measured" in found["assumptions"][0]


def test_tables_for_people_end_with_what_was_assumed(arbiter: Command) -> None:
    ended = arbiter("simulate", "pocket", "--problems", "8", "--target", "70B@4xA100", "--run-type", "rsd")
    assert ended.returncode == 0, ended.stderr
    assert "bottleneck" in ended.stdout
    *_, servers, workload, _ = ended.stdout.strip().splitlines()
    assert "target 70B on 4 × A100" in servers
    assert "synthetic, not recorded: 8 problems" in workload


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (("--gpu", "H900"), "unknown GPU 'H900'; known: A100, H100"),
        (("--target", "70B"), "70B on H100: 141 GB of weights do not fit"),
        (("--block", "0"), "--block 0: write numbers from 1 to 64"),
        (("--block", "4", "--lookahead", "0,1"), "--block: a block drafts steps ahead by itself; set --lookahead 0"),
        (("--acceptance", "2"), "--acceptance 2: write numbers from 0 to 1"),
        (("--run-type", "target", "--acceptance", "0.5"), "the run type 'target' uses one model only"),
        (("--verify", "perhaps"), "--verify perhaps: write auto, on, off"),
    ],
)
def test_what_cannot_be_simulated_is_told_in_a_line(arbiter: Command, options: tuple[str, ...], message: str) -> None:
    ended = arbiter("simulate", "pocket", *options)
    assert ended.returncode == 2
    assert message in ended.stderr
    assert "Traceback" not in ended.stderr
