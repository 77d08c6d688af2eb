"""The options of ``arbiter train`` that its commands share, and what a head on the draft takes from its collection."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import msgspec
from cyclopts import Parameter

from arbiter.backends.draft_features import FeatureSet
from arbiter.backends.prompts import PromptTemplate, prompt_template
from arbiter.cli.overrides import given
from arbiter.config.config import load_config
from arbiter.config.model_tables import InProcessTable, is_chat
from arbiter.protocols.errors import ConfigError
from arbiter.training.metadata import Balance, Precision

if TYPE_CHECKING:
    from arbiter.training.head_training import HeadSettings


@Parameter(name="*")
@dataclass(frozen=True, kw_only=True)
class TrainOptions:
    """The training options. Defaults are those of the paper, or those in docs/how-to/train-a-router.md."""

    prompt: str | None = None
    """The prompt template: the name of a built-in template, `chat` for the tokenizer's chat template, or a text with
    `{question}`. Default for a router: that of the collection. A PRM needs this option."""

    separator: str | None = None
    """The text that ends a step. Default: that of the collection, or a blank line."""

    epochs: float | None = None
    """The number of passes over the training rows. Default: 3 for a router, 1 for a PRM."""

    batch: int | None = None
    """The number of rows per update, at most all rows. Default: 1024 for a router, 64 solutions for a PRM."""

    micro_batch: int | None = None
    """The number of rows that a device processes at a time. A smaller number needs less memory, and gives the same
    result. Default: a number that usually fits."""

    learning_rate: float | None = None
    """The peak learning rate. Adapters (`--lora`) need a rate that is 10 to 100 times as high. Default: 1e-5."""

    warmup: float | None = None
    """The share of updates, from 0 to 1, until the peak learning rate. After it the rate falls to 0. Default: 0.05."""

    weight_decay: float | None = None
    """The weight decay of AdamW. Default: 0.01."""

    max_length: int | None = None
    """The largest length of a text, in tokens. From a longer text the oldest steps are left out. For a PRM the end of
    the text is cut off. Default: the context of the base model, at most 4096."""

    seed: int | None = None
    """The seed of the row order, of the rows that are left out for balance, and of a new head. Default: 0."""

    lora: int | None = None
    """Train low-rank adapters of this rank instead of all weights. The adapters are merged into the weights before
    saving. Default: train all weights."""

    precision: Precision | None = None
    """The precision of the computation. Default: `auto`, which is bfloat16 or float16 on a GPU and float32 on a CPU."""

    gradient_checkpointing: bool | None = None
    """Compute activations twice instead of storing them. It needs less memory, but a third more time. Default: off."""

    def changes(self) -> dict[str, Any]:
        """Return the given settings, except `prompt` and `separator`."""
        fields = ("epochs", "batch", "micro_batch", "learning_rate", "warmup", "weight_decay", "max_length")
        rest = ("seed", "lora", "precision", "gradient_checkpointing")
        return given(**{name: getattr(self, name) for name in (*fields, *rest)})


class Drafts(msgspec.Struct, frozen=True):
    """The draft of a collection: its model (None if it is behind a server), its template and its separator."""

    model: str | None
    template: PromptTemplate
    separator: str


def draft_of(paths: Sequence[Path]) -> Drafts | None:
    """Return the draft of the collections at ``paths``, by the configuration in their folders; None without one.

    Raises ``ConfigError`` if they differ.
    """
    found: list[Drafts] = []
    for path in paths:
        file = (path if path.is_dir() else path.parent) / "config.toml"
        if file.is_file():
            config = load_config(str(file))
            if (table := config.models.draft) is not None and not is_chat(table):  # there, no head on it is possible
                template = prompt_template(table.prompt, table.annotate, table.tokenizer or table.model)
                model = table.model if isinstance(table, InProcessTable) else table.tokenizer
                found.append(Drafts(model, PromptTemplate(template.before_steps, table.annotate), config.separator))
    if any(other != found[0] for other in found):
        raise ConfigError("the collections were written by different drafts: train a head on the rows of one of them")
    return found[0] if found else None


@Parameter(name="*")
@dataclass(frozen=True, kw_only=True)
class HeadOptions:
    """The options of a router on the draft (`--on draft`)."""

    draft: str | None = None
    """With `--on draft`: the draft model, which reads the rows in this process: a folder, a name on the hub, or
    `pocket:draft`. Default: the draft of the collection."""

    features: FeatureSet | None = None
    """With `--on draft`: the numbers that the head reads. `logprobs`: the probabilities of the step's tokens, which
    served drafts have too. `logprobs+entropy`, `logprobs+entropy+hidden`: also entropies and the last hidden state,
    which only a draft in process has. Default: `logprobs`."""


def head_settings(
    head: HeadOptions,
    options: TrainOptions,
    paths: Sequence[Path],
    annotate: bool | None,
    balance: Balance | None,
    **rest: Any,  # noqa: ANN401 - further settings
) -> "HeadSettings":
    """Return the settings of a head. Options that are not given come from the collections at ``paths``.

    Raises ``ConfigError`` naming an option that is missing, or that does not apply to a head.
    """
    from arbiter.training.head_training import HeadSettings

    changes = options.changes()
    if unused := [name for name in changes if name != "seed"]:
        raise ConfigError(f"--{unused[0].replace('_', '-')} does not apply to --on draft: leave it out")
    found = draft_of(paths)
    draft = head.draft or (found and found.model)
    if not draft:
        raise ConfigError("the data does not say which draft in process wrote the steps: give --draft")
    if options.prompt is None and found is None:
        raise ConfigError("the data does not say how the draft reads a question: give --prompt")
    prompt = found.template.before_steps if found else ""
    if options.prompt is not None:
        prompt = prompt_template(options.prompt, False, draft).before_steps
    return HeadSettings(
        draft=draft,
        prompt=prompt,
        annotate=(found is not None and found.template.annotate) if annotate is None else annotate,
        separator=options.separator or (found.separator if found else "\n\n"),
        features=head.features or "logprobs",
        balance=balance or "weights",
        **changes,
        **rest,
    )
