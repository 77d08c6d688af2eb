"""Runs whose answers make several calls: each call is a step in the log, in a replay, and after a resumption."""

from collections.abc import Callable
from pathlib import Path

import anyio
import pytest

from arbiter.config.config import Config
from arbiter.log.diff import compare
from arbiter.log.explain import stories
from arbiter.log.reader import LOG
from arbiter.log.run import Run
from arbiter.protocols.events import CallGenerated
from arbiter.replay.check import check
from arbiter.runs.regrading import regrade
from arbiter.runs.results import Summary
from arbiter.runs.stored_summary import read_summary
from arbiter.sweep.points import SweepPoint, point_of
from arbiter.sweep.runner import SweepJob, run_together
from arbiter.sweep.sweep import settle
from benchmarks.silent_watcher import SilentWatcher
from tests.arbiter.tool_runs import BOTH, both_models, record_run

Configs = Callable[..., Config]


def test_each_call_is_a_step_of_the_run_and_they_are_graded_together(a_config: Configs, tmp_path: Path) -> None:
    run = record_run(a_config(run_type="router"), tmp_path, both_models(), BOTH)
    [problem] = run.problems()
    assert [step.kept.author for step in problem.steps()] == ["draft", "target"]
    assert [(step.draft and step.draft.valid) for step in problem.steps()] == [True, False]
    written = [call.outcome for call in problem.calls.values() if isinstance(call.outcome, CallGenerated)]
    assert [(one.cost.completion_tokens, len(one.following)) for one in written] == [(8, 1), (8, 0)]
    summary = read_summary(tmp_path, Summary)
    assert summary is not None
    assert (summary.accuracy, summary.finish_reasons, summary.steps) == (1.0, {"tool_calls": 1}, 2)
    assert (summary.call_checks.checked, summary.call_checks.valid, summary.call_checks.forced) == (2, 1, 1)
    assert anyio.run(regrade, tmp_path).changes == ()


@pytest.mark.parametrize("run_type", ["router", "random", "target"])
def test_such_a_run_replays_message_by_message(a_config: Configs, tmp_path: Path, run_type: str) -> None:
    verdict = check(record_run(a_config(run_type=run_type), tmp_path, both_models(), BOTH))
    assert (verdict.problems, verdict.differences) == (1, ())


def test_a_run_that_is_cut_anywhere_within_the_calls_goes_on_without_asking_again(
    a_config: Configs, tmp_path: Path
) -> None:
    config = a_config(run_type="router")
    run = record_run(config, tmp_path / "whole", both_models(), BOTH)
    [whole] = run.problems()
    expected, log = [step.kept.text for step in whole.steps()], run.path.read_bytes()
    for size in [place + 1 for place, byte in enumerate(log) if byte == ord("\n")]:
        asked, out = list[str](), tmp_path / str(size)
        out.mkdir()
        (out / LOG).write_bytes(log[:size])
        answered = {call.id for one in Run.open(out).problems() for call in one.answers().values() if call.outcome}
        again = record_run(config, out, both_models(lambda request, asked=asked: asked.append(request.call)), BOTH)
        [problem] = again.problems()
        assert [step.kept.text for step in problem.steps()] == expected, size
        assert answered.isdisjoint(asked), size


def test_what_people_read_names_each_call(a_config: Configs, tmp_path: Path) -> None:
    first = record_run(a_config(run_type="router"), tmp_path / "one", both_models(), BOTH)
    second = record_run(a_config(run_type="router"), tmp_path / "two", both_models(), BOTH)
    [problem] = first.problems()
    found = stories(problem)
    assert [one.text for one in found] == [step.kept.text for step in problem.steps()]
    assert "because the draft breaks the rules" in found[1].decision
    assert (compare(first, second).same, compare(first, second).differences) == (1, ())


def test_a_log_without_texts_has_no_arguments_of_a_call_that_follows(a_config: Configs, tmp_path: Path) -> None:
    run = record_run(a_config(run_type="router", log={"record": "redacted"}), tmp_path, both_models(), BOTH)
    assert "secret" not in run.path.read_text(encoding="utf-8")
    assert check(run).differences == ()


def test_the_points_of_a_sweep_share_an_answer_with_its_calls_also_after_an_interruption(
    a_config: Configs, tmp_path: Path
) -> None:
    rejects, keeps = (point_of(a_config(run_type="router"), "router", threshold) for threshold in (0.05, 0.5))
    job, asked = SweepJob([rejects, keeps], BOTH, tmp_path, SilentWatcher()), list[str]()

    def authors(point: SweepPoint) -> list[str]:
        return [step.kept.author for one in Run.open(tmp_path / point.name).problems() for step in one.steps()]

    anyio.run(run_together, job, both_models(lambda request: asked.append(request.author)))
    found = settle(job, False, False)
    assert [row.summary and row.summary.accuracy for row in found.points] == [1.0, 1.0]
    assert (authors(rejects), authors(keeps)) == (["target", "target"], ["draft", "target"])
    assert sorted(asked) == ["draft", "draft", "target", "target"]
    log = tmp_path / rejects.name / LOG
    log.write_bytes(log.read_bytes().splitlines(keepends=True)[0])
    anyio.run(run_together, job, both_models(lambda request: asked.append(request.author)))
    assert authors(rejects) == ["target", "target"]
    assert sorted(asked[4:]) == ["draft", "target"]  # the answers of the other point are in its log
