"""An HTTP server with fixed answers and no delay, so that a benchmark measures the client.

It serves ``/v1/models``, ``/v1/completions``, ``/classify`` and ``/v1/embeddings`` on 127.0.0.1. A solution has
``STEPS`` steps; the last one has a boxed answer. The steps that the prompt already holds decide which step comes next.
"""

import asyncio
import sys

STEPS = 5

_STEP = rb"""{"choices":[{"text":"We take the next step, and write down what follows from it: $x + %d = %d$.",
"finish_reason":"stop","matched_stop":"\n\n"}],"usage":{"prompt_tokens":200,"completion_tokens":25}}"""
_LAST = rb"""{"choices":[{"text":"The answer is $\\boxed{42}$.","finish_reason":"stop","matched_stop":151645}],
"usage":{"prompt_tokens":200,"completion_tokens":9}}"""
_MODELS = b'{"data":[{"id":"fixed","max_model_len":4096}]}'
_CLASSIFIED = b'[{"embedding":[2.0],"meta_info":{"prompt_tokens":200}}]'
_EMBEDDED = b'{"data":[{"embedding":[2.0]}],"usage":{"prompt_tokens":200}}'


class Answering(asyncio.Protocol):
    """One persistent connection, whose requests are answered in order."""

    def __init__(self) -> None:
        self._received = b""
        self._transport: asyncio.Transport | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        if isinstance(transport, asyncio.Transport):
            self._transport = transport

    def data_received(self, data: bytes) -> None:
        self._received += data
        while (end := self._received.find(b"\r\n\r\n")) >= 0:
            head = self._received[:end]
            size = _content_length(head)
            if len(self._received) < end + 4 + size:
                return
            body = self._received[end + 4 : end + 4 + size]
            self._received = self._received[end + 4 + size :]
            answer = _answer(head.split(b" ", 2)[1], body)
            if self._transport is not None:
                self._transport.write(
                    b"HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: %d\r\n\r\n%s"
                    % (len(answer), answer)
                )


def _content_length(head: bytes) -> int:
    for line in head.lower().split(b"\r\n"):
        if line.startswith(b"content-length:"):
            return int(line.partition(b":")[2])
    return 0


def _answer(path: bytes, body: bytes) -> bytes:
    if path == b"/v1/models":
        return _MODELS
    if path == b"/classify":
        return _CLASSIFIED
    if path == b"/v1/embeddings":
        return _EMBEDDED
    steps = body.count(b"We take the next step")
    return _LAST if steps >= STEPS - 1 else _STEP % (steps, steps + 1)


async def main() -> None:
    """Listen on a free port, print the port, and serve until killed."""
    server = await asyncio.get_running_loop().create_server(Answering, "127.0.0.1", 0, backlog=1024)
    sys.stdout.write(f"{server.sockets[0].getsockname()[1]}\n")
    sys.stdout.flush()
    await server.serve_forever()


if __name__ == "__main__":
    asyncio.run(main())
