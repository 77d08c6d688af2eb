"""Read the question of a conversation: a list of turns ``{role, content}``, or ``{from, value}`` (ShareGPT)."""

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple, cast

from arbiter.protocols.errors import DataError

CONVERSATIONS = ("messages", "conversations", "conversation", "prompt")
_USERS = {"user", "human"}
ROLE_NAMES = {"human": "user", "gpt": "assistant", "model": "assistant"}
"""The roles of ShareGPT that have another name in OpenAI's form."""

_ROLES = {"user": "User", "human": "User", "assistant": "Assistant", "gpt": "Assistant", "model": "Assistant"}


class Chat(NamedTuple):
    """The last turn of the user, with the turns before it, and the reply that follows it, if there is one."""

    question: str
    reply: str | None


def chat_of(turns: object, place: str) -> Chat | None:
    """Return the question of ``turns``; None if they are no list of turns.

    A system prompt and earlier turns are put before the last turn of the user. Raises ``DataError`` that names
    ``place`` if no turn is the user's, or if a turn has something else than text.
    """
    listed = cast("Sequence[object]", turns) if isinstance(turns, list | tuple) else ()
    found = [_turn(cast("Mapping[str, Any]", turn), place) for turn in listed if isinstance(turn, Mapping)]
    if not listed or len(found) != len(listed) or not all(role for role, _ in found):
        return None
    users = [index for index, (role, _) in enumerate(found) if role in _USERS]
    if not users:
        raise DataError(
            f"{place}: no turn of the conversation has the role 'user': the last one of the user is the question"
        )
    last = users[-1]
    parts = [_named(role, text) for role, text in found[:last]]
    asked = found[last][1]
    several = any(role in _ROLES for role, _ in found[:last])
    question = "\n\n".join([*parts, f"User: {asked}" if several else asked])
    reply = found[last + 1][1] if last + 1 < len(found) else None
    return Chat(question, reply)


def _named(role: str, text: str) -> str:
    return f"{_ROLES[role]}: {text}" if role in _ROLES else text


def _turn(turn: Mapping[str, Any], place: str) -> tuple[str, str]:
    """Return the role, empty if there is none, and the text of a turn."""
    role, text = turn.get("role", turn.get("from")), text_of(turn)
    if isinstance(role, str) and text is None:
        raise DataError(f"{place}: a turn of the role {role!r} has something else than text; leave the row out")
    return str(role or "").lower(), text or ""


def text_of(turn: Mapping[str, Any]) -> str | None:
    """Return the text of a turn, whose parts are lines; None if it has something else than text."""
    content = turn.get("content", turn.get("value"))
    parts = cast("list[object]", content) if isinstance(content, list) else [content]
    texts = [cast("Mapping[str, object]", part).get("text") if isinstance(part, Mapping) else part for part in parts]
    return "\n".join(map(str, texts)) if all(isinstance(text, str) for text in texts) else None
