"""Write a configuration as a TOML file with comments, for people to edit."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import tomli_w

from arbiter.config.config import Config, parse
from arbiter.config.run_tables import RunType

_DECIDES: dict[RunType, str] = {
    "router": "the router predicts whether the target would write a better step",
    "rsd": "the process reward model scores the draft's step",
    "confidence": "the draft's own confidence in its step",
    "judge": "a language model rates the draft's step",
    "trigger": "the first steps, hesitation, and unusual confidence of the draft",
    "paced": "the risk of the draft's step, with an allowance for each problem",
    "glimpse": "the first token of each step, before the step is written",
    "pomdp": "what an escalation gains, after the scores of all steps so far",
    "random": "chance, to compare with",
    "oracle": "both models write every step, and the process reward model scores both",
    "generate": "both models write every step, for training rows",
    "draft": "the draft alone",
    "target": "the target alone",
}
_THRESHOLDS = {
    "router": "a lower one escalates more",
    "oracle": "a lower one escalates more",
    "rsd": "a higher one escalates more",
    "confidence": "a higher one escalates more",
    "judge": "a higher one escalates more",
    "trigger": "a lower one escalates more",
    "paced": "a lower one escalates more",
    "glimpse": "a higher one escalates more",
    "pomdp": "a lower one escalates more",
    "random": "the probability of escalating",
}
_ROLES = {
    "draft": "the small model, which proposes each step",
    "target": "the large model, which is called on an escalation",
    "prm": "the process reward model, which scores steps",
    "router": "predicts whether the target would write a better step",
}
_KEYS = {
    "url": "the address of the server",
    "prompt": 'a template by name, "chat", or a text with {question}',
    "api_key_env": "the environment variable that holds the key",
    "annotate": "each step is prefixed with its author, as this router was trained",
    "scores": "how scores are requested",
    "tokenizer": "a folder or a hub name",
}
_COMMENT = 34  # the column of a comment


def commented(tree: Mapping[str, Any], source: str | None, folder: Path) -> str:
    """Return the tables of ``tree``, as ``ModelOptions.tree`` makes them, as the text of a file in ``folder``.

    ``source`` is that of the problems. Paths in the folder are written relative to it. Raises ``ConfigError`` if the
    configuration is not valid.
    """
    data = {"source": "math500", **tree.get("data", {})} | ({"source": source} if source is not None else {})
    config = parse({**tree, "data": data}, "arbiter init")
    tables = (_model(name, table, folder) for name, table in tree["models"].items())
    return "\n".join([*_head(config), *_run(config, _relative(config.data.source, folder)), *tables])


def _head(config: Config) -> list[str]:
    lines = [
        "# A configuration of Arbiter. Relative paths are relative to this file.",
        "# All keys: https://github.com/arbiter-reasoning/arbiter/blob/main/docs/reference/configuration.md",
        "",
        _line("run_type", config.run_type, f"decides: {_DECIDES[config.run_type]}"),
        _line("seed", config.seed, "of all random choices"),
    ]
    if config.cpu_threads is not None:
        lines.append(_line("cpu_threads", config.cpu_threads, "per operation; 1 is fastest for tiny models"))
    return [*lines, ""]


def _run(config: Config, source: str) -> list[str]:
    limits, limit = config.limits, config.data.limit
    lines = [
        "[limits]",
        _line("max_steps", limits.max_steps, "kept steps of a problem"),
        _line("max_tokens", limits.max_tokens, "tokens of these steps; with the question they fit each context"),
        _line("step_tokens", limits.step_tokens, "tokens of one step"),
        _line("problems", limits.problems, "problems in progress at a time"),
        "",
        "[sampling]",
        _line("temperature", config.sampling.temperature, "0: the likeliest token"),
        "",
        "[data]",
        _line("source", source, "a file of problems, or OWNER/NAME of the Hugging Face hub"),
        _line("limit", limit, "the first problems") if limit else "# limit = 20",
        "",
    ]
    if config.threshold is not None:
        note = _THRESHOLDS[config.run_type]
        lines = ["[thresholds]", _line(config.run_type, config.threshold, note), "", *lines]
    return lines


def _model(name: str, table: Mapping[str, Any], folder: Path) -> str:
    lines = [f"[models.{name}]".ljust(_COMMENT) + f"# {_ROLES[name]}"]
    for key, value in table.items():
        shown = _relative(value, folder) if key in ("model", "tokenizer") else value
        lines.append(_line(key, shown, _KEYS.get(key, "")))
    if "url" in table:
        lines.append("# in_flight = 128                 # the most concurrent requests")
    if name == "target" and table.get("engine") in ("sglang", "vllm"):
        lines.append(f'# verifies = "{table["engine"]}"             # checks rejected drafts; needs the tokenizer')
    return "\n".join([*lines, ""])


def _line(key: str, value: object, note: str) -> str:
    text = tomli_w.dumps({key: value}).rstrip("\n")
    return f"{text.ljust(_COMMENT - 1)} # {note}" if note else text


def _relative(name: str, folder: Path) -> str:
    """Return an absolute path in ``folder`` as a path relative to it; any other name unchanged."""
    path, folder = Path(name), folder.absolute()
    if path.is_absolute() and path.is_relative_to(folder):
        return f"./{path.relative_to(folder)}"
    return name
