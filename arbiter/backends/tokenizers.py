"""The tokenizer of a model behind a server, read in this process: for its chat template, or to check proposals.

It needs the extra ``pocket``.
"""

# pyright: reportUnknownMemberType=false, reportUnknownVariableType=false
# (transformers is typed in part)

from typing import Any

from arbiter.config.model_tables import Engine
from arbiter.pocket import resolved
from arbiter.protocols.errors import ConfigError


def read_tokenizer(name: str, wanted_by: str, instead: str) -> Any:  # noqa: ANN401
    """The tokenizer of the folder, hub name or ``pocket:ROLE`` ``name``, never with code of its own.

    Raises ``ConfigError`` if it cannot be read, or transformers is missing; ``wanted_by`` is the key that needs it,
    ``instead`` the way to do without.
    """
    try:
        from transformers import AutoTokenizer
    except ImportError as error:
        raise ConfigError(
            f"{wanted_by} needs transformers, which is not installed: pip install 'arbiter-reasoning[pocket]', "
            f"or {instead}"
        ) from error
    reader: Any = AutoTokenizer  # typed in part
    try:
        return reader.from_pretrained(resolved(name), trust_remote_code=False)
    except Exception as error:  # whatever a tokenizer or the hub makes of it
        raise ConfigError(
            f"{wanted_by}: cannot read the tokenizer {name!r}: {str(error).strip().partition(chr(10))[0].rstrip('.')}. "
            f"Set tokenizer to a folder or a hub name, or {instead}"
        ) from error


def end_tokens(name: str, tokenizer: Any, engine: Engine) -> frozenset[int]:  # noqa: ANN401
    """The tokens at which ``engine`` ends an answer of the model ``name``.

    Chat models have several, of which the tokenizer knows one: the others stand in ``generation_config.json``. One
    that is not known here would be walked over where a proposal has it and the model agrees, and the step would not be
    the model's own. sglang heeds those of ``config.json`` as well, vLLM only where there is no other file.
    """
    from transformers import GenerationConfig, PreTrainedConfig

    name = resolved(name)
    found: list[Any] = [tokenizer.eos_token_id]
    try:
        found.append(GenerationConfig.from_pretrained(name).eos_token_id)
        has_settings = True
    except OSError:  # many models have no such file
        has_settings = False
    if engine == "sglang" or not has_settings:
        found.append(_config_of(PreTrainedConfig, name).get("eos_token_id"))
    named: list[int | None] = [end for ends in found for end in (ends if isinstance(ends, list) else [ends])]
    return frozenset(end for end in named if end is not None)


def _config_of(reader: Any, name: str) -> dict[str, Any]:  # noqa: ANN401
    try:
        return reader.get_config_dict(name)[0]  # the file alone: its model's code is not wanted
    except OSError:
        return {}
