"""The bytes of a request."""

import anyio
from starlette.requests import ClientDisconnect, Request

from arbiter.gateway.admission import Admission, GoneError
from arbiter.protocols.errors import RequestError


async def raw_body(admission: Admission, request: Request) -> bytes:
    """The body. Raises ``RequestError`` if it is no JSON by its type, too large, or does not come."""
    kind = request.headers.get("content-type", "").partition(";")[0].strip().lower()
    if kind != "application/json":
        raise RequestError(
            f"the content type is {kind[:100]!r}, and must be application/json",
            status=415,
            code="unsupported_media_type",
        )
    told = request.headers.get("content-length", "")
    if told.isdecimal() and int(told) > admission.largest:
        raise _too_large(admission)
    try:
        return await _read(admission, request)
    except ClientDisconnect as error:
        raise GoneError from error
    except TimeoutError as error:
        raise RequestError("the body did not come", status=408, code="timeout") from error


async def _read(admission: Admission, request: Request) -> bytes:
    parts, size = list[bytes](), 0
    stream = request.stream()
    while True:
        with anyio.fail_after(admission.patience):
            part = await anext(stream, None)
        if part is None:
            return b"".join(parts)
        parts.append(part)
        size += len(part)
        if size > admission.largest:
            raise _too_large(admission)


def _too_large(admission: Admission) -> RequestError:
    return RequestError(f"the body is larger than {admission.largest} bytes", status=413, code="too_large")
