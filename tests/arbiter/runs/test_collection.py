"""``arbiter collect`` and ``arbiter train``, run as commands."""

import subprocess
from collections.abc import Callable
from pathlib import Path

import msgspec
import pytest

from arbiter.config.config import parse
from arbiter.data.training_rows import TrainingRow
from arbiter.protocols.errors import DataError
from arbiter.runs.collection import Collection, common, planned, read_collection
from arbiter.training.training_data import read_rows

pytestmark = pytest.mark.slow

Call = Callable[..., subprocess.CompletedProcess[str]]


@pytest.fixture(scope="module")
def small() -> tuple[str, ...]:
    return ("collect", "pocket", "--data", "pocket:7", "--limit", "16", "--validation", "0.3", "--test", "0.2")


def test_a_collection_has_rows_with_their_part_and_a_description(
    arbiter: Call, small: tuple[str, ...], tmp_path: Path
) -> None:
    ended = arbiter(*small, "--samples", "2", "--temperature", "0.7", "--out", "rows", "--json")
    assert ended.returncode == 0, ended.stderr
    collection = read_collection(tmp_path / "rows")
    assert collection == msgspec.json.decode(ended.stdout, type=Collection)
    assert collection is not None
    assert (collection.complete, collection.annotate, collection.separator) == (True, True, "\n\n")
    rows = read_rows(tmp_path / "rows")
    assert {len(row.targets) for row in rows} == {2}
    parts = {row.problem: {other.split for other in rows if other.problem == row.problem} for row in rows}
    assert all(len(splits) == 1 for splits in parts.values())
    counts = {split: sum(row.split == split for row in rows) for split in {row.split for row in rows}}
    assert {split: sum(by_source.values()) for split, by_source in collection.rows.items()} == counts


@pytest.mark.nightly
def test_a_collection_is_continued_and_a_larger_one_keeps_the_parts(
    arbiter: Call, small: tuple[str, ...], tmp_path: Path
) -> None:
    assert arbiter(*small, "--out", "rows").returncode == 0
    rows = sorted(read_rows(tmp_path / "rows"), key=lambda row: (row.problem, row.step))
    again = arbiter("collect", "--resume", "rows")
    assert again.returncode == 0, again.stderr
    assert sorted(read_rows(tmp_path / "rows"), key=lambda row: (row.problem, row.step)) == rows
    larger = [word if word != "16" else "24" for word in small]
    assert arbiter(*larger, "--out", "more").returncode == 0
    parts = {row.problem: row.split for row in read_rows(tmp_path / "more")}
    assert {row.problem: row.split for row in rows}.items() <= parts.items()


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (("pocket", "--samples", "4"), "--samples 4: at temperature 0"),
        (("pocket", "--validation", "0.6", "--test", "0.5"), "leave no problem to train on"),
        (("pocket", "--test", "1.5"), "--test 1.5"),
        (("--resume", "nowhere"), "there is no run"),
        (("pocket", "--data", "mine.jsonl", "--stratify", "topic"), "there is no field 'topic'"),
        (("--import", "nowhere.jsonl"), "cannot read 'nowhere.jsonl'"),
    ],
)
def test_what_cannot_be_collected_is_told_in_a_line(
    arbiter: Call, tmp_path: Path, options: tuple[str, ...], message: str
) -> None:
    (tmp_path / "mine.jsonl").write_text('{"question": "1+1?"}\n')
    ended = arbiter("collect", *options)
    assert ended.returncode == 2
    assert message in ended.stderr
    assert ended.stderr.count("\n") == 1


def test_a_published_dump_is_imported_and_a_router_trained_on_it(arbiter: Call, tmp_path: Path) -> None:
    lines = [
        {
            "idx": number,
            "problem": f"Compute {number}+1.",
            "prev_responses": [],
            "draft_response": f"{number}+1: {number + number % 2}.",
            "target_response": f"{number}+1: {number + 1}.",
            "step_reward": [0.1 if number % 2 else 0.9],
            "target_step_reward": [0.5],
        }
        for number in range(40)
    ]
    (tmp_path / "dump.jsonl").write_bytes(msgspec.json.Encoder().encode_lines(lines))
    ended = arbiter("collect", "--import", "dump.jsonl", "--out", "rows", "--json")
    assert ended.returncode == 0, ended.stderr
    assert len(read_rows(tmp_path / "rows")) == 40
    fast = ("--epochs", "1", "--batch", "16", "--learning-rate", "1e-4", "--max-length", "200")
    trained = arbiter("train", "router", "--data", "rows", "--base", "pocket:prm", *fast, "--out", "router", "--json")
    assert trained.returncode == 0, trained.stderr
    assert msgspec.json.decode(trained.stdout)["prompt"] == "{question}\n"
    assert (tmp_path / "router" / "model.safetensors").is_file()
    again = arbiter("train", "router", "--data", "rows", "--base", "pocket:prm", "--out", "router")
    assert (again.returncode, "already exists" in again.stderr) == (2, True)


def test_rows_without_a_collection_need_a_prompt(arbiter: Call, tmp_path: Path) -> None:
    row = TrainingRow("1", "q", 0, (), "d", 0.5, ("t",), (0.7,))
    (tmp_path / "rows.jsonl").write_bytes(msgspec.json.encode(row) + b"\n")
    ended = arbiter("train", "router", "--data", "rows.jsonl", "--base", "pocket:prm", "--out", "router")
    assert ended.returncode == 2
    assert "the data has no prompt: give --prompt" in ended.stderr


def test_collections_that_are_read_differently_are_not_mixed() -> None:
    one = Collection(prompt="{question}", annotate=True, separator="\n\n", targets=("a",))
    other = Collection(prompt="{question}", annotate=True, separator="\n\n", targets=("b", "a"))
    assert common([(Path("x"), one), (Path("y"), other)]).targets == ("a", "b")
    with pytest.raises(DataError, match="x and y differ in annotate"):
        common([(Path("x"), one), (Path("y"), msgspec.structs.replace(other, annotate=False))])


def test_a_head_on_the_draft_reads_no_text_so_the_rows_are_described_by_the_prm() -> None:
    model = {"model": "m", "prompt": "plain"}
    head = {"backend": "draft-head", "model": "head"}
    config = parse({"models": {"draft": model, "prm": {**model, "prompt": "P: {question}"}, "router": head}}, "test")
    plan = planned(config, None, 0.1, 0.1)
    assert (plan.prompt, plan.annotate) == ("P: {question}", True)
