"""Find out what shows that an answer of a served model ended: its end tokens, and its engine."""

from collections.abc import Mapping

import anyio.to_thread

from arbiter.backends.served.completion_answers import EndSigns
from arbiter.backends.tokenizers import end_tokens, known_tokenizer, read_tokenizer
from arbiter.config.model_tables import ServedEngine, ServedTable
from arbiter.protocols.errors import ConfigError

OWNERS: Mapping[str, ServedEngine] = {"sglang": "sglang", "vllm": "vllm", "llamacpp": "llama.cpp"}
"""The engine by the owner in its list of models."""


async def end_signs(name: str, table: ServedTable, owner: str | None) -> EndSigns:
    """Return what shows that an answer of the model ``models.NAME`` ended.

    The engine is that of the table, else ``owner``, the owner in the list of models. The tokens are those of the
    tokenizer that the table names. Without that key, they are those of the model, if it is on this machine and its
    tokenizer can be read. Raises ``ConfigError`` if the named tokenizer cannot be read, but not with ``verifies``:
    opening the verification raises it then.
    """
    engine = table.named_engine or OWNERS.get(owner or "")
    tokenizer_name = known_tokenizer(table)
    if tokenizer_name is None:
        return EndSigns(engine=engine)

    def read() -> frozenset[int]:
        try:
            tokenizer = read_tokenizer(tokenizer_name, f"models.{name}.tokenizer", "leave it out")
        except ConfigError:
            if table.tokenizer and not table.verifies:
                raise
            return frozenset()
        return end_tokens(tokenizer_name, tokenizer, "sglang")  # of the engines, the one that uses most

    return EndSigns(await anyio.to_thread.run_sync(read), engine)
