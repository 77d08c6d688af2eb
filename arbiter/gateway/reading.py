"""The bytes of a request."""

from starlette.requests import ClientDisconnect, Request

from arbiter.gateway.house import GoneError
from protocols.errors import RequestError


async def raw_body(request: Request) -> bytes:
    """The body. Raises ``RequestError`` if it is no JSON by its type, or larger than ``app.state.largest`` bytes."""
    kind = request.headers.get("content-type", "").partition(";")[0].strip().lower()
    if kind != "application/json":
        raise RequestError(
            f"the content type is {kind[:100]!r}, and must be application/json",
            status=415,
            code="unsupported_media_type",
        )
    most: int = request.app.state.largest
    told = request.headers.get("content-length", "")
    if told.isdecimal() and int(told) > most:
        raise _too_large(most)
    parts, size = list[bytes](), 0
    try:
        async for part in request.stream():
            parts.append(part)
            size += len(part)
            if size > most:
                raise _too_large(most)
    except ClientDisconnect as error:
        raise GoneError from error
    return b"".join(parts)


def _too_large(most: int) -> RequestError:
    return RequestError(f"the body is larger than {most} bytes", status=413, code="too_large")
