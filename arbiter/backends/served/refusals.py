"""What a server's refusals mean: which errors are temporary, which say that a context is too long.

An error in the body counts, whatever the status of the answer is and whatever else the body has.
"""

import errno
import re
import time
from collections.abc import Mapping
from email.utils import parsedate_to_datetime
from typing import Any, cast

import msgspec

from arbiter.backends.served.transport import LONGEST_PAUSE, Address, NotServedError, TemporaryError, UnreachableError
from arbiter.protocols.errors import BackendError, ContextTooLongError, os_reason

_EXCERPT = 300
_TEMPORARY = frozenset({408, 409, 425, 429, 500, 502, 503, 504, *range(520, 528), 529, 530})
_BUSY = frozenset({429, 503, 529})
_NAMED: Mapping[str, int] = {
    "rate_limit_exceeded": 429,
    "rate_limit_error": 429,
    "resource_exhausted": 429,
    "overloaded_error": 529,
    "overloaded": 529,
    "api_error": 500,
    "server_error": 500,
    "internal_error": 500,
    "internal_server_error": 500,
    "internalservererror": 500,
    "service_unavailable": 503,
    "unavailable": 503,
    "timeout": 504,
    "timeout_error": 504,
}
"""The status that an error's name stands for, in lower case."""
_TOO_LONG_STATUSES = frozenset({400, 413, 422, 500})  # some engines answer 500
_TOO_LONG = re.compile(
    r"\bcontext length|context_length_exceeded|exceed_context_size|maximum context|\bcontext (window|limit)"
    r"|too many tokens|longer than the (maximum )?model"
    r"|exceeds? the (available |maximum )?(context|input|allowed length)"
    r"|prompt is too long|`inputs` (tokens \+ `max_new_tokens` )?must (be|have)"
    r"|max_tokens must be at least 1, got (0|-)",  # vLLM, of the tokens left
    re.IGNORECASE,
)
_FIELD = re.compile(
    r"(unrecognized|unknown|unexpected|unsupported|extra|invalid)\s+(field|param|input|argument|key)", re.IGNORECASE
)
"""What a server says about the name of a field, which may sound like a context that is too long."""


class StatedError(msgspec.Struct, frozen=True):
    """An error that a body states, and the status that it stands for; None if the body does not say."""

    code: int | None


def stated_error(body: bytes) -> StatedError | None:
    """Return the error that is anywhere in the JSON of ``body``; None if there is none.

    The error is a field ``error`` with a text or an object, or an object whose kind is ``error``.
    """
    if b'"error"' not in body:  # a text of the model has its quotation marks escaped
        return None
    try:
        nodes: list[Any] = [msgspec.json.decode(body)]
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return None
    while nodes:
        node = nodes.pop()
        if isinstance(node, dict):
            fields = cast("dict[str, Any]", node)
            error = fields if fields.get("object") == "error" else fields.get("error")
            if error and isinstance(error, dict | str):
                return StatedError(_code_of(cast("dict[str, Any] | str", error)))
            nodes += fields.values()
        elif isinstance(node, list):
            nodes += cast("list[Any]", node)
    return None


def refusal(address: Address, path: str, status: int, headers: Mapping[str, str], body: str) -> BackendError:
    """Return the error for an answer that has an error ``status``, or an error in its body.

    A status in the body counts before that of the answer. The text says how to fix it.
    """
    text = excerpt(body, address.key)
    stated = stated_error(body.encode(errors="replace"))
    code = (stated.code if stated else None) or max(status, 400)
    as_error = "" if code == status else f" with the error {code}" if stated and stated.code else " with an error"
    what = f"{address.at(path)} answered {status}{as_error}" + (f": {text}" if text else "")
    if code in _TOO_LONG_STATUSES and _is_too_long(body):
        return ContextTooLongError(f"{what}. Lower limits.max_tokens or limits.step_tokens, or shorten the question")
    if code in _TEMPORARY:
        fix = "Lower in_flight, or raise retries" if code == 429 else "The server's log may say why"
        return TemporaryError(f"{what}. {fix}", _requested_pause(headers), code in _BUSY)
    if code in (401, 403):
        variable = address.key_variable
        if not variable:
            return BackendError(f"{what}. Set api_key_env to the name of the environment variable that holds the key")
        return BackendError(f"{what}. Is the key in the environment variable {variable} right?")
    if code in (404, 405):
        return NotServedError(f"{what}. Is the url right, does it serve {path}, and does it have the model?")
    return BackendError(f"{what}. The server does not accept this request; its log may say why")


def _is_too_long(text: str) -> bool:
    """Return whether a refusal says, in the words of a known engine, that the context is too long."""
    return _TOO_LONG.search(text) is not None and _FIELD.search(text) is None


def silent(address: Address, path: str, error: BaseException, connecting: float | None = None) -> UnreachableError:
    """Return the error for a request without an answer.

    The connection was not made within ``connecting`` seconds, it broke, or the answer did not come in time.
    """
    fix = "Is the server up, and the url right?"
    if connecting is not None:
        reason = f"no connection within {connecting:g} s"
    elif isinstance(error, TimeoutError):
        reason = f"no complete answer within {address.timeout:g} s"
        fix = "If the server is up and busy, lower in_flight or raise timeout"
    elif isinstance(error, OSError) and error.errno in (errno.EMFILE, errno.ENFILE):
        return UnreachableError(f"{address.at(path)} cannot be called: {os_reason(error)}")
    else:
        reason = excerpt(str(error), address.key) or f"the connection broke ({type(error).__name__})"
    return UnreachableError(f"{address.at(path)} does not answer: {reason}. {fix}")


def understood(address: Address, path: str, body: bytes, decoder: "msgspec.json.Decoder[Any]") -> Any:  # noqa: ANN401
    """Return the decoded answer. Raises ``refusal`` for an error in the body.

    Raises ``TemporaryError`` for a body that ends early, and ``BackendError`` for HTML or an unexpected shape.
    """
    if stated_error(body):
        raise refusal(address, path, 200, {}, body.decode(errors="replace"))
    try:
        return decoded(body, decoder)
    except msgspec.DecodeError as error:
        text = body.decode(errors="replace").strip()
        where = f"{address.at(path)} answered with"
        if text.startswith("<"):
            content = f"HTML: {excerpt(text, address.key)}. Is the url that of a model's server, not of a web page?"
            raise BackendError(f"{where} {content}") from error
        if not text:
            raise TemporaryError(f"{where} nothing. Is the url that of a model's server?") from error
        content = (
            f"something unexpected ({error}): {excerpt(text, address.key)}. "
            "Is the url that of a model's server, and of the right kind of model?"
        )
        kind = TemporaryError if "truncated" in str(error) else BackendError
        raise kind(f"{where} {content}") from error


def decoded(body: bytes, decoder: "msgspec.json.Decoder[Any]") -> Any:  # noqa: ANN401
    """Return the decoded ``body``. Raises ``msgspec.DecodeError``, also for text that is nested too deeply."""
    try:
        return decoder.decode(body)
    except UnicodeDecodeError as error:
        raise msgspec.DecodeError(str(error)) from error
    except RecursionError as error:
        raise msgspec.DecodeError("it is nested too deeply") from error


def excerpt(text: str, key: str | None) -> str:
    """Return the beginning of ``text`` on one line, without the key."""
    line = " ".join(text.replace(key, "***").split() if key else text.split())
    return line if len(line) <= _EXCERPT else f"{line[:_EXCERPT]}…"


def _code_of(error: dict[str, Any] | str) -> int | None:
    """Return the status that an error stands for: its number, or that of its name."""
    values = (
        [error] if isinstance(error, str) else [error.get(name) for name in ("code", "status", "status_code", "type")]
    )
    for value in values:
        if isinstance(value, int) and 400 <= value < 600:
            return int(value)
        if isinstance(value, str):
            number = int(value) if value.isascii() and value.isdigit() and len(value) == 3 else 0
            code = number if 400 <= number < 600 else _NAMED.get(value.lower())
            if code:
                return code
    return None


def _requested_pause(headers: Mapping[str, str]) -> float | None:
    """Return the seconds in ``retry-after``, or until the date there; None if it contains neither."""
    value = headers.get("retry-after", "")
    try:
        seconds = float(value)
    except ValueError:
        then, now = _instant(value), _instant(headers.get("date", ""))  # by the server's clock, if it sends the time
        if then is None:
            return None
        seconds = then - (time.time() if now is None else now)
    return min(max(0.0, seconds), 2 * LONGEST_PAUSE)


def _instant(date: str) -> float | None:
    try:
        return parsedate_to_datetime(date).timestamp()
    except (ValueError, OverflowError):
        return None
