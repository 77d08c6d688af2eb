"""Errors in OpenAI's shape."""

import msgspec
from starlette.responses import Response

from arbiter.protocols.errors import RequestError


class ErrorBody(msgspec.Struct, frozen=True):
    """What went wrong, the kind of it, and the field that is to blame, if one is."""

    message: str
    type: str
    param: str | None = None
    code: str | None = None


class ErrorShape(msgspec.Struct, frozen=True):
    """The body of every answer that is none."""

    error: ErrorBody


def shape(error: RequestError) -> ErrorShape:
    """The body for ``error``."""
    return ErrorShape(ErrorBody(str(error), _kind(error.status), error.param, error.code))


def refusal(error: RequestError) -> Response:
    """The response for ``error``."""
    headers = {} if error.retry_after is None else {"retry-after": str(error.retry_after)}
    if error.status == 401:
        headers["www-authenticate"] = "Bearer"
    return answer(shape(error), error.status, headers)


def closing() -> RequestError:
    """The error of a request to an endpoint that is being shut down."""
    return RequestError("the server is shutting down: ask another one", status=503, code="closing", retry_after=1)


def answer(body: object, status: int = 200, headers: dict[str, str] | None = None) -> Response:
    """``body`` as JSON."""
    return Response(msgspec.json.encode(body), status, headers, "application/json")


def _kind(status: int) -> str:
    match status:
        case 401:
            return "authentication_error"
        case 429:
            return "rate_limit_error"
        case _:
            return "server_error" if status >= 500 else "invalid_request_error"
