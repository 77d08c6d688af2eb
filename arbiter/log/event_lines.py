"""Render the log's events as readable console lines, through structlog."""

import logging
from collections.abc import Callable
from contextlib import suppress
from typing import Any

import msgspec

from arbiter.config.run_tables import Level
from arbiter.log.writer import Show
from arbiter.protocols import events
from arbiter.protocols.events import Event

_LEVELS = {"debug": logging.DEBUG, "info": logging.INFO, "warning": logging.WARNING}
_WARNINGS = (events.CallFailed, events.CallRetried, events.StepFailedEvent)
_NEWS = (events.RunStarted, events.RunEnded, events.StartProblemEvent, events.ProblemEnded, events.Graded)
_SHORT = (events.RunStarted, events.StartProblemEvent)
"""Events whose fields the console omits: they would fill a screen, and the log has them."""


def shown(level: Level, write: Callable[[str], None]) -> Show | None:
    """Return a function that passes each event at ``level`` or above to ``write`` as one line.

    Return None if the level is ``off``. The logger is separate: the host program's structlog configuration is neither
    used nor changed.
    """
    if level == "off":
        return None
    import structlog  # takes long to import

    logger: Any = structlog.wrap_logger(
        _Lines(write),
        processors=[structlog.processors.add_log_level, structlog.dev.ConsoleRenderer(colors=False, pad_event_to=18)],
        wrapper_class=structlog.make_filtering_bound_logger(_LEVELS[level]),
        context_class=dict,
        cache_logger_on_first_use=True,
    )

    def show(event: Event) -> None:
        with suppress(OSError):  # a closed console must not stop the run
            logger.log(_level_of(event), event.kind, **_fields(event))

    return show


def _level_of(event: Event) -> int:
    payload = event.payload
    if isinstance(payload, _WARNINGS) or (isinstance(payload, events.ProblemEnded) and payload.error is not None):
        return logging.WARNING
    return logging.INFO if isinstance(payload, _NEWS) else logging.DEBUG


def _fields(event: Event) -> dict[str, Any]:
    context = {
        "seconds": event.mono,
        "actor": event.actor,
        "to": event.to,
        "problem": event.problem,
        "sample": event.sample or None,
        "step": event.step,
    }
    payload: dict[str, Any] = {} if isinstance(event.payload, _SHORT) else msgspec.structs.asdict(event.payload)
    payload = {f"took_{key}" if key == "seconds" else key: value for key, value in payload.items()}
    return {key: value for key, value in {**context, **payload}.items() if value is not None}


class _Lines:
    """The logger that structlog wraps: it passes each line to ``write``."""

    def __init__(self, write: Callable[[str], None]) -> None:
        self.msg = self.debug = self.info = self.warning = write
