"""Compare the limits of a configuration with the contexts of its models, before the first problem starts."""

from collections.abc import Iterable, Iterator, Mapping

from arbiter.actors.ring_setup import Models
from arbiter.config.config import Config
from arbiter.config.model_tables import ServedTable, is_target
from arbiter.config.run_tables import LimitsTable
from arbiter.protocols.errors import ArbiterError
from arbiter.protocols.model_traits import CountsPrompts, KnowsContext
from arbiter.protocols.ports import Generator, ModelHandle, Scorer
from arbiter.protocols.records import Transcript

AnyHandle = ModelHandle[Generator] | ModelHandle[Scorer]


def handles_of(models: Models) -> Mapping[str, AnyHandle]:
    """Return the models that are open, by the names of their tables after ``models.``."""
    # the first of several targets is the target as well
    target = {} if models.targets else {"target": models.target}
    several = {f"targets.{name}": handle for name, handle in models.targets.items()}
    handles = {"draft": models.draft, **target, **several, **models.scorers}
    return {name: handle for name, handle in handles.items() if handle is not None}


def limit_notes(config: Config, models: Models, questions: Iterable[str] = ()) -> Iterator[str]:
    """Yield a line for each limit that cannot be reached, with the reason and the keys to change.

    The longest of the ``questions`` counts too, where the model's tokenizer is known.
    """
    limits, usual = config.limits, LimitsTable()
    if limits.max_tokens < limits.step_tokens != LimitsTable().step_tokens:
        yield (
            f"limits.step_tokens = {limits.step_tokens} cannot be reached: limits.max_tokens = {limits.max_tokens} "
            "ends a problem before. Lower limits.step_tokens, or raise limits.max_tokens"
        )
    steps = limits.max_steps * limits.step_tokens
    if steps < limits.max_tokens != usual.max_tokens:
        yield (
            f"limits.max_tokens = {limits.max_tokens} cannot be reached: limits.max_steps = {limits.max_steps} steps "
            f"of at most limits.step_tokens = {limits.step_tokens} tokens have {steps}. Raise one of these, or lower "
            "limits.max_tokens"
        )
    longest = max(questions, key=len, default="")
    for name, handle in handles_of(models).items():
        note = context_note(config, name, handle.port, longest)
        if note is not None:
            yield note


def context_note(config: Config, name: str, model: object, question: str = "") -> str | None:
    """Return why ``model``, that of the table ``[models.name]``, does not allow ``limits.max_tokens``; None if it does.

    Its context must hold the prompt of ``question`` besides; if it is empty, the prompt without a question. A model
    that does not report its context allows everything.
    """
    context = model.context if isinstance(model, KnowsContext) else None
    limit = config.limits.max_tokens
    prompt = _prompt_tokens(config, model, question)
    if context is None or (limit < context and limit + (prompt or 0) <= context):
        return None
    writes = name == "draft" or is_target(name)
    of_question = "the longest question" if question else "a question"
    if prompt is not None and prompt >= context:
        return (
            f"{of_question} does not fit: its prompt has {prompt} tokens, and the context of models.{name} holds "
            f"{context}, so such a problem fails. Leave long questions out, shorten system or examples, or "
            f"{_longer(config, name)}"
        )
    if prompt is not None and limit < context:
        then = "ends where it is full" if writes else "fails where a step does not fit"
        return (
            f"limits.max_tokens = {limit} cannot always be reached: the context of models.{name} holds {context} "
            f"tokens, and the prompt of {of_question} has at least {prompt}; such a problem {then}. Lower "
            f"limits.max_tokens to {context - prompt}, or {_longer(config, name)}"
        )
    then = "a problem ends where it is full" if writes else "a problem fails where a step does not fit"
    return (
        f"limits.max_tokens = {limit} cannot be reached: the context of models.{name} holds {context} tokens with the "
        f"question, and {then}. Lower limits.max_tokens below {context} less the longest question, or "
        f"{_longer(config, name)}"
    )


def _prompt_tokens(config: Config, model: object, question: str) -> int | None:
    if not isinstance(model, CountsPrompts):
        return None
    try:
        return model.prompt_tokens(Transcript(question), config.separator)
    except ArbiterError:  # the model's template refuses the question: its problem fails, and says why
        return None


def _longer(config: Config, name: str) -> str:
    table = config.models.configured().get(name)
    if isinstance(table, ServedTable) and table.server is not None:
        return f"raise models.{name}.server.context_length"
    served = isinstance(table, ServedTable)
    return f"{'serve' if served else 'use'} a model with a longer context"
