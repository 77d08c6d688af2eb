"""``arbiter train router`` and ``arbiter train prm``: train the models that score steps."""

import importlib
import logging
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any, Literal

import cyclopts
from cyclopts import Parameter

from arbiter.backends.head_model import HeadMetadata
from arbiter.backends.prompts import TEMPLATES, prompt_template
from arbiter.cli.console import guarded, print_rows, stdout, version
from arbiter.cli.endings import say
from arbiter.cli.terminal import write_json
from arbiter.cli.train_options import HeadOptions, TrainOptions, head_settings
from arbiter.data.training_rows import TrainingRow, answer_rows
from arbiter.protocols.errors import ConfigError, not_installed
from arbiter.runs.collection import Collection, common, read_collection
from arbiter.runs.finding import resolve
from arbiter.runs.reports.numbers import NOTHING
from arbiter.runs.rollouts import ROLLOUTS, stored_values
from arbiter.training.metadata import Balance, CheckpointMetadata, Labels, is_first_process
from arbiter.training.training_data import read_rows, read_solved

train_command = cyclopts.App(
    name="train", help="Train a router or a process reward model (docs/how-to/train-a-router.md).", version=version
)


_RESUME = "to continue: give the same command with --resume"
_HEAD_AGAIN = "to train the head again: give the same command"
_NOT_GIVEN, _NO_HEAD = TrainOptions(), HeadOptions()
Data = Annotated[tuple[Path, ...], Parameter(consume_multiple=True)]


@train_command.command(name="router")
def router_command(
    *,
    data: Data,
    base: str | None = None,
    on: Literal["draft"] | None = None,
    out: Path,
    label: Literal["step", "answer"] = "step",
    labels: Labels = "binary",
    margin: float = 0.0,
    balance: Balance | None = None,
    annotate: Annotated[bool | None, Parameter(negative="--no-annotate")] = None,
    temperature_scaling: Annotated[bool, Parameter(negative="--no-temperature-scaling")] = True,
    head: HeadOptions = _NO_HEAD,
    options: TrainOptions = _NOT_GIVEN,
    resume: bool = False,
    json: bool = False,
    debug: bool = False,
) -> int:
    """Train a router: a classifier that predicts how likely the target is to write a better step than the draft's.

    The checkpoint is a sequence classifier that transformers, sglang and vLLM serve without a plug-in. The file
    `arbiter.json` in it records the recipe. After Ctrl-C the same command with `--resume` continues the training.

    With `--on draft` the router is a small head on the draft model: it reads how likely the draft finds its own step,
    so a run needs no third model.

    Examples:

        arbiter train router --data rows --base pocket:prm --batch 64 --learning-rate 2e-4 --out router
        arbiter train router --data rows --base models/skywork-prm-1.5b --out router
        arbiter train router --data rows --on draft --out head
        accelerate launch -m arbiter train router --data rows --base BASE --out router

    Parameters
    ----------
    data
        Folders of collections (`arbiter collect`), `@last` or the beginnings of their names (see `arbiter runs`), or
        their `rows.jsonl`.
    base
        The checkpoint to start from: a process reward model, an earlier router, or a language model.
    on
        Instead of `--base`: train a head on the draft model.
    out
        The folder of the new checkpoint.
    label
        What Δ is. `step`: the gain in process reward. `answer`: the gain in right answers, from the rollouts of the
        collections (`arbiter collect --rollouts`).
    labels
        What the router learns about the advantage Δ. `binary`: its sign. `4-class`, `10-class`: its bin. `ordinal`:
        whether it is above each of three edges.
    margin
        How far Δ must be above 0 for the target's step to count as better. A PRM gives slightly different scores to
        steps that are equally bad.
    balance
        How rows with a better and rows with a worse step of the target get equal influence. `downsample`: leave out
        rows of the more frequent kind. `weights`: weight the rows. `none`: no balance. Default: `downsample`, and
        `weights` with `--on draft`.
    annotate
        Prefix each step in the text with its author. Default: as in the collection, otherwise yes.
    temperature_scaling
        Calibrate ŷ on the validation split, with a temperature that is merged into the weights.
    resume
        Continue from the last checkpoint in `--out`.
    json
        Print only the recipe (`arbiter.json`) on standard output.
    debug
        Show the traceback of an error.
    """

    def action() -> int:
        collections = tuple(resolve(path, ("collection",)) for path in data)
        if on == "draft":
            if base is not None or labels != "binary" or resume:
                raise ConfigError("--base, --labels and --resume do not apply to --on draft: leave them out")
            kept: dict[str, Any] = {"margin": margin, "temperature_scaling": temperature_scaling}
            if label != "step":
                raise ConfigError("--label answer does not apply to --on draft: leave it out")
            return _train_head(collections, out, head, options, annotate, balance, kept, json)
        if base is None:
            raise ConfigError("give --base, the checkpoint to start from, or --on draft for a head on the draft")
        if head != _NO_HEAD:
            raise ConfigError("--draft and --features are for a head on the draft: add --on draft, or leave them out")
        rows, collection = _collected(collections, label)
        router = _library("router_training")
        settings = router.RouterSettings(
            base=base,
            **_text(options, collection, base),
            annotate=_annotated(annotate, collection),
            targets=collection.targets if collection else (),
            labels=labels,
            margin=margin,
            balance=balance or "downsample",
            temperature_scaling=temperature_scaling,
            **options.changes(),
        )
        return _print_metadata(router.train_router(settings, rows, out, resume=resume), out, json)

    return guarded(debug, action, lambda: _HEAD_AGAIN if on == "draft" else _RESUME)


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
    """Train a process reward model, which gives a score to each step of a solution.

    The data are JSONL files with one solution per line: `{"question": …, "steps": […], "labels": […], "split": …}`.
    `labels` has a number from 0 (wrong) to 1 (right) for each step.

    Examples:

        arbiter train prm --data steps.jsonl --base BASE --prompt chat --out prm

    Parameters
    ----------
    data
        JSONL files of labelled solutions.
    base
        The checkpoint to start from: a language model, or a process reward model.
    out
        The folder of the new checkpoint.
    layers
        Train only this number of the last layers, the final norm and the head. Default: train all layers.
    resume
        Continue from the last checkpoint in `--out`.
    json
        Print only the recipe (`arbiter.json`) on standard output.
    debug
        Show the traceback of an error.
    """

    def action() -> int:
        rows = [row for path in data for row in read_solved(path)]
        prm = _library("prm_training")
        settings = prm.PrmSettings(base=base, **_text(options, None, base), layers=layers, **options.changes())
        return _print_metadata(prm.train_prm(settings, rows, out, resume=resume), out, json)

    return guarded(debug, action, lambda: _RESUME)


def _train_head(
    data: Data,
    out: Path,
    head: HeadOptions,
    options: TrainOptions,
    annotate: bool | None,
    balance: Balance | None,
    kept: dict[str, Any],
    as_json: bool,
) -> int:
    rows, collection = _collected(data)
    library = _library("head_training")
    targets = collection.targets if collection else ()
    settings = head_settings(head, options, data, annotate, balance, targets=targets, **kept)
    metadata: HeadMetadata = library.train_head(settings, rows, out)
    did = f"{metadata.shape} head on {metadata.draft}, from {metadata.rows['train']} rows"
    compared = {f"auroc of {shape} (across folds)": value for shape, value in metadata.cross_validation.items()}
    return _print_recipe(metadata, did, compared, out, as_json)


def _library(module: str) -> Any:  # noqa: ANN401 - a module that needs torch
    """Import a module of ``arbiter.training``, with its log on standard error.

    Raises ``ConfigError`` if the extra ``train`` is not installed.
    """
    import structlog  # takes long to import

    level = logging.INFO if is_first_process() else logging.CRITICAL
    structlog.configure(
        wrapper_class=structlog.make_filtering_bound_logger(level),
        logger_factory=lambda *_: structlog.PrintLogger(sys.stderr),
    )
    try:
        return importlib.import_module(f"arbiter.training.{module}")
    except ImportError as error:
        raise ConfigError(not_installed("training", error.name, "train")) from error


def _collected(
    paths: Sequence[Path], label: Literal["step", "answer"] = "step"
) -> tuple[list[TrainingRow], Collection | None]:
    """Return all rows, and the settings that their collections share (None without collections)."""
    rows = [row for path in paths for row in (read_rows(path) if label == "step" else _valued(path))]
    found = [(path, collection) for path in paths if (collection := read_collection(path)) is not None]
    return rows, common(found) if found else None


def _valued(path: Path) -> list[TrainingRow]:
    """Return the rows with the values of their steps for the answer. Raises ``ConfigError`` without rollouts."""
    folder = path if path.is_dir() else path.parent
    found = answer_rows(read_rows(path), stored_values(folder))
    if not found:
        raise ConfigError(
            f"--label answer: {folder} has no {ROLLOUTS}: add it with arbiter collect --resume {folder} --rollouts 1"
        )
    return found


def _text(options: TrainOptions, collection: Collection | None, base: str) -> dict[str, str]:
    """Return the prompt and the separator. Raises ``ConfigError`` if neither an option nor the data has a prompt."""
    if options.prompt is not None:
        prompt = prompt_template(options.prompt, False, base).before_steps
    elif collection is not None:
        prompt = collection.prompt
    else:
        known = ", ".join([*TEMPLATES, "chat"])
        raise ConfigError(f"the data has no prompt: give --prompt, one of {known}, or a text with {{question}}")
    separator = options.separator or (collection.separator if collection else "\n\n")
    return {"prompt": prompt, "separator": separator}


def _annotated(annotate: bool | None, collection: Collection | None) -> bool:
    if annotate is not None:
        return annotate
    return collection.annotate if collection else True


def _print_metadata(metadata: CheckpointMetadata, out: Path, as_json: bool) -> int:
    updates = f"{metadata.updates} update{'' if metadata.updates == 1 else 's'}"
    did = f"{updates} on {metadata.rows['train']} rows"
    return _print_recipe(metadata, did, {}, out, as_json)


def _print_recipe(
    metadata: CheckpointMetadata | HeadMetadata, did: str, more: Mapping[str, float], out: Path, as_json: bool
) -> int:
    """Print what was trained, its figures on the validation split, and those of ``more``. Return the exit status."""
    if not is_first_process():
        return 0
    if as_json:
        write_json(metadata)
    else:
        without = "" if metadata.figures else "; no validation split, so no figures"
        stdout.print(f"{did}{without}", highlight=False, markup=False, soft_wrap=True)
        figures = {f"{name} (validation)": value for name, value in metadata.figures.items()} | dict(more)
        rows = [[name, NOTHING if value is None else f"{value:.4g}"] for name, value in figures.items()]
        if rows:
            print_rows([["figure", "value"], *rows])
    say(f"the checkpoint is in {out}")
    name, backend = ("prm" if metadata.kind == "prm" else "router"), ""
    if isinstance(metadata, HeadMetadata):
        backend = 'backend = "draft-head" and '
    say(f'to use it: set {backend}model = "{out}" in [models.{name}] of a configuration')
    return 0
