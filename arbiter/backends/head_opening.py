"""Open a router that is a head on the draft."""

from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager

import anyio.to_thread

from arbiter.backends.head_model import DraftHead, check_draft, load_head
from arbiter.backends.prompts import PromptTemplate
from arbiter.backends.served.draft_memory import DraftMemory
from arbiter.config.model_tables import AnyModelTable, DraftHeadTable, InProcessTable, ServedTable
from arbiter.protocols.errors import ConfigError
from arbiter.protocols.ports import Generator, Scorer


@asynccontextmanager
async def open_head(
    table: DraftHeadTable,
    draft: AnyModelTable,
    template: PromptTemplate,
    threads: int | None,
    targets: int,
    memory: DraftMemory | None,
    writer: Generator | None,
) -> AsyncGenerator[Scorer]:
    """Yield the head of ``table`` on the model of ``draft``, whose prompt is ``template``.

    ``memory`` has the steps that a served draft wrote. ``writer`` is the draft in process, if it is open. Raises
    ``ConfigError`` if there is no such head or it does not fit the draft, ``DataError`` if its files are damaged, and
    ``BackendError`` if the draft cannot be loaded or reached, or gives no log-probabilities of a text that it reads.
    """
    head = await anyio.to_thread.run_sync(load_head, table.model)
    check_draft(head, _names(draft), template, targets)
    if isinstance(draft, InProcessTable):
        from arbiter.backends.in_process.local_head import open_local_head

        opening = open_local_head(head, draft, template, threads, writer)
    else:
        _refuse_inner_numbers(head, draft)
        from arbiter.backends.served.served_head import open_served_head

        opening = open_served_head(head, draft, template, memory or DraftMemory(0), table.in_flight)
    async with opening as scorer:
        yield scorer


def _names(draft: AnyModelTable) -> dict[str, str | None]:
    """Return the names of the draft model, by their keys below ``models.draft``."""
    server = draft.server if isinstance(draft, ServedTable) else None
    return {"model": draft.model, "tokenizer": draft.tokenizer, "server.path": server.path if server else None}


def _refuse_inner_numbers(head: DraftHead, draft: ServedTable) -> None:
    if head.metadata.features != "logprobs":
        raise ConfigError(
            f"models.router: the head reads {head.metadata.features}, but the draft is served by {draft.base}, and "
            "servers give log-probabilities alone: train it with --features logprobs, or run the draft in process"
        )
