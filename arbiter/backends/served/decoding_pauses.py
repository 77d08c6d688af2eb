"""Find out whether a server stops decoding in order to read prompts, so that requests should reach it together."""

import msgspec

from arbiter.backends.served.refusals import decoded
from arbiter.backends.served.served_models import open_transport
from arbiter.config.model_tables import HostedTable, ServedTable
from arbiter.protocols.errors import BackendError

_SERVER_INFO = "/server_info"  # sglang 0.5.23: entrypoints/http_server.py, with all arguments of the server
_SECONDS = 5.0


class _Arguments(msgspec.Struct, frozen=True):
    """The argument of an sglang server that lets it read and decode in one pass. No other engine reports it."""

    enable_mixed_chunk: bool


_DECODER = msgspec.json.Decoder(_Arguments)


async def pauses_decoding(name: str, table: ServedTable) -> bool:
    """Whether the table's server stops decoding while it reads a prompt, as sglang does by default.

    One small request to the server decides, and never fails: without an answer, the engine that the table names counts.
    Hosted servers and other engines do not pause. ``name`` is the table's key below ``models.``.
    """
    if isinstance(table, HostedTable) or table.named_engine not in (None, "sglang"):
        return False
    patient = msgspec.structs.replace(table, timeout=min(table.timeout, _SECONDS), retries=0, in_flight=1)
    try:
        async with open_transport(name, patient) as transport:
            arguments: _Arguments = decoded(await transport.get(_SERVER_INFO), _DECODER)
    except (BackendError, msgspec.DecodeError):
        return table.named_engine == "sglang"
    return not arguments.enable_mixed_chunk
