"""``--draft`` and ``--target`` in place of a configuration, as a user gives them."""

import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

from arbiter.cli.model_options import ModelOptions
from arbiter.config.config import load_config
from arbiter.config.run_tables import RunType
from arbiter.data import load_problems
from arbiter.pocket import MODELS

Arbiter = Callable[..., subprocess.CompletedProcess[str]]
PAIR = ("--draft", "pocket:draft", "--target", "pocket:target")


@pytest.mark.parametrize(
    ("third", "run_type"),
    [
        ((), "confidence"),
        (("--prm", "pocket:prm"), "rsd"),
        (("--prm", "pocket:prm", "--router", "pocket:router"), "router"),
        (("--router", "pocket:draft-head"), "router"),
    ],
)
def test_the_run_type_is_that_of_the_models(arbiter: Arbiter, tmp_path: Path, third: tuple[str], run_type: str) -> None:
    ended = arbiter("bench", *PAIR, *third, "--limit", "1", "--out", "run")
    assert ended.returncode == 0, ended.stderr
    assert load_config(str(tmp_path / "run" / "config.toml")).run_type == run_type


def test_such_a_run_is_resumed_replayed_and_reported_without_the_options(arbiter: Arbiter) -> None:
    assert arbiter("bench", *PAIR, "--limit", "2", "--out", "run").returncode == 0
    for command in (("bench", "--resume", "run"), ("replay", "run"), ("report", "run"), ("bench", "run/config.toml")):
        ended = arbiter(*command)
        assert ended.returncode == 0, ended.stderr


def test_a_folder_is_a_model_in_process_with_its_own_chat_template(arbiter: Arbiter, tmp_path: Path) -> None:
    shutil.copytree(MODELS / "draft", tmp_path / "models" / "small")
    (tmp_path / "own.jsonl").write_text('{"question": "Compute 12+30.", "answer": "42"}\n')
    ended = arbiter("bench", "--draft", "models/small", "--run-type", "draft", "--data", "own.jsonl", "--out", "run")
    assert ended.returncode == 0, ended.stderr
    config = load_config(str(tmp_path / "run" / "config.toml"))
    assert config.models.draft is not None
    assert (config.models.draft.model, config.models.draft.prompt) == (str(tmp_path / "models" / "small"), "chat")
    assert (config.limits.max_tokens, config.limits.step_tokens) == (384, 384)


@pytest.mark.parametrize("run_type", [None, "draft"])
def test_the_limit_of_the_pocket_problems_is_not_one_of_other_data(run_type: RunType | None) -> None:
    pocket = ModelOptions(draft="pocket:draft", target="pocket:target").tree(run_type)
    assert pocket["data"] == {"source": "pocket:1"}
    assert load_config(pocket, {"data": {"source": "own.jsonl"}}).data.limit is None
    assert len(load_problems("pocket:1", load_config(pocket).data.limit)) == 200


@pytest.mark.parametrize("command", ["solve Compute-12+30.", "sweep --limit 1", "collect --limit 1"])
def test_other_commands_take_the_models_too(arbiter: Arbiter, command: str) -> None:
    ended = arbiter(*command.split(), *PAIR, "--prm", "pocket:prm")
    assert ended.returncode == 0, ended.stderr


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (
            ("bench", "--draft", "pocket:draft"),
            "--target is missing: the run type 'confidence' needs --draft and --target",
        ),
        (("bench", "pocket", *PAIR), "--draft and --target and the configuration pocket are both given: leave pocket"),
        (("bench", "--prompt", "chat"), "--prompt, --scorer-prompt and --server-key-env need --draft"),
        (("bench",), "or the models: --draft MODEL --target MODEL"),
        (("bench", "--draft", "", "--target", "pocket:target"), "--draft is empty: give a URL, a folder or a hub name"),
        (("bench", "--draft", "./smal", "--target", "pocket:target"), "did you mean {folder}/small?"),
        (("bench", "--draft", "small/dratf", "--target", "pocket:target"), "--draft: there is no file or folder"),
        (("bench", "--draft", "small", "--target", "pocket:target"), "--data is missing: name the problems"),
        (("bench", "--draft", "pocket:d", "--target", "pocket:target"), "there is no such pocket model; there are"),
        (
            ("bench", "--draft", "pocket:draft-head", "--target", "pocket:target"),
            "trained this model as a draft-head, not as a draft",
        ),
        (
            ("bench", "--draft", "pocket:draft", "--target", "pocket:prm"),
            "trained this model as a prm, not as a target",
        ),
        (("collect", *PAIR), "--prm is missing: the run type 'generate' needs --draft and --target and --prm"),
        (
            ("init", *PAIR, "--run-type", "judge"),
            "needs a table [models.judge], which no option makes: write a configuration with arbiter init and the "
            "options of the other models, without --run-type; then add the table, and set run_type",
        ),
        (("bench", *PAIR, "--run-type", "router"), "--router is missing: the run type 'router' needs"),
        (("bench", "--draft", "empty", "--target", "pocket:target"), "the prompt of '{folder}/empty' is not known"),
        (("serve", "pocket", *PAIR), "--draft and --target and the configuration pocket are both given"),
        (("solve", "1+1?", "--config", "pocket", *PAIR), "the configuration pocket are both given"),
    ],
)
def test_what_is_wrong_names_the_option(
    arbiter: Arbiter, tmp_path: Path, arguments: tuple[str, ...], message: str
) -> None:
    shutil.copytree(MODELS / "draft", tmp_path / "small")
    (tmp_path / "empty").mkdir()
    ended = arbiter(*arguments)
    assert (ended.returncode, ended.stdout) == (2, "")
    assert message.format(folder=tmp_path) in ended.stderr
    assert ended.stderr.count("\n") == 1
