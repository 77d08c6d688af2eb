"""The request bodies: OpenAI's fields, both supported ones and those accepted only with values without an effect."""

from typing import Annotated, Any, TypeVar

import msgspec

from arbiter.protocols.errors import RequestError

Count = Annotated[int, msgspec.Meta(ge=1)]
Share = Annotated[float, msgspec.Meta(gt=0, le=1)]
Seed = Annotated[int, msgspec.Meta(ge=-(2**63), le=2**63 - 1)]
Texts = dict[Annotated[str, msgspec.Meta(max_length=64)], Annotated[str, msgspec.Meta(max_length=512)]]
Metadata = Annotated[Texts, msgspec.Meta(max_length=16)]
Stop = Annotated[str, msgspec.Meta(min_length=1)]
Stops = Annotated[list[Stop], msgspec.Meta(max_length=4)]
Tokens = Annotated[list[Annotated[int, msgspec.Meta(ge=0)]], msgspec.Meta(min_length=1)]
Body = TypeVar("Body", bound="AnyBody")


class RequestBody(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The base of all request bodies: an unknown field is refused by name."""


class Extras(RequestBody, frozen=True, kw_only=True):
    """The field ``arbiter``: settings without an OpenAI field.

    ``threshold`` is that of the run type. ``max_steps``, ``step_tokens`` and ``deadline`` (in seconds) are limits; they
    can only lower the server's limits. With ``steps``, the answer has the records of its steps. ``tags`` are recorded
    in the log.
    """

    threshold: float | None = None
    max_steps: Count | None = None
    step_tokens: Count | None = None
    deadline: Annotated[float, msgspec.Meta(gt=0)] | None = None
    steps: bool = False
    tags: Metadata | None = None


class StreamOptions(RequestBody, frozen=True, kw_only=True):
    """Options of a stream: with ``include_usage``, its last chunk has the tokens."""

    include_usage: bool | None = None
    include_obfuscation: bool | None = None


class ContentPart(RequestBody, frozen=True, kw_only=True):
    """A part of a message. Only texts are supported."""

    type: str
    text: str | None = None
    annotations: list[Any] | None = None
    logprobs: list[Any] | None = None
    refusal: str | None = None
    image_url: Any = None
    input_audio: Any = None
    file: Any = None
    file_id: Any = None
    detail: Any = None


class ChatMessage(RequestBody, frozen=True, kw_only=True):
    """A message of ``/v1/chat/completions``."""

    role: str
    content: str | list[ContentPart] | None = None
    name: str | None = None
    refusal: str | None = None
    annotations: list[Any] | None = None
    audio: Any = None
    function_call: Any = None
    tool_calls: list[Any] | None = None
    tool_call_id: str | None = None


class InputItem(RequestBody, frozen=True, kw_only=True):
    """An item of the ``input`` of ``/v1/responses``. Only messages are supported."""

    type: str = "message"
    role: str = ""
    content: str | list[ContentPart] | None = None
    id: str | None = None
    status: str | None = None
    phase: str | None = None


class CommonBody(RequestBody, frozen=True, kw_only=True):
    """The fields that all three request bodies have."""

    model: str
    stream: bool | None = None
    stream_options: StreamOptions | None = None
    temperature: Annotated[float, msgspec.Meta(ge=0, le=2)] | None = None
    top_p: Share | None = None
    user: str | None = None
    metadata: Metadata | None = None
    arbiter: Extras | None = None


class ChatBody(CommonBody, frozen=True, kw_only=True):
    """The body of ``POST /v1/chat/completions``."""

    messages: Annotated[list[ChatMessage], msgspec.Meta(min_length=1)]
    max_tokens: Count | None = None
    max_completion_tokens: Count | None = None
    stop: Stop | Stops | None = None
    seed: Seed | None = None
    prompt_cache_key: str | None = None
    safety_identifier: str | None = None
    n: Any = None
    logprobs: Any = None
    top_logprobs: Any = None
    logit_bias: Any = None
    frequency_penalty: Any = None
    presence_penalty: Any = None
    tools: Any = None
    tool_choice: Any = None
    parallel_tool_calls: Any = None
    functions: Any = None
    function_call: Any = None
    response_format: Any = None
    modalities: Any = None
    audio: Any = None
    prediction: Any = None
    reasoning_effort: Any = None
    verbosity: Any = None
    service_tier: Any = None
    store: Any = None
    web_search_options: Any = None


class CompletionBody(CommonBody, frozen=True, kw_only=True):
    """The body of ``POST /v1/completions``."""

    prompt: str | Annotated[list[str | int | Tokens], msgspec.Meta(min_length=1)]
    max_tokens: Count | None = None
    stop: Stop | Stops | None = None
    seed: Seed | None = None
    n: Any = None
    best_of: Any = None
    echo: Any = None
    suffix: Any = None
    logprobs: Any = None
    logit_bias: Any = None
    frequency_penalty: Any = None
    presence_penalty: Any = None


class ResponseBody(CommonBody, frozen=True, kw_only=True):
    """The body of ``POST /v1/responses``."""

    input: str | Annotated[list[InputItem], msgspec.Meta(min_length=1)]
    instructions: str | None = None
    max_output_tokens: Count | None = None
    prompt_cache_key: str | None = None
    safety_identifier: str | None = None
    background: Any = None
    context_management: Any = None
    conversation: Any = None
    include: Any = None
    max_tool_calls: Any = None
    parallel_tool_calls: Any = None
    previous_response_id: Any = None
    prompt: Any = None
    reasoning: Any = None
    service_tier: Any = None
    store: Any = None
    text: Any = None
    tool_choice: Any = None
    tools: Any = None
    top_logprobs: Any = None
    truncation: Any = None


AnyBody = ChatBody | CompletionBody | ResponseBody

NEUTRAL: dict[str, tuple[Any, ...]] = {
    "audio": (),
    "background": (False,),
    "best_of": (1,),
    "context_management": (),
    "conversation": (),
    "echo": (False,),
    "frequency_penalty": (0,),
    "function_call": ("none", "auto"),
    "functions": ([],),
    "include": ([], ["reasoning.encrypted_content"]),
    "logit_bias": ({},),
    "logprobs": (False,),
    "max_tool_calls": (),
    "modalities": (["text"],),
    "n": (1,),
    "parallel_tool_calls": (True, False),
    "prediction": (),
    "presence_penalty": (0,),
    "previous_response_id": (),
    "prompt": (),
    "reasoning": ({}, {"summary": "auto"}),
    "reasoning_effort": (),
    "response_format": ({"type": "text"},),
    "service_tier": ("auto", "default"),
    "store": (False,),
    "suffix": (),
    "text": ({}, {"format": {"type": "text"}}),
    "tool_choice": ("none", "auto"),
    "tools": ([],),
    "top_logprobs": (0,),
    "truncation": ("disabled",),
    "verbosity": (),
    "web_search_options": (),
}
"""Fields that cannot be honoured, with the values without an effect, besides null. Other values are refused.

Settings for the form of reasoning items have no effect, because there are no such items.
"""


def read(raw: bytes, kind: type[Body]) -> Body:
    """Return the decoded body of a request.

    Raises ``RequestError`` naming the field that is not valid, unknown, or cannot be honoured.
    """
    try:
        body = msgspec.json.decode(raw, type=kind)
    except msgspec.ValidationError as error:
        raise _format_error(str(error)) from error
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise RequestError(f"the body is not valid JSON: {error}", code="invalid_json") from error
    except RecursionError as error:
        raise RequestError("the body is nested too deeply", code="invalid_json") from error
    if body.stream_options is not None and not body.stream:
        raise RequestError("stream_options requires stream: true", code="invalid_value", param="stream_options")
    if body.stream_options is not None and body.stream_options.include_obfuscation:
        raise RequestError(
            "stream_options.include_obfuscation cannot be honoured: leave it out",
            code="unsupported_parameter",
            param="stream_options.include_obfuscation",
        )
    refused = refused_fields(kind)
    for name, neutral in refused.items():
        value = getattr(body, name)
        if value is not None and not any(_same(value, allowed) for allowed in neutral):
            raise RequestError(
                f"{name} cannot be honoured: leave it out{_allowed(neutral)}",
                code="unsupported_parameter",
                param=name,
            )
    return body


def refused_fields(kind: type[Any]) -> dict[str, tuple[Any, ...]]:
    """Return the fields of a body that are accepted only with values without an effect, and these values."""
    return {name: NEUTRAL[name] for name in kind.__struct_fields__ if name in NEUTRAL and _is_any(kind, name)}


def _is_any(kind: type[Any], name: str) -> bool:
    return next(field.type for field in msgspec.structs.fields(kind) if field.name == name) is Any


def _same(value: object, neutral: object) -> bool:
    return value == neutral and isinstance(value, bool) == isinstance(neutral, bool)


def _allowed(neutral: tuple[Any, ...]) -> str:
    values = " or ".join(msgspec.json.encode(value).decode() for value in neutral)
    return f", or send {values}" if values else ""


def _format_error(error: str) -> RequestError:
    """Return msgspec's error as a ``RequestError``, with the name of the field in ``param``."""
    what, _, location = error.rpartition(" - at `$")
    if not what:
        what, location = error, ""
    path = location.strip("`.").replace("[...]", "[]")
    if "unknown field" in what:
        name = what.partition("`")[2].partition("`")[0]
        param = f"{path}.{name}" if path else name
        return RequestError(f"Unrecognized request argument supplied: {param}", code="unknown_parameter", param=param)
    if "missing required field" in what:
        name = what.partition("`")[2].partition("`")[0]
        param = f"{path}.{name}" if path else name
        return RequestError(f"{param} is missing", code="missing_required_parameter", param=param)
    message = f"{path}: {what}" if path else what
    return RequestError(message, code="invalid_value", param=path or None)
