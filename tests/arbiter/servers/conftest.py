"""Launches of a small fake engine, and free ports."""

import socket
import sys
from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path

import pytest

from arbiter.servers.plan_types import Launch

ENGINE = Path(__file__).parent / "fake_engine.py"


@pytest.fixture
def free_ports() -> Callable[[int], list[int]]:
    def find(count: int) -> list[int]:
        with ExitStack() as stack:
            sockets = [stack.enter_context(socket.socket()) for _ in range(count)]
            for one in sockets:
                one.bind(("127.0.0.1", 0))
            return [one.getsockname()[1] for one in sockets]

    return find


@pytest.fixture
def a_launch(free_ports: Callable[[int], list[int]]) -> Callable[..., Launch]:
    """Build the launch of a fake engine; ``what`` are its special behaviours."""

    def build(name: str = "draft", *what: str, after: tuple[str, ...] = ()) -> Launch:
        [port] = free_ports(1)
        return Launch(
            name=name,
            place=f"mine.toml: models.{name}",
            program="sglang",
            scores=False,
            command=(sys.executable, str(ENGINE), str(port), *what),
            environment={},
            host="127.0.0.1",
            port=port,
            ports=(port,),
            after=after,
        )

    return build


@pytest.fixture
def free_port(free_ports: Callable[[int], list[int]]) -> int:
    return free_ports(1)[0]
