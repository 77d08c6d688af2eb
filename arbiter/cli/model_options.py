"""The options that name models, in place of a configuration file."""

from dataclasses import dataclass
from typing import Any

import anyio
from cyclopts import Parameter

from arbiter.config.config_files import built_in, read
from arbiter.config.run_tables import LimitsTable, RunType
from arbiter.pocket import PREFIX
from arbiter.protocols.errors import ConfigError
from arbiter.servers.named_models import ROLES, NamedModel, Role, named_model

_POCKET = "pocket"
_NEEDED: dict[RunType, tuple[Role, ...]] = {
    "draft": ("draft",),
    "target": ("target",),
    "confidence": ("draft", "target"),
    "trigger": ("draft", "target"),
    "paced": ("draft", "target"),
    "glimpse": ("draft", "target"),
    "pomdp": ("draft", "target"),
    "random": ("draft", "target"),
    "router": ("draft", "target", "router"),
    "rsd": ("draft", "target", "prm"),
    "oracle": ("draft", "target", "prm"),
    "generate": ("draft", "target", "prm"),
}
"""The models that a run type calls. ``judge`` calls one that no option names."""
_ALONE = (
    ". For one model alone, give --run-type draft with --draft, or --run-type target with --target; a sweep needs both"
)
_STEPS = 3, 4
"""The share of the shortest context that a problem's steps may fill. The rest is for the question."""


@Parameter(name="*")
@dataclass(frozen=True, kw_only=True)
class ModelOptions:
    """Options that name the models, in place of a configuration."""

    draft: str | None = None
    """The draft model, without a configuration: the URL of a server (`URL#MODEL` if it serves several), a folder, a
    name on the Hugging Face hub, or `pocket:draft`. A server is asked for the model's name, context and tokenizer."""

    target: str | None = None
    """The target model, written as for `--draft`. Without `--router`, `--prm` and `--run-type`, the run type is
    `confidence`, which needs no third model."""

    router: str | None = None
    """The router, written as for `--draft`; also a head on the draft (`pocket:draft-head`). The run type is then
    `router`."""

    prm: str | None = None
    """The process reward model (PRM), written as for `--draft`. Without a router the run type is then `rsd`."""

    prompt: str | None = None
    """The prompt of `--draft` and `--target`: the name of a template, `chat`, or a text with `{question}`. Default: the
    prompt of the model's family, or the chat template of its tokenizer."""

    scorer_prompt: str | None = None
    """The prompt of `--router` and `--prm`. Default: the one with which Arbiter trained the model."""

    server_key_env: str | None = None
    """The name of the environment variable with the API key of the servers that `--draft` and the others name. Default:
    no key is sent."""

    @property
    def given(self) -> dict[Role, str]:
        """The models that are named, by role."""
        named: dict[Role, str | None] = {role: getattr(self, role) for role in ROLES}
        return {role: text for role, text in named.items() if text is not None}

    def tree(self, run_type: RunType | None = None) -> dict[str, Any]:
        """Return the tables of a configuration with these models. Servers are asked, and folders are read.

        ``run_type`` is the one that is requested. Raises ``ConfigError`` naming the option that is wrong or missing,
        and ``BackendError`` if a server cannot be reached.
        """
        chosen = run_type or self._run_type()
        self._check(chosen)
        models = anyio.run(self._models)
        tables = {"models": {role: model.table for role, model in models.items()}}
        if all(text.startswith(PREFIX) for text in self.given.values()):
            pocket = read(built_in()[_POCKET])  # its limit is for its own problems, of which there is no end
            return {**pocket, "run_type": chosen, "data": {"source": pocket["data"]["source"]}, **tables}
        return {"run_type": chosen, **_limits(models), **tables}

    def _run_type(self) -> RunType:
        """Return the run type that fits the models."""
        return "router" if self.router is not None else "rsd" if self.prm is not None else "confidence"

    def _check(self, run_type: RunType) -> None:
        """Raise ``ConfigError`` naming the option of a model that the run type calls and that is not given."""
        needed = _NEEDED.get(run_type)
        if needed is None:
            raise ConfigError(
                f"the run type {run_type!r} needs a table [models.{run_type}], which no option makes: write a "
                "configuration with arbiter init and the options of the other models, without --run-type; then add the "
                f'table, and set run_type = "{run_type}"'
            )
        missing = [role for role in needed if role not in self.given]
        if missing:
            options = " and ".join(f"--{role}" for role in needed)
            alone = "" if run_type == "generate" else _ALONE
            raise ConfigError(f"--{missing[0]} is missing: the run type {run_type!r} needs {options}{alone}")

    async def _models(self) -> dict[Role, NamedModel]:
        found: dict[Role, NamedModel] = {}
        for role, text in self.given.items():
            prompt = self.prompt if role in ("draft", "target") else self.scorer_prompt
            found[role] = await named_model(role, text, prompt, self.server_key_env)
        return found


NO_MODELS = ModelOptions()


def origin(
    config: str | None, models: ModelOptions, run_type: RunType | None = None, default: str | None = None
) -> str | dict[str, Any]:
    """Return the configuration to load: the tables of the ``models`` that are named, else the name ``config``.

    ``default`` is the name if neither is given. Raises ``ConfigError`` if both or none are given, and as
    ``ModelOptions.tree``.
    """
    if models.given:
        if config is not None:
            named = " and ".join(f"--{role}" for role in models.given)
            raise ConfigError(
                f"{named} and the configuration {config} are both given: leave {config} out, or set the models there"
            )
        return models.tree(run_type)
    if models != NO_MODELS:
        raise ConfigError("--prompt, --scorer-prompt and --server-key-env need --draft, --target, --router or --prm")
    if config is None and default is None:
        raise ConfigError(
            f"no configuration is given: name a file, or a built-in one ({', '.join(built_in())}), or the models: "
            "--draft MODEL --target MODEL"
        )
    return config or default or ""


def _limits(models: dict[Role, NamedModel]) -> dict[str, Any]:
    """Return limits that fit the shortest known context, if the default ones do not."""
    contexts = [model.context for model in models.values() if model.context]
    part, whole = _STEPS
    longest = min(contexts, default=0) * part // whole
    usual = LimitsTable()
    if not contexts or longest >= usual.max_tokens or longest < 1:
        return {}
    return {"limits": {"max_tokens": longest, "step_tokens": min(usual.step_tokens, longest)}}
