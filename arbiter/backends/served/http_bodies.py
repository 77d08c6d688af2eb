"""The bodies of answers: unpacked, and limited in size packed as well as unpacked."""

import zlib
from collections.abc import Mapping
from typing import Any

from arbiter.backends.served.refusals import refusal, silent
from arbiter.backends.served.transport import Address
from arbiter.protocols.errors import BackendError

PACKING = "gzip"
"""What requests accept as the encoding of an answer."""

EVENTS = "text/event-stream"
"""The kind of an answer that is a stream."""

_GZIP = 16 + zlib.MAX_WBITS


def connection_fields(body: Mapping[str, Any]) -> dict[str, str]:
    """Return the field by which a connection is not used again, if ``body`` requests a stream.

    llama.cpp's server closes it after a stream, although it promises to keep it: the next request would be lost.
    """
    return {"connection": "close"} if body.get("stream") else {}


class TooLargeError(Exception):
    """An answer is larger than its limit."""


def unpacked_answer(address: Address, path: str, status: int, headers: Mapping[str, str], body: bytes) -> bytes:
    """Return the body of an answer, unpacked. The names of ``headers`` are lower-case.

    Raises ``refusal`` for a status of an error, ``silent`` for a body that cannot be unpacked, and ``too_large``.
    """
    encoding = headers.get("content-encoding", "identity").strip().lower()
    if encoding == PACKING:
        try:
            body = _unpacked(body, address.largest_body)
        except zlib.error as error:
            raise silent(address, path, error) from error
        except TooLargeError:
            raise too_large(address, path) from None
    elif encoding != "identity":
        raise BackendError(f"{address.at(path)} answered in the encoding {encoding!r}, but only {PACKING} is accepted")
    if status < 400:
        return body
    raise refusal(address, path, status, headers, body.decode(errors="replace"))


def too_large(address: Address, path: str) -> BackendError:
    """Return the error for an answer that is larger than its limit."""
    limit = f"{address.largest_body:,} bytes"
    return BackendError(f"{address.at(path)} answered with more than {limit}. Is the url that of a model's server?")


def _unpacked(body: bytes, largest: int) -> bytes:
    reader = zlib.decompressobj(_GZIP)
    unpacked = reader.decompress(body, largest + 1)
    if len(unpacked) > largest:
        raise TooLargeError
    if not reader.eof or reader.unused_data:
        raise zlib.error("the packed body is not complete")
    return unpacked
