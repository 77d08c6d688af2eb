"""The log of a run with a user-written policy: its contents, its display, and resuming it."""

from collections.abc import Callable
from pathlib import Path

import anyio

from arbiter.actors.policies import PolicyBase
from arbiter.actors.ring import open_ring
from arbiter.actors.ring_setup import Models
from arbiter.cli.show import show_command
from arbiter.log.explain import stories
from arbiter.log.reader import LOG, LogFile
from arbiter.log.run import Run
from arbiter.log.sessions import open_journal
from arbiter.protocols.events import Event
from arbiter.protocols.messages import Task
from arbiter.protocols.policy import Evidence
from arbiter.protocols.records import ConfidenceMetric, Limits, Solution, Verdict

Worlds = Callable[..., Models]
Tasks = Callable[..., Task]


class Unsure(PolicyBase, frozen=True):
    """A policy with two targets, which escalates if the draft model's confidence is below τ."""

    threshold: float
    budget: float | None = 0.4
    confidence: ConfidenceMetric | None = "mean"
    targets: tuple[str, ...] = ("small", "large")

    def decide(self, evidence: Evidence) -> Verdict:
        return "keep_draft" if self.score(evidence) >= self.threshold else "escalate"

    def target(self, evidence: Evidence) -> str:
        return self.targets[evidence.step % 2]


def solve(folder: Path, models: Models, tasks: list[Task]) -> list[Solution]:
    """The solutions of a session with the log in ``folder``, one problem after another."""
    solutions: list[Solution] = []

    async def body() -> None:
        async with open_journal(folder / LOG) as journal, open_ring(models, journal=journal) as ring:
            solutions.extend([await ring.solve(task) for task in tasks])

    anyio.run(body)
    return solutions


def three_tasks(a_task: Tasks) -> list[Task]:
    policy, limits = Unsure(0.5), Limits(max_steps=4, repeats=100)
    return [a_task(problem, policy=policy, limits=limits) for problem in ("p", "q", "r")]


def moved(events: list[Event]) -> list[float]:
    """The threshold of each decision, in order."""
    return [at for event in events if (at := getattr(event.payload, "threshold", None)) is not None]


def test_the_log_has_the_policy_with_its_fields_and_the_threshold_of_each_decision(
    a_world: Worlds, a_task: Tasks, tmp_path: Path
) -> None:
    solutions = solve(tmp_path, a_world(1), three_tasks(a_task))
    events, problems = list(LogFile(tmp_path / LOG)), list(Run.open(tmp_path).problems())
    assert {str(problem.task.policy) for problem in problems} == {
        "{'type': 'Unsure', 'threshold': 0.5, 'budget': 0.4, 'confidence': 'mean', 'targets': ['small', 'large']}"
    }
    decisions = sum(len(solution.steps) for solution in solutions)
    assert len(moved(events)) == decisions
    assert moved(events)[0] == 0.5
    assert len(set(moved(events))) > 3
    assert [problem.solution() for problem in problems] == solutions
    assert {name for solution in solutions for name in solution.targets} == {"small", "large"}


def test_such_a_log_can_be_shown(a_world: Worlds, a_task: Tasks, tmp_path: Path) -> None:
    solve(tmp_path, a_world(1), three_tasks(a_task))
    decisions = {story.decision for problem in Run.open(tmp_path).problems() for story in stories(problem)}
    assert decisions == {"kept", "escalated to small", "escalated to large"}
    assert show_command(tmp_path) == show_command(tmp_path, "p") == 0


def test_such_a_log_is_continued_by_its_recorded_decisions_and_from_the_threshold_that_it_had_come_to(
    a_world: Worlds, a_task: Tasks, tmp_path: Path
) -> None:
    solve(tmp_path, a_world(1), three_tasks(a_task))
    recorded = list(LogFile(tmp_path / LOG))
    lines = (tmp_path / LOG).read_bytes().splitlines(keepends=True)
    ended = {event.problem: event.seq for event in recorded if event.kind == "problem_ended"}
    for size in range(1, len(lines), 3):
        folder = tmp_path / str(size)
        folder.mkdir()
        (folder / LOG).write_bytes(b"".join(lines[:size]))
        solve(folder, a_world(1), [task for task in three_tasks(a_task) if ended[task.id] >= size])
        events = list(LogFile(folder / LOG))
        kept = [event for event in recorded if event.seq < size]
        assert events[: len(kept)] == kept
        assert [event.problem for event in events if event.kind == "problem_ended"] == ["p", "q", "r"]
        known, new = (moved(sorted(part, key=lambda event: event.mono)) for part in (kept, events[len(kept) :]))
        assert not new or new[0] == (known[-1] if known else 0.5)
        assert len(new) < 3 or len(set(new)) > 1
