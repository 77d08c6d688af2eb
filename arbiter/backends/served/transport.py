"""The border to a server: one request and its answer's bytes, and what its refusals mean.

Two transports share everything above this line: ``arbiter.backends.served.aiohttp_transport`` (aiohttp, for the engines
that people run themselves) and ``arbiter.backends.served.openai_transport`` (the ``openai`` package).
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
    r"|exceeds? the (available |maximum )?(context|input)|max_tokens must be at least 1",  # of what is left, in vLLM
    re.IGNORECASE,
)


log = logging.getLogger("arbiter.backends")


class Address(msgspec.Struct, frozen=True):
    """Where a server is, and how to speak to it.

    ``url`` has no ``/v1`` behind it; ``timeout`` is in seconds, for one attempt; ``retries`` come after the first
    attempt; at most ``connections`` are open. ``key_variable`` names the environment variable that holds ``key``.
    ``connect_timeout`` is shorter: a server that is up accepts soon, however long it then takes.
    """

    url: str
    timeout: float
    retries: int
    connections: int
    key: str | None = None
    key_variable: str | None = None
    connect_timeout: float = 10.0

    def __repr__(self) -> str:
        return f"Address({self.url!r})"  # and not the key, wherever this is shown


class TemporaryError(BackendError):
    """The server did not answer, or said that it cannot now; the same request may succeed later.

    ``pause`` is how many seconds the server asked to wait; ``busy``: it said that it has too much to do.
    """

    def __init__(self, text: str, pause: float | None = None, busy: bool = False) -> None:
        super().__init__(text)
        self.pause = pause
        self.busy = busy


class UnreachableError(TemporaryError):
    """No answer came at all."""


class NotServedError(BackendError):
    """The server has nothing at this path, or no such model."""


class Transport(Protocol):
    """One attempt at one request. Cancelling the await closes its connection, which ends the request there."""

    @property
    def address(self) -> Address: ...

    async def post(self, path: str, body: Mapping[str, Any], problem: str) -> bytes:
        """The answer's body. A router before several servers keeps what is asked for a ``problem`` at one of them.

        Raises ``TemporaryError`` where another attempt may help, else ``BackendError``."""
        ...

    async def get(self, path: str) -> bytes:
        """As ``post``."""
        ...


def routing(problem: str) -> dict[str, str]:
    """The header by which the sglang router (0.3.2, ``--policy manual``) keeps a problem's requests together."""
    return {"X-SMG-Routing-Key": hashlib.blake2b(problem.encode(errors="replace"), digest_size=8).hexdigest()}


async def persistent(address: Address, attempt: Callable[[], Awaitable[bytes]]) -> bytes:
    """The first answer of ``attempt``, tried again after temporary errors.

    Before the n-th retry passes a random time of up to ``FIRST_PAUSE`` · 2ⁿ⁻¹ seconds (``LONGEST_PAUSE`` at the
    most), so that many requests that failed together do not come back together; never less than the server asked
    for, up to 2 · ``LONGEST_PAUSE``. Raises the last ``TemporaryError`` with the number of attempts told.
    """
    for tried in range(1, address.retries + 2):
        try:
            return await attempt()
        except TemporaryError as error:
            if tried > address.retries:
                attempts = f"{tried} attempts" if tried > 1 else "1 attempt"
                raise type(error)(f"{error} (after {attempts})", error.pause, error.busy) from error.__cause__
            jittered = random.uniform(0, min(LONGEST_PAUSE, FIRST_PAUSE * 2 ** min(tried - 1, 10)))
            pause = jittered if error.pause is None else error.pause + min(jittered, 1.0)
            fields = {"url": address.url, "attempt": tried, "pause": pause, "error": str(error)}
            log.info("trying again", extra=fields)
            note_retry(tried, pause, str(error), error.busy)
            await anyio.sleep(pause)
        except UnicodeEncodeError as error:
            raise BackendError(f"{address.url}: the text is not valid Unicode and cannot be sent: {error}") from error
    raise AssertionError("there is at least one attempt")


def refusal(address: Address, path: str, status: int, headers: Mapping[str, str], body: str) -> BackendError:
    """What an answer with an error's ``status`` means for the person who has to act on it."""
    said = excerpt(body, address.key)
    what = f"{address.url}{path} answered {status}" + (f": {said}" if said else "")
    if status in _TEMPORARY:
        way = "Lower in_flight, or raise retries" if status == 429 else "The server's own log may tell why"
        return TemporaryError(f"{what}. {way}", _asked_pause(headers), status in _BUSY)
    if status in (401, 403):
        variable = address.key_variable
        if not variable:
            return BackendError(f"{what}. Set api_key_env to the name of the environment variable that holds the key")
        return BackendError(f"{what}. Is the key in the environment variable {variable} right?")
    if status in (400, 413, 422) and _TOO_LONG.search(body):
        return ContextTooLongError(f"{what}. Lower limits.max_tokens or limits.step_tokens, or shorten the question")
    if status in (404, 405):
        return NotServedError(f"{what}. Is the url right, does it serve {path}, and does it have the model?")
    return BackendError(f"{what}. The server refuses the request as such; its own log may tell why")


def silent(address: Address, path: str, error: BaseException, connecting: float | None = None) -> UnreachableError:
    """A connection that could not be made (in ``connecting`` seconds), broke, or brought nothing in time."""
    way = "Is the server up, and the url right?"
    if connecting is not None:
        told = f"no connection within {connecting:g} s"
    elif isinstance(error, TimeoutError):
        told = f"no whole answer within {address.timeout:g} s"
        way = "If the server is up and busy, lower in_flight or raise timeout"
    else:
        told = excerpt(str(error), address.key) or f"the connection broke ({type(error).__name__})"
    return UnreachableError(f"{address.url}{path} does not answer: {told}. {way}")


def understood(address: Address, path: str, body: bytes, decoder: "msgspec.json.Decoder[Any]") -> Any:  # noqa: ANN401
    """The decoded answer. Raises ``BackendError`` for HTML, half a body, or another shape than the dialect's."""
    try:
        return decoder.decode(body)
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        text = body.decode(errors="replace").strip()
        if text.startswith("<"):
            told = f"HTML: {excerpt(text, address.key)}. Is the url that of a model's server, and not of a web page?"
        elif text:
            told = (
                f"something else than expected ({error}): {excerpt(text, address.key)}. "
                "Is the url that of a model's server, and of the right kind of model?"
            )
        else:
            told = "nothing. Is the url that of a model's server?"
        raise BackendError(f"{address.url}{path} answered with {told}") from error


def excerpt(text: str, key: str | None) -> str:
    """The beginning of ``text`` on one line, without the key."""
    line = " ".join(text.replace(key, "***").split() if key else text.split())
    return line if len(line) <= _EXCERPT else f"{line[:_EXCERPT]}…"


def _asked_pause(headers: Mapping[str, str]) -> float | None:
    """Seconds in ``retry-after``, or until the date there; None if it holds neither."""
    asked = headers.get("retry-after", "")
    try:
        seconds = float(asked)
    except ValueError:
        then, now = _instant(asked), _instant(headers.get("date", ""))  # the server's own clock, if it tells it
        if then is None:
            return None
        seconds = then - (time.time() if now is None else now)
    return min(max(0.0, seconds), 2 * LONGEST_PAUSE)


def _instant(date: str) -> float | None:
    try:
        return parsedate_to_datetime(date).timestamp()
    except (ValueError, OverflowError):
        return None
