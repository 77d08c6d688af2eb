"""Dumps in the published layout become rows; errors name the file, the line and the field."""

from pathlib import Path
from typing import Any

import msgspec
import pytest

from arbiter.data.published import field_names, published_rows
from arbiter.protocols.errors import ConfigError, DataError
from arbiter.protocols.records import Step

LINE: dict[str, Any] = {
    "idx": 3,
    "problem": "What is 1+1?",
    "prompt": "<|im_start|>…",
    "prev_responses": [["First.\n\n", 1], ["Second.\n\n", 2]],
    "draft_response": "It is 3.",
    "target_response": "It is 2.",
    "step_reward": [0.9, 0.8, 0.25],
    "target_step_reward": [0.9, 0.8, 0.75],
    "full_response_draft": "…",
}


def dumped(folder: Path, **changes: Any) -> Path:
    path = folder / "dump.jsonl"
    line = {key: value for key, value in {**LINE, **changes}.items() if value is not None}
    path.write_bytes(msgspec.json.encode(LINE) + b"\n" + msgspec.json.encode(line) + b"\n")
    return path


def test_a_published_line_is_a_row(tmp_path: Path) -> None:
    row = next(published_rows(dumped(tmp_path), {}))
    assert (row.problem, row.question, row.step) == ("3", "What is 1+1?", 2)
    assert row.history == (Step("First.", "draft"), Step("Second.", "target"))
    assert (row.draft, row.targets, row.draft_score, row.target_scores) == ("It is 3.", ("It is 2.",), 0.25, (0.75,))
    assert row.advantage == 0.5


@pytest.mark.parametrize(
    ("changes", "fields"),
    [
        ({"problem": None, "Question": "What is 1+1?"}, ""),
        ({"step_reward": None, "draft_score": 0.25}, ""),
        ({"prev_responses": [{"text": "First.", "author": "draft"}, ["Second.", "target"]]}, ""),
        ({"draft_response": None, "small": "It is 3."}, "draft_response=small"),
    ],
)
def test_other_names_and_shapes_are_the_same_row(tmp_path: Path, changes: dict[str, Any], fields: str) -> None:
    path = dumped(tmp_path, **changes)
    if fields:
        path.write_bytes(path.read_bytes().splitlines()[1] + b"\n")
        (row,) = published_rows(path, field_names(fields))
        assert row.draft == "It is 3."
        return
    first, second = published_rows(path, {})
    assert first == second


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"draft_response": None}, "line 2: there is no field draft_response or draft"),
        ({"step_reward": [1.5]}, "line 2: the field 'step_reward' must be a number from 0 to 1"),
        ({"step_reward": []}, "line 2: the field 'step_reward'"),
        ({"prev_responses": [["a", 3]]}, "author 1 .draft. or 2"),
        ({"prev_responses": [7]}, "'prev_responses' must be a list of"),
        ({"problem": 7}, "'problem' must be a text"),
    ],
)
def test_a_line_that_is_wrong_is_told(tmp_path: Path, changes: dict[str, Any], message: str) -> None:
    path = dumped(tmp_path, **changes)
    with pytest.raises(DataError, match=message) as caught:
        list(published_rows(path, {}))
    assert str(path) in str(caught.value)


@pytest.mark.parametrize("text", ["draft=x", "draft_response", "problem="])
def test_a_mapping_names_known_fields(text: str) -> None:
    with pytest.raises(ConfigError, match="is not FIELD=NAME"):
        field_names(text)
