"""``arbiter train router`` and ``arbiter train prm``: the models that judge steps, for one's own pair of models."""

import importlib
import logging
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

import cyclopts
import msgspec
from cyclopts import Parameter

from arbiter.backends.prompts import TEMPLATES, prompt_template
from arbiter.cli.console import guarded, stderr, stdout, version
from arbiter.cli.overrides import given
from arbiter.data.training_rows import TrainingRow
from arbiter.protocols.errors import ConfigError
from arbiter.runs.collection import Collection, common, read_collection
from arbiter.training.metadata import Balance, CheckpointMetadata, Labels, Precision, is_first_process
from arbiter.training.training_data import read_rows, read_solved

train_command = cyclopts.App(
    name="train", help="Train a router or a process reward model (docs/training.md).", version=version
)


@Parameter(name="*")
@dataclass(frozen=True, kw_only=True)
class TrainOptions:
    """How a classifier is trained; what is not given is as in the paper, or as docs/how-to/train-a-router.md tells."""

    prompt: str | None = None
    """How a question is put to the model: a template's name, `chat`, or the text itself with `{question}`. For a router
    the collection's by default."""

    separator: str | None = None
    """What closes a step; by default the collection's, or a blank line."""

    epochs: float | None = None
    """How often each row is learned from."""

    batch: int | None = None
    """Rows an update; never more than there are."""

    micro_batch: int | None = None
    """Rows that a device takes at once; fewer need less memory and give the same result."""

    learning_rate: float | None = None
    """The peak of the learning rate; adapters (`--lora`) want ten to a hundred times more."""

    warmup: float | None = None
    """The share of the updates until the peak is reached; from there the rate falls to 0."""

    weight_decay: float | None = None
    """AdamW's."""

    max_length: int | None = None
    """The longest text in tokens; of a longer one the oldest steps are left out."""

    seed: int | None = None
    """Decides the order of the rows, which of them are left out for balance, and random heads."""

    lora: int | None = None
    """Train low-rank adapters of this rank in place of all weights; they are merged before saving."""

    precision: Precision | None = None
    """Of the computation: `auto` is bfloat16 or float16 on a GPU, float32 on a CPU."""

    gradient_checkpointing: bool | None = None
    """Compute activations twice rather than keep them: less memory, a third more time."""

    def changes(self) -> dict[str, Any]:
        """The settings that were given, but for those of the text."""
        fields = ("epochs", "batch", "micro_batch", "learning_rate", "warmup", "weight_decay", "max_length")
        rest = ("seed", "lora", "precision", "gradient_checkpointing")
        return given(**{name: getattr(self, name) for name in (*fields, *rest)})


_NOT_GIVEN = TrainOptions()
Data = Annotated[tuple[Path, ...], Parameter(consume_multiple=True)]


@train_command.command(name="router")
def router_command(
    *,
    data: Data,
    base: str,
    out: Path,
    labels: Labels = "binary",
    margin: float = 0.0,
    balance: Balance = "downsample",
    annotate: Annotated[bool | None, Parameter(negative="--no-annotate")] = None,
    temperature_scaling: Annotated[bool, Parameter(negative="--no-temperature-scaling")] = True,
    options: TrainOptions = _NOT_GIVEN,
    resume: bool = False,
    json: bool = False,
    debug: bool = False,
) -> int:
    """Train a router: a classifier of the draft's step that says how likely the target writes a better one.

    The checkpoint is a sequence classifier that transformers, sglang and vLLM serve with no plug-in; `arbiter.json`
    beside it tells how it was made. Ctrl-C keeps the state, and the same command with `--resume` goes on.

    Examples:

        arbiter train router --data runs/rows --base pocket:prm --epochs 3 --batch 64 --learning-rate 2e-4 --out router
        arbiter train router --data rows --base Skywork/Skywork-o1-Open-PRM-Qwen-2.5-1.5B --out router
        accelerate launch -m arbiter train router --data rows --base CHECKPOINT --out router

    Parameters
    ----------
    data
        Collections (folders of `arbiter collect`) or their `rows.jsonl`.
    base
        The checkpoint to start from: a process reward model, an earlier router, or a language model.
    out
        The folder of the checkpoint, a new one.
    labels
        What is learned of Δ: its sign (`binary`), its bin (`4-class`, `10-class`), or whether it is above each of
        three edges (`ordinal`).
    margin
        How far Δ must be above 0 to count as better: a process reward model's scores differ a little between texts that
        are equally bad.
    balance
        How both signs of Δ are made to count as much: by leaving out rows of the majority (`downsample`), by weights,
        or not at all.
    annotate
        Whether each step in the text is prefixed by its author. By default as the collection says.
    temperature_scaling
        Calibrate ŷ on the validation split, by a temperature that is folded into the weights.
    resume
        Go on from the last checkpoint in `--out`.
    json
        Print the recipe (`arbiter.json`) on standard output, and nothing else there.
    debug
        Show the traceback of an error.
    """

    def action() -> int:
        rows, collection = _collected(data)
        router = _library("router_training")
        settings = router.RouterSettings(
            base=base,
            **_text(options, collection, base),
            annotate=_annotated(annotate, collection),
            targets=collection.targets if collection else (),
            labels=labels,
            margin=margin,
            balance=balance,
            temperature_scaling=temperature_scaling,
            **options.changes(),
        )
        return _print_metadata(router.train_router(settings, rows, out, resume=resume), out, json)

    return guarded(debug, action)


@train_command.command(name="prm")
def prm_command(
    *,
    data: Data,
    base: str,
    out: Path,
    layers: int | None = None,
    options: TrainOptions = _NOT_GIVEN,
    resume: bool = False,
    json: bool = False,
    debug: bool = False,
) -> int:
    """Train a process reward model: a value at the end of each step that says how good it is.

    The data are JSONL files of solutions, one a line: `{"question": …, "steps": […], "labels": […], "split": …}`, with
    a label from 0 (wrong) to 1 (right) for each step.

    Examples:

        arbiter train prm --data steps.jsonl --base Qwen/Qwen2.5-Math-1.5B-Instruct --prompt qwen2.5-math --out prm

    Parameters
    ----------
    data
        The labelled solutions.
    base
        The checkpoint to start from: a language model, or a process reward model.
    out
        The folder of the checkpoint, a new one.
    layers
        Train only so many of the last layers, the final norm and the head.
    resume
        Go on from the last checkpoint in `--out`.
    json
        Print the recipe (`arbiter.json`) on standard output, and nothing else there.
    debug
        Show the traceback of an error.
    """

    def action() -> int:
        rows = [row for path in data for row in read_solved(path)]
        prm = _library("prm_training")
        settings = prm.PrmSettings(base=base, **_text(options, None, base), layers=layers, **options.changes())
        return _print_metadata(prm.train_prm(settings, rows, out, resume=resume), out, json)

    return guarded(debug, action)


def _library(module: str) -> Any:  # noqa: ANN401 - a module that needs torch
    """A module of the training, whose figures go to standard error. Raises ``ConfigError`` if its extra is missing."""
    import structlog  # takes long to import

    level = logging.INFO if is_first_process() else logging.CRITICAL
    structlog.configure(
        wrapper_class=structlog.make_filtering_bound_logger(level),
        logger_factory=lambda *_: structlog.PrintLogger(sys.stderr),
    )
    try:
        return importlib.import_module(f"arbiter.training.{module}")
    except ImportError as error:
        raise ConfigError(
            f"training needs the package {error.name}, which is not installed: pip install 'arbiter-reasoning[train]'"
        ) from error


def _collected(paths: Sequence[Path]) -> tuple[list[TrainingRow], Collection | None]:
    """All rows, and what their collections have in common."""
    rows = [row for path in paths for row in read_rows(path)]
    found = [(path, collection) for path in paths if (collection := read_collection(path)) is not None]
    return rows, common(found) if found else None


def _text(options: TrainOptions, collection: Collection | None, base: str) -> dict[str, str]:
    """The prompt and the separator that the model reads."""
    if options.prompt is not None:
        prompt = prompt_template(options.prompt, False, base).before_steps
    elif collection is not None:
        prompt = collection.prompt
    else:
        known = ", ".join([*TEMPLATES, "chat"])
        raise ConfigError(f"name the prompt with --prompt ({known}, or a text with {{question}}): the data has none")
    separator = options.separator or (collection.separator if collection else "\n\n")
    return {"prompt": prompt, "separator": separator}


def _annotated(annotate: bool | None, collection: Collection | None) -> bool:
    if annotate is not None:
        return annotate
    return collection.annotate if collection else True


def _print_metadata(metadata: CheckpointMetadata, out: Path, as_json: bool) -> int:
    if not is_first_process():
        return 0
    if as_json:
        sys.stdout.write(msgspec.json.encode(metadata).decode() + "\n")
    else:
        told = ", ".join(f"{name} {value}" for name, value in metadata.figures.items()) or "no validation split"
        stdout.print(f"{metadata.updates} updates on {metadata.rows['train']} rows; {told}", highlight=False)
    stderr.print(f"the checkpoint is in {out}", highlight=False, soft_wrap=True)
    return 0
