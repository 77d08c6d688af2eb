"""Open a head on a draft in process."""

from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager, nullcontext

from arbiter.backends.head_model import DraftHead
from arbiter.backends.in_process.local_models import open_local_generator
from arbiter.backends.prompts import PromptTemplate
from arbiter.config.model_tables import InProcessTable
from arbiter.protocols.errors import ConfigError
from arbiter.protocols.ports import Generator, Scorer


@asynccontextmanager
async def open_local_head(
    head: DraftHead, draft: InProcessTable, template: PromptTemplate, threads: int | None, writer: Generator | None
) -> AsyncGenerator[Scorer]:
    """Yield a head on the draft of the table ``draft``. ``writer`` is that draft, if it is open; else it is opened.

    Raises ``ConfigError`` if torch is missing or the draft cannot give what the head reads, and ``BackendError`` if the
    draft cannot be loaded.
    """
    opening = open_local_generator(draft, template, threads) if writer is None else nullcontext(writer)
    async with opening as generator:
        from arbiter.backends.in_process.decoding import InProcessGenerator
        from arbiter.backends.in_process.draft_head import InProcessHead

        assert isinstance(generator, InProcessGenerator)  # noqa: S101 - that is what tables of models in process open
        if head.metadata.features.endswith("hidden") and not generator.gives_hidden_states:
            raise ConfigError(
                f"models.router: the head reads the hidden state of {draft.model}, which only models of the Llama "
                "family give in process: train it with --features logprobs+entropy"
            )
        yield InProcessHead(head, generator, template, generator.texts)
