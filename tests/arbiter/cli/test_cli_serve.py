"""``arbiter serve`` as a process: it starts, answers, logs, and shuts down."""

import os
import re
import signal
import socket
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import httpx2
import pytest

from arbiter.log.run import Run
from arbiter.replay.check import check

pytestmark = pytest.mark.slow

SLOW = """
run_type = "draft"

[limits]
problems = 4

[models.draft]
backend = "http"
url = "{url}"
model = "slow"
prompt = "plain"
"""


PRICED = """
run_type = "draft"

[models.draft]
model = "pocket:draft"
prompt = "Problem: {question}\\nSolution:\\n"
price = { prompt = 1.0, completion = 2.0 }

[models.target]
model = "pocket:target"
prompt = "Problem: {question}\\nSolution:\\n"
price = { prompt = 10.0, completion = 40.0 }

[serve]
choices = 2

[serve.aliases]
small = "arbiter:draft"

[serve.caps]
per_day = 1000
"""


class Process:
    """A running command, and its lines on standard error."""

    def __init__(self, arguments: list[str], folder: Path, environment: dict[str, str]) -> None:
        self.process = subprocess.Popen(
            [Path(sys.executable).parent / "arbiter", "serve", *arguments, "--port", "0"],
            cwd=folder,
            env={**os.environ, "NO_COLOR": "1", "OMP_NUM_THREADS": "1", **environment},
            stderr=subprocess.PIPE,
            text=True,
        )
        self.lines: list[str] = []
        self.is_ready = threading.Event()
        self._reader = threading.Thread(target=self._read)
        self._reader.start()

    @property
    def url(self) -> str:
        assert self.is_ready.wait(120), self.lines
        found = re.search(r"http://127\.0\.0\.1:\d+", "".join(self.lines))
        assert found, self.lines
        return found[0]

    def ended(self, within: float = 60) -> int:
        """The exit status."""
        status = self.process.wait(within)
        self._reader.join(10)
        if self.process.stderr:
            self.process.stderr.close()
        return status

    def _read(self) -> None:
        assert self.process.stderr is not None
        for line in self.process.stderr:
            self.lines.append(line)
            if "web page:" in line:
                self.is_ready.set()
        self.is_ready.set()


@pytest.fixture
def serve(tmp_path: Path) -> Iterator[Callable[..., Process]]:
    """Start the command. A process that still runs at the end is killed."""
    started: list[Process] = []

    def start(*arguments: str, **environment: str) -> Process:
        started.append(Process(list(arguments), tmp_path, environment))
        return started[-1]

    yield start
    for one in started:
        one.process.kill()
        one.ended()


def ask(url: str, **fields: Any) -> httpx2.Response:
    body = {"model": "arbiter", "messages": [{"role": "user", "content": "Compute (12+30)*7."}], **fields}
    return httpx2.post(f"{url}/v1/chat/completions", json=body, timeout=60)


def test_it_answers_keeps_the_log_of_all_requests_and_ends_at_ctrl_c(serve: Any, tmp_path: Path) -> None:
    process = serve("pocket", "--out", "served", "--run-types", "target")
    answer = ask(process.url).json()
    target = ask(process.url, model="arbiter:target").json()
    assert ask(process.url, model="arbiter:rsd").status_code == 404
    process.process.send_signal(signal.SIGINT)
    assert process.ended() == 0
    assert "\\boxed{294}" in answer["choices"][0]["message"]["content"]
    run = Run.open(tmp_path / "served")
    assert [problem.key[0] for problem in run.problems()] == [answer["arbiter"]["id"], target["arbiter"]["id"]]
    assert check(run).differences == ()
    access = [line for line in process.lines if '"path": "/v1/chat/completions"' in line]
    assert len(access) == 3
    assert "Compute" not in "".join(process.lines)


def test_keys_come_from_the_environment_and_are_told_nowhere(serve: Any, tmp_path: Path) -> None:
    process = serve("pocket", "--run-types", "draft", "--api-key-env", "KEYS", "--out", "served", KEYS="k-one,k-two")
    assert httpx2.get(f"{process.url}/v1/models").status_code == 401
    for key in ("k-one", "k-two"):
        with_key = httpx2.get(f"{process.url}/v1/models", headers={"authorization": f"Bearer {key}"})
        assert with_key.status_code == 200
    process.process.terminate()
    assert process.ended() == 0
    stored = "".join(path.read_text(encoding="utf-8") for path in (tmp_path / "served").iterdir() if path.is_file())
    assert "k-one" not in stored + "".join(process.lines)


def test_aliases_and_further_hosts_are_options(serve: Any) -> None:
    options = ["--alias", "gpt-4o=arbiter:draft", "--alias", "mine=arbiter", "--allow-host", "models.example"]
    process = serve("pocket", "--run-types", "draft", *options)
    models = httpx2.get(f"{process.url}/v1/models", headers={"host": "models.example"}).json()["data"]
    assert [model["id"] for model in models][-2:] == ["gpt-4o", "mine"]
    assert ask(process.url, model="gpt-4o").json()["model"] == "gpt-4o"
    assert httpx2.get(f"{process.url}/v1/models", headers={"host": "other.example"}).status_code == 421
    process.process.terminate()
    assert process.ended() == 0


def test_the_table_serve_and_a_share_of_shadows_reach_the_endpoint(serve: Any, tmp_path: Path) -> None:
    (tmp_path / "priced.toml").write_text(PRICED, encoding="utf-8")
    process = serve("priced.toml", "--run-types", "target", "--shadow", "1")
    answer = ask(process.url, model="small", n=2).json()
    assert answer["arbiter"]["cost"]["target_alone_estimated"] > answer["arbiter"]["cost"]["total"] > 0
    assert ask(process.url, n=3).json()["error"]["param"] == "n"
    while 'arbiter_shadows_total{outcome="measured"} 2.0' not in httpx2.get(f"{process.url}/metrics").text:
        pass
    assert 0 < httpx2.get(f"{process.url}/live").json()["cost"]["ratio_measured"] < 1
    process.process.terminate()
    assert process.ended() == 0


@pytest.fixture
def slow_server() -> Iterator[str]:
    """A model server that accepts every request, but answers only the ones that list its models."""
    with socket.create_server(("127.0.0.1", 0)) as listening:
        port = listening.getsockname()[1]
        threading.Thread(target=_answer_slowly, args=(listening,), daemon=True).start()
        yield f"http://127.0.0.1:{port}"


def _answer_slowly(listening: socket.socket) -> None:
    while True:
        try:
            connection, _ = listening.accept()
        except OSError:
            return
        threading.Thread(target=_one, args=(connection,), daemon=True).start()


def _one(connection: socket.socket) -> None:
    with connection:
        head = connection.recv(65536).decode()
        if head.startswith("GET /v1/models"):
            body = '{"data": [{"id": "slow"}]}'
            head = f"HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: {len(body)}\r\n\r\n"
            connection.sendall((head + body).encode())
        elif head.startswith("GET"):
            connection.sendall(b"HTTP/1.1 404 Not Found\r\ncontent-length: 0\r\n\r\n")
        else:
            while connection.recv(65536):
                pass


@pytest.mark.parametrize("drain", ["0.5", "60"])
def test_what_does_not_end_in_time_is_handed_back_and_a_second_signal_hands_back_at_once(
    serve: Any, slow_server: str, tmp_path: Path, drain: str
) -> None:
    (tmp_path / "slow.toml").write_text(SLOW.format(url=slow_server), encoding="utf-8")
    process, answers = serve("slow.toml", "--drain", drain), list[httpx2.Response]()
    url = process.url
    client = threading.Thread(target=lambda: answers.append(ask(url)))
    client.start()
    while httpx2.get(f"{url}/live").json()["totals"]["running"] == 0:
        pass
    process.process.terminate()
    if drain == "60":
        with suppress(httpx2.ConnectError):  # it does not listen any more
            while httpx2.get(f"{url}/ready").status_code == 200:
                pass
        process.process.terminate()
    client.join(60)
    assert (answers[0].status_code, answers[0].json()["error"]["code"]) == (503, "closing")
    assert process.ended() == 0
    assert any(line.startswith("closing; problems in progress: 1, for at most") for line in process.lines)


def test_what_is_wrong_is_told_in_a_line_before_anything_is_loaded(arbiter: Any) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = str(taken.getsockname()[1])
        in_use = arbiter("serve", "pocket", "--port", port)
    without_key = arbiter("serve", "pocket", "--api-key-env", "NO_SUCH_VARIABLE")
    unknown = arbiter("serve", "nowhere")
    malformed = arbiter("serve", "pocket", "--alias", "gpt-4o")
    hidden = arbiter("serve", "pocket", "--alias", "arbiter:mine=arbiter")
    nothing = arbiter("serve", "pocket", "--port", "0", "--run-types", "draft", "--alias", "gpt-4o=arbiter:wizard")
    shares = [arbiter("serve", "pocket", "--port", "0", "--shadow", share) for share in ("2", "0.02")]
    judged = arbiter("serve", "pocket", "--port", "0", "--run-types", "judge")
    assert (in_use.returncode, "--port" in in_use.stderr) == (2, True)
    assert (without_key.returncode, "NO_SUCH_VARIABLE" in without_key.stderr) == (2, True)
    assert (unknown.returncode, "nowhere" in unknown.stderr) == (2, True)
    for refused in (malformed, hidden, nothing):
        assert (refused.returncode, "alias" in refused.stderr) == (2, True)
    assert [refused.returncode for refused in shares] == [2, 2]
    assert "--shadow: serve.shadow: Expected `float` <= 1.0" in shares[0].stderr
    assert "serve.shadow needs the prices of all models" in shares[1].stderr
    assert (judged.returncode, "[models.judge]" in judged.stderr) == (2, True)
