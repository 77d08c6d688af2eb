"""Read the body of a request."""

import anyio
from starlette.requests import ClientDisconnect, Request

from arbiter.gateway.disconnect import GoneError
from arbiter.protocols.errors import RequestError

_AT_ONCE = 64  # bodies of the largest size that may arrive at the same time


class BodyReader:
    """Read bodies of at most ``largest`` bytes, waiting at most ``patience`` seconds for each.

    Bodies that are still arriving do not count against the queue. So a limit of their own bounds their memory: 64
    times ``largest`` bytes together.
    """

    def __init__(self, largest: int, patience: float) -> None:
        self._largest = largest
        self._patience = patience
        self._arriving = 0

    async def read(self, request: Request) -> bytes:
        """Return the body of ``request``. A missing content type counts as JSON, unless a web page sends the request.

        Raises ``RequestError`` if the content type is not JSON, if the body is too large or does not arrive in time, or
        if too many others are arriving. Raises ``GoneError`` if the client disconnects.
        """
        kind = request.headers.get("content-type", "").partition(";")[0].strip().lower()
        # a browser lets a page send other types, and none at all, to other sites without a preflight request
        if kind != "application/json" and (kind or "origin" in request.headers):
            raise RequestError(
                f"the content type is {kind[:100]!r}; it must be application/json",
                status=415,
                code="unsupported_media_type",
            )
        announced = request.headers.get("content-length", "")
        if announced.isdecimal() and int(announced) > self._largest:
            raise self._too_large()
        try:
            with anyio.fail_after(self._patience):
                return await self._parts(request)
        except ClientDisconnect as error:
            raise GoneError from error
        except TimeoutError as error:
            raise RequestError("the body did not arrive in time", status=408, code="timeout") from error

    async def _parts(self, request: Request) -> bytes:
        parts, size = list[bytes](), 0
        try:
            async for part in request.stream():
                parts.append(part)
                size += len(part)
                self._arriving += len(part)
                if size > self._largest:
                    raise self._too_large()
                if self._arriving > _AT_ONCE * self._largest:
                    raise _too_many()
        finally:
            self._arriving -= size
        return b"".join(parts)

    def _too_large(self) -> RequestError:
        return RequestError(f"the body is larger than {self._largest} bytes", status=413, code="too_large")


def _too_many() -> RequestError:
    message = "too many request bodies are arriving: try again later"
    return RequestError(message, status=429, code="at_capacity", retry_after=1)
