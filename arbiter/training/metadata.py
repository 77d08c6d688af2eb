"""What stands beside a trained checkpoint, in ``arbiter.json``: how it was made, and how it is read."""

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
    """How a checkpoint was trained, and what it reads.

    ``kind`` is ``router`` (ŷ) or ``prm`` (h). The text that it reads is ``prompt`` (with ``{question}``), then the
    steps, each closed by ``separator`` and, with ``annotate``, prefixed by its author; above ``max_length`` tokens the
    oldest steps are left out. ``edges`` are the bin edges of Δ − ``margin`` between a router's classes. ``targets`` are
    the names of several targets, in the order of the heads; ``temperature`` has T of each head, by which its weights
    are divided.
    ``head`` says what the head was made from. ``rows`` counts what was learned from (after balancing), held out, and
    too long; ``data`` is the digest of all of it. ``figures`` are those of the validation split, after training.
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
    """The metadata of the checkpoint in ``folder``; None if there is none. Raises ``DataError`` if it is damaged."""
    path = folder / NAME
    try:
        return msgspec.json.decode(path.read_bytes(), type=CheckpointMetadata)
    except (FileNotFoundError, NotADirectoryError):
        return None
    except (OSError, msgspec.DecodeError, UnicodeDecodeError) as error:
        raise DataError(f"cannot read {path}: {error}; without that file the prompt must be named") from error


def is_first_process() -> bool:
    """Whether this process is the one that writes and tells, of those that train together."""
    return os.environ.get("RANK", "0") == "0"
