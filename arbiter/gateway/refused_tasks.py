"""The errors of requests whose task the models cannot solve: they name the field of the request."""

import re

from arbiter.gateway.answer_format import schema_field
from arbiter.gateway.schemas import CommonBody, ResponseBody
from arbiter.protocols.errors import ConfigError, DataError, RequestError

_FIELD = re.compile(  # at the beginning of an error
    r"tools(?:\[\d+\])?|tool_choice|top_logprobs|reasoning[._]effort"
    r"|text\.format\.schema|response_format\.json_schema\.schema"
)


def refused_task(error: ConfigError | DataError, body: CommonBody, before: str = "") -> RequestError:
    """Return the error of a request with ``body`` whose task was refused with ``error``.

    ``before`` says why it was refused, and precedes the message. The field that the message begins with, if any, is the
    parameter. The name of an override becomes the path of its field.
    """
    message = _with_field(str(error), body)
    field = _FIELD.match(message)
    return RequestError(before + message, code="invalid_value", param=field and field[0])


def _with_field(error: str, body: CommonBody) -> str:
    effort = "reasoning.effort" if isinstance(body, ResponseBody) else "reasoning_effort"
    for name, field in (("reasoning_effort", effort), ("schema", schema_field(body))):
        if error.startswith(f"{name}:"):
            return field + error.removeprefix(name)
    return error
