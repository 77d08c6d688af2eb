"""The parts of a plan: launches and notes."""

from typing import Literal

import msgspec

from arbiter.config.server_tables import Program

EVERYWHERE = {"0.0.0.0": "127.0.0.1", "::": "::1"}  # noqa: S104 - compared with, not bound to
"""The addresses that stand for all addresses, and where the machine itself reaches a server listening on them."""

_READY: dict[Program | Literal["router"], tuple[str, ...]] = {
    "sglang": ("/ready", "/health"),
    "vllm": ("/health",),
    "llama.cpp": ("/v1/models",),
    "router": ("/readiness",),
}


class Launch(msgspec.Struct, frozen=True, kw_only=True):
    """A server to start, or the router in front of several replicas.

    ``place`` is the key of its table, for errors, and ``path`` the checkpoint. ``environment`` is added to the
    environment of this process. The server is ready when the first existing one of its pages ``ready`` answers with
    status 200. It starts when the servers in ``after`` are ready. ``ports`` are all ports that it listens on.
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
        """The pages that show whether it is ready, tried in this order."""
        return _READY[self.program]

    @property
    def address(self) -> str:
        """The URL at which this machine reaches it."""
        host = EVERYWHERE.get(self.host, self.host)
        return f"http://{f'[{host}]' if ':' in host else host}:{self.port}"


class LaunchPlan(msgspec.Struct, frozen=True):
    """The launches, and notes for the user: what is not started, and warnings."""

    launches: tuple[Launch, ...]
    notes: tuple[str, ...]
