"""Convert the body of a request into tasks."""

import secrets
from collections.abc import Sequence
from typing import Any, cast

from arbiter.gateway.error_responses import closing
from arbiter.gateway.model_names import operating_point
from arbiter.gateway.schemas import (
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
from arbiter.library.questions import Message, Overrides, Question
from arbiter.protocols.errors import ClosedError, ConfigError, DataError, RequestError
from arbiter.protocols.messages import Task

_NONE = Extras()
_TEXTS = ("text", "input_text", "output_text")
_ROLES = ("system", "developer", "user", "assistant")


def chat_task(arbiter: Arbiter, body: ChatBody) -> Task:
    """Return the task of a ``/v1/chat/completions`` body. Raises ``RequestError``."""
    if body.max_tokens and body.max_completion_tokens and body.max_tokens != body.max_completion_tokens:
        raise RequestError("max_tokens and max_completion_tokens differ: send only one of them", param="max_tokens")
    question = [_message(message, f"messages[{index}]") for index, message in enumerate(body.messages)]
    most = body.max_completion_tokens or body.max_tokens
    return _task(arbiter, question, _overrides(arbiter, body, most, body.stop, body.seed))


def completion_tasks(arbiter: Arbiter, body: CompletionBody, prompts: Sequence[str]) -> list[Task]:
    """Return the tasks of a ``/v1/completions`` body, one per prompt. Raises ``RequestError``."""
    overrides = _overrides(arbiter, body, body.max_tokens, body.stop, body.seed)
    return [_task(arbiter, prompt, overrides) for prompt in prompts]


def response_task(arbiter: Arbiter, body: ResponseBody) -> Task:
    """Return the task of a ``/v1/responses`` body. Raises ``RequestError``."""
    question = _conversation(body.input, body.instructions)
    return _task(arbiter, question, _overrides(arbiter, body, body.max_output_tokens, None, None))


def _task(arbiter: Arbiter, question: Question, overrides: Overrides) -> Task:
    try:
        return arbiter.task(question, **overrides)
    except ClosedError as error:
        raise closing() from error
    except (ConfigError, DataError) as error:
        raise RequestError(str(error), code="invalid_value") from error


def _overrides(
    arbiter: Arbiter, body: CommonBody, max_tokens: int | None, stop: str | Sequence[str] | None, seed: int | None
) -> Overrides:
    """Return the settings of the request that override the configuration. A limit can only lower the configured one.

    Above temperature 0, a request without a seed gets a random seed, which the log records. Raises ``RequestError``.
    """
    config, extras, chosen = arbiter.config, body.arbiter or _NONE, operating_point(arbiter, body.model)
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
        "stop": (stop,) if isinstance(stop, str) else stop,
        "tags": _tags(body, extras),
    }
    return cast("Overrides", {name: value for name, value in given.items() if value is not None})


def _conversation(items: str | Sequence[InputItem], instructions: str | None) -> Question:
    messages: list[Message] = [] if instructions is None else [{"role": "system", "content": instructions}]
    if isinstance(items, str):
        return [*messages, {"role": "user", "content": items}]
    for index, item in enumerate(items):
        path = f"input[{index}]"
        if item.type != "message":
            raise _refused(f"{path}.type", f"an item of the type {item.type!r}")
        messages.append({"role": _role(item.role, path), "content": _text(item.content, path)})
    return messages


def _message(message: ChatMessage, path: str) -> Message:
    for name in ("name", "refusal", "annotations", "tool_calls", "function_call", "audio", "tool_call_id"):
        if getattr(message, name):
            raise _refused(f"{path}.{name}", name)
    return {"role": _role(message.role, path), "content": _text(message.content, path)}


def _role(role: str, path: str) -> str:
    if role not in _ROLES:
        raise RequestError(
            f"{path}.role: {role!r} is not one of {', '.join(_ROLES)}", code="invalid_value", param=f"{path}.role"
        )
    return role


def _text(content: str | list[ContentPart] | None, path: str) -> str:
    if isinstance(content, str):
        return content
    texts: list[str] = []
    for number, part in enumerate(content or ()):
        if part.type not in _TEXTS or part.text is None:
            raise _refused(f"{path}.content[{number}]", f"a part of the type {part.type!r}")
        texts.append(part.text)
    if not texts:
        raise RequestError(f"{path}.content is missing", code="missing_required_parameter", param=f"{path}.content")
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
