"""A replica that answers each completion with its port: ``python replica.py PORT``, with the standard library only."""

import json
import sys
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

PORT = int(sys.argv[1])
MODEL = {"model_path": "m", "served_model_name": "m"}
PAGES: dict[str, Any] = {
    "/health": {},
    "/v1/models": {"object": "list", "data": [{"id": "m", "object": "model", "owned_by": "sglang"}]},
    "/server_info": {**MODEL, "version": "0.5.23", "dp_size": 1, "tp_size": 1},
    "/model_info": {**MODEL, "is_generation": True},
}
CHOICE = {"index": 0, "text": f"{PORT}", "finish_reason": "stop", "matched_stop": "\n\n"}
COUNTS = {"prompt_tokens": 1, "completion_tokens": 1, "total_tokens": 2}
ANSWER = {"id": "x", "object": "text_completion", "created": 1, "model": "m", "choices": [CHOICE], "usage": COUNTS}


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def do_GET(self) -> None:
        self._answer(200 if self.path in PAGES else 404, PAGES.get(self.path, {}))

    def do_POST(self) -> None:
        self.rfile.read(int(self.headers.get("content-length", 0)))
        self._answer(200, ANSWER)

    def _answer(self, status: int, content: Any) -> None:
        data = json.dumps(content).encode()
        self.send_response(status)
        self.send_header("content-type", "application/json")
        self.send_header("content-length", f"{len(data)}")
        self.end_headers()
        self.wfile.write(data)

    def log_message(self, format: str, *args: object) -> None: ...  # noqa: A002 - the name in the base class


if __name__ == "__main__":
    ThreadingHTTPServer(("127.0.0.1", PORT), Handler).serve_forever()
