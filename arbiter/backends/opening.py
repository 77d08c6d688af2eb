"""From the configuration's model tables to the seats of a ring."""

from collections.abc import AsyncGenerator, Mapping
from contextlib import AsyncExitStack, asynccontextmanager

import anyio.to_thread

from actors.policies import called_models
from arbiter.backends.in_process.opening import open_local_generator, open_local_scorer
from arbiter.backends.prompts import PromptTemplate, prompt_template
from arbiter.backends.served.opening import open_served_generator, open_served_scorer
from arbiter.config import Config
from arbiter.model_tables import AnyModelTable, InProcess
from arbiter.ring import Models
from protocols.errors import ConfigError
from protocols.ports import Generator, Scorer, Seat
from protocols.records import Model, Role, Scale


def required_tables(config: Config) -> dict[Model, AnyModelTable]:
    """The tables of the models that the configured run may call. Raises ``ConfigError`` if one is missing."""
    tables: dict[Model, AnyModelTable] = {}
    for name in called_models(config.policy(), config.audit):
        table = getattr(config.models, name)
        if table is None:
            raise ConfigError(
                f"the run type {config.run_type!r} calls the {name} model, and none is configured: "
                f"add a table [models.{name}]"
            )
        tables[name] = table
    return tables


@asynccontextmanager
async def open_models(config: Config) -> AsyncGenerator[Models]:
    """The models that the configured run calls, ready; closed when the block ends.

    Raises ``ConfigError`` if a table, an extra or a key is missing, ``BackendError`` if a model cannot be loaded, or
    a server not be reached or used.
    """
    async with open_tables(required_tables(config), config.cpu_threads) as models:
        yield models


@asynccontextmanager
async def open_tables(tables: Mapping[Model, AnyModelTable], threads: int | None) -> AsyncGenerator[Models]:
    """The models of these tables; raises as ``open_models``."""
    writers: dict[Role, Seat[Generator]] = {}
    scorers: dict[Scale, Seat[Scorer]] = {}
    async with AsyncExitStack() as stack:
        for name, table in tables.items():
            if name == "draft" or name == "target":
                generator = await stack.enter_async_context(open_generator(name, table, threads))
                writers[name] = Seat[Generator](generator, table.in_flight, table.annotate)
            elif name != "audit":
                scorer = await stack.enter_async_context(open_scorer(name, table, threads))
                scorers[name] = Seat[Scorer](scorer, table.in_flight)
        yield Models(draft=writers.get("draft"), target=writers.get("target"), scorers=scorers)


@asynccontextmanager
async def open_generator(name: Role, table: AnyModelTable, threads: int | None) -> AsyncGenerator[Generator]:
    """The model of the table ``[models.name]`` that writes steps; raises as ``open_models``."""
    template = await _template(name, table)
    if isinstance(table, InProcess):
        opening = open_local_generator(table, template, threads)
    else:
        opening = open_served_generator(name, table, template)
    async with opening as generator:
        yield generator


@asynccontextmanager
async def open_scorer(name: Scale, table: AnyModelTable, threads: int | None) -> AsyncGenerator[Scorer]:
    """The model of the table ``[models.name]`` that scores steps; raises as ``open_models``."""
    template = await _template(name, table)
    if isinstance(table, InProcess):
        opening = open_local_scorer(table, template, threads)
    else:
        opening = open_served_scorer(name, table, template)
    async with opening as scorer:
        yield scorer


async def _template(name: Model, table: AnyModelTable) -> PromptTemplate:
    tokenizer = table.tokenizer or table.model
    try:
        return await anyio.to_thread.run_sync(prompt_template, table.prompt, table.annotate, tokenizer)
    except ConfigError as error:
        raise ConfigError(f"models.{name}: {error}") from error
