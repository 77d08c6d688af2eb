"""Make the tables of models that are only named: by a URL, a folder or a hub name. The rest is found out.

A served model is asked what it is. A model in process is read from its folder. The prompt is that with which Arbiter
trained the model, else that of its family, else the chat template of its tokenizer.
"""

import re
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import Any, Literal

import anyio.to_thread
import msgspec

from arbiter.backends.prompts import CHAT, TEMPLATES, prompt_template
from arbiter.config.local_paths import exists, is_path, local_path, refuse_missing
from arbiter.pocket import MODELS, PREFIX, resolved, world
from arbiter.protocols.errors import ConfigError
from arbiter.servers.server_facts import ServerFacts, server_facts, split_address

Role = Literal["draft", "target", "router", "prm"]
ROLES: tuple[Role, ...] = ("draft", "target", "router", "prm")
_ADDRESS = re.compile(r"https?:|[\w.-]+:\d+(/|#|$)")
_METADATA = "arbiter.json"

_FAMILIES = (
    (re.compile(r"qwen2\.5-math-.*instruct", re.IGNORECASE), "qwen2.5-math"),
    (re.compile(r"qwen3-[\d.]+b(?!-(base|instruct|thinking))", re.IGNORECASE), "qwen3"),
    (re.compile(r"qwen3\.[56]-[\d.]+b(?!.*base)", re.IGNORECASE), "qwen3.5"),
    (re.compile(r"llama-?3(\.\d)?-.*instruct", re.IGNORECASE), "llama-3"),
)
_SCORERS = ((re.compile(r"skywork.*prm", re.IGNORECASE), "plain"),)
"""The template of a family, by a part of the names of its models."""


class NamedModel(msgspec.Struct, frozen=True):
    """The table of a named model, as in a configuration, and its context in tokens if that is known."""

    table: dict[str, Any]
    context: int | None = None


class _Metadata(msgspec.Struct, frozen=True):
    """What ``arbiter.json`` says about how a checkpoint reads."""

    kind: str | None = None
    prompt: str | None = None
    annotate: bool = False


class _ModelConfig(msgspec.Struct, frozen=True):
    max_position_embeddings: int | None = None


def is_url(text: str) -> bool:
    """Return whether ``text`` is the address of a server."""
    return not text.startswith(PREFIX) and _ADDRESS.match(text) is not None


async def named_model(role: Role, text: str, prompt: str | None, key_variable: str | None = None) -> NamedModel:
    """Return the table of the model ``text``: ``URL``, ``URL#MODEL``, a folder, a hub name or ``pocket:ROLE``.

    ``prompt`` is used if it is given. ``key_variable`` names the environment variable with the server's key. Raises
    ``ConfigError`` naming the option if there is no such model or its prompt is not known, and ``BackendError`` if a
    server cannot be reached.
    """
    if not text.strip():
        raise ConfigError(f"--{role} is empty: give a URL, a folder or a hub name")
    if is_url(text):
        return await _served(role, text, prompt, key_variable)
    return await _in_process(role, text, prompt)


async def _served(role: Role, text: str, prompt: str | None, key_variable: str | None) -> NamedModel:
    writes = role in ("draft", "target")
    facts = await server_facts(role, text, key_variable, writes)
    table: dict[str, Any] = {"backend": "http", "url": split_address(text)[0], "model": facts.model}
    if key_variable is not None:
        table["api_key_env"] = key_variable
    if not facts.completes:
        key = {"api_key_env": key_variable or ""}
        table |= {"backend": "openai", "api": "chat", "prompt": prompt or CHAT, **key}
        return NamedModel(table, facts.context)
    if facts.engine is not None:
        table["engine"] = facts.engine
    if not writes:
        table["scores"] = "vllm-classify" if facts.engine == "vllm" else "classify"
    tokenizer = _tokenizer(facts)
    if tokenizer != facts.model:
        table["tokenizer"] = tokenizer
    names = [name for name in (facts.model, facts.checkpoint, facts.tokenizer) if name]
    return NamedModel(table | await _reading(role, names, tokenizer, prompt), facts.context)


def _tokenizer(facts: ServerFacts) -> str:
    """Return the tokenizer of a served model: a folder of this machine, else the name of a hub, else its own name."""
    named = [name for name in (facts.tokenizer, facts.checkpoint) if name]
    local = next((name for name in named if exists(Path(name)) and Path(name).is_absolute()), None)
    return local or next((name for name in named if not Path(name).is_absolute()), facts.model)


async def _in_process(role: Role, text: str, prompt: str | None) -> NamedModel:
    name = text
    if not text.startswith(PREFIX):
        path = local_path(text, Path.cwd())
        if exists(path) or is_path(text, Path.cwd()):
            name = str(path)
            refuse_missing(f"--{role}", name)
    elif not exists(Path(resolved(text))):
        known = ", ".join(f"{PREFIX}{folder.name}" for folder in sorted(MODELS.iterdir()))
        raise ConfigError(f"--{role} {text}: there is no such pocket model; there are {known}")
    kind = _metadata(name).kind
    if kind not in (None, role, "draft-head") or (kind == "draft-head" and role != "router"):
        raise ConfigError(f"--{role} {text}: Arbiter trained this model as a {kind}, not as a {role}")
    if kind == "draft-head":
        return NamedModel({"backend": "draft-head", "model": name})
    table = {"model": name, **await _reading(role, [name], name, prompt)}
    return NamedModel(table, _context(name))


async def _reading(role: Role, names: Sequence[str], tokenizer: str, prompt: str | None) -> dict[str, Any]:
    """Return the keys that say how the model reads: ``prompt``, and for a router ``annotate``.

    ``names`` are all names of the model.
    """
    _check_prompt(role, prompt)
    metadata = next((found for found in map(_metadata, names) if found.prompt), _Metadata())
    known = prompt or metadata.prompt or _known(role, names)
    annotate = {"annotate": True} if role == "router" and (metadata.annotate or metadata.prompt is None) else {}
    return {"prompt": known or await _of_tokenizer(role, names[0], tokenizer), **annotate}


def _known(role: Role, names: Sequence[str]) -> str | None:
    """Return the prompt of the pocket models or of the family; None if the names show neither."""
    if any(MODELS in Path(resolved(name)).resolve().parents for name in names):
        return world.PROMPT
    families = _FAMILIES if role in ("draft", "target") else _SCORERS
    last = [name.rstrip("/").rpartition("/")[2] for name in names]
    return next((template for pattern, template in families if any(map(pattern.search, last))), None)


async def _of_tokenizer(role: Role, model: str, tokenizer: str) -> str:
    """Return the prompt ``chat`` if ``tokenizer`` has a chat template. Raises ``ConfigError`` naming the option."""
    option = _option(role)
    templates = ", ".join((CHAT, *TEMPLATES))
    give = f"give {option}: one of {templates}, or a text with {{question}}"
    if role in ("router", "prm"):
        raise ConfigError(f"--{role}: it is not known with which prompt {model!r} was trained; {give}")
    try:
        await anyio.to_thread.run_sync(partial(prompt_template, CHAT, False, tokenizer))
    except ConfigError as error:
        reason = str(error).removeprefix(f'prompt = "{CHAT}": ').partition(". Set tokenizer")[0]
        raise ConfigError(f"--{role}: the prompt of {model!r} is not known ({reason}); {give}") from error
    return CHAT


def _option(role: Role) -> str:
    return "--prompt" if role in ("draft", "target") else "--scorer-prompt"


def _check_prompt(role: Role, prompt: str | None) -> None:
    if prompt is None or prompt == CHAT:
        return
    try:
        prompt_template(prompt, False, "")
    except ConfigError as error:
        raise ConfigError(f"{_option(role)}: {error}") from error


def _metadata(name: str) -> _Metadata:
    try:
        return msgspec.json.decode((Path(resolved(name)) / _METADATA).read_bytes(), type=_Metadata)
    except (OSError, ValueError):  # it is not a checkpoint that Arbiter trained
        return _Metadata()


def _context(name: str) -> int | None:
    try:
        data = (Path(resolved(name)) / "config.json").read_bytes()
        return msgspec.json.decode(data, type=_ModelConfig).max_position_embeddings
    except (OSError, ValueError):
        return None
