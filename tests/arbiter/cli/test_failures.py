"""Exit statuses and advice of commands whose problems fail, here at a server that refuses every request."""

import json
import subprocess
from collections.abc import Callable, Generator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread

import pytest

Ended = subprocess.CompletedProcess[str]
Arbiter = Callable[..., Ended]

CONFIG = """
run_type = "draft"
[models.draft]
backend = "http"
url = "{url}"
model = "m"
prompt = "{{question}}"
retries = 0
[models.target]
backend = "http"
url = "{url}"
model = "m"
prompt = "{{question}}"
retries = 0
[data]
source = "q.jsonl"
[limits]
problems = 2
"""

PRM = """
[models.prm]
model = "pocket:prm"
prompt = "Problem: {question}\\nSolution:\\n"
"""


class Refusing(BaseHTTPRequestHandler):
    """Lists its model, and refuses to generate unless the server is ``mended``."""

    protocol_version = "HTTP/1.1"

    def do_GET(self) -> None:
        self._answer(200, {"data": [{"id": "m"}]} if self.path == "/v1/models" else {})

    def do_POST(self) -> None:
        self.rfile.read(int(self.headers["content-length"]))
        choice = {"text": "\\boxed{7}", "finish_reason": "stop", "index": 0}
        usage = {"prompt_tokens": 3, "completion_tokens": 2}
        if getattr(self.server, "mended", False):
            self._answer(200, {"choices": [choice], "usage": usage})
        else:
            self._answer(400, {"error": {"message": "the adapter is not loaded"}})

    def _answer(self, status: int, body: object) -> None:
        content = json.dumps(body).encode()
        self.send_response(status)
        self.send_header("content-type", "application/json")
        self.send_header("content-length", str(len(content)))
        self.end_headers()
        self.wfile.write(content)

    def log_message(self, format: str, *args: object) -> None: ...  # noqa: A002 - the name of the base class


@pytest.fixture
def server(tmp_path: Path) -> Generator[ThreadingHTTPServer]:
    with ThreadingHTTPServer(("127.0.0.1", 0), Refusing) as server:
        Thread(target=server.serve_forever, daemon=True).start()
        config = CONFIG.format(url=f"http://127.0.0.1:{server.server_address[1]}")
        (tmp_path / "mine.toml").write_text(config, encoding="utf-8")
        rows = [json.dumps({"id": f"p{n}", "question": f"{n}?", "answer": "7"}) for n in range(30)]
        (tmp_path / "q.jsonl").write_text("\n".join(rows), encoding="utf-8")
        yield server
        server.shutdown()


def results(folder: Path) -> int:
    return len((folder / "results.jsonl").read_text(encoding="utf-8").splitlines())


def test_a_run_whose_first_ten_problems_fail_stops_and_says_how_to_continue(
    arbiter: Arbiter, tmp_path: Path, server: ThreadingHTTPServer
) -> None:
    ended = arbiter("bench", "mine.toml", "--out", "run", "--json")
    assert ended.returncode == 1, ended.stderr
    assert "stopped early: the first 10 problems to end have all failed for one cause: " in ended.stderr
    assert "the adapter is not loaded" in json.loads(ended.stdout)["stopped"]
    assert "arbiter bench --resume run --retry-failed" in ended.stderr
    assert "without --retry-failed, failed problems are not solved again" in ended.stderr
    assert results(tmp_path / "run") in (10, 11)  # two are in flight
    server.mended = True  # pyright: ignore[reportAttributeAccessIssue] - read by the handler
    again = arbiter("bench", "--resume", "run", "--retry-failed", "--json")
    assert again.returncode == 0, again.stderr
    summary = json.loads(again.stdout)
    assert (summary["problems"], summary["failed"], summary.get("stopped")) == (30, 0, None)


def test_failed_problems_make_the_exit_status_1_unless_they_are_allowed(
    arbiter: Arbiter, tmp_path: Path, server: ThreadingHTTPServer
) -> None:
    ended = arbiter("bench", "mine.toml", "--out", "run", "--no-fail-fast")
    assert ended.returncode == 1
    assert "failed solutions: 30; to solve them again: arbiter bench --resume run --retry-failed" in ended.stderr
    assert results(tmp_path / "run") == 30
    assert arbiter("bench", "--resume", "run", "--allow-failures").returncode == 0
    assert arbiter("bench", "mine.toml", "--limit", "3", "--out", "few").returncode == 1
    retried = arbiter("bench", "--resume", "run", "--retry-failed")
    assert (retried.returncode, results(tmp_path / "run")) == (1, 30)
    fast = arbiter("bench", "--resume", "run", "--retry-failed", "--fail-fast")
    assert fast.returncode == 1
    assert "stopped early" in fast.stderr


@pytest.mark.slow
def test_a_collection_with_failed_problems_says_how_to_solve_them_again(
    arbiter: Arbiter, tmp_path: Path, server: ThreadingHTTPServer
) -> None:
    with (tmp_path / "mine.toml").open("a", encoding="utf-8") as config:
        config.write(PRM)
    ended = arbiter("collect", "mine.toml", "--limit", "3", "--out", "rows")
    assert ended.returncode == 0, ended.stderr
    again = "to solve them again: arbiter collect --resume rows --retry-failed"
    assert f"3 of 3 problems failed; {again}" in ended.stderr


def test_a_baseline_that_stops_early_is_named(arbiter: Arbiter, server: ThreadingHTTPServer) -> None:
    ended = arbiter("bench", "mine.toml", "--compare", "--out", "run")
    assert ended.returncode == 1, ended.stderr
    assert "the target alone stopped early; it is in run-target" in ended.stderr
    assert "arbiter bench --resume run --retry-failed" in ended.stderr


@pytest.mark.parametrize("measure", [(), ("--measure",)])
def test_a_sweep_stops_early_as_well(
    arbiter: Arbiter, tmp_path: Path, server: ThreadingHTTPServer, measure: tuple[str, ...]
) -> None:
    command = ("sweep", "mine.toml", "--run-types", "draft,target", "--out", "sweep")
    ended = arbiter(*command, *measure)
    assert ended.returncode == 1, ended.stderr
    assert "arbiter sweep --resume sweep --retry-failed" in ended.stderr
    assert "the adapter is not loaded" in json.loads((tmp_path / "sweep" / "sweep.json").read_bytes())["stopped"]
    server.mended = True  # pyright: ignore[reportAttributeAccessIssue] - read by the handler
    again = arbiter("sweep", "--resume", "sweep", "--retry-failed", "--json")
    assert again.returncode == 0, again.stderr
    assert [row["summary"]["problems"] for row in json.loads(again.stdout)["points"]] == [30, 30]
