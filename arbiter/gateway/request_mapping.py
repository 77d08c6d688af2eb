"""From what a client sends to what the Arbiter is asked."""

import secrets
from collections.abc import Sequence
from typing import Any, cast

from arbiter.gateway.model_names import operating_point
from arbiter.gateway.schemas import ChatBody, ChatMessage, CommonBody, ContentPart, Extras, InputItem
from arbiter.library.arbiter import Arbiter
from arbiter.library.questions import Message, Overrides, Question
from arbiter.protocols.errors import RequestError

_NONE = Extras()
_TEXTS = ("text", "input_text", "output_text")
_ROLES = ("system", "developer", "user", "assistant")


def overrides_of(
    arbiter: Arbiter, body: CommonBody, max_tokens: int | None, stop: str | Sequence[str] | None, seed: int | None
) -> Overrides:
    """What the call has otherwise than the configuration. Limits can only be narrower than the configured ones.

    Above temperature 0 a call without a seed has a new one, which stands in the log. Raises ``RequestError``.
    """
    config, extras, chosen = arbiter.config, body.arbiter or _NONE, operating_point(arbiter, body.model)
    threshold = chosen.threshold if extras.threshold is None else extras.threshold
    if chosen.threshold is not None and threshold != chosen.threshold:
        raise RequestError(
            f"the model's name says {chosen.threshold}, and arbiter.threshold {threshold}: leave one of them out",
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


def asked_in_chat(body: ChatBody) -> Question:
    """The conversation of ``/v1/chat/completions``; raises ``RequestError``."""
    return [_said(message, f"messages[{place}]") for place, message in enumerate(body.messages)]


def asked_in_items(items: str | Sequence[InputItem], instructions: str | None) -> Question:
    """The conversation of ``/v1/responses``; raises ``RequestError``."""
    before: list[Message] = [] if instructions is None else [{"role": "system", "content": instructions}]
    if isinstance(items, str):
        return [*before, {"role": "user", "content": items}]
    for place, item in enumerate(items):
        if item.type != "message":
            raise _refused(f"input[{place}].type", f"an item of the type {item.type!r}")
        before.append({"role": _role(item.role, f"input[{place}]"), "content": _text(item.content, f"input[{place}]")})
    return before


def _said(message: ChatMessage, place: str) -> Message:
    for name in ("name", "refusal", "annotations", "tool_calls", "function_call", "audio", "tool_call_id"):
        if getattr(message, name):
            raise _refused(f"{place}.{name}", name)
    return {"role": _role(message.role, place), "content": _text(message.content, place)}


def _role(role: str, place: str) -> str:
    if role not in _ROLES:
        raise RequestError(
            f"{place}.role: {role!r} is none of {', '.join(_ROLES)}", code="invalid_value", param=f"{place}.role"
        )
    return role


def _text(content: str | list[ContentPart] | None, place: str) -> str:
    if isinstance(content, str):
        return content
    texts: list[str] = []
    for number, part in enumerate(content or ()):
        if part.type not in _TEXTS or part.text is None:
            raise _refused(f"{place}.content[{number}]", f"a part of the type {part.type!r}")
        texts.append(part.text)
    if not texts:
        raise RequestError(f"{place}.content is missing", code="missing_required_parameter", param=f"{place}.content")
    return "".join(texts)


def _refused(param: str, what: str) -> RequestError:
    return RequestError(
        f"{param}: {what} cannot be honoured here: there are texts alone, of {', '.join(_ROLES)}",
        code="unsupported_parameter",
        param=param,
    )


def _tags(body: CommonBody, extras: Extras) -> dict[str, str] | None:
    named = {name: getattr(body, name, None) for name in ("user", "safety_identifier", "prompt_cache_key")}
    told = {name: value for name, value in named.items() if value}
    return {**(body.metadata or {}), **(extras.tags or {}), **told} or None


def _narrower(configured: float | None, given: float | None) -> float | None:
    """The smaller one; None leaves what is configured."""
    return given if configured is None or given is None else min(configured, given)
