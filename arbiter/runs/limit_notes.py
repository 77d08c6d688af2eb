"""Compare the limits of a configuration with the contexts of its models, before the first problem starts."""

from collections.abc import Iterator, Mapping

from arbiter.actors.ring_setup import Models
from arbiter.config.config import Config
from arbiter.config.model_tables import ServedTable, is_target
from arbiter.config.run_tables import LimitsTable
from arbiter.protocols.ports import Generator, KnowsContext, ModelHandle, Scorer

AnyHandle = ModelHandle[Generator] | ModelHandle[Scorer]


def handles_of(models: Models) -> Mapping[str, AnyHandle]:
    """Return the models that are open, by the names of their tables after ``models.``."""
    # the first of several targets is the target as well
    target = {} if models.targets else {"target": models.target}
    several = {f"targets.{name}": handle for name, handle in models.targets.items()}
    handles = {"draft": models.draft, **target, **several, **models.scorers}
    return {name: handle for name, handle in handles.items() if handle is not None}


def limit_notes(config: Config, models: Models) -> Iterator[str]:
    """Yield a line for each limit that cannot be reached, with the reason and the keys to change."""
    limits = config.limits
    if limits.max_tokens < limits.step_tokens != LimitsTable().step_tokens:
        yield (
            f"limits.step_tokens = {limits.step_tokens} cannot be reached: limits.max_tokens = {limits.max_tokens} "
            "ends a problem before. Lower limits.step_tokens, or raise limits.max_tokens"
        )
    for name, handle in handles_of(models).items():
        note = context_note(config, name, handle.port)
        if note is not None:
            yield note


def context_note(config: Config, name: str, model: object) -> str | None:
    """Return why ``model``, that of the table ``[models.name]``, does not allow ``limits.max_tokens``; None if it does.

    Its context must hold the question besides. A model that does not report its context allows everything.
    """
    context = model.context if isinstance(model, KnowsContext) else None
    limit = config.limits.max_tokens
    if context is None or limit < context:
        return None
    writes = name == "draft" or is_target(name)
    then = "a problem ends where it is full" if writes else "a problem fails where a step does not fit"
    return (
        f"limits.max_tokens = {limit} cannot be reached: the context of models.{name} holds {context} tokens with the "
        f"question, and {then}. Lower limits.max_tokens below {context} less the longest question, or "
        f"{_longer(config, name)}"
    )


def _longer(config: Config, name: str) -> str:
    table = config.models.configured().get(name)
    if isinstance(table, ServedTable) and table.server is not None:
        return f"raise models.{name}.server.context_length"
    served = isinstance(table, ServedTable)
    return f"{'serve' if served else 'use'} a model with a longer context"
