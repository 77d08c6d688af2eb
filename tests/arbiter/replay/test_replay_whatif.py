"""What-if replay: other policies and settings, and problems that diverge from the recording."""

from collections.abc import Callable
from typing import Any

import pytest

from arbiter.actors.policies import ConfidenceThreshold, LearnedRouter, Oracle, RewardThreshold
from arbiter.actors.ring_setup import Models
from arbiter.backends.scripted import ScriptedGenerator, ScriptedScorer
from arbiter.config.config import Config, parse
from arbiter.log.run import Run
from arbiter.protocols.errors import BackendError, RunError
from arbiter.protocols.messages import Task
from arbiter.protocols.policy import Policy
from arbiter.protocols.ports import Generation, GenerationRequest, ModelHandle, ScoreRequest
from arbiter.protocols.records import Transcript, Usage
from arbiter.replay.policy_comparison import compare_decisions
from arbiter.replay.whatif import WhatIf, what_if
from tests.changed_logs import changed_log

Recording = Callable[..., Run]
STEPS, PROBLEMS = 3, 8
SECONDS = 0.01


def write(request: GenerationRequest) -> Generation:
    end = request.step == STEPS - 1
    text = f"\\boxed{{{request.author}}}" if end else f"{request.author} step {request.step}"
    sure = 0.75 if request.confidence else None
    return Generation(text, "end" if end else "separator", Usage(5, 3), confidence=sure)


def rate(request: ScoreRequest) -> float:
    """Drafts score 0.1, 0.4 and 0.7 at the three steps. The target scores 0.6."""
    return 0.6 if request.author == "target" else 0.1 + 0.3 * request.step


def models(write_step: Callable[[GenerationRequest], Generation] = write) -> Models:
    generator, scorer = ScriptedGenerator(write_step, SECONDS), ScriptedScorer(rate)
    return Models(
        draft=ModelHandle(generator),
        target=ModelHandle(generator),
        scorers={"prm": ModelHandle(scorer), "router": ModelHandle(scorer)},
    )


def tasks(policy: Policy) -> list[Task]:
    return [Task(f"p{n}", Transcript(f"question {n}"), policy) for n in range(PROBLEMS)]


def config(**changes: Any) -> Config:
    table = {"backend": "transformers", "model": "m", "prompt": "plain"}
    names = ("draft", "target", "prm", "router")
    return parse({"models": dict.fromkeys(names, table), **changes}, "test")


def replayed_under(run: Run, before: Config, now: Config, **speeds: float) -> WhatIf:
    return what_if(run, before, now, speeds)  # pyright: ignore[reportArgumentType] - names of models


def test_a_rule_that_decides_as_the_run_did_is_answered_exactly(record: Recording) -> None:
    run = record(models(), tasks(RewardThreshold(0.5)))
    found = replayed_under(run, config(run_type="rsd"), config(run_type="rsd", thresholds={"rsd": 0.6}))
    assert (found.exact, found.left, found.unfinished) == (PROBLEMS, (), 0)
    assert found.replayed.acceptance_rate == found.recorded.acceptance_rate == 1 / 3


def test_a_step_that_was_not_rejected_has_no_answer_of_the_target(record: Recording) -> None:
    run = record(models(), tasks(RewardThreshold(0.5)))
    found = replayed_under(run, config(run_type="rsd"), config(run_type="rsd", thresholds={"rsd": 0.8}))
    assert found.exact == 0
    assert {(left.step, left.model) for left in found.left} == {(2, "target")}


def test_a_step_that_is_kept_instead_leads_out_of_the_recording(record: Recording) -> None:
    run = record(models(), tasks(RewardThreshold(0.5)))
    found = replayed_under(run, config(run_type="rsd"), config(run_type="rsd", thresholds={"rsd": 0.2}))
    assert {(left.step, left.model) for left in found.left} == {(2, "draft")}


def test_a_scorer_that_was_not_asked_has_no_answers(record: Recording) -> None:
    run = record(models(), tasks(RewardThreshold(0.5)))
    found = replayed_under(run, config(run_type="rsd"), config(run_type="router"))
    assert {(left.step, left.model) for left in found.left} == {(0, "router")}


def test_an_oracle_recording_answers_the_threshold_that_decides_alike(record: Recording) -> None:
    """The oracle kept the target if the draft scored below 0.6, like a threshold of 0.5."""
    run = record(models(), tasks(Oracle(0.0)))
    found = replayed_under(run, config(run_type="oracle"), config(run_type="rsd", thresholds={"rsd": 0.5}))
    assert (found.exact, found.left) == (PROBLEMS, ())
    assert (found.recorded.target_calls, found.replayed.target_calls) == (PROBLEMS * STEPS, PROBLEMS * 2)


def paced(allowance: int) -> Config:
    pacing = {"score": "prm", "unit": "escalations", "steps": STEPS, "allowance": allowance}
    return config(run_type="paced", pacing=pacing)


def test_a_decision_uses_the_history_of_the_replay_and_not_that_of_the_run(record: Recording) -> None:
    """The risks are 0.9, 0.6 and 0.3. Of two risks above the threshold, one escalation pays for the first."""
    run = record(models(), tasks(RewardThreshold(0.2)))  # escalated the first step alone
    found = replayed_under(run, config(run_type="rsd", thresholds={"rsd": 0.2}), paced(1))
    assert (found.exact, found.left) == (PROBLEMS, ())
    assert found.replayed.escalations == PROBLEMS
    more = replayed_under(run, config(run_type="rsd", thresholds={"rsd": 0.2}), paced(9))
    assert {(left.step, left.model) for left in more.left} == {(1, "target")}


def test_what_the_history_lacks_in_an_earlier_run_leaves_that_problem_alone(record: Recording) -> None:
    run = record(models(), [*tasks(RewardThreshold(0.5))[:2], *tasks(ConfidenceThreshold(0.5))[2:4]])
    found = replayed_under(run, config(run_type="rsd"), config(run_type="trigger", trigger={"first": 0}))
    assert {(left.problem, left.step, left.model) for left in found.left if left.step == 0} == {
        ("p0", 0, "draft"),
        ("p1", 0, "draft"),
    }


def test_times_are_told_only_if_no_problem_left(record: Recording) -> None:
    run = record(models(), tasks(RewardThreshold(0.5)))
    same = replayed_under(run, config(run_type="rsd"), config(run_type="rsd", thresholds={"rsd": 0.5}))
    other = replayed_under(run, config(run_type="rsd"), config(run_type="router"))
    assert same.replayed.wall_seconds is not None
    assert same.replayed.latency.mean is not None
    assert (other.replayed.wall_seconds, other.replayed.latency.mean) == (None, None)


def test_a_slower_server_takes_its_time_and_fewer_problems_at_once_add_up(record: Recording) -> None:
    run = record(models(), tasks(LearnedRouter(1.0)), concurrency=PROBLEMS)
    rules = {"run_type": "router", "thresholds": {"router": 1.0}}
    fast = replayed_under(run, config(**rules), config(**rules)).replayed.wall_seconds or 0.0
    slow = replayed_under(run, config(**rules), config(**rules), draft=0.5).replayed.wall_seconds or 0.0
    single = replayed_under(run, config(**rules), config(**rules, limits={"problems": 1})).replayed.wall_seconds or 0.0
    assert slow > fast
    assert single > fast


def test_answers_are_the_same_twice(record: Recording) -> None:
    run = record(models(), tasks(RewardThreshold(0.5)))
    rules = config(run_type="rsd", thresholds={"rsd": 0.5}, limits={"problems": 3})
    assert replayed_under(run, rules, rules, target=0.3) == replayed_under(run, rules, rules, target=0.3)


def test_a_failure_is_answered_exactly(record: Recording) -> None:
    def failing(request: GenerationRequest) -> Generation:
        if request.problem == "p3":
            raise BackendError("fell over")
        return write(request)

    run = record(models(failing), tasks(RewardThreshold(0.5)))
    rules = config(run_type="rsd", thresholds={"rsd": 0.5})
    found = replayed_under(run, rules, rules)
    assert (found.exact, found.recorded.failed, found.replayed.failed) == (PROBLEMS, 1, 1)


def test_problems_without_an_end_are_left_out(record: Recording) -> None:
    run = record(models(), tasks(RewardThreshold(0.5)), cut=SECONDS * 1.5)
    rules = config(run_type="rsd", thresholds={"rsd": 0.5})
    found = replayed_under(run, rules, rules)
    assert found.unfinished > 0
    assert found.replayed.wall_seconds is None


def test_decisions_are_compared_with_the_oracle_at_every_recorded_step(record: Recording) -> None:
    """By the recorded scores, the target is better at two of three steps: by 0.5 and by 0.2."""
    rows = compare_decisions(record(models(), tasks(Oracle(0.0))).problems(), 0.3)
    found = {(row.policy, row.threshold): row for row in rows}
    low, high, all_of_them = found["rsd", 0.3], found["rsd", 0.8], found["target", None]
    assert (low.escalated, low.agreement, low.wasted) == (PROBLEMS, pytest.approx(2 / 3), 0.0)
    assert low.gain == pytest.approx(0.5 / 0.7)
    assert (high.escalated, high.saved, high.gain) == (3 * PROBLEMS, 0.0, pytest.approx(1.0))
    assert all_of_them.wasted == pytest.approx(1 / 3)
    assert found["oracle", 0.0].agreement == 1.0
    assert found["draft", None].saved == 1.0


def test_without_both_scores_there_is_nothing_to_compare(record: Recording) -> None:
    assert compare_decisions(record(models(), tasks(RewardThreshold(0.5))).problems()) == []


def test_a_log_of_decisions_alone_holds_no_answers(record: Recording) -> None:
    run = record(models(), tasks(RewardThreshold(0.5)))
    more = b'"versions":{},"record":"decisions"'
    run.path.write_bytes(changed_log(run.path, lambda line: line.replace(b'"versions":{}', more, 1)))
    with pytest.raises(RunError, match="decisions"):
        replayed_under(Run.open(run.path), config(), config())
