"""The parts of the export that need no inspect_ai: names of logs and counts of tokens."""

import subprocess
from collections.abc import Callable
from importlib.util import find_spec
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from arbiter.exports.eval_usage import EvalModels, usage_of
from arbiter.log.run import Run
from arbiter.protocols.records import Usage

Command = Callable[..., subprocess.CompletedProcess[str]]
COUNTS = st.integers(0, 10**9)


@pytest.mark.parametrize("name", ["log", "log.txt", "log.eval.gz", ".eval"])
def test_a_name_that_inspect_would_not_read_is_refused(
    arbiter: Command, plain_run: Run, tmp_path: Path, name: str
) -> None:
    ended = arbiter("export", str(plain_run.path.parent), "--inspect", name)
    assert (ended.returncode, list(tmp_path.iterdir())) == (2, [])
    assert f"--inspect {name}: the name must end in .eval" in ended.stderr


@pytest.mark.skipif(find_spec("inspect_ai") is not None, reason="inspect_ai is installed")
def test_without_inspect_ai_the_way_to_install_it_is_told(arbiter: Command, plain_run: Run, tmp_path: Path) -> None:
    ended = arbiter("export", str(plain_run.path.parent), "--inspect", "log.eval", "--html", "page.html")
    assert (ended.returncode, list(tmp_path.iterdir())) == (2, [])
    assert "an .eval log needs inspect_ai" in ended.stderr
    assert "pip install 'arbiter-reasoning[inspect]'" in ended.stderr


@pytest.mark.skipif(find_spec("inspect_ai") is None, reason="inspect_ai is not installed")
def test_the_command_tells_how_to_open_the_log(arbiter: Command, plain_run: Run, tmp_path: Path) -> None:
    ended = arbiter("export", str(plain_run.path.parent), "--inspect", "logs/first.eval")
    assert (ended.returncode, ended.stdout) == (0, "")
    assert "inspect view --log-dir logs" in ended.stderr
    assert [path.name for path in (tmp_path / "logs").iterdir()] == ["first.eval"]


@given(COUNTS, COUNTS, COUNTS)
def test_tokens_from_a_cache_are_counted_apart_and_none_twice(cached: int, more: int, written: int) -> None:
    told = usage_of(Usage(cached + more, written, cached))
    assert (told["input_tokens"], told.get("input_tokens_cache_read", 0)) == (more, cached)
    assert told["total_tokens"] == told["input_tokens"] + cached + told["output_tokens"]


def test_models_have_the_names_of_the_configuration() -> None:
    models = EvalModels(
        {"models.draft.model": "a/small", "models.targets.big.model": "a/large", "models.prm.model": "a/prm"}
    )
    assert (models.name("draft"), models.name("target", "big"), models.name("audit")) == ("a/small", "a/large", "a/prm")
    assert models.name("judge") == "judge"
