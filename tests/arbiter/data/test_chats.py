"""Conversations: the last turn of the user is the question."""

import json
from pathlib import Path
from typing import Any

import pytest

from arbiter.data.loading import Problem, load_problems
from arbiter.protocols.errors import DataError


def loaded(folder: Path, row: dict[str, Any]) -> Problem:
    path = folder / "chats.jsonl"
    path.write_text(json.dumps(row), encoding="utf-8")
    [problem] = load_problems(str(path))
    return problem


def turn(role: str, content: Any) -> dict[str, Any]:
    return {"role": role, "content": content}


def test_the_only_turn_is_the_question(tmp_path: Path) -> None:
    problem = loaded(tmp_path, {"messages": [turn("user", "2+2?")], "answer": "4"})
    assert (problem.question, problem.answer) == ("2+2?", "4")


def test_earlier_turns_are_shown_before_the_last_turn_of_the_user(tmp_path: Path) -> None:
    turns = [turn("system", "Be brief."), turn("user", "1+1?"), turn("assistant", "2"), turn("user", "And 2+2?")]
    problem = loaded(tmp_path, {"messages": turns})
    assert problem.question == "Be brief.\n\nUser: 1+1?\n\nAssistant: 2\n\nUser: And 2+2?"
    assert problem.answer is None


def test_the_reply_after_the_question_has_the_answer_in_its_last_box(tmp_path: Path) -> None:
    turns = [{"from": "human", "value": "2+2?"}, {"from": "gpt", "value": "So it is \\boxed{4}."}]
    problem = loaded(tmp_path, {"conversations": turns})
    assert (problem.question, problem.answer) == ("2+2?", "4")


@pytest.mark.parametrize("field", ["messages", "prompt", "conversation"])
def test_turns_are_read_from_the_usual_fields(tmp_path: Path, field: str) -> None:
    parts = [{"type": "text", "text": "2+2?"}]
    assert loaded(tmp_path, {field: [turn("user", parts)]}).question == "2+2?"


def test_a_question_next_to_the_turns_is_the_question(tmp_path: Path) -> None:
    assert loaded(tmp_path, {"problem": "q", "messages": [turn("user", "other")]}).question == "q"


@pytest.mark.parametrize(
    ("row", "message"),
    [
        ({"messages": [turn("assistant", "Hi")]}, "no turn of the conversation has the role 'user'"),
        (
            {"messages": [turn("user", [{"type": "image_url"}])]},
            "a turn of the role 'user' has something else than text",
        ),
        (turn("user", "q"), "this is one turn of a conversation: put all turns of a conversation into one row"),
        ({"messages": []}, "there is no question in any of the fields"),
        ({"messages": ["q"]}, "there is no question in any of the fields"),
    ],
)
def test_turns_without_a_question_are_refused(tmp_path: Path, row: dict[str, Any], message: str) -> None:
    with pytest.raises(DataError, match=f"line 1: {message}"):
        loaded(tmp_path, row)
