"""Events as console lines, through a structlog logger that is separate from that of the host program."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import anyio
import pytest
import structlog

from arbiter.actors.ring import open_ring
from arbiter.actors.ring_setup import Models
from arbiter.config.run_tables import Level
from arbiter.log.event_lines import shown
from arbiter.log.reader import LOG, LogFile
from arbiter.log.sessions import open_journal
from arbiter.protocols.events import (
    SCHEMA,
    AnyPayload,
    CallCancelled,
    CallFailed,
    CallRetried,
    CallScored,
    CallStarted,
    DraftStepEvent,
    Event,
    Graded,
    ProblemEnded,
    RunEnded,
    RunStarted,
    StepAcceptedEvent,
    StepFailedEvent,
)
from arbiter.protocols.messages import Task
from arbiter.protocols.records import Usage

Worlds = Callable[..., Models]
Tasks = Callable[..., Task]

BY_LEVEL: dict[Level, list[AnyPayload]] = {
    "warning": [
        CallFailed("OSError: gone", 0.5),
        CallRetried(1, 0.5, "OSError: gone"),
        StepFailedEvent("drafter", "draft_step", "OSError: gone"),
        ProblemEnded("failed", 0, 1.0, error="drafter, step 1: OSError: gone"),
    ],
    "info": [
        RunStarted(0, "digest", {"seed": 0}, {}),
        ProblemEnded("answered", 3, 1.0),
        Graded(right=True, answer="7"),
        RunEnded(),
    ],
    "debug": [
        DraftStepEvent("0" * 16, 10),
        StepAcceptedEvent("keep_draft"),
        CallStarted("draft"),
        CallScored(0.5, Usage(), 0.1),
        CallCancelled(0.1),
    ],
}
LEVELS: list[Level] = ["debug", "info", "warning"]


def an_event(payload: AnyPayload) -> Event:
    return Event(v=SCHEMA, run="r", seq=0, mono=1.25, wall=0.0, id="i", actor="drafter", problem="p", payload=payload)


def lines(level: Level, *payloads: AnyPayload) -> list[str]:
    told: list[str] = []
    show = shown(level, told.append)
    for payload in payloads:
        if show is not None:
            show(an_event(payload))
    return told


@pytest.mark.parametrize("level", LEVELS)
def test_a_level_shows_its_events_and_those_above(level: Level) -> None:
    everything = [payload for payloads in BY_LEVEL.values() for payload in payloads]
    above = [payload for name in LEVELS[LEVELS.index(level) :] for payload in BY_LEVEL[name]]
    assert sorted(lines(level, *everything)) == sorted(lines("debug", *above))
    assert len(lines(level, *everything)) == len(above)


def test_nothing_is_shown_where_nothing_was_asked_for() -> None:
    assert shown("off", lambda _: None) is None


def test_a_line_tells_level_kind_place_and_fields() -> None:
    [line] = lines("debug", CallFailed("OSError: gone", 0.5))
    assert line.split()[:2] == ["[warning", "]"]
    assert "call_failed" in line
    for field in ("seconds=1.25", "actor=drafter", "problem=p", "took_seconds=0.5", "error='OSError: gone'"):
        assert field in line


@pytest.mark.parametrize("payload", [payload for payloads in BY_LEVEL.values() for payload in payloads])
def test_an_event_is_one_line(payload: AnyPayload) -> None:
    [line] = lines("debug", payload)
    assert "\n" not in line
    assert str(payload.__struct_config__.tag) in line


def test_a_hosts_structlog_is_neither_used_nor_changed(a_world: Worlds, a_task: Tasks, tmp_path: Path) -> None:
    used: list[object] = []
    told: list[str] = []

    def note(logger: Any, method: str, event: Any) -> Any:
        used.append(event)
        raise structlog.DropEvent

    async def main() -> None:
        async with (
            open_journal(tmp_path / LOG, show=shown("debug", told.append)) as journal,
            open_ring(a_world(fails=0.5), journal=journal) as ring,
        ):
            for number in range(5):
                await ring.solve(a_task(str(number)))

    before = structlog.get_config()
    try:
        structlog.configure(processors=[note])
        mine = structlog.get_config()
        anyio.run(main)
        assert structlog.get_config() == mine
    finally:
        structlog.configure(**before)
    assert used == []
    assert len(told) == len(list(LogFile(tmp_path / LOG))) > 20
