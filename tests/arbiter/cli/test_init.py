"""``arbiter init`` as a user calls it."""

import os
import pty
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from arbiter.config.config import load_config
from arbiter.pocket import MODELS

Arbiter = Callable[..., subprocess.CompletedProcess[str]]
PAIR = ("--draft", "pocket:draft", "--target", "pocket:target")


def test_the_file_has_comments_and_is_a_whole_configuration(arbiter: Arbiter, tmp_path: Path) -> None:
    ended = arbiter("init", "mine.toml", *PAIR, "--router", "pocket:router")
    assert (ended.returncode, ended.stdout) == (0, "")
    assert "arbiter doctor mine.toml" in ended.stderr
    assert "arbiter bench mine.toml" in ended.stderr
    text = (tmp_path / "mine.toml").read_text()
    assert all("#" in line for line in text.splitlines() if line.startswith("[models"))
    config = load_config(str(tmp_path / "mine.toml"))
    assert (config.run_type, config.data.source, config.limits.max_tokens) == ("router", "pocket:1", 300)
    assert config.data.limit is None
    assert arbiter("bench", "mine.toml", "--limit", "1").returncode == 0


def test_a_file_that_exists_is_not_replaced_and_no_model_is_read(arbiter: Arbiter, tmp_path: Path) -> None:
    (tmp_path / "arbiter.toml").write_text("mine")
    ended = arbiter("init", "--draft", "./nowhere", "--target", "pocket:target")
    assert ended.returncode == 2
    assert "arbiter.toml exists, and is not replaced" in ended.stderr
    assert (tmp_path / "arbiter.toml").read_text() == "mine"


def test_paths_below_the_file_are_written_relative_to_it(arbiter: Arbiter, tmp_path: Path) -> None:
    shutil.copytree(MODELS / "draft", tmp_path / "models" / "small")
    (tmp_path / "own.jsonl").write_text('{"question": "1+1?"}\n')
    models = ("--draft", "models/small", "--target", "pocket:target")
    assert arbiter("init", "mine.toml", *models, "--data", "own.jsonl").returncode == 0
    text = (tmp_path / "mine.toml").read_text()
    assert 'model = "./models/small"' in text
    assert 'source = "./own.jsonl"' in text


@pytest.mark.parametrize(
    ("data", "file", "written"),
    [
        ("hubd:test", "mine.toml", "./hubd:test"),
        ("hubd:test", "sub/mine.toml", "{folder}/hubd:test"),
        ("gsm8k", "mine.toml", "gsm8k"),
        ("./gsm8k", "mine.toml", "./gsm8k"),
    ],
)
def test_the_source_that_is_written_is_the_one_that_bench_would_read(
    arbiter: Arbiter, tmp_path: Path, data: str, file: str, written: str
) -> None:
    for name in ("hubd", "gsm8k", "sub"):
        (tmp_path / name).mkdir()
    assert arbiter("init", file, *PAIR, "--data", data).returncode == 0
    assert f'source = "{written.format(folder=tmp_path)}"' in (tmp_path / file).read_text()


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ((), "name the models: arbiter init FILE --draft MODEL --target MODEL"),
        (("folder/mine.toml", *PAIR), "there is no folder folder"),
        (("mine.toml", "--draft", "pocket:draft"), "--target is missing"),
        (("mine.toml", *PAIR, "--prompt", "nothing"), "--prompt: the prompt 'nothing' is not the name of a template"),
    ],
)
def test_what_is_wrong_is_a_line_and_nothing_is_written(
    arbiter: Arbiter, tmp_path: Path, arguments: tuple[str, ...], message: str
) -> None:
    ended = arbiter("init", *arguments)
    assert (ended.returncode, ended.stderr.count("\n")) == (2, 1)
    assert message in ended.stderr
    assert list(tmp_path.iterdir()) == []


@pytest.mark.slow
def test_on_a_terminal_a_few_questions_are_asked(tmp_path: Path) -> None:
    ours, terminal = pty.openpty()
    process = subprocess.Popen(
        [sys.executable, "-m", "arbiter", "init", "mine.toml"],
        cwd=tmp_path,
        stdin=terminal,
        stderr=terminal,
        env={**os.environ, "TERM": "xterm"},
    )
    os.write(ours, b"pocket:draft\npocket:target\n\npocket:prm\npocket:7\n")
    assert process.wait(60) == 0
    asked = os.read(ours, 1 << 16).decode()
    os.close(ours)
    os.close(terminal)
    config = load_config(str(tmp_path / "mine.toml"))
    assert (config.run_type, config.data.source) == ("rsd", "pocket:7")
    assert asked.index("draft model") < asked.index("target model") < asked.index("router (Enter: none)")
