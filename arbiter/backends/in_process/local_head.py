"""Open a head on a draft in process."""

import importlib.util
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager

import anyio.to_thread

from arbiter.actors.supervision import services
from arbiter.backends.head_model import DraftHead
from arbiter.backends.prompts import PromptTemplate
from arbiter.config.model_tables import InProcessTable
from arbiter.protocols.errors import ConfigError, not_installed
from arbiter.protocols.ports import Scorer


@asynccontextmanager
async def open_local_head(
    head: DraftHead, draft: InProcessTable, template: PromptTemplate, threads: int | None
) -> AsyncGenerator[Scorer]:
    """Yield a head on the draft of the table ``draft``.

    Raises ``ConfigError`` if torch or transformers is missing, ``BackendError`` if the draft cannot be loaded.
    """
    for package in ("torch", "transformers"):
        if importlib.util.find_spec(package) is None:
            raise ConfigError(not_installed("a draft in process", package, "pocket"))
    import torch

    from arbiter.backends.in_process.draft_head import InProcessHead
    from arbiter.backends.in_process.model_loading import load
    from arbiter.backends.in_process.token_reading import BatchedTokenReader

    if threads is not None:
        torch.set_num_threads(threads)
    loaded = await anyio.to_thread.run_sync(load, draft.model, "generator", draft.device, draft.dtype)
    reader = BatchedTokenReader(loaded, draft.batch)
    async with services() as tasks:
        await tasks.start(reader.batcher.run)
        try:
            yield InProcessHead(head, reader, template, loaded.tokenizer)
        finally:
            reader.batcher.close()
