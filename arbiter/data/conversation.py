"""Conversations as callers give them, in OpenAI's form, and the turns that they become."""

from collections.abc import Iterable, Mapping, Sequence
from typing import Any, NamedTuple, cast, get_args

import msgspec

from arbiter.protocols.errors import DataError
from arbiter.protocols.records import ChatRole, Turn
from arbiter.protocols.tools import ToolCall

Message = Mapping[str, Any]
"""One turn of a conversation, in OpenAI's form.

It has a ``role`` (``system``, ``user``, ``assistant`` or ``tool``) and a ``content``, which is a text. A message of the
assistant may have ``tool_calls``, and the thought before it in ``reasoning_content``; a message with the role ``tool``
has the ``tool_call_id`` of the call that it answers.
"""

_ROLES: dict[str, ChatRole] = {**{role: role for role in get_args(ChatRole)}, "developer": "system"}


class DividedConversation(NamedTuple):
    """The last message of the user, ``question``, and the turns before and after it.

    The turns after it are calls of tools and their results.
    """

    turns: tuple[Turn, ...]
    question: str
    after: tuple[Turn, ...]


def conversation(messages: Sequence[Message]) -> DividedConversation:
    """Return the turns of a conversation, divided at the last message of the user.

    Several instructions at the beginning become one turn. Raises ``DataError`` naming the message that is invalid: also
    a result of a tool without its call, and a call without its result.
    """
    turns: list[Turn] = []
    for index, message in enumerate(messages):
        turn = _turn(index, message)
        if turn.role == "system" and len(turns) == 1 and turns[0].role == "system":
            turns[0] = Turn("system", f"{turns[0].text}\n\n{turn.text}")
        else:
            turns.append(turn)
    if not turns or turns[-1].role not in ("user", "tool"):
        raise DataError("the last message must be the user's, which is the question, or the result of a tool")
    _check_results(turns)
    last = max((index for index, turn in enumerate(turns) if turn.role == "user"), default=None)
    if last is None:
        raise DataError("there is no message of the user, which is the question")
    return DividedConversation(tuple(turns[:last]), turns[last].text, tuple(turns[last + 1 :]))


def texts_of(turns: Iterable[Turn]) -> list[str]:
    """Return all texts in ``turns``."""
    texts: list[str] = []
    for turn in turns:
        texts += [turn.text, turn.call_id, turn.thought]
        texts += [text for call in turn.calls for text in (call.id, call.name, call.arguments)]
    return texts


def object_of(value: object) -> Mapping[str, object]:
    """Return ``value`` if it is an object of JSON; else an empty one."""
    return cast("Mapping[str, object]", value) if isinstance(value, Mapping) else {}


def _turn(index: int, message: object) -> Turn:
    if not isinstance(message, Mapping):
        raise DataError(f"message {index} has no role and content: it is {message!r}")
    given = cast("Mapping[str, object]", message)
    name, text = given.get("role"), given.get("content")
    role = _ROLES.get(name) if isinstance(name, str) else None
    if role is None:
        raise DataError(f"message {index}: role must be one of {', '.join(_ROLES)}, not {name!r}")
    if role == "tool":
        return Turn(
            role, _text(index, "content", text), call_id=_text(index, "tool_call_id", given.get("tool_call_id"))
        )
    if role != "assistant":
        return Turn(role, _text(index, "content", text))
    thought, calls = given.get("reasoning_content"), _calls(index, given.get("tool_calls"))
    said = "" if text is None and calls else _text(index, "content", text)
    return Turn(role, said, calls, thought="" if thought is None else _text(index, "reasoning_content", thought))


def _calls(index: int, calls: object) -> tuple[ToolCall, ...]:
    if not calls:
        return ()
    if not isinstance(calls, Sequence) or isinstance(calls, str):
        raise DataError(f"message {index}: tool_calls must be a list")
    return tuple(
        _call(f"message {index}: tool_calls[{at}]", call) for at, call in enumerate(cast("list[object]", calls))
    )


def _call(path: str, call: object) -> ToolCall:
    given = object_of(call)
    fields = object_of(given.get("function"))
    name, arguments, called = fields.get("name"), fields.get("arguments"), given.get("id")
    if not (isinstance(name, str) and isinstance(arguments, str) and isinstance(called, str) and called):
        raise DataError(f"{path} must have an id, and a function with a name and arguments, which are strings")
    try:
        if not isinstance(msgspec.json.decode(arguments or "{}"), dict):
            raise DataError(f"{path}: the arguments are not a JSON object")
    except (msgspec.DecodeError, UnicodeEncodeError) as error:
        raise DataError(f"{path}: the arguments are not JSON: {error}") from error
    except RecursionError as error:
        raise DataError(f"{path}: the arguments are nested too deeply") from error
    return ToolCall(called, name, arguments or "{}")


def _check_results(turns: Sequence[Turn]) -> None:
    """Raise ``DataError`` unless each call has one result, directly after its turn."""
    missing: list[str] = []
    for turn in (*turns, Turn("user", "")):
        if turn.role == "tool":
            if turn.call_id not in missing:
                raise DataError(f"the result for {turn.call_id!r} answers no call of the assistant's message before it")
            missing.remove(turn.call_id)
        elif missing:
            raise DataError(f"the call {missing[0]!r} has no result: a message with the role tool must follow it")
        else:
            missing = [call.id for call in turn.calls]


def _text(index: int, key: str, value: object) -> str:
    if not isinstance(value, str):
        raise DataError(f"message {index}: {key} must be a string")
    return value
