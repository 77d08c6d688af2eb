"""From the configuration's model tables to the seats of a ring."""

import importlib.util
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING

import anyio.to_thread
from anyio.abc import TaskGroup

from actors.policies import called_models
from actors.supervision import services
from arbiter.backends.prompts import PromptTemplate
from arbiter.config import Config, ModelTable
from arbiter.ring import Models
from protocols.errors import ConfigError
from protocols.ports import Generator, Scorer, Seat
from protocols.records import Model, Role, Scale

if TYPE_CHECKING:
    from arbiter.backends.in_process.generation import InProcessGenerator
    from arbiter.backends.in_process.scoring import InProcessScorer


def required_tables(config: Config) -> dict[Model, ModelTable]:
    """The tables of the models that the configured run may call. Raises ``ConfigError`` if one is missing."""
    tables: dict[Model, ModelTable] = {}
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
    """The models that the configured run calls, loaded and ready; closed when the block ends.

    Raises ``ConfigError`` if a table or an extra is missing, ``BackendError`` if a model cannot be loaded.
    """
    tables = required_tables(config)
    if not all(importlib.util.find_spec(package) for package in ("torch", "transformers")):
        raise ConfigError(
            "models in process need torch and transformers, which are not installed: "
            "pip install 'arbiter-reasoning[pocket]'"
        )
    if config.cpu_threads is not None:
        import torch

        torch.set_num_threads(config.cpu_threads)
    opened: dict[Model, InProcessGenerator | InProcessScorer] = {}
    async with services() as tasks:
        try:
            writers: dict[Role, Seat[Generator]] = {}
            scorers: dict[Scale, Seat[Scorer]] = {}
            for name, table in tables.items():
                if name == "draft" or name == "target":
                    generator = opened[name] = await _open_generator(table, tasks)
                    writers[name] = Seat[Generator](generator, table.in_flight)
                elif name != "audit":
                    scorer = opened[name] = await _open_scorer(table, tasks)
                    scorers[name] = Seat[Scorer](scorer, table.in_flight)
            yield Models(draft=writers.get("draft"), target=writers.get("target"), scorers=scorers)
        finally:
            for backend in opened.values():
                backend.batcher.close()


async def _open_generator(table: ModelTable, tasks: TaskGroup) -> "InProcessGenerator":
    from arbiter.backends.in_process.generation import InProcessGenerator
    from arbiter.backends.in_process.loading import load

    template = PromptTemplate(table.prompt, table.annotate)
    loaded = await anyio.to_thread.run_sync(load, table.model, "generator", table.device, table.dtype)
    generator = InProcessGenerator(loaded, template, table.batch)
    await tasks.start(generator.batcher.run)
    return generator


async def _open_scorer(table: ModelTable, tasks: TaskGroup) -> "InProcessScorer":
    from arbiter.backends.in_process.loading import load
    from arbiter.backends.in_process.scoring import InProcessScorer

    template = PromptTemplate(table.prompt, table.annotate)
    loaded = await anyio.to_thread.run_sync(load, table.model, "scorer", table.device, table.dtype)
    scorer = InProcessScorer(loaded, template, table.batch)
    await tasks.start(scorer.batcher.run)
    return scorer
