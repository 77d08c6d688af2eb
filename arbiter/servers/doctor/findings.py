"""What the doctor says: a finding a model, a line a check."""

from typing import Literal

import msgspec

State = Literal["ok", "warning", "failed"]
_WORST: tuple[State, ...] = ("failed", "warning", "ok")


class Check(msgspec.Struct, frozen=True):
    """What was looked at, and what was seen: ``text`` has the way out of what is wrong."""

    name: str
    text: str
    state: State = "ok"


class Finding(msgspec.Struct, frozen=True):
    """What was found about the model of one table."""

    model: str
    checks: tuple[Check, ...]

    @property
    def state(self) -> State:
        """That of the worst check."""
        return next(state for state in _WORST if state == "ok" or state in {check.state for check in self.checks})

    @property
    def text(self) -> tuple[str, ...]:
        return tuple(check.text for check in self.checks)
