"""What a run will request of its models, in two lines for the user before the first problem starts."""

from collections.abc import Iterator, Mapping

from arbiter.actors.ring_setup import Models
from arbiter.config.config import Config
from arbiter.config.local_paths import shown
from arbiter.config.model_tables import DraftHeadTable, RouterTable, ServedTable
from arbiter.protocols.model_traits import KnowsContext
from arbiter.runs.limit_notes import AnyHandle, handles_of


def run_plan(config: Config, problems: int, models: Models) -> Iterator[str]:
    """Yield a line about the ``problems`` and their limits, and one about the ``models``, which are open."""
    limits, samples = config.limits, config.sampling.samples
    each = f" × {samples} samples" if samples > 1 else ""
    deadline = f", {limits.deadline:g} s" if limits.deadline is not None else ""
    yield (
        f"{_counted(problems, 'problem')}{each}, at most {limits.problems} at a time; limits of a problem: "
        f"{_counted(limits.max_steps, 'step')}, {limits.max_tokens} tokens{deadline}; of a step: {limits.step_tokens} "
        "tokens"
    )
    tables, handles = config.models.configured(), handles_of(models)
    if handles:
        yield "; ".join(_model(name, tables[name], handles) for name in tables if name in handles)


def _model(name: str, table: RouterTable, handles: Mapping[str, AnyHandle]) -> str:
    port = handles[name].port
    context = port.context if isinstance(port, KnowsContext) else None
    known = "" if context is None else f" (context {context})"
    return f"{name.removeprefix('targets.')}: {shown(table.model)} {_where(table)}{known}"


def _where(table: RouterTable) -> str:
    if isinstance(table, DraftHeadTable):
        return "on the draft"
    return f"at {table.base}" if isinstance(table, ServedTable) else "in process"


def _counted(number: int, what: str) -> str:
    return f"{number} {what}" if number == 1 else f"{number} {what}s"
