"""``arbiter convert``: convert a published reward model or router into a sequence classifier that engines can serve."""

import importlib
from pathlib import Path
from typing import Annotated, Any, Literal

from cyclopts import Parameter

from arbiter.cli.console import guarded, stdout
from arbiter.protocols.errors import ConfigError, not_installed
from arbiter.training.metadata import Precision


def convert_command(
    checkpoint: str,
    /,
    *,
    out: Path,
    form: Annotated[Literal["value", "classes", "reward"] | None, Parameter(name="--as")] = None,
    dtype: Precision = "auto",
    debug: bool = False,
) -> int:
    """Convert a reward model or a router into a sequence classifier that sglang serves without a plug-in.

    The input is a value-head reward model (Skywork-o1-Open-PRM), a token classifier with one or two labels (the
    published router), or a sequence classifier. The scores do not change: they are compared on a few texts before the
    folder is written (docs/how-to/convert-reward-models.md). Needs the extra `train`.

    Examples:

        arbiter convert Skywork/Skywork-o1-Open-PRM-Qwen-2.5-1.5B --out models/prm
        arbiter convert checkpoints/router --out models/router
        arbiter convert checkpoints/router --out models/router --as value

    Parameters
    ----------
    checkpoint
        A folder in the Hugging Face format, or a name on the Hugging Face hub. The weights must be safetensors files.
    out
        The folder to write. It must not exist yet.
    form
        The form of the head. `value`: one label. `classes`: two labels. `reward`: one value as a Qwen2ForRewardModel,
        for engines whose sequence classifier has no bias. Default: the form of the checkpoint.
    dtype
        The precision of the weights below the head. `auto`: that of the checkpoint.
    debug
        Show the traceback of an error.
    """
    return guarded(debug, lambda: _convert(checkpoint, out, form, dtype))


def _convert(checkpoint: str, out: Path, form: Literal["value", "classes", "reward"] | None, dtype: Precision) -> int:
    try:
        converting: Any = importlib.import_module("arbiter.training.convert")
    except ImportError as error:
        raise ConfigError(not_installed("converting", error.name, "train")) from error
    made = converting.convert(checkpoint, out, form, dtype)
    labels = "1 label (a value)" if made.labels == 1 else f"{made.labels} labels (classes)"
    lost = made.as_gguf
    bias = ", ".join(f"{each:.4g}" for each in made.bias) if any(made.bias) else "none"
    for line in (
        f"{made.head} → {made.architecture}, {labels}, bias: {bias}",
        f"largest difference between old and new logits: {made.difference:.1e}",
        f"as GGUF: no name for the head, so llama.cpp cannot score with it; in blocks of 8 bits, {lost.zero} of "
        f"{lost.blocks} blocks of weights would be zero and {lost.infinite} infinite",
        f"written to {out}; serve it with: python -m sglang.launch_server --model-path {out} --is-embedding",
    ):
        stdout.print(line, highlight=False, soft_wrap=True, markup=False)
    return 0
