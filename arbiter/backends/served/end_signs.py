"""Find out what shows that an answer of a served model ended: its end tokens, and its engine."""

from collections.abc import Mapping

import anyio.to_thread

from arbiter.backends.served.completion_answers import EndSigns
from arbiter.backends.tokenizers import end_tokens, known_tokenizer, read_tokenizer
from arbiter.config.model_tables import ServedEngine, ServedTable
from arbiter.protocols.errors import ConfigError

_OWNERS: Mapping[str, ServedEngine] = {"sglang": "sglang", "vllm": "vllm"}


async def end_signs(table: ServedTable, owner: str | None) -> EndSigns:
    """Return what shows that an answer of the table's model ended.

    The engine is that of the table, else ``owner``, the owner in the list of models. The tokens are those of the
    model's tokenizer, if it is on this machine or named in the table, and can be read.
    """
    engine = table.named_engine or _OWNERS.get(owner or "")
    tokenizer_name = known_tokenizer(table)
    if tokenizer_name is None:
        return EndSigns(engine=engine)

    def read() -> frozenset[int]:
        try:
            tokenizer = read_tokenizer(tokenizer_name, "", "")
        except ConfigError:
            return frozenset()
        return end_tokens(tokenizer_name, tokenizer, "sglang")  # of the engines, the one that uses most

    return EndSigns(await anyio.to_thread.run_sync(read), engine)
