"""The metadata of a trained checkpoint, in its ``arbiter.json``: how it was trained, and how it reads a text."""

import os
from pathlib import Path
from typing import Literal

import msgspec

from arbiter.protocols.errors import DataError
from arbiter.protocols.records import Record

NAME = "arbiter.json"
VERSION = 1

Labels = Literal["binary", "4-class", "10-class", "ordinal"]
Balance = Literal["downsample", "weights", "none"]
Precision = Literal["auto", "float32", "bfloat16", "float16"]


class CheckpointMetadata(Record, frozen=True, kw_only=True):
    """How a checkpoint was trained, and how it reads a text.

    - ``kind``: ``router`` (ŷ) or ``prm`` (h).
    - ``head``: the origin of the head, in words.
    - ``prompt``, ``annotate``, ``separator``, ``max_length``: the text is ``prompt`` (with ``{question}``), then the
      steps. ``separator`` follows each step; with ``annotate``, its author precedes it. Texts above ``max_length``
      tokens are shortened: a router's lose their oldest steps.
    - ``edges``: the bin edges of Δ − ``margin`` between a router's classes.
    - ``targets``: the names of several targets, in the order of the heads.
    - ``temperature``: T of each head; its weights are divided by it already.
    - ``rows``: the numbers of rows learned from (after balancing), held out, and too long.
    - ``data``: the digest of all rows.
    - ``figures``: the figures of the validation split after training.
    """

    version: int = VERSION
    kind: Literal["router", "prm"]
    base: str
    head: str
    labels: Labels | Literal["value"]
    prompt: str
    annotate: bool
    separator: str
    max_length: int
    edges: tuple[float, ...] = ()
    margin: float = 0.0
    targets: tuple[str, ...] = ()
    balance: Balance = "none"
    epochs: float
    updates: int
    batch: int
    learning_rate: float
    warmup: float
    weight_decay: float
    seed: int
    lora: int | None = None
    layers: int | None = None
    precision: str = "float32"
    temperature: tuple[float, ...] = ()
    rows: dict[str, int] = msgspec.field(default_factory=dict[str, int])
    data: str = ""
    figures: dict[str, float | None] = msgspec.field(default_factory=dict[str, float | None])


def read_metadata(folder: Path) -> CheckpointMetadata | None:
    """Return the metadata of the checkpoint in ``folder``; None if there is none.

    Raises ``DataError`` if the file is damaged.
    """
    path = folder / NAME
    try:
        return msgspec.json.decode(path.read_bytes(), type=CheckpointMetadata)
    except (FileNotFoundError, NotADirectoryError):
        return None
    except (OSError, msgspec.DecodeError, UnicodeDecodeError) as error:
        raise DataError(f"cannot read {path}: {error}; without that file the prompt must be named") from error


def is_first_process() -> bool:
    """Return whether this process is the first of those that train together. It alone writes files and reports."""
    return os.environ.get("RANK", "0") == "0"
