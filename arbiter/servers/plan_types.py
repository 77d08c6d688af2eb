"""What a plan is made of."""

from typing import Literal

import msgspec

from arbiter.config.server_tables import Program

EVERYWHERE = {"0.0.0.0": "127.0.0.1", "::": "::1"}  # noqa: S104 - to say that it is everywhere
"""The addresses that are all of a machine's, and where the machine itself reaches what listens there."""

_READY: dict[Program | Literal["router"], tuple[str, ...]] = {
    "sglang": ("/ready", "/health"),
    "vllm": ("/health",),
    "llama.cpp": ("/v1/models",),
    "router": ("/readiness",),
}


class Launch(msgspec.Struct, frozen=True, kw_only=True):
    """A server to start, or the router before several of them.

    ``place`` is the key of its table, for errors; ``path`` the checkpoint; ``environment`` comes on top of this
    process's own. It is ready once the first of the pages ``ready`` that it has answers. It starts when those in
    ``after`` are ready. ``ports`` are all that it listens at.
    """

    name: str
    place: str
    program: Program | Literal["router"]
    scores: bool
    command: tuple[str, ...]
    environment: dict[str, str]
    host: str
    port: int
    ports: tuple[int, ...]
    path: str | None = None
    gpus: tuple[int, ...] = ()
    after: tuple[str, ...] = ()

    @property
    def ready(self) -> tuple[str, ...]:
        return _READY[self.program]

    @property
    def address(self) -> str:
        """Where this machine reaches it."""
        host = EVERYWHERE.get(self.host, self.host)
        return f"http://{f'[{host}]' if ':' in host else host}:{self.port}"


class LaunchPlan(msgspec.Struct, frozen=True):
    """``notes`` are for people: what is not started here, and what they should know of what is."""

    launches: tuple[Launch, ...]
    notes: tuple[str, ...]
