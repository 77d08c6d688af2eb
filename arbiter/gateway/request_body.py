"""Read the body of a request."""

from dataclasses import dataclass

import anyio
from starlette.requests import ClientDisconnect, Request

from arbiter.gateway.disconnect import GoneError
from arbiter.protocols.errors import RequestError


@dataclass(frozen=True)
class BodyReader:
    """Read bodies of at most ``largest`` bytes, waiting at most ``patience`` seconds for each part."""

    largest: int
    patience: float

    async def read(self, request: Request) -> bytes:
        """Return the body of ``request``.

        Raises ``RequestError`` if the content type is not JSON, or if the body is too large or does not arrive in time.
        Raises ``GoneError`` if the client disconnects.
        """
        kind = request.headers.get("content-type", "").partition(";")[0].strip().lower()
        if kind != "application/json":
            raise RequestError(
                f"the content type is {kind[:100]!r}; it must be application/json",
                status=415,
                code="unsupported_media_type",
            )
        announced = request.headers.get("content-length", "")
        if announced.isdecimal() and int(announced) > self.largest:
            raise self._too_large()
        try:
            return await self._parts(request)
        except ClientDisconnect as error:
            raise GoneError from error
        except TimeoutError as error:
            raise RequestError("the body did not arrive in time", status=408, code="timeout") from error

    async def _parts(self, request: Request) -> bytes:
        parts, size = list[bytes](), 0
        stream = request.stream()
        while True:
            with anyio.fail_after(self.patience):
                part = await anext(stream, None)
            if part is None:
                return b"".join(parts)
            parts.append(part)
            size += len(part)
            if size > self.largest:
                raise self._too_large()

    def _too_large(self) -> RequestError:
        return RequestError(f"the body is larger than {self.largest} bytes", status=413, code="too_large")
