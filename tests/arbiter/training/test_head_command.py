"""``arbiter train router --on draft``: what it takes from the collection, and which options it refuses."""

from collections.abc import Callable
from pathlib import Path
from subprocess import CompletedProcess

import msgspec
import pytest

from arbiter.backends.head_model import HeadMetadata
from arbiter.data.training_rows import TrainingRow

pytestmark = pytest.mark.slow

Call = Callable[..., CompletedProcess[str]]


@pytest.fixture
def collected(base: Callable[..., Path], rows: list[TrainingRow], tmp_path: Path) -> Path:
    """Return a folder of rows with the configuration that collected them."""
    folder = tmp_path / "rows"
    folder.mkdir()
    (folder / "rows.jsonl").write_bytes(msgspec.json.Encoder().encode_lines(rows))
    draft = f'[models.draft]\nmodel = "{base("ForCausalLM")}"\nprompt = "Q: {{question}}\\n"\nannotate = true\n'
    (folder / "config.toml").write_text(f'separator = "\\n"\n{draft}')
    return folder


def test_model_prompt_and_separator_come_from_the_collection(collected: Path, arbiter: Call, tmp_path: Path) -> None:
    ended = arbiter("train", "router", "--data", "rows", "--on", "draft", "--out", "head", "--json")
    assert ended.returncode == 0, ended.stderr
    metadata = msgspec.json.decode(ended.stdout, type=HeadMetadata)
    assert metadata == msgspec.json.decode((tmp_path / "head" / "arbiter.json").read_bytes(), type=HeadMetadata)
    assert (metadata.prompt, metadata.annotate, metadata.separator) == ("Q: {question}\n", True, "\n")
    assert (metadata.features, metadata.balance) == ("logprobs", "weights")
    shown = arbiter(
        "evaluate", "router", "--data", "rows", "--model", "head", "--split", "validation", "--resamples", "100"
    )
    assert shown.returncode == 0, shown.stderr
    assert "| router |" in shown.stdout


def test_options_replace_what_the_collection_says(collected: Path, base: Callable[..., Path], arbiter: Call) -> None:
    other = base("ForCausalLM", seed=6)
    given = ("--draft", str(other), "--prompt", "plain", "--no-annotate", "--separator", "\n\n", "--seed", "4")
    more = ("--features", "logprobs+entropy", "--balance", "downsample", "--margin", "0.1", "--out", "head", "--json")
    ended = arbiter("train", "router", "--data", "rows", "--on", "draft", *given, *more)
    assert ended.returncode == 0, ended.stderr
    metadata = msgspec.json.decode(ended.stdout, type=HeadMetadata)
    assert (metadata.draft, metadata.prompt, metadata.annotate) == (str(other), "{question}\n", False)
    assert (metadata.separator, metadata.seed, metadata.features) == ("\n\n", 4, "logprobs+entropy")
    assert (metadata.balance, metadata.margin) == ("downsample", 0.1)


@pytest.mark.parametrize(
    ("options", "error"),
    [
        (("--on", "draft", "--base", "pocket:prm"), "--base, --labels and --resume do not apply to --on draft"),
        (("--on", "draft", "--labels", "ordinal"), "--base, --labels and --resume do not apply to --on draft"),
        (("--on", "draft", "--epochs", "3"), "--epochs does not apply to --on draft"),
        (("--on", "draft", "--learning-rate", "3"), "--learning-rate does not apply to --on draft"),
        (("--base", "pocket:prm", "--draft", "pocket:draft"), "add --on draft, or leave them out"),
        ((), "give --base, the checkpoint to start from, or --on draft"),
    ],
)
def test_options_of_the_other_kind_of_router_are_refused(
    options: tuple[str, ...], error: str, collected: Path, arbiter: Call, tmp_path: Path
) -> None:
    ended = arbiter("train", "router", "--data", "rows", *options, "--out", "head")
    assert ended.returncode != 0
    assert error in " ".join(ended.stderr.split())
    assert not (tmp_path / "head").exists()


def test_rows_without_their_configuration_need_the_draft_and_its_prompt(collected: Path, arbiter: Call) -> None:
    (collected / "config.toml").unlink()
    command = ("train", "router", "--data", "rows", "--on", "draft", "--out", "head")
    assert "give --draft" in arbiter(*command).stderr
    assert "give --prompt" in arbiter(*command, "--draft", "pocket:draft").stderr


def test_rows_of_different_drafts_are_not_mixed(collected: Path, arbiter: Call, tmp_path: Path) -> None:
    other = tmp_path / "other"
    other.mkdir()
    (other / "rows.jsonl").write_bytes((collected / "rows.jsonl").read_bytes())
    (other / "config.toml").write_text('[models.draft]\nmodel = "pocket:draft"\nprompt = "plain"\n')
    ended = arbiter("train", "router", "--data", "rows", "other", "--on", "draft", "--out", "head")
    assert "written by different drafts" in ended.stderr
