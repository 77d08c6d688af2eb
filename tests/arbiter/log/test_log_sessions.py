"""The conditions under which a run may be resumed."""

import signal
from collections.abc import Callable
from pathlib import Path
from typing import Any

import anyio
import msgspec
import pytest
import trio
from trio.testing import MockClock

from arbiter.actors.ring import open_ring
from arbiter.actors.ring_setup import Models
from arbiter.backends.scripted import ScriptedGenerator
from arbiter.config.config import Config, override
from arbiter.data import Problem
from arbiter.log.reader import LOG, LogFile
from arbiter.log.sessions import open_journal
from arbiter.protocols.errors import RunError
from arbiter.protocols.events import DraftStepEvent, Event
from arbiter.protocols.messages import Task
from arbiter.protocols.ports import ModelHandle
from arbiter.protocols.records import Limits, Solution
from arbiter.runs.folder import open_run
from arbiter.runs.results import Result

Configs = Callable[..., Config]
Worlds = Callable[..., Models]
Tasks = Callable[..., Task]
RunIn = Callable[..., dict[tuple[str, int], Result]]

replace = msgspec.structs.replace
HOUR = 3600.0
PROBLEMS = [Problem(str(n), f"question {n}", "7") for n in range(3)]
SERVED = {"backend": "http", "model": "m", "prompt": "{question}", "url": "http://here:1"}


def a_run(a_config: Configs, **keys: Any) -> Config:
    model = {"model": "nowhere", "prompt": "{question}"}
    return a_config(**{"run_type": "rsd", "models": {"draft": SERVED, "target": model, "prm": model}, **keys})


@pytest.mark.parametrize(
    ("changes", "told"),
    [
        ({"thresholds": {"rsd": 0.8}}, "thresholds.rsd: 0.7 in the run, 0.8 now"),
        ({"models": {"draft": {"model": "n"}}}, 'models.draft.model: "m" in the run, "n" now'),
        ({"models": {"target": {"dtype": "half"}}}, 'models.target.dtype: "auto" in the run, "half" now'),
        ({"sampling": {"temperature": 0.5}}, "sampling.temperature: 0.0 in the run, 0.5 now"),
        ({"limits": {"deadline": 9.0}}, "limits.deadline: null in the run, 9.0 now"),
        ({"log": {"record": "redacted"}}, 'log.record: "full" in the run, "redacted" now'),
        ({"audit": 0.5}, "audit: 0.0 in the run, 0.5 now"),
        ({"run_type": "draft"}, "thresholds.rsd: 0.7 in the run, not set now"),
    ],
)
@pytest.mark.slow
def test_what_decides_results_may_not_change(
    a_config: Configs, a_world: Worlds, run_in: RunIn, tmp_path: Path, changes: dict[str, Any], told: str
) -> None:
    run_in(tmp_path, a_run(a_config), a_world(), PROBLEMS)
    before = (tmp_path / LOG).read_bytes()
    with pytest.raises(RunError, match="holds another run") as caught:
        run_in(tmp_path, override(a_run(a_config), changes, "test"), a_world(), PROBLEMS)
    assert f"\n  {told}\n" in str(caught.value)
    assert (tmp_path / LOG).read_bytes() == before


@pytest.mark.parametrize("given", [PROBLEMS[:2], [*PROBLEMS[:2], Problem("2", "question 2", "8")]])
def test_other_problems_are_another_run(
    a_config: Configs, a_world: Worlds, run_in: RunIn, tmp_path: Path, given: list[Problem]
) -> None:
    run_in(tmp_path, a_run(a_config), a_world(), PROBLEMS)
    with pytest.raises(RunError, match=r"\n  data\.digest: "):
        run_in(tmp_path, a_run(a_config), a_world(), given)


@pytest.mark.parametrize(
    "changes",
    [
        {"models": {"draft": {"url": "http://there:2", "timeout": 1.0, "retries": 0, "api_key_env": "KEY"}}},
        {"models": {"draft": {"in_flight": 1, "price": {"prompt": 1.0, "completion": 1.0}}}},
        {"models": {"target": {"batch": 1, "device": "cpu"}}},
        {"models": {"router": SERVED}},
        {"limits": {"problems": 1}, "cpu_threads": 1},
        {"log": {"level": "debug", "sync": 0.0}},
        {"thresholds": {"router": 0.1, "oracle": 0.1, "random": 0.1}},
        {"data": {"source": "elsewhere.jsonl", "split": "test"}},
    ],
)
@pytest.mark.slow
def test_what_only_operates_a_run_may_change(
    a_config: Configs, a_world: Worlds, run_in: RunIn, tmp_path: Path, changes: dict[str, Any]
) -> None:
    first = run_in(tmp_path, a_run(a_config), a_world(), PROBLEMS)
    assert run_in(tmp_path, override(a_run(a_config), changes, "test"), a_world(), PROBLEMS) == first


@pytest.mark.asyncio
async def test_a_run_is_written_by_one_at_a_time(a_config: Configs, tmp_path: Path) -> None:
    async with open_run(a_run(a_config), PROBLEMS, tmp_path):
        with pytest.raises(RunError, match=f"another process is writing the run {tmp_path}: wait until it ends"):
            async with open_run(a_run(a_config), PROBLEMS, tmp_path):
                pass
    async with open_run(a_run(a_config), PROBLEMS, tmp_path) as folder:
        assert folder.journal.earlier.sessions == 1


def test_a_log_that_the_run_no_longer_agrees_with_stops_it_by_the_line(
    a_config: Configs, a_world: Worlds, run_in: RunIn, tmp_path: Path
) -> None:
    """Change a log to what another version of Arbiter may have written."""
    run_in(tmp_path, a_run(a_config), a_world(), PROBLEMS)
    events = [replace(event, seq=seq) for seq, event in enumerate(LogFile(tmp_path / LOG))]  # one event per line
    [ended] = [event.seq for event in events if event.kind == "problem_ended" and event.problem == "0"]
    place = max(e.seq for e in events[:ended] if isinstance(e.payload, DraftStepEvent) and e.problem == "0")
    other = replace(events[place], payload=DraftStepEvent("0" * 16, 5))
    (tmp_path / LOG).write_bytes(lines([*events[:place], other, *events[place + 1 : ended]]))
    with pytest.raises(RunError, match=rf"cannot be resumed: {other.id} is DraftStep.* in line {place + 1} of its"):
        run_in(tmp_path, a_run(a_config), a_world(), PROBLEMS)


def lines(events: list[Event]) -> bytes:
    return b"".join(msgspec.json.encode(event) + b"\n" for event in events)


def test_a_deadline_counts_the_time_of_earlier_sessions_and_not_the_time_between_them(
    a_task: Tasks, tmp_path: Path
) -> None:
    """A step takes an hour. The first session is cut after 6.5 hours; the problem's deadline is 9.25 hours."""
    models = Models(draft=ModelHandle(ScriptedGenerator(lambda request: f"step {request.step}", seconds=HOUR)))
    log, task, solutions = tmp_path / LOG, a_task(limits=Limits(deadline=9.25 * HOUR)), list[Solution]()

    async def session() -> None:
        async with open_journal(log) as journal, open_ring(models, journal=journal) as ring:
            solutions.append(await ring.solve(task))

    async def body() -> None:
        with anyio.move_on_after(6.5 * HOUR):
            await session()
        await anyio.sleep(1000 * HOUR)
        begun = anyio.current_time()
        await session()
        assert anyio.current_time() - begun == pytest.approx(2.75 * HOUR)

    trio.run(body, clock=MockClock(autojump_threshold=0))
    [solution] = solutions
    assert (solution.finish_reason, solution.seconds) == ("deadline", pytest.approx(9.25 * HOUR))
    assert [step.kept.text for step in solution.steps] == [f"step {n}" for n in range(8)]  # six, and two after the cut
    times = [event.mono for event in LogFile(log)]
    assert (times, times[-1]) == (sorted(times), pytest.approx(9.25 * HOUR))


def test_a_run_that_was_interrupted_is_continued(
    a_config: Configs, a_world: Worlds, run_in: RunIn, tmp_path: Path
) -> None:
    config, count = a_run(a_config, limits={"problems": 2}), 0
    undisturbed = run_in(tmp_path / "undisturbed", config, a_world(), PROBLEMS)

    def interrupt(_: object) -> None:
        nonlocal count
        count += 1
        if count == 6:
            signal.raise_signal(signal.SIGINT)

    assert len(run_in(tmp_path / "run", config, a_world(asked=interrupt), PROBLEMS)) < len(undisturbed)
    assert msgspec.json.decode((tmp_path / "run" / "summary.json").read_bytes())["interrupted"] is True
    assert run_in(tmp_path / "run", config, a_world(), PROBLEMS) == undisturbed
    assert msgspec.json.decode((tmp_path / "run" / "summary.json").read_bytes())["interrupted"] is False
    kinds = [event.kind for event in LogFile(tmp_path / "run" / LOG)]
    assert (kinds.count("run_started"), kinds.count("run_ended"), kinds.count("problem_ended")) == (2, 2, 3)
