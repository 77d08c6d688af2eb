"""Read the tokenizer of a served model in this process, for its chat template or to check proposals.

Needs the extra ``pocket``.
"""

# pyright: reportUnknownMemberType=false, reportUnknownVariableType=false
# (transformers is typed in part)

from pathlib import Path
from typing import Any

from arbiter.config.model_tables import AnyModelTable, Engine, InProcessTable, ServedTable
from arbiter.pocket import PREFIX, resolved
from arbiter.protocols.errors import ConfigError, not_installed


def read_tokenizer(name: str, wanted_by: str, instead: str) -> Any:  # noqa: ANN401
    """Load the tokenizer ``name``: a folder, a hub name or ``pocket:ROLE``. Its own code is never run.

    ``wanted_by`` (the key that needs it) and ``instead`` (what to do without it) are parts of error messages. Raises
    ``ConfigError`` if the tokenizer cannot be read, or transformers is missing.
    """
    try:
        from transformers import AutoTokenizer
    except ImportError as error:
        raise ConfigError(f"{not_installed(wanted_by, 'transformers', 'pocket')}, or {instead}") from error
    reader: Any = AutoTokenizer  # typed in part
    try:
        return reader.from_pretrained(resolved(name), trust_remote_code=False, clean_up_tokenization_spaces=False)
    except Exception as error:  # a tokenizer or the hub may raise anything
        raise ConfigError(
            f"{wanted_by}: cannot read the tokenizer {name!r}: {str(error).strip().partition(chr(10))[0].rstrip('.')}. "
            f"Set tokenizer to a folder or a hub name, or {instead}"
        ) from error


def known_tokenizer(table: AnyModelTable) -> str | None:
    """Return the tokenizer of the table's model, if it is named or on this machine; None if it is not known."""
    if table.tokenizer:
        return table.tokenizer
    path = table.server.path if isinstance(table, ServedTable) and table.server else None
    name = path or table.model
    on_this_machine = isinstance(table, InProcessTable) or name.startswith(PREFIX) or Path(name).is_dir()
    return name if on_this_machine else None


def end_tokens(name: str, tokenizer: Any, engine: Engine) -> frozenset[int]:  # noqa: ANN401
    """Return the tokens at which ``engine`` ends an answer of the model ``name``.

    Chat models have several. The tokenizer knows one; ``generation_config.json`` lists the others. All are needed: a
    proposal that contains an unknown one would be accepted past it, and the step would differ from the model's own.
    sglang also uses those of ``config.json``; vLLM uses them only if there is no ``generation_config.json``.
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
        return reader.get_config_dict(name)[0]  # reads only the file and runs no code of the model
    except OSError:
        return {}
