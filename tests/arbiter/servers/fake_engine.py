"""A server that behaves like an engine: ``python fake_engine.py PORT [WHAT …]``, with the standard library only.

It is ready immediately. ``fails`` ends it with an error before it listens; ``stubborn`` ignores TERM; ``parent:FILE``
starts a child that outlives it, in a group of its own, and writes its process id into FILE; ``POST /die`` ends it.
"""

import os
import signal
import subprocess
import sys
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

METRICS = 'sglang:num_running_reqs{tp_rank="0"} 3.0\nsglang:num_queue_reqs{tp_rank="0"} 2.0\n'
SLEEPER = "import signal, time; signal.signal(signal.SIGTERM, signal.SIG_IGN); time.sleep(600)"


class Handler(BaseHTTPRequestHandler):
    def do_GET(self) -> None:
        pages = {"/ready": "", "/metrics": METRICS}
        self.send_response(200 if self.path in pages else 404)
        self.end_headers()
        self.wfile.write(pages.get(self.path, "").encode())

    def do_POST(self) -> None:
        os._exit(3)

    def log_message(self, format: str, *args: object) -> None: ...  # noqa: A002 - the name in the base class


def main(port: int, what: list[str]) -> None:
    if "fails" in what:
        sys.exit("no weights to be found")
    if "stubborn" in what:
        signal.signal(signal.SIGTERM, signal.SIG_IGN)
    for option in what:
        if option.startswith("parent:"):
            child = subprocess.Popen([sys.executable, "-c", SLEEPER], start_new_session=True)
            Path(option.removeprefix("parent:")).write_text(str(child.pid))
    ThreadingHTTPServer(("127.0.0.1", port), Handler).serve_forever()


if __name__ == "__main__":
    main(int(sys.argv[1]), sys.argv[2:])
