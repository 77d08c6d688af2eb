"""Serve an endpoint with scripted models, for ``benchmarks/clients.py``.

    python benchmarks/scripted_endpoint.py [--descriptors 1024] [--patience 60] [--head 15]

The models answer without delay, in three steps. The first line of the output is the address. Each line of the input is
answered with the state of the process as JSON (``State``); the end of the input ends it.
"""

import gc
import resource
import sys
from pathlib import Path

import anyio
import anyio.to_thread
import cyclopts
import msgspec

from arbiter.actors.ring_setup import Models
from arbiter.actors.supervision import services
from arbiter.backends.scripted import ScriptedGenerator, ScriptedScorer
from arbiter.config.config import parse
from arbiter.gateway.app import PATIENCE, Gateway
from arbiter.gateway.client_connections import HEAD_SECONDS, Connections
from arbiter.gateway.listening_socket import bound
from arbiter.gateway.uvicorn_server import Server
from arbiter.library.arbiter import Arbiter
from arbiter.protocols.ports import Generation, GenerationRequest, Generator, ModelHandle, Scorer
from arbiter.protocols.records import Usage

CONFIG = {"models": {}, "limits": {"problems": 64, "max_steps": 3}}


class State(msgspec.Struct, frozen=True):
    """Open connections, problems and model requests, the file descriptors, and the resident memory in MiB."""

    connections: int
    problems: int
    running: int
    descriptors: int
    memory: float


def write(request: GenerationRequest) -> Generation:
    """The requested step, with its number; the third one ends the answer."""
    return Generation(f"step {request.step}", "end" if request.step == 2 else "separator", Usage(10, 2))


def main(*, descriptors: int = 1024, patience: float = PATIENCE, head: float = HEAD_SECONDS) -> None:
    """Serve until the input ends.

    Parameters
    ----------
    descriptors
        The limit of file descriptors of this process.
    patience
        The time in seconds in which a body must arrive.
    head
        The time in seconds in which headers must arrive.
    """
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (descriptors, hard))
    anyio.run(_serve, patience, head)


async def _serve(patience: float, head: float) -> None:
    draft, target, router = ScriptedGenerator(write), ScriptedGenerator(write), ScriptedScorer(lambda _request: 0.1)
    models = Models(
        draft=ModelHandle[Generator](draft),
        target=ModelHandle[Generator](target),
        scorers={"router": ModelHandle[Scorer](router)},
    )
    arbiter = Arbiter(parse(CONFIG, "benchmark"), models=models)
    gateway = Gateway(arbiter, patience=patience)
    with bound("127.0.0.1", 0) as listening:
        port = listening.getsockname()[1]
        async with arbiter, services() as tasks:
            server = Server(gateway, 0, lambda: _print(f"http://127.0.0.1:{port}"), Connections(patience, head=head))
            tasks.start_soon(server.serve, [listening])
            while await anyio.to_thread.run_sync(sys.stdin.readline):
                running = draft.running + target.running + router.running
                state = _state(len(server.server_state.connections), gateway.open, running)
                _print(msgspec.json.encode(state).decode())


def _print(line: str) -> None:
    sys.stdout.write(line + "\n")
    sys.stdout.flush()


def _state(connections: int, problems: int, running: int) -> State:
    gc.collect()
    return State(connections, problems, running, len(list(Path("/proc/self/fd").iterdir())), _resident())


def _resident() -> float:
    pages = int(Path("/proc/self/statm").read_text(encoding="ascii").split()[1])
    return pages * resource.getpagesize() / 2**20


if __name__ == "__main__":
    cyclopts.App(default_command=main)()
