"""With a real sglang: its parser accepts the command lines, and one server starts and stops."""

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from arbiter.config.config import built_in, load_config, parse
from arbiter.config.model_tables import ServedTable
from arbiter.protocols.errors import ConfigError
from arbiter.servers.engines import without_kernels
from arbiter.servers.interpreters import Interpreter, find_interpreter
from arbiter.servers.plan import plan
from arbiter.servers.plan_types import Launch

PARSER = """
import argparse, json, sys
from sglang.srt.server_args import ServerArgs
parser = argparse.ArgumentParser()
ServerArgs.add_cli_args(parser)
found = []
for arguments in json.load(sys.stdin):
    known, unknown = parser.parse_known_args(arguments)
    found.append({"unknown": unknown, **{name: vars(known)[name] for name in sys.argv[1:]}})
print(json.dumps(found))
"""
SEEN = (
    "port",
    "tp_size",
    "dp_size",
    "is_embedding",
    "served_model_name",
    "mem_fraction_static",
    "speculative_algorithm",
)


@pytest.fixture(scope="module")
def sglang() -> Interpreter:
    try:
        return find_interpreter("sglang")
    except ConfigError as error:
        pytest.skip(str(error))


def every_key() -> list[Launch]:
    """Launches whose tables use every key."""
    speculation = {"algorithm": "EAGLE3", "model": "org/eagle", "steps": 3, "topk": 4, "tokens": 16}
    server: dict[str, Any] = {
        "gpus": [0, 1, 2, 3],
        "tensor_parallel": 2,
        "data_parallel": 2,
        "memory_fraction": 0.8,
        "context_length": 8192,
        "quantization": "fp8",
        "dtype": "bfloat16",
        "speculation": speculation,
        "args": ["--chunked-prefill-size", "4096"],
    }
    served = {"backend": "http", "model": "org/target", "prompt": "plain", "priority": "vllm"}
    scorer = {"backend": "http", "model": "org/prm", "prompt": "plain", "url": "http://localhost:30001"}
    tables = {
        "target": {**served, "url": "http://localhost:30000", "server": server},
        "prm": {**scorer, "server": {"gpus": [4], "path": "q4.gguf"}},
    }
    return launches({"models": tables})


def launches(tree: dict[str, Any]) -> list[Launch]:
    return list(plan(parse(tree, "mine.toml"), "mine.toml", lambda program, named: Interpreter(program)).launches)


def shipped() -> list[Launch]:
    """The sglang servers of all built-in configurations."""
    found: list[Launch] = []
    for name in built_in():
        config = load_config(name)
        if any(isinstance(table, ServedTable) and table.server for table in config.models.configured().values()):
            found += plan(config, name, lambda program, named: Interpreter(program)).launches
    return [launch for launch in found if launch.program == "sglang"]


@pytest.fixture(scope="module")
def parsed(sglang: Interpreter) -> list[dict[str, Any]]:
    """Each command line as sglang's parser reads it: first those with every key, then the built-in ones."""
    arguments = [launch.command[3:] for launch in (*every_key(), *shipped())]
    environment = {**os.environ, **({} if sglang.has_kernels else without_kernels())}
    ended = subprocess.run(
        [sglang.path, "-c", PARSER, *SEEN],
        input=json.dumps(arguments),
        env=environment,
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )
    assert ended.returncode == 0, ended.stderr[-2000:]
    return json.loads(ended.stdout.splitlines()[-1])


@pytest.mark.slow
def test_sglangs_parser_knows_every_argument(parsed: list[dict[str, Any]]) -> None:
    assert [one["unknown"] for one in parsed] == [[] for _ in parsed]
    assert len(parsed) > 2 + 4


def test_sglangs_parser_understands_what_is_meant(parsed: list[dict[str, Any]]) -> None:
    assert [parsed[0][name] for name in SEEN] == [30000, 2, 2, False, "org/target", 0.8, "EAGLE3"]
    assert [parsed[1][name] for name in SEEN] == [30001, 1, 1, True, "org/prm", None, None]


@pytest.mark.nightly
def test_a_real_server_runs_as_long_as_a_command_does(sglang: Interpreter, tmp_path: Path, free_port: int) -> None:
    config = tmp_path / "one.toml"
    config.write_text(
        '[models.draft]\nbackend = "http"\nmodel = "pocket-draft"\nprompt = "plain"\n'
        f'url = "http://127.0.0.1:{free_port}"\n'
        '[models.draft.server]\npath = "pocket:draft"\ndevice = "cpu"\nargs = ["--max-total-tokens", "4096"]\n'
    )
    ask = f"import urllib.request as r; print(r.urlopen('http://127.0.0.1:{free_port}/v1/models').read().decode())"
    ended = subprocess.run(
        [sys.executable, "-m", "arbiter", "up", str(config), "--only", "draft", "--", sys.executable, "-c", ask],
        cwd=tmp_path,
        env={**os.environ, "ARBITER_SGLANG_PYTHON": sglang.path},
        capture_output=True,
        text=True,
        timeout=400,
        check=False,
    )
    assert ended.returncode == 0, ended.stderr
    assert json.loads(ended.stdout)["data"][0]["id"] == "pocket-draft"
    assert "all servers are stopped" in ended.stderr
    log = (tmp_path / "runs" / "servers" / "one" / "draft.log").read_text()
    assert " PYTHONPATH=" in log.partition("\n")[0] or sglang.has_kernels
