"""Spend caps: how much each API key may spend in a minute and in a day."""

import math
from collections import Counter, defaultdict
from collections.abc import Sequence

import anyio
import msgspec
from msgspec.structs import replace
from starlette.requests import Request

from arbiter.actors.policies import DraftOnly
from arbiter.config.serve_tables import CapsTable
from arbiter.gateway.middleware import key_of
from arbiter.gateway.refused_tasks import refused_task
from arbiter.gateway.schemas import CommonBody
from arbiter.library.arbiter import Arbiter
from arbiter.protocols.errors import ConfigError, RequestError
from arbiter.protocols.messages import Task

_SECONDS = {"minute": 60.0, "day": 86_400.0}
_CODES = {"minute": "rate_limit_exceeded", "day": "insufficient_quota"}

_AT_CAP = "the key has reached a spend cap, so the draft alone answers: "


class _Window(msgspec.Struct):
    """A minute or a day, which begins with its first cost."""

    ends: float
    spent: float = 0.0


class SpendCaps:
    """What each key has spent, and whether it has reached a cap.

    Keys are named by their position (``key_of``). A window begins with its first cost and ends a minute or 24 hours
    later. Running answers are not stopped at the cap, so a key can spend more by what its open requests cost.
    ``spent`` is the cost by key since the start, ``capped`` the number of requests that met a cap.
    """

    def __init__(self, table: CapsTable) -> None:
        self.spent: defaultdict[str, float] = defaultdict(float)
        self.capped: Counter[str] = Counter()
        caps = {"minute": table.per_minute, "day": table.per_day}
        self._caps = {name: cap for name, cap in caps.items() if cap is not None}
        self._at_cap = table.at_cap
        self._windows: dict[tuple[str, str], _Window] = {}

    def charge(self, key: str, cost: float) -> None:
        """Add a cost to what the key has spent."""
        self.spent[key] += cost
        now = anyio.current_time()
        for name in self._caps:
            window = self._windows.get((key, name))
            if window is None or window.ends <= now:
                window = self._windows[key, name] = _Window(now + _SECONDS[name])
            window.spent += cost

    def check(self, request: Request) -> None:
        """Let the request pass, or have the draft alone answer it. Raises ``RequestError`` (429) if it is refused.

        A request that the draft alone must answer is not checked again.
        """
        if is_capped(request):
            return
        key = key_of(request)
        reached = self._reached(key)
        if reached is None:
            return
        self.capped[key] += 1
        name, window = reached
        if self._at_cap == "draft":
            request.state.is_capped = True
            return
        seconds = max(1, math.ceil(window.ends - anyio.current_time()))
        raise RequestError(
            f"{key} has spent {window.spent:.6g} within a {name}, and its cap is {self._caps[name]:.6g} "
            f"(serve.caps.per_{name}): try again in {seconds} s",
            status=429,
            code=_CODES[name],
            retry_after=seconds,
        )

    def _reached(self, key: str) -> tuple[str, _Window] | None:
        """Return the reached cap whose window ends last; None if the key may go on."""
        now = anyio.current_time()
        windows = [(name, self._windows.get((key, name))) for name in self._caps]
        full = [
            (name, window)
            for name, window in windows
            if window is not None and window.ends > now and window.spent >= self._caps[name]
        ]
        return max(full, key=lambda one: one[1].ends, default=None)


def is_capped(request: Request) -> bool:
    """Return whether the draft alone must answer the request."""
    return getattr(request.state, "is_capped", False)


def at_cap(arbiter: Arbiter, request: Request, body: CommonBody, tasks: Sequence[Task]) -> list[Task]:
    """Return the tasks of a request. If its key has reached a cap, the draft alone solves them.

    Raises ``RequestError`` if it cannot: for example, it cannot be offered the tools.
    """
    if not is_capped(request):
        return list(tasks)
    drafted = [replace(task, policy=DraftOnly()) for task in tasks]
    try:
        for task in drafted:
            arbiter.check(task)
    except ConfigError as error:
        raise refused_task(error, body, _AT_CAP) from error
    return drafted
