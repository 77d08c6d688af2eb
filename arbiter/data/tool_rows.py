"""Read the rows of data whose questions offer tools, or whose conversations have calls of tools.

Tools, calls and results have OpenAI's form. Data sets also write tools, arguments and expected calls as JSON texts, and
leave out the ids of calls.
"""

import json
from collections.abc import Mapping, Sequence
from itertools import count
from typing import Any, NamedTuple, cast

from arbiter.data.chats import ROLE_NAMES, text_of
from arbiter.data.conversation import conversation, object_of
from arbiter.data.offered_tools import answer_rules
from arbiter.data.written_numbers import plain
from arbiter.protocols.errors import ConfigError, DataError
from arbiter.protocols.records import Turn
from arbiter.protocols.tools import AnswerRules

Row = Mapping[str, Any]


class Dialogue(NamedTuple):
    """A conversation whose turns stay apart: the question, the turns before and after it, and the expected reply.

    ``calls`` is the list of calls in the reply; None if it calls nothing.
    """

    turns: tuple[Turn, ...]
    question: str
    after: tuple[Turn, ...]
    reply: str | None = None
    calls: object = None


def rules_of(row: Row, place: str) -> AnswerRules | None:
    """Return the rules of an answer to a row with ``tools``; None without tools. ``row`` has names in lower case.

    The fields ``tool_choice`` and ``parallel_tool_calls`` count too. Raises ``DataError`` that names ``place`` and the
    tool that is wrong.
    """
    tools: Any = plain(_decoded(row.get("tools")))
    if not tools:
        return None
    choice, parallel = row.get("tool_choice"), row.get("parallel_tool_calls")
    try:
        return answer_rules(tools, plain(_decoded(choice)), parallel is not False)
    except ConfigError as error:
        raise DataError(
            f"{place}: {error}. A row offers its tools in OpenAI's form, in the field 'tools'; remove a field of this "
            "name that is something else"
        ) from error


def dialogue_of(turns: object, place: str, offers_tools: bool) -> Dialogue | None:
    """Return the conversation of a row that offers or calls tools; None if ``turns`` are none, or have no tools.

    Its last turn is the expected reply if it is the assistant's. Raises ``DataError`` that names ``place``.
    """
    listed = cast("Sequence[object]", turns) if isinstance(turns, list | tuple) else ()
    given = [cast("Row", turn) for turn in listed if isinstance(turn, Mapping)]
    if not given or len(given) != len(listed) or not (offers_tools or any(map(_has_calls, given))):
        return None
    *before, last = _messages(given, place)
    reply = last if last.get("role") == "assistant" else None
    try:
        turns, question, after = conversation(before if reply is not None else [*before, last])
    except DataError as error:
        raise DataError(f"{place}: {error}") from error
    if reply is None:
        return Dialogue(turns, question, after)
    return Dialogue(turns, question, after, reply["content"], reply.get("tool_calls"))


def expected_calls(answer: object, place: str) -> str | None:
    """Return the calls that ``answer`` expects, as the JSON text of a list; None if it is no call.

    Each call is an object with ``name`` and ``arguments``, or one in OpenAI's form. An empty list expects no call.
    Raises ``DataError`` that names ``place`` if a call has no name, or arguments that are no object.
    """
    found = _decoded(answer)
    listed = cast("list[object]", found) if isinstance(found, list) else [found]
    if not isinstance(found, dict | list) or not all(isinstance(call, Mapping) for call in listed):
        return None
    try:
        return json.dumps([_expected(object_of(call), place) for call in listed], ensure_ascii=False, allow_nan=False)
    except ValueError as error:
        raise DataError(f"{place}: the expected calls are no JSON: {error}") from error


def _expected(call: Row, place: str) -> dict[str, Any]:
    fields = object_of(call.get("function")) or call
    name, arguments = fields.get("name"), plain(_decoded(fields.get("arguments", {})))
    if not isinstance(name, str) or not isinstance(arguments, dict):
        raise DataError(
            f"{place}: an expected call must be an object with a name and with arguments, which are an object, not "
            f"{json.dumps(plain(call), default=str)[:80]}"
        )
    return {"name": name, "arguments": arguments}


def _messages(turns: Sequence[Row], place: str) -> list[dict[str, Any]]:
    """Return the turns in OpenAI's form. Calls and results without ids get numbers: results follow their calls."""
    numbers, unanswered, messages = count(1), list[str](), list[dict[str, Any]]()
    for turn in turns:
        role = str(turn.get("role", turn.get("from"))).lower()
        message = {**turn, "role": ROLE_NAMES.get(role, role), "content": _text(turn, role, place)}
        if calls := _listed(turn, place):
            message["tool_calls"] = [_call(object_of(call), next(numbers)) for call in calls]
            unanswered = [call["id"] for call in message["tool_calls"]]
        elif role == "tool" and not turn.get("tool_call_id") and unanswered:
            message["tool_call_id"] = unanswered.pop(0)
        messages.append(message)
    return messages


def _listed(turn: Row, place: str) -> list[object]:
    """Return the calls of a turn. Raises ``DataError`` if they are no list."""
    calls = _decoded(turn.get("tool_calls"))
    if calls and not isinstance(calls, list | tuple):
        raise DataError(f"{place}: the tool_calls of a turn must be a list of calls, not {type(calls).__name__}")
    return [*cast("Sequence[object]", calls or ())]


def _text(turn: Row, role: str, place: str) -> str:
    calls_alone = bool(_listed(turn, place)) and turn.get("content", turn.get("value")) is None
    text = "" if calls_alone else text_of(turn)
    if text is None:
        raise DataError(f"{place}: a turn of the role {role!r} has something else than text; leave the row out")
    return text


def _call(call: Row, number: int) -> dict[str, Any]:
    fields = object_of(call.get("function")) or call
    arguments = plain(fields.get("arguments"))
    text = arguments if isinstance(arguments, str) else json.dumps(arguments or {}, ensure_ascii=False)
    return {"id": call.get("id") or f"call_{number}", "function": {"name": fields.get("name"), "arguments": text}}


def _has_calls(turn: Row) -> bool:
    return bool(_decoded(turn.get("tool_calls"))) or turn.get("role") == "tool"


def _decoded(value: object) -> object:
    """Return the data of a JSON text that is a list or an object; any other value as it is."""
    if not isinstance(value, str) or not value.strip().startswith(("[", "{")):
        return value
    try:
        return json.loads(value)
    except (ValueError, RecursionError):
        return value
