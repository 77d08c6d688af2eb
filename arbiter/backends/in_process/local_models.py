"""Load the model of a table in this process."""

import importlib.util
from collections.abc import AsyncGenerator, Mapping
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING

import anyio.to_thread

from arbiter.actors.supervision import services
from arbiter.backends.judge_prompts import JudgePrompt
from arbiter.backends.prompts import PromptTemplate
from arbiter.backends.token_texts import refuse_special_marks
from arbiter.config.model_tables import InProcessTable, RouterTable
from arbiter.protocols.errors import ConfigError, not_installed
from arbiter.protocols.ports import Generator, Scorer

if TYPE_CHECKING:
    from arbiter.backends.in_process.checkpoint_files import Kind
    from arbiter.backends.in_process.model_loading import Loaded
    from arbiter.backends.in_process.worker import Worker

_CLASSIFIERS = ("prm", "router")


@asynccontextmanager
async def open_local_generator(
    table: InProcessTable, template: PromptTemplate, threads: int | None, loaded: "Loaded | None" = None
) -> AsyncGenerator[Generator]:
    """Yield a model that writes steps. ``loaded`` is the model, if it is loaded already.

    Raises ``ConfigError`` if torch is missing, ``BackendError`` if the model cannot be loaded, or if it marks thoughts
    with special tokens.
    """
    loaded = loaded or await _loaded(table, "generator", threads)
    refuse_special_marks(loaded.texts, f"the model {loaded.name!r}", template.before_steps)
    from arbiter.backends.in_process.decoding import InProcessGenerator

    generator = InProcessGenerator(loaded, template, table.batch)
    async with _serving(generator.engine.worker):
        yield generator


@asynccontextmanager
async def open_local_scorer(
    table: InProcessTable,
    template: PromptTemplate,
    threads: int | None,
    targets: int = 1,
    loaded: "Loaded | None" = None,
) -> AsyncGenerator[Scorer]:
    """Yield a model that scores steps for ``targets`` targets.

    Raises as ``open_local_generator``, and ``BackendError`` if its number of labels does not match.
    """
    loaded = loaded or await _loaded(table, "scorer", threads)
    from arbiter.backends.in_process.scoring import InProcessScorer

    scorer = InProcessScorer(loaded, template, table.batch, targets)
    async with _serving(scorer.engine.worker):
        yield scorer


@asynccontextmanager
async def open_local_judge(
    table: InProcessTable, prompt: JudgePrompt, threads: int | None, loaded: "Loaded | None" = None
) -> AsyncGenerator[Scorer]:
    """Yield a language model that judges steps. Raises as ``open_local_generator``."""
    loaded = loaded or await _loaded(table, "generator", threads)
    from arbiter.backends.in_process.judging import InProcessJudge

    judge = InProcessJudge(loaded, prompt, table.batch)
    async with _serving(judge.engine.worker):
        yield judge


async def load_side_by_side(tables: Mapping[str, RouterTable], threads: int | None) -> dict[str, "Loaded"]:
    """Load the models in process among ``tables`` concurrently. Return them by the names of their tables.

    Raises as ``open_local_generator``: the first error, in the order of the tables.
    """
    found: dict[str, Loaded] = {}
    errors: dict[str, Exception] = {}

    async def load(name: str, table: InProcessTable) -> None:
        try:
            found[name] = await _loaded(table, "scorer" if name in _CLASSIFIERS else "generator", threads)
        except Exception as error:  # raised below, without a group around it
            errors[name] = error

    async with anyio.create_task_group() as loading:
        for name, table in tables.items():
            if isinstance(table, InProcessTable):
                loading.start_soon(load, name, table)
    for name in tables:
        if name in errors:
            raise errors[name]
    return found


async def _loaded(table: InProcessTable, kind: "Kind", threads: int | None) -> "Loaded":
    for package in ("torch", "tokenizers", "safetensors"):
        if importlib.util.find_spec(package) is None:
            raise ConfigError(not_installed("a model in process", package, "pocket"))
    return await anyio.to_thread.run_sync(_load, table, kind, threads)


def _load(table: InProcessTable, kind: "Kind", threads: int | None) -> "Loaded":
    import torch

    from arbiter.backends.in_process.model_loading import open_model

    if threads is not None:
        torch.set_num_threads(threads)
    return open_model(table.model, kind, table.device, table.dtype, table.cache_bytes)


@asynccontextmanager
async def _serving(worker: "Worker") -> AsyncGenerator[None]:
    async with services() as tasks:
        await tasks.start(worker.run)
        try:
            yield
        finally:
            worker.close()
