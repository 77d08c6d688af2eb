"""Replay and what-if replay of runs whose answers call tools."""

from collections.abc import Callable
from itertools import product
from pathlib import Path
from typing import Any

import pytest

from arbiter.config.config import Config
from arbiter.log.run import Run
from arbiter.replay.check import check
from arbiter.replay.whatif import WhatIf, what_if
from tests.arbiter.tool_runs import PROBLEMS, record_run, tool_models

Configs = Callable[..., Config]


@pytest.fixture
def record(a_config: Configs, tmp_path: Path) -> Callable[..., Run]:
    def build(**keys: Any) -> Run:
        return record_run(a_config(**keys), tmp_path / "run", tool_models())

    return build


@pytest.fixture
def replayed(a_config: Configs) -> Callable[..., WhatIf]:
    def build(run: Run, before: str, **now: Any) -> WhatIf:
        return what_if(run, a_config(run_type=before), a_config(**{"run_type": before, **now}), {})

    return build


@pytest.mark.parametrize(
    ("run_type", "record_level"),
    [*product(["draft", "target", "router", "rsd", "oracle"], ["full", "redacted"]), ("generate", "full")],
)
def test_a_run_with_calls_replays_message_by_message(
    record: Callable[..., Run], run_type: str, record_level: str
) -> None:
    verdict = check(record(run_type=run_type, log={"record": record_level}))
    assert (verdict.problems, verdict.differences) == (len(PROBLEMS), ())


def test_the_decision_about_a_call_is_replayed_under_another_threshold(
    record: Callable[..., Run], replayed: Callable[..., WhatIf]
) -> None:
    run = record(run_type="router", thresholds={"router": 0.5})
    found = replayed(run, "router", thresholds={"router": 0.3})
    assert (found.exact, found.left) == (len(PROBLEMS), ())
    assert found.replayed.accuracy == found.recorded.accuracy == 4 / 5
    assert found.replayed.call_checks == found.recorded.call_checks
    found = replayed(run, "router", thresholds={"router": 0.05})
    assert {(left.step, left.model) for left in found.left} == {(0, "target")}


def test_a_draft_that_breaks_the_rules_has_no_recorded_second_try(
    record: Callable[..., Run], replayed: Callable[..., WhatIf]
) -> None:
    found = replayed(record(run_type="router"), "router", run_type="draft")
    assert {(left.problem, left.step, left.model) for left in found.left} == {
        ("broken", 1, "draft"),
        ("stubborn", 1, "draft"),
    }
    assert found.exact == len(PROBLEMS) - 2


def test_a_draft_that_was_written_again_is_not_the_one_that_a_policy_would_have_rejected(
    record: Callable[..., Run], replayed: Callable[..., WhatIf]
) -> None:
    """In the recorded run the draft of ``stubborn`` succeeds at its second try, and that of ``broken`` never."""
    run = record(run_type="draft")
    endings = {problem.key[0]: problem.end and problem.end.finish_reason for problem in run.problems()}
    assert (endings["broken"], endings["stubborn"]) == ("failed", "tool_calls")
    found = replayed(run, "draft", run_type="random", thresholds={"random": 0.0})
    assert {(left.problem, left.step) for left in found.left} == {("broken", 1), ("stubborn", 1)}
    found = replayed(run, "draft")
    assert (found.exact, found.left) == (len(PROBLEMS), ())
