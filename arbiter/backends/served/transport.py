"""Requests to a server: the address, the transport interface, and retries.

There are two backends: ``arbiter.backends.served.http_transport`` (for self-hosted engines) and
``arbiter.backends.served.openai_transport`` (the ``openai`` package).
"""

import hashlib
import logging
import os
import random
import re
from collections.abc import Awaitable, Callable, Mapping
from functools import lru_cache
from typing import Any, Protocol, TypeVar
from urllib.parse import urlsplit

import anyio
import msgspec

from arbiter.actors.requests import note_retry
from arbiter.config.model_tables import ServedTable
from arbiter.protocols.errors import BackendError, ConfigError

FIRST_PAUSE, LONGEST_PAUSE = 0.5, 30.0
_VERSION = re.compile(r"/(v\d\w*|beta)(?=/|$)", re.IGNORECASE)
Result = TypeVar("Result")
Hear = Callable[[bytes], None]
"""Takes a part of an answer's body. It neither blocks nor raises."""

log = logging.getLogger("arbiter.backends")


class Address(msgspec.Struct, frozen=True):
    """The address of a server, and the settings of requests to it.

    - ``url``: without ``/v1`` at its end. Another version in its path is kept (see ``at``).
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

    def at(self, path: str) -> str:
        """Return the URL of ``path``, which begins with ``/v1/`` for the paths of OpenAI's API."""
        return url_of(self.url, path)


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

    async def post(self, path: str, body: Mapping[str, Any], problem: str, hear: Hear | None = None) -> bytes:
        """Send ``body`` and return the body of the answer. Raises ``TemporaryError`` if a retry may help, else
        ``BackendError``.

        A router in front of several servers sends all requests for one ``problem`` to the same server. ``hear`` takes
        the parts of the body of a good answer as they arrive, unless they are packed.
        """
        ...

    async def get(self, path: str) -> bytes:
        """Return the body of the answer. Raises as ``post``."""
        ...


@lru_cache
def url_of(url: str, path: str) -> str:
    """Return the URL of ``path`` at the server ``url``.

    If ``url`` has a version in its path (``/v3``, ``/v1/openai``, ``/beta``), paths that begin with ``/v1/`` continue
    it without ``/v1``, as with ``base_url`` of the ``openai`` package. Other paths continue what is before the version.
    """
    root, api = _roots(url)
    return api + path.removeprefix("/v1") if path.startswith("/v1/") else root + path


def _roots(url: str) -> tuple[str, str]:
    """Return the beginnings of an engine's own paths, and of those of OpenAI's API."""
    versions = [*_VERSION.finditer(url, len(url) - len(urlsplit(url).path))]
    return (url[: versions[-1].start()], url) if versions else (url, f"{url}/v1")


def routing(problem: str) -> dict[str, str]:
    """Return the header with which sglang's router (0.3.2, ``--policy manual``) keeps a problem at one server."""
    return {"X-SMG-Routing-Key": hashlib.blake2b(problem.encode(errors="replace"), digest_size=8).hexdigest()}


async def persistent(address: Address, attempt: Callable[[], Awaitable[Result]]) -> Result:
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


def read_key(name: str, table: ServedTable) -> str | None:
    """Return the API key of ``[models.name]``; None if it needs none. Raises ``ConfigError`` if it is missing."""
    variable = table.api_key_env
    if not variable:
        return None
    key = os.environ.get(variable, "").strip()
    if not key:
        raise ConfigError(
            f"models.{name}: the environment variable {variable} (api_key_env) is not set; set it to the key, "
            f'or set models.{name}.api_key_env to another variable, or to "" if the server needs no key'
        )
    if not (key.isascii() and key.isprintable()):
        raise ConfigError(
            f"models.{name}: the environment variable {variable} (api_key_env) is not a valid key: "
            "it contains a character that cannot be sent, such as a line break, a curly quotation mark or an ellipsis"
        )
    return key
