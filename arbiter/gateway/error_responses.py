"""Error responses in OpenAI's format."""

import msgspec
from starlette.responses import Response

from arbiter.protocols.errors import RequestError


class ErrorBody(msgspec.Struct, frozen=True):
    """The message of an error, its type and code, and the request field that caused it, if there is one."""

    message: str
    type: str
    param: str | None = None
    code: str | None = None


class ErrorShape(msgspec.Struct, frozen=True):
    """The body of every error response."""

    error: ErrorBody


def shape(error: RequestError) -> ErrorShape:
    """Return the response body for ``error``."""
    return ErrorShape(ErrorBody(str(error), _kind(error), error.param, error.code))


def refusal(error: RequestError) -> Response:
    """Return the response for ``error``."""
    headers = {} if error.retry_after is None else {"retry-after": str(error.retry_after)}
    if error.status == 401:
        headers["www-authenticate"] = "Bearer"
    return answer(shape(error), error.status, headers)


def closing() -> RequestError:
    """Return the error for a request to an endpoint that is shutting down."""
    message = "the server is shutting down: send the request to another server"
    return RequestError(message, status=503, code="closing", retry_after=1)


def answer(body: object, status: int = 200, headers: dict[str, str] | None = None) -> Response:
    """Return a response with ``body`` as JSON."""
    return Response(msgspec.json.encode(body), status, headers, "application/json")


def _kind(error: RequestError) -> str:
    if error.code == "insufficient_quota":
        return error.code
    match error.status:
        case 401:
            return "authentication_error"
        case 429:
            return "rate_limit_error"
        case _:
            return "server_error" if error.status >= 500 else "invalid_request_error"
