"""A server of ``/v1/completions`` whose answers a function writes, for tests whose models are behind an address."""

import json
import threading
from collections.abc import Callable, Generator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

Write = Callable[[str], str]
"""Returns the whole answer to a prompt."""


@contextmanager
def completions_server(write: Write, port: int = 0) -> Generator[str]:
    """Serve the model ``m`` as vLLM does, and yield the address. Port 0 is a free one."""

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.answer({"object": "list", "data": [{"id": "m", "object": "model"}]})

        def do_POST(self) -> None:
            asked = json.loads(self.rfile.read(int(self.headers["content-length"])))
            choice = {"index": 0, "text": write(asked["prompt"]), "finish_reason": "stop", "stop_reason": None}
            usage = {"prompt_tokens": 9, "completion_tokens": 5, "total_tokens": 14}
            self.answer({"choices": [choice], "usage": usage})

        def answer(self, body: dict[str, Any]) -> None:
            raw = json.dumps(body).encode()
            self.send_response(200)
            self.send_header("content-type", "application/json")
            self.send_header("content-length", str(len(raw)))
            self.end_headers()
            self.wfile.write(raw)

        def log_message(self, format: str, *args: object) -> None: ...  # noqa: A002 - the name in the base class

    server = ThreadingHTTPServer(("127.0.0.1", port), Handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    try:
        yield f"http://127.0.0.1:{server.server_port}"
    finally:
        server.shutdown()
        server.server_close()
