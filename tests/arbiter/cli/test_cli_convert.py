"""``arbiter convert`` as a user calls it, with a pocket model."""

import re
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

from arbiter.backends.opening import open_scorer
from arbiter.config.config import parse
from arbiter.protocols.ports import ScoreRequest
from arbiter.protocols.records import Transcript

Arbiter = Callable[..., subprocess.CompletedProcess[str]]


@pytest.fixture
def prm(tmp_path: Path) -> str:
    pytest.importorskip("torch")
    return "pocket:prm"


def test_a_conversion_says_what_came_of_it_and_how_it_is_served(arbiter: Arbiter, tmp_path: Path, prm: str) -> None:
    ended = arbiter("convert", prm, "--out", "converted", "--as", "classes")
    assert ended.returncode == 0, ended.stderr
    lines = ended.stdout.splitlines()
    assert lines[0].startswith("a head for the labels of a sequence → ")
    assert lines[0].endswith("ForSequenceClassification, 2 labels (classes), bias: none")
    assert lines[1].startswith("largest difference between old and new logits: ")
    assert re.fullmatch(r"as GGUF: no name for the head, .* 0 of \d+ blocks .* be zero and 0 infinite", lines[2])
    assert lines[3].endswith("--model-path converted --is-embedding")
    assert (tmp_path / "converted" / "model.safetensors").is_file()


@pytest.mark.asyncio
async def test_a_converted_reward_model_scores_as_before(arbiter: Arbiter, tmp_path: Path, prm: str) -> None:
    assert arbiter("convert", prm, "--out", "converted", "--as", "classes").returncode == 0
    request = ScoreRequest("p", 0, "prm", Transcript("Compute 2+2."), "2+2: 2+2=4: 4.", "draft", "\n\n")
    scores: list[float] = []
    for model in (prm, str(tmp_path / "converted")):
        table = parse({"models": {"prm": {"model": model, "prompt": "plain", "device": "cpu"}}}, "test").models.prm
        assert table is not None
        async with open_scorer("prm", table, None) as scorer:
            scores.append((await scorer.score(request)).value)
    assert scores[0] == pytest.approx(scores[1], abs=1e-5)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("pocket:draft", "--out", "out"), "without a linear head"),
        (("./nowhere", "--out", "out"), "cannot read './nowhere'"),
        (("pocket:prm", "--out", "."), "already exists"),
        (("pocket:prm", "--out", "out", "--as", "bins"), "--as"),
    ],
)
def test_what_cannot_be_converted_is_told_in_a_line(arbiter: Arbiter, arguments: tuple[str, ...], message: str) -> None:
    ended = arbiter("convert", *arguments)
    assert (ended.returncode, ended.stdout) == (2, "")
    assert message in ended.stderr
    assert "Traceback" not in ended.stderr
