"""Prompts that request how much a model thinks: by the variables of its chat template, or by a named template."""

from collections.abc import Callable
from typing import Any

import msgspec

from arbiter.backends.conversations import Turns, Variables
from arbiter.backends.prompts import CHAT, FAMILIES, PromptTemplate, chat_reader, chat_template, prompt_template
from arbiter.config.model_tables import CallFormName
from arbiter.protocols.errors import ConfigError
from arbiter.protocols.tools import Effort

_SWITCHES = ("enable_thinking", "thinking")
"""The variables with which chat templates switch thoughts on and off."""

_LEVELS: tuple[Effort, ...] = ("low", "medium", "high")
"""The values of the variable ``reasoning_effort``, as gpt-oss reads it."""

_THOUGHTS = (("qwen3", "qwen3-thinking"), ("qwen3.5", "qwen3.5-thinking"))
"""The templates of a family without and with thoughts."""


def template_with_efforts(
    prompt: str, annotate: bool, tokenizer: str, turns: Turns = (), calls: CallFormName | None = None
) -> PromptTemplate:
    """Return the template as ``prompt_template``, with those that replace it where an effort is requested.

    Raises as ``prompt_template``.
    """
    if prompt == CHAT:
        reader = chat_reader(tokenizer)

        def of_chat(variables: Variables) -> PromptTemplate:
            return chat_template(tokenizer, reader, annotate, turns, calls, variables)

        template = of_chat({})
        efforts = _efforts_of_chat(template, of_chat)
    else:
        template = prompt_template(prompt, annotate, tokenizer, turns, calls)
        efforts = _efforts_of_named(prompt, template, lambda name: prompt_template(name, annotate, tokenizer, turns))
    return msgspec.structs.replace(template, efforts=efforts)


def _efforts_of_named(
    prompt: str, template: PromptTemplate, of_name: Callable[[str], PromptTemplate]
) -> dict[Effort, PromptTemplate]:
    """Return the templates by effort. Qwen3 and Qwen3.5 think or do not; other families do not think.

    A template that is given as text says nothing about its model.
    """
    for without, with_thoughts in _THOUGHTS:
        if prompt in (without, with_thoughts):
            return _switched(of_name(without), of_name(with_thoughts))
    return {"none": template} if prompt in FAMILIES else {}


def _efforts_of_chat(
    template: PromptTemplate, of_chat: Callable[[Variables], PromptTemplate]
) -> dict[Effort, PromptTemplate]:
    """Return the templates by effort. Only variables that change the prompt count: a template ignores unknown ones."""
    found: dict[Effort, PromptTemplate] = {}
    variables: dict[str, Any] = {}
    for name in _SWITCHES:
        off, on = _accepted(of_chat, {name: False}), _accepted(of_chat, {name: True})
        if off is not None and on is not None and off.before_steps != on.before_steps:
            found, variables = _switched(off, on), {name: True}
            break
    levels: dict[Effort, PromptTemplate | None] = {
        level: _accepted(of_chat, {**variables, "reasoning_effort": level}) for level in _LEVELS
    }
    texts = [level.before_steps for level in levels.values() if level is not None]
    for name, level in levels.items():
        if level is not None and texts.count(level.before_steps) == 1:
            found[name] = level
    does_not_think = not (found or template.thinks or template.opens_thought)
    return {"none": template} if does_not_think else found


def _switched(off: PromptTemplate, on: PromptTemplate) -> dict[Effort, PromptTemplate]:
    """Return the templates of a model whose thoughts are only switched: ``medium`` stands for its usual thoughts."""
    return {"none": off, "minimal": off, "medium": on}


def _accepted(of_chat: Callable[[Variables], PromptTemplate], variables: Variables) -> PromptTemplate | None:
    """Return the template with ``variables``; None if it refuses them."""
    try:
        return of_chat(variables)
    except ConfigError:
        return None
