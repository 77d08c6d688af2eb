"""Heads on a draft, written by hand."""

import json
import math
import struct
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import msgspec
import pytest

from arbiter.backends.draft_features import feature_names
from arbiter.backends.head_model import METADATA, WEIGHTS, HeadMetadata

Tensors = Mapping[str, tuple[list[int], list[float]]]


def stored(tensors: Tensors) -> bytes:
    """Return the content of a safetensors file."""
    header: dict[str, Any] = {"__metadata__": {"format": "pt"}}
    data = b""
    for name, (shape, values) in tensors.items():
        new = struct.pack(f"<{len(values)}f", *values)
        header[name] = {"dtype": "F32", "shape": shape, "data_offsets": [len(data), len(data) + len(new)]}
        data += new
        assert math.prod(shape) == len(values)
    text = json.dumps(header).encode()
    return struct.pack("<Q", len(text)) + text + data


@pytest.fixture
def a_head(tmp_path: Path) -> Callable[..., Path]:
    """Return the folder of a linear head for ``targets``, which adds the features with the given weights."""

    def build(
        weights: Mapping[str, float] | None = None, tensors: Tensors | None = None, bias: float = 0.0, **fields: Any
    ) -> Path:
        given: dict[str, Any] = {
            "draft": "pocket:draft",
            "prompt": "{question}\n",
            "separator": "\n\n",
            "features": "logprobs",
            "shape": "linear",
            **fields,
        }
        metadata = HeadMetadata(**given)
        names, outputs = feature_names(metadata.features, metadata.hidden), max(1, len(metadata.targets))
        row = [(weights or {"logprob_mean": -1.0}).get(name, 0.0) for name in names]
        linear: Tensors = {
            "mean": ([len(names)], [0.0] * len(names)),
            "scale": ([len(names)], [1.0] * len(names)),
            "last.weight": (
                [outputs, len(names)],
                [number * value for number in range(1, outputs + 1) for value in row],
            ),
            "last.bias": ([outputs], [bias] * outputs),
        }
        folder = tmp_path / "head"
        folder.mkdir(exist_ok=True)
        (folder / METADATA).write_bytes(msgspec.json.encode(metadata))
        (folder / WEIGHTS).write_bytes(stored(tensors or linear))
        return folder

    return build
