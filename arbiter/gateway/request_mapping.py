"""Convert the body of a request into tasks."""

import secrets
from collections.abc import Sequence
from typing import Any, cast

from msgspec.structs import replace

from arbiter.actors.seeds import sample_seed
from arbiter.data.conversation import Message
from arbiter.gateway.answer_format import schema_of
from arbiter.gateway.call_schemas import add_call, calls_and_thought, result_of
from arbiter.gateway.context import GatewayContext
from arbiter.gateway.error_responses import closing
from arbiter.gateway.logprob_schemas import requested_logprobs
from arbiter.gateway.reasoning_items import add_thought, thought_of
from arbiter.gateway.refused_tasks import refused_task
from arbiter.gateway.schemas import (
    AnyBody,
    ChatBody,
    ChatMessage,
    CommonBody,
    CompletionBody,
    ContentPart,
    Extras,
    InputItem,
    ResponseBody,
)
from arbiter.library.arbiter import Arbiter
from arbiter.library.questions import Overrides, Question
from arbiter.protocols.errors import ClosedError, ConfigError, DataError, RequestError
from arbiter.protocols.messages import Task
from arbiter.protocols.records import PENALTIES
from arbiter.protocols.tools import Effort

_NONE = Extras()
_TEXTS = ("text", "input_text", "output_text")
_OTHER_PARTS = ("image_url", "input_audio", "file", "file_id", "detail")
_CONTENTS = ("function_call", "audio", "images")
_ROLES = ("system", "developer", "user", "assistant", "tool")


def number_of_answers(context: GatewayContext, questions: int, number: int | None) -> int:
    """Return how many answers a request has with ``number`` to each question. Raises ``RequestError`` if too many."""
    most = context.arbiter.config.serve.choices
    if number is not None and number > most:
        raise RequestError(
            f"n is {number}, and this endpoint gives at most {most} answers to a question (serve.choices)",
            code="invalid_value",
            param="n",
        )
    return questions * (number or 1)


def chat_tasks(context: GatewayContext, body: ChatBody) -> list[Task]:
    """Return the tasks of a ``/v1/chat/completions`` body, one per answer. Raises ``RequestError``."""
    if body.max_tokens and body.max_completion_tokens and body.max_tokens != body.max_completion_tokens:
        raise RequestError("max_tokens and max_completion_tokens differ: send only one of them", param="max_tokens")
    question = [_message(message, f"messages[{index}]") for index, message in enumerate(body.messages)]
    most = body.max_completion_tokens or body.max_tokens
    task = _task(context.arbiter, question, _overrides(context, body, most, body.stop, body.seed), body)
    return _samples(task, body.n)


def completion_tasks(context: GatewayContext, body: CompletionBody, prompts: Sequence[str]) -> list[Task]:
    """Return the tasks of a ``/v1/completions`` body: all answers to a prompt, then those to the next one.

    Raises ``RequestError``.
    """
    overrides = _overrides(context, body, body.max_tokens, body.stop, body.seed)
    tasks = [_task(context.arbiter, prompt, overrides, body) for prompt in prompts]
    return [sample for task in tasks for sample in _samples(task, body.n)]


def response_task(context: GatewayContext, body: ResponseBody) -> Task:
    """Return the task of a ``/v1/responses`` body. Raises ``RequestError``."""
    question = _conversation(body.input, body.instructions)
    overrides = _overrides(context, body, body.max_output_tokens, None, None)
    return _task(context.arbiter, question, overrides, body)


def _task(arbiter: Arbiter, question: Question, overrides: Overrides, body: CommonBody) -> Task:
    try:
        return arbiter.task(question, **overrides)
    except ClosedError as error:
        raise closing() from error
    except (ConfigError, DataError) as error:
        raise refused_task(error, body) from error


def _samples(task: Task, number: int | None) -> list[Task]:
    """Return the samples of a task, which differ by their seeds."""
    return [replace(task, sample=sample, seed=sample_seed(task.seed, sample)) for sample in range(number or 1)]


def _overrides(
    context: GatewayContext,
    body: AnyBody,
    max_tokens: int | None,
    stop: str | Sequence[str] | None,
    seed: int | None,
) -> Overrides:
    """Return the settings of the request that override the configuration. A limit can only lower the configured one.

    Above temperature 0, a request without a seed gets a random seed, which the log records. Raises ``RequestError``.
    """
    config, extras = context.arbiter.config, body.arbiter or _NONE
    chosen = context.names.operating_point(body.model)
    threshold = chosen.threshold if extras.threshold is None else extras.threshold
    if chosen.threshold is not None and threshold != chosen.threshold:
        raise RequestError(
            f"the model's name sets the threshold {chosen.threshold}, but arbiter.threshold is {threshold}: "
            "send only one of them",
            code="invalid_value",
            param="arbiter.threshold",
        )
    temperature = config.sampling.temperature if body.temperature is None else body.temperature
    if seed is None and temperature > 0:
        seed = secrets.randbelow(2**31)
    limits = config.limits
    given: dict[str, Any] = {
        "run_type": chosen.run_type,
        "threshold": threshold,
        "temperature": body.temperature,
        "top_p": body.top_p,
        "seed": seed,
        "max_tokens": _narrower(limits.max_tokens, max_tokens),
        "max_steps": _narrower(limits.max_steps, extras.max_steps),
        "step_tokens": _narrower(limits.step_tokens, extras.step_tokens),
        "deadline": _narrower(limits.deadline, extras.deadline),
        **{name: getattr(body, name, None) for name in PENALTIES},
        "top_logprobs": requested_logprobs(body),
        "stop": (stop,) if isinstance(stop, str) else stop,
        "tags": _tags(body, extras),
        "reasoning_effort": _effort(body),
        "schema": schema_of(body),
        **({} if isinstance(body, CompletionBody) else _tools(body)),
    }
    return cast("Overrides", {name: value for name, value in given.items() if value is not None})


def _tools(body: CommonBody) -> dict[str, Any]:
    return {name: getattr(body, name, None) for name in ("tools", "tool_choice", "parallel_tool_calls")}


def _effort(body: CommonBody) -> Effort | None:
    """Return the effort that a request asks for.

    Raises ``RequestError`` if it asks for a summary in a form that nothing writes.
    """
    if isinstance(body, ChatBody):
        return body.reasoning_effort
    options = body.reasoning if isinstance(body, ResponseBody) else None
    if options is None:
        return None
    for name, summary in (("summary", options.summary), ("generate_summary", options.generate_summary)):
        if summary in ("concise", "detailed"):
            raise RequestError(
                f"reasoning.{name}: {summary!r} cannot be honoured, because no model writes summaries: reasoning items "
                'have the whole thought in their content. Leave it out, or send "auto"',
                code="unsupported_parameter",
                param=f"reasoning.{name}",
            )
    return options.effort


def _conversation(items: str | Sequence[InputItem], instructions: str | None) -> Question:
    messages: list[dict[str, Any]] = [] if instructions is None else [{"role": "system", "content": instructions}]
    if isinstance(items, str):
        return [*messages, {"role": "user", "content": items}]
    thoughts: list[str] = []  # since the last message: the next one may follow them
    for index, item in enumerate(items):
        path = f"input[{index}]"
        if item.type == "reasoning":
            thoughts.append(thought_of(item))
            continue
        if item.type == "function_call":
            add_call(messages, item, path)
            _add_thoughts(messages, thoughts)
            continue
        if item.type == "function_call_output":
            messages.append(result_of(item, _text(item.output, path, "tool", "output"), path))
            continue
        if item.type not in (None, "message"):
            raise _refused(f"{path}.type", f"an item of the type {item.type!r}")
        role = _role(item.role, path)
        messages.append({"role": role, "content": _text(item.content, path, role)})
        _add_thoughts(messages, thoughts)
    return messages


def _add_thoughts(messages: list[dict[str, Any]], thoughts: list[str]) -> None:
    """Move ``thoughts`` into the last message, which followed them.

    Only the assistant thinks: before the message of another role, thoughts are left out.
    """
    if messages[-1]["role"] == "assistant":
        for thought in filter(None, thoughts):
            add_thought(messages, thought)
    thoughts.clear()


def _message(message: ChatMessage, path: str) -> Message:
    descriptions = {
        "assistant": (),
        "tool": ("refusal", "annotations", "tool_calls", "reasoning_content"),
    }.get(message.role, ("name", "refusal", "annotations", "tool_calls", "tool_call_id", "reasoning_content"))
    for name in (*_CONTENTS, *descriptions):
        if getattr(message, name):
            raise _refused(f"{path}.{name}", name)
    role = _role(message.role, path)
    text = _text(message.content or message.refusal or message.content, path, role)
    if role == "tool":
        return {"role": role, "content": text, "tool_call_id": message.tool_call_id}
    return {"role": role, "content": text, **(calls_and_thought(message) if role == "assistant" else {})}


def _role(role: str | None, path: str) -> str:
    if role not in _ROLES:
        raise RequestError(
            f"{path}.role: {role!r} is not one of {', '.join(_ROLES)}", code="invalid_value", param=f"{path}.role"
        )
    return role


def _text(content: str | list[ContentPart] | None, path: str, role: str, field: str = "content") -> str:
    """Return the text of a message, which is in ``field``. An earlier answer may have none, or be a refusal."""
    if isinstance(content, str):
        return content
    texts: list[str] = []
    for number, part in enumerate(content or ()):
        refusal = part.refusal if (role, part.type) == ("assistant", "refusal") else None
        text = part.text if part.type in _TEXTS else refusal
        if text is None:
            raise _refused(f"{path}.{field}[{number}]", f"a part of the type {part.type!r}")
        for name in _OTHER_PARTS:
            if getattr(part, name):
                raise _refused(f"{path}.{field}[{number}].{name}", name)
        texts.append(text)
    if not texts and role != "assistant":
        raise RequestError(f"{path}.{field} is missing", code="missing_required_parameter", param=f"{path}.{field}")
    return "".join(texts)


def _refused(param: str, what: str) -> RequestError:
    return RequestError(
        f"{param}: {what} cannot be honoured: only texts of the roles {', '.join(_ROLES)} are supported",
        code="unsupported_parameter",
        param=param,
    )


def _tags(body: CommonBody, extras: Extras) -> dict[str, str] | None:
    named = {name: getattr(body, name, None) for name in ("user", "safety_identifier", "prompt_cache_key")}
    tags = {name: value for name, value in named.items() if value}
    return {**(body.metadata or {}), **(extras.tags or {}), **tags} or None


def _narrower(configured: float | None, given: float | None) -> float | None:
    """Return the smaller limit. If ``given`` is None, return None: the configured limit stays."""
    return given if configured is None or given is None else min(configured, given)
