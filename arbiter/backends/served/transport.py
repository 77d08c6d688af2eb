"""Requests to a server: the transport interface, retries, and what error answers mean.

There are two backends: ``arbiter.backends.served.http_transport`` (for self-hosted engines) and
``arbiter.backends.served.openai_transport`` (the ``openai`` package).
"""

import hashlib
import logging
import random
import re
import time
from collections.abc import Awaitable, Callable, Mapping
from email.utils import parsedate_to_datetime
from typing import Any, Protocol

import anyio
import msgspec

from arbiter.actors.requests import note_retry
from arbiter.protocols.errors import BackendError, ContextTooLongError

FIRST_PAUSE, LONGEST_PAUSE = 0.5, 30.0
_EXCERPT = 300
_TEMPORARY = frozenset({408, 409, 425, 429, 500, 502, 503, 504})
_BUSY = frozenset({429, 503})
_TOO_LONG = re.compile(
    r"context.{0,20}length|maximum context|context window|longer than the model|max_model_len|too many tokens"
    r"|exceeds? the (available |maximum )?(context|input)|max_tokens must be at least 1",  # vLLM, of the tokens left
    re.IGNORECASE,
)


log = logging.getLogger("arbiter.backends")


class Address(msgspec.Struct, frozen=True):
    """The address of a server, and the settings of requests to it.

    - ``url``: without ``/v1`` at its end.
    - ``timeout``: in seconds, for one attempt.
    - ``retries``: the number of attempts after the first.
    - ``connections``: the most connections open at a time.
    - ``key``, ``key_variable``: the API key, and the environment variable that contains it.
    - ``connect_timeout``: in seconds. It is short, since a server that is up accepts connections soon.
    - ``largest_body``: the limit of an answer's body in bytes, packed as well as unpacked.
    """

    url: str
    timeout: float
    retries: int
    connections: int
    key: str | None = None
    key_variable: str | None = None
    connect_timeout: float = 10.0
    largest_body: int = 1 << 27

    def __repr__(self) -> str:
        return f"Address({self.url!r})"  # without the key, wherever it is printed


class TemporaryError(BackendError):
    """The server did not answer, or reported a temporary failure. The same request may succeed later.

    ``pause`` is the wait in seconds that the server requested. ``busy`` means that it reported overload.
    """

    def __init__(self, text: str, pause: float | None = None, busy: bool = False) -> None:
        super().__init__(text)
        self.pause = pause
        self.busy = busy


class UnreachableError(TemporaryError):
    """The server did not answer."""


class NotServedError(BackendError):
    """The server does not have this path or this model."""


class Transport(Protocol):
    """Makes one attempt at one request. Cancelling it closes its connection, which ends the request at the server."""

    @property
    def address(self) -> Address: ...

    async def post(self, path: str, body: Mapping[str, Any], problem: str) -> bytes:
        """Send ``body`` and return the body of the answer. Raises ``TemporaryError`` if a retry may help, else
        ``BackendError``.

        A router in front of several servers sends all requests for one ``problem`` to the same server.
        """
        ...

    async def get(self, path: str) -> bytes:
        """Return the body of the answer. Raises as ``post``."""
        ...


def routing(problem: str) -> dict[str, str]:
    """Return the header with which sglang's router (0.3.2, ``--policy manual``) keeps a problem at one server."""
    return {"X-SMG-Routing-Key": hashlib.blake2b(problem.encode(errors="replace"), digest_size=8).hexdigest()}


async def persistent(address: Address, attempt: Callable[[], Awaitable[bytes]]) -> bytes:
    """Return the first answer of ``attempt``. Temporary errors are retried.

    The pause before retry n is random, up to ``FIRST_PAUSE`` · 2ⁿ⁻¹ seconds and at most ``LONGEST_PAUSE``, so that
    requests that failed together do not return together. It is at least what the server requested, of which at most
    2 · ``LONGEST_PAUSE`` counts. Raises the last ``TemporaryError``, with the number of attempts in its text.
    """
    for number in range(1, address.retries + 2):
        try:
            return await attempt()
        except TemporaryError as error:
            if number > address.retries:
                attempts = f"{number} attempts" if number > 1 else "1 attempt"
                raise type(error)(f"{error} (after {attempts})", error.pause, error.busy) from error.__cause__
            jittered = random.uniform(0, min(LONGEST_PAUSE, FIRST_PAUSE * 2 ** min(number - 1, 10)))
            pause = jittered if error.pause is None else error.pause + min(jittered, 1.0)
            fields = {"url": address.url, "attempt": number, "pause": pause, "error": str(error)}
            log.info("trying again", extra=fields)
            note_retry(number, pause, str(error), error.busy)
            await anyio.sleep(pause)
        except UnicodeEncodeError as error:
            raise BackendError(f"{address.url}: the text is not valid Unicode and cannot be sent: {error}") from error
    raise AssertionError("there is at least one attempt")


def refusal(address: Address, path: str, status: int, headers: Mapping[str, str], body: str) -> BackendError:
    """Return the error for an answer with an error ``status``. Its text says how to fix it."""
    text = excerpt(body, address.key)
    what = f"{address.url}{path} answered {status}" + (f": {text}" if text else "")
    if status in _TEMPORARY:
        fix = "Lower in_flight, or raise retries" if status == 429 else "The server's log may say why"
        return TemporaryError(f"{what}. {fix}", _requested_pause(headers), status in _BUSY)
    if status in (401, 403):
        variable = address.key_variable
        if not variable:
            return BackendError(f"{what}. Set api_key_env to the name of the environment variable that holds the key")
        return BackendError(f"{what}. Is the key in the environment variable {variable} right?")
    if status in (400, 413, 422) and _TOO_LONG.search(body):
        return ContextTooLongError(f"{what}. Lower limits.max_tokens or limits.step_tokens, or shorten the question")
    if status in (404, 405):
        return NotServedError(f"{what}. Is the url right, does it serve {path}, and does it have the model?")
    return BackendError(f"{what}. The server does not accept this request; its log may say why")


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
    else:
        reason = excerpt(str(error), address.key) or f"the connection broke ({type(error).__name__})"
    return UnreachableError(f"{address.url}{path} does not answer: {reason}. {fix}")


def understood(address: Address, path: str, body: bytes, decoder: "msgspec.json.Decoder[Any]") -> Any:  # noqa: ANN401
    """Return the decoded answer. Raises ``BackendError`` for HTML, an incomplete body or an unexpected shape."""
    try:
        return decoder.decode(body)
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        text = body.decode(errors="replace").strip()
        if text.startswith("<"):
            content = f"HTML: {excerpt(text, address.key)}. Is the url that of a model's server, not of a web page?"
        elif text:
            content = (
                f"something unexpected ({error}): {excerpt(text, address.key)}. "
                "Is the url that of a model's server, and of the right kind of model?"
            )
        else:
            content = "nothing. Is the url that of a model's server?"
        raise BackendError(f"{address.url}{path} answered with {content}") from error


def excerpt(text: str, key: str | None) -> str:
    """Return the beginning of ``text`` on one line, without the key."""
    line = " ".join(text.replace(key, "***").split() if key else text.split())
    return line if len(line) <= _EXCERPT else f"{line[:_EXCERPT]}…"


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
