"""``arbiter up`` as a user calls it, with a small server in place of an engine."""

import os
import signal
import socket
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from arbiter.servers.engines import CPU

pytestmark = pytest.mark.slow

Ended = subprocess.CompletedProcess[str]
Arbiter = Callable[..., Ended]

ENGINE = """#!{python}
import sys
from http.server import BaseHTTPRequestHandler, HTTPServer
if sys.argv[1] == "-c":  # the call that checks which packages it has
    print("True", "True", "False")
    sys.exit()
class Handler(BaseHTTPRequestHandler):
    def do_GET(self):
        self.send_response(200)
        self.end_headers()
    def log_message(self, *args): ...
HTTPServer(("127.0.0.1", int(sys.argv[sys.argv.index("--port") + 1])), Handler).serve_forever()
"""


def configured(folder: Path, **models: str) -> int:
    """Write mine.toml with ``models``, whose values are keys of their server tables. Return the first one's port."""
    with socket.socket() as one:
        one.bind(("127.0.0.1", 0))
        port: int = one.getsockname()[1]
    engine = folder / "engine"
    engine.write_text(ENGINE.format(python=sys.executable))
    engine.chmod(0o755)
    text = ""
    for index, (name, keys) in enumerate(models.items()):
        text += f'[models.{name}]\nbackend = "http"\nurl = "http://127.0.0.1:{port + index}"\nprompt = "plain"\n'
        text += f'model = "org/{name}"\n[models.{name}.server]\npython = "./engine"\n{keys}\n'
    (folder / "mine.toml").write_text(text)
    return port


def error_text(ended: Ended) -> str:
    assert (ended.returncode, ended.stdout) == (2, "")
    assert "Traceback" not in ended.stderr
    return ended.stderr.strip()


ON_CPU = 'device = "cpu"'


def test_the_commands_are_printed_and_nothing_is_started(arbiter: Arbiter, tmp_path: Path) -> None:
    port = configured(tmp_path, target="gpus = [2]\npath = '/a model'")
    ended = arbiter("up", "mine.toml", "--print")
    assert (ended.returncode, ended.stderr) == (0, "")
    assert ended.stdout.splitlines() == [
        f"# target, http://127.0.0.1:{port}",
        "CUDA_VISIBLE_DEVICES=2 SGLANG_RETURN_ORIGINAL_LOGPROB=1 "
        f"{tmp_path / 'engine'} -m sglang.launch_server --model-path '/a model' --served-model-name "
        f"org/target --host 127.0.0.1 --port {port} --enable-metrics --enable-cache-report "
        "--enable-session-radix-cache",
    ]
    assert not (tmp_path / "runs").exists()


def test_the_commands_can_be_printed_where_no_engine_is(arbiter: Arbiter, tmp_path: Path) -> None:
    printed = arbiter("up", "pocket-sglang", "--only", "prm", "--print").stdout
    assert f"PYTHONPATH={CPU}" in printed
    assert "--is-embedding --device cpu --attention-backend torch_native" in printed


def test_a_command_runs_beside_its_servers_and_its_status_is_the_end(tmp_path: Path) -> None:
    port = configured(tmp_path, draft=ON_CPU, target=ON_CPU)
    ask = f"import urllib.request as r; r.urlopen('http://127.0.0.1:{port}/ready'); print('asked'); raise SystemExit(7)"
    up = [sys.executable, "-m", "arbiter", "up", "mine.toml", "--logs", "logs", "--", sys.executable, "-c", ask]
    ended = subprocess.run(up, cwd=tmp_path, capture_output=True, text=True, timeout=120, check=False)
    assert (ended.returncode, ended.stdout) == (7, "asked\n")
    assert ended.stderr.splitlines()[-1] == "all servers are stopped"
    assert {path.name for path in (tmp_path / "logs").iterdir()} == {"draft.log", "target.log"}
    with pytest.raises(ConnectionRefusedError), socket.create_connection(("127.0.0.1", port)):
        pass


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_stops_all_servers(tmp_path: Path, number: signal.Signals) -> None:
    port = configured(tmp_path, draft=ON_CPU)
    command = [sys.executable, "-m", "arbiter", "up", "mine.toml"]
    with subprocess.Popen(command, cwd=tmp_path, env=dict(os.environ), stderr=subprocess.PIPE, text=True) as up:
        assert up.stderr is not None
        assert any("all servers are ready" in line for line in iter(up.stderr.readline, ""))
        up.send_signal(number)
        assert "all servers are stopped" in up.stderr.read()
        assert up.wait() == 128 + number
    with pytest.raises(ConnectionRefusedError), socket.create_connection(("127.0.0.1", port)):
        pass


@pytest.mark.parametrize(
    ("keys", "arguments", "named"),
    [
        (ON_CPU, ["--only", "prm"], "--only: mine.toml has no server 'prm' to start; use one of draft"),
        (ON_CPU, ["--", "no-such-command"], "there is no command 'no-such-command'"),
        (ON_CPU + "\npath = './nowhere'", [], "mine.toml: models.draft.server.path: there is no file or folder"),
        ("gpus = [0, 1]", [], "mine.toml: models.draft.server.gpus names 2 GPUs"),
        (ON_CPU + "\nengines = 'sglang'", [], "did you mean 'engine'?"),
    ],
)
def test_what_cannot_be_started_is_told_in_one_line(
    arbiter: Arbiter, tmp_path: Path, keys: str, arguments: list[str], named: str
) -> None:
    configured(tmp_path, draft=keys)
    line = error_text(arbiter("up", "mine.toml", *arguments))
    assert named in line
    assert "\n" not in line


def test_help_of_up_teaches_its_options(arbiter: Arbiter) -> None:
    shown = arbiter("up", "--help").stdout
    for option in ("only", "print", "logs", "host"):
        [line] = [line for line in shown.splitlines() if f"│ --{option} " in line]
        assert len(line.split()) > 5, line
    assert "-- COMMAND" in shown
