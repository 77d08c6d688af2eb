"""Open the models of a configured run, which write steps as the configuration says."""

from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager

from arbiter.actors.ring_setup import Models
from arbiter.backends.bounded_steps import with_boundary
from arbiter.backends.fences import open_fence
from arbiter.backends.opening import open_tables, required_tables
from arbiter.backends.step_boundaries import (
    AfterPattern,
    AfterSentence,
    AfterTokens,
    AllOf,
    BeforeMark,
    OutsideBlocks,
    StepBoundary,
)
from arbiter.config.boundary_table import BoundaryTable
from arbiter.config.config import Config
from arbiter.data.known_sets import has_whole_blocks
from arbiter.structured.thoughts import CLOSE_THOUGHT


@asynccontextmanager
async def open_models(config: Config) -> AsyncGenerator[Models]:
    """Yield the models that the configured run calls, ready to use. They are closed when the block ends.

    Raises ``ConfigError`` if a table, an extra or a key is missing. Raises ``BackendError`` if a model cannot be
    loaded, or a server cannot be reached or used.
    """
    tables = required_tables(config)
    async with open_tables(tables, config.cpu_threads, config.adaptive, config.separator) as models:
        yield with_step_ends(models, config)


def with_step_ends(models: Models, config: Config) -> Models:
    """Return ``models`` whose steps end as ``config`` says: at every separator, or only at some."""
    boundary = boundary_of(config)
    return models if boundary is None else with_boundary(models, boundary)


def boundary_of(config: Config) -> StepBoundary | None:
    """Return where the steps of a run end; None if they end at every separator."""
    blocks = OutsideBlocks(_is_open) if has_whole_blocks(config) else None
    found = [one for one in (blocks, _configured(config.boundary)) if one is not None]
    return AllOf(tuple(found)) if len(found) > 1 else next(iter(found), None)


def _configured(table: BoundaryTable) -> StepBoundary | None:
    match table.kind:
        case "separator":
            return None
        case "pattern":
            return AfterPattern(table.pattern)
        case "sentence":
            return AfterSentence()
        case "tokens":
            return AfterTokens(table.tokens)
        case "mark":
            return BeforeMark(table.marks)


def _is_open(answer: str) -> bool:
    """Return whether a fenced block is open at the end of ``answer``. The end of a thought ends the blocks in it."""
    return open_fence(answer.rpartition(CLOSE_THOUGHT)[2])
