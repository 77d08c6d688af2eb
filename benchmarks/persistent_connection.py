"""A connection of a benchmark's HTTP server, written for few CPU seconds per request."""

import asyncio
from abc import ABC, abstractmethod


class PersistentConnection(asyncio.Protocol, ABC):
    """Reads requests one after the other, and has ``answer`` answer each."""

    def __init__(self) -> None:
        self._received = b""
        self._transport: asyncio.Transport | None = None

    @abstractmethod
    def answer(self, path: bytes, body: bytes) -> None:
        """Answer a request with ``send``, now or later."""

    def send(self, response: bytes) -> None:
        """Write a whole response."""
        if self._transport is not None:
            self._transport.write(response)

    def close(self) -> None:
        """Close the connection. Requests that have arrived are not answered."""
        if self._transport is not None:
            self._transport.close()
            self._transport = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        if isinstance(transport, asyncio.Transport):
            self._transport = transport

    def data_received(self, data: bytes) -> None:
        self._received += data
        while (end := self._received.find(b"\r\n\r\n")) >= 0 and self._transport is not None:
            head = self._received[:end]
            size = _content_length(head)
            if len(self._received) < end + 4 + size:
                return
            body = self._received[end + 4 : end + 4 + size]
            self._received = self._received[end + 4 + size :]
            self.answer(head.split(b" ", 2)[1], body)


def _content_length(head: bytes) -> int:
    for line in head.lower().split(b"\r\n"):
        if line.startswith(b"content-length:"):
            return int(line.partition(b":")[2])
    return 0
