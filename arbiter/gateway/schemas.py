"""The request bodies: OpenAI's fields, both supported ones and those accepted only with values without an effect."""

from typing import Annotated, Any, Literal

import msgspec

from arbiter.config.serve_tables import Reasoning, StreamUnit
from arbiter.protocols.answer_tokens import MOST_ALTERNATIVES
from arbiter.protocols.tools import Effort

Count = Annotated[int, msgspec.Meta(ge=1)]
Share = Annotated[float, msgspec.Meta(gt=0, le=1)]
Seed = Annotated[int, msgspec.Meta(ge=-(2**63), le=2**63 - 1)]
Texts = dict[Annotated[str, msgspec.Meta(max_length=64)], Annotated[str, msgspec.Meta(max_length=512)]]
Metadata = Annotated[Texts, msgspec.Meta(max_length=16)]
Penalty = Annotated[float, msgspec.Meta(ge=-2, le=2)]
AlternativeCount = Annotated[int, msgspec.Meta(ge=0, le=MOST_ALTERNATIVES)]
Included = Literal["message.output_text.logprobs", "reasoning.encrypted_content"]
Stop = Annotated[str, msgspec.Meta(min_length=1)]
Stops = Annotated[list[Stop], msgspec.Meta(max_length=4)]
Summary = Literal["auto", "concise", "detailed"]
Tokens = Annotated[list[Annotated[int, msgspec.Meta(ge=0)]], msgspec.Meta(min_length=1)]


class RequestBody(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The base of all request bodies: an unknown field is refused by name."""


class Extras(RequestBody, frozen=True, kw_only=True):
    """The field ``arbiter``: settings without an OpenAI field.

    ``threshold`` is that of the run type. ``max_steps``, ``step_tokens`` and ``deadline`` (in seconds) are limits; they
    can only lower the server's limits. With ``steps``, the answer has the records of its steps. ``reasoning`` says
    where its thought goes, and ``stream`` how a streamed answer arrives. ``tags`` are recorded in the log.
    """

    threshold: float | None = None
    max_steps: Count | None = None
    step_tokens: Count | None = None
    deadline: Annotated[float, msgspec.Meta(gt=0)] | None = None
    steps: bool | None = None
    reasoning: Reasoning | None = None
    stream: StreamUnit | None = None
    tags: Metadata | None = None


class StreamOptions(RequestBody, frozen=True, kw_only=True):
    """Options of a stream: with ``include_usage``, its last chunk has the tokens."""

    include_usage: bool | None = None
    include_obfuscation: Any = None


class ContentPart(RequestBody, frozen=True, kw_only=True):
    """A part of a message. Only texts, and the refusals of an assistant, are supported."""

    type: str
    text: str | None = None
    refusal: str | None = None
    annotations: Any = None
    logprobs: Any = None
    image_url: Any = None
    input_audio: Any = None
    file: Any = None
    file_id: Any = None
    detail: Any = None


class ChatMessage(RequestBody, frozen=True, kw_only=True):
    """A message of ``/v1/chat/completions``. One of the assistant may have further fields, which are not read."""

    role: str
    content: str | list[ContentPart] | None = None
    name: Any = None
    refusal: str | None = None
    annotations: Any = None
    audio: Any = None
    function_call: Any = None
    tool_calls: list[dict[str, Any]] | None = None
    tool_call_id: str | None = None
    reasoning_content: Any = None
    images: Any = None


class InputItem(RequestBody, frozen=True, kw_only=True):
    """An item of the ``input`` of ``/v1/responses``.

    Messages, calls of functions, their results and reasoning items are supported. A message of the assistant and a
    reasoning item may have further fields, which are not read.
    """

    type: str | None = None
    role: str | None = None
    content: str | list[ContentPart] | None = None
    id: Any = None
    status: Any = None
    phase: Any = None
    call_id: str | None = None
    name: str | None = None
    arguments: str | None = None
    output: str | list[ContentPart] | None = None
    summary: list[ContentPart] | None = None


class ReasoningOptions(RequestBody, frozen=True, kw_only=True):
    """The field ``reasoning`` of ``/v1/responses``: how much the models think, and in which form it is returned."""

    effort: Effort | None = None
    summary: Summary | None = None
    generate_summary: Summary | None = None


FormatName = Annotated[str, msgspec.Meta(pattern="^[a-zA-Z0-9_-]{1,64}$")]


class JsonSchema(RequestBody, frozen=True, kw_only=True):
    """The JSON schema that an answer must fit. Answers are always verified, with ``strict`` and without."""

    name: FormatName
    schema: dict[str, Any]
    description: str | None = None
    strict: bool | None = None


class ResponseFormat(RequestBody, frozen=True, kw_only=True):
    """The field ``response_format`` of ``/v1/chat/completions``: any text, any JSON object, or JSON of a schema."""

    type: Literal["text", "json_object", "json_schema"]
    json_schema: JsonSchema | None = None


class TextFormat(RequestBody, frozen=True, kw_only=True):
    """The format of an answer of ``/v1/responses``. The other fields are those of the type ``json_schema``."""

    type: Literal["text", "json_object", "json_schema"]
    name: FormatName | None = None
    schema: dict[str, Any] | None = None
    description: str | None = None
    strict: bool | None = None


class TextOptions(RequestBody, frozen=True, kw_only=True):
    """The field ``text`` of ``/v1/responses``."""

    format: TextFormat | None = None
    verbosity: Any = None


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
    n: Count | None = None
    logprobs: bool | None = None
    top_logprobs: AlternativeCount | None = None
    logit_bias: Any = None
    frequency_penalty: Penalty | None = None
    presence_penalty: Penalty | None = None
    tools: list[dict[str, Any]] | None = None
    tool_choice: str | dict[str, Any] | None = None
    parallel_tool_calls: bool | None = None
    functions: Any = None
    function_call: Any = None
    response_format: ResponseFormat | None = None
    modalities: Any = None
    audio: Any = None
    prediction: Any = None
    reasoning_effort: Effort | None = None
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
    n: Count | None = None
    best_of: Any = None
    echo: Any = None
    suffix: Any = None
    logprobs: AlternativeCount | None = None
    logit_bias: Any = None
    frequency_penalty: Penalty | None = None
    presence_penalty: Penalty | None = None


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
    include: list[Included] | None = None
    max_tool_calls: Any = None
    parallel_tool_calls: bool | None = None
    previous_response_id: Any = None
    prompt: Any = None
    reasoning: ReasoningOptions | None = None
    service_tier: Any = None
    store: Any = None
    text: TextOptions | None = None
    tool_choice: str | dict[str, Any] | None = None
    tools: list[dict[str, Any]] | None = None
    top_logprobs: AlternativeCount | None = None
    truncation: Any = None


AnyBody = ChatBody | CompletionBody | ResponseBody
