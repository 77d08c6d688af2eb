"""The doctor's results: one finding per model, with one line per check."""

from typing import Literal

import msgspec

State = Literal["ok", "warning", "failed"]
_WORST: tuple[State, ...] = ("failed", "warning", "ok")


class Check(msgspec.Struct, frozen=True):
    """A check and its result. If something is wrong, ``text`` says how to fix it."""

    name: str
    text: str
    state: State = "ok"


class Finding(msgspec.Struct, frozen=True):
    """The checks of the model of one table."""

    model: str
    checks: tuple[Check, ...]

    @property
    def state(self) -> State:
        """The state of the worst check."""
        return next(state for state in _WORST if state == "ok" or state in {check.state for check in self.checks})

    @property
    def text(self) -> tuple[str, ...]:
        """The texts of all checks."""
        return tuple(check.text for check in self.checks)
