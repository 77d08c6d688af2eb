"""Ask a server what it serves: the model's name, its context, the engine, and where its tokenizer is."""

from collections.abc import Sequence

import anyio
import msgspec

from arbiter.backends.served.end_signs import OWNERS
from arbiter.backends.served.served_models import ServedModel, list_models, model_info, open_transport
from arbiter.backends.served.transport import NotServedError, Transport, persistent
from arbiter.config.model_tables import ModelTables, ServedEngine, ServedTable
from arbiter.protocols.errors import BackendError, ConfigError

_SECONDS = 15.0
_NAME = "#"


class ServerFacts(msgspec.Struct, frozen=True):
    """What a server says about the model that it serves.

    ``checkpoint`` and ``tokenizer`` are folders of the server's machine or hub names. ``completes`` is False if the
    server has no ``/v1/completions``. What the server does not say is None.
    """

    model: str
    engine: ServedEngine | None = None
    context: int | None = None
    checkpoint: str | None = None
    tokenizer: str | None = None
    completes: bool = True


def split_address(text: str) -> tuple[str, str | None]:
    """Return the URL of ``URL`` or ``URL#MODEL``, and the model."""
    url, _, model = text.partition(_NAME)
    return url, model or None


async def server_facts(role: str, text: str, key_variable: str | None, writes: bool) -> ServerFacts:
    """Ask the server at ``text``, ``URL`` or ``URL#MODEL``, what it serves. ``role`` is that of the model.

    ``key_variable`` names the environment variable with the server's key. If the model ``writes`` and the engine is not
    known, a request for one token shows whether the server has ``/v1/completions``.

    Raises ``ConfigError`` if the URL is wrong, the key is missing or a model must be chosen, and ``BackendError`` if
    the server cannot be reached.
    """
    url, chosen = split_address(text)
    table = ServedTable(model=chosen or "", prompt="plain", url=url, api_key_env=key_variable)
    try:
        ModelTables(draft=table).check(f"--{role}")
    except ConfigError as error:
        raise ConfigError(str(error).replace("models.draft.url: ", "", 1).replace("models.draft.", "its ")) from error
    table = msgspec.structs.replace(table, timeout=_SECONDS, retries=1, in_flight=1)
    try:
        async with open_transport(role, table) as transport:
            return await _facts(role, transport, chosen, writes)
    except ConfigError as error:
        if key_variable is None or key_variable not in str(error):
            raise
        reason = str(error).removeprefix(f"models.{role}: ").replace(" (api_key_env)", "")
        raise ConfigError(f"--server-key-env: {reason.partition(', or set models')[0]}") from error
    except BackendError as error:
        reason = str(error).replace("Set api_key_env to", "Set --server-key-env to")
        raise BackendError(f"--{role} {text}: {reason}") from error


async def _facts(role: str, transport: Transport, chosen: str | None, writes: bool) -> ServerFacts:
    try:
        listed = await persistent(transport.address, lambda: list_models(transport))
    except NotServedError:
        if chosen is None:
            raise
        listed = [ServedModel(chosen)]
    model = _choose(role, transport.address.url, chosen, listed)
    info = await model_info(transport)
    engine: ServedEngine | None = OWNERS.get(model.owned_by or "") or ("sglang" if info else None)
    tries = writes and engine is None
    return ServerFacts(
        model.id,
        engine,
        model.max_model_len,
        (info.model_path if info else None) or model.root,
        info.tokenizer_path if info else None,
        not tries or await _completes(transport, model.id),
    )


def _choose(role: str, url: str, chosen: str | None, listed: Sequence[ServedModel]) -> ServedModel:
    if chosen is None and len(listed) == 1:
        return listed[0]
    found = next((model for model in listed if model.id == chosen), None)
    if found is not None:
        return found
    names = ", ".join(model.id for model in listed)
    if not listed:
        raise ConfigError(f"--{role}: {url} lists no model: load one there, or describe the model in a configuration")
    if chosen is None:
        raise ConfigError(f"--{role}: {url} serves several models ({names}): name one, as in {url}{_NAME}MODEL")
    raise ConfigError(f"--{role}: {url} does not serve {chosen!r}; it serves: {names}")


async def _completes(transport: Transport, model: str) -> bool:
    """Return whether the server has ``/v1/completions``. What else goes wrong shows when the model is opened."""
    body = {"model": model, "prompt": "Compute 1+1.", "max_tokens": 1}
    try:
        with anyio.move_on_after(_SECONDS):
            await transport.post("/v1/completions", body, "")
    except NotServedError:
        return False
    except BackendError:
        pass
    return True
