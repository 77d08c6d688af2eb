"""A head on the draft: a small network that makes a router's estimates of the draft's own numbers at a step.

A head is a folder with ``arbiter.json`` (``HeadMetadata``) and ``model.safetensors`` (float32). Reading and evaluating
it needs no package: it has a few hundred to a few ten thousand weights.
"""

import math
import operator
import struct
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Annotated, Literal

import msgspec

from arbiter.backends.draft_features import CandidateReading, FeatureSet, feature_names, features_of
from arbiter.backends.prompts import PromptTemplate
from arbiter.config.local_paths import is_same_model
from arbiter.pocket import resolved
from arbiter.protocols.errors import BackendError, ConfigError, DataError
from arbiter.protocols.ports import Score, ScoreRequest
from arbiter.protocols.records import Record

METADATA, WEIGHTS = "arbiter.json", "model.safetensors"
VERSION = 1
Shape = Literal["linear", "hidden layer"]


class HeadMetadata(Record, frozen=True, kw_only=True):
    """How a head was trained, and what it reads: the content of its ``arbiter.json``.

    - ``draft``: the draft model on whose numbers it was trained.
    - ``prompt`` (with ``{question}``), ``annotate``, ``separator``: how the draft reads a context.
    - ``features``: the set of features. ``hidden``: the size of the draft's hidden state, 0 if it is not read.
    - ``shape``: the network. ``cross_validation`` has the AUROC of each shape on held-out folds.
    - ``targets``: the names of several targets, in the order of the estimates.
    - ``margin``, ``balance``, ``seed``: as for any router.
    - ``temperature``: T of each estimate; the weights are divided by it already.
    - ``rows``: the numbers of rows learned from, held out, and too long. ``data``: the digest of all rows.
    - ``figures``: the figures of the validation split.
    """

    version: int = VERSION
    kind: Literal["draft-head"] = "draft-head"
    draft: str
    prompt: str
    annotate: bool = False
    separator: str
    features: FeatureSet
    hidden: int = 0
    shape: Shape
    cross_validation: dict[str, float] = msgspec.field(default_factory=dict[str, float])
    targets: tuple[str, ...] = ()
    margin: float = 0.0
    balance: str = "weights"
    seed: int = 0
    temperature: tuple[float, ...] = ()
    rows: dict[str, int] = msgspec.field(default_factory=dict[str, int])
    data: str = ""
    figures: dict[str, float | None] = msgspec.field(default_factory=dict[str, float | None])

    @property
    def names(self) -> tuple[str, ...]:
        """The names of the features, in order."""
        return feature_names(self.features, self.hidden)

    @property
    def template(self) -> PromptTemplate:
        """How the draft reads a question without earlier turns."""
        return PromptTemplate(self.prompt, self.annotate)


class DraftHead(msgspec.Struct, frozen=True):
    """A head with its weights. ``mean`` and ``scale`` standardise the features. Each layer has rows and biases.

    A layer's rows have the shape (outputs, inputs). Between two layers is a rectifier.
    """

    metadata: HeadMetadata
    mean: Sequence[float]
    scale: Sequence[float]
    layers: Sequence[tuple[Sequence[Sequence[float]], Sequence[float]]]

    def estimates(self, features: Sequence[float]) -> list[float]:
        """Return ŷ in [0, 1] for each target, from the features in the order of ``metadata.names``.

        Raises ``BackendError`` if their number differs.
        """
        if len(features) != len(self.mean):
            raise BackendError(f"the head reads {len(self.mean)} features, but the draft has {len(features)}")
        values = [(value - mean) / scale for value, mean, scale in zip(features, self.mean, self.scale, strict=True)]
        for number, (rows, biases) in enumerate(self.layers):
            if number:
                values = [max(value, 0.0) for value in values]
            values = [sum(map(operator.mul, row, values), bias) for row, bias in zip(rows, biases, strict=True)]
        return [_sigmoid(value) for value in values]

    def score(self, request: ScoreRequest, reading: CandidateReading, length: int) -> Score:
        """Return the score of a candidate that the draft has read. ``length`` counts its and its context's tokens.

        Raises ``BackendError`` if the reading lacks what the head reads.
        """
        step = len(request.transcript.steps)
        values = self.estimates(features_of(reading, length, step, self.metadata.features))
        return Score(max(values), reading.usage, estimates=tuple(values) if len(values) > 1 else ())

    def check_separator(self, request: ScoreRequest) -> None:
        """Raise ``BackendError`` if the steps of a request end with another separator than those of the training."""
        if request.separator != self.metadata.separator:
            raise BackendError(
                f"models.router: the head was trained on steps that end with {self.metadata.separator!r}, but here "
                f"they end with {request.separator!r}: set that separator, or train the head again"
            )


def is_head(folder: Path) -> bool:
    """Return whether ``folder`` holds a head, judged by its metadata. Damaged metadata is no head's."""
    try:
        return msgspec.json.decode((folder / METADATA).read_bytes(), type=_Kind).kind == "draft-head"
    except (OSError, msgspec.DecodeError, UnicodeDecodeError):
        return False


class _Kind(msgspec.Struct):
    kind: str = ""


def load_head(name: str) -> DraftHead:
    """Read the head in the folder ``name``, or ``pocket:NAME``.

    Raises ``ConfigError`` if there is no head, ``DataError`` if its files are damaged or of a newer version.
    """
    folder = Path(resolved(name))
    if not is_head(folder):
        raise ConfigError(
            f"{name!r} is not a head on a draft: give the folder that `arbiter train router --on draft` wrote, or "
            "pocket:draft-head"
        )
    try:
        metadata = msgspec.json.decode((folder / METADATA).read_bytes(), type=HeadMetadata)
        weights = _floats(folder / WEIGHTS)
        layers = [
            (_rows(weights, f"{layer}.weight"), weights[f"{layer}.bias"][1])
            for layer in ("first", "last")
            if f"{layer}.weight" in weights
        ]
        head = DraftHead(metadata, weights["mean"][1], weights["scale"][1], layers)
    except (OSError, ValueError, KeyError, struct.error) as error:  # msgspec's errors are ValueErrors
        raise DataError(f"cannot read the head in {folder}: {error}") from error
    if metadata.version > VERSION:
        raise DataError(f"{folder}: the head has version {metadata.version}; the newest supported one is {VERSION}")
    _check_shapes(head, folder)
    return head


def check_draft(head: DraftHead, draft: Mapping[str, str | None], template: PromptTemplate, targets: int) -> None:
    """Check that a head fits the configured draft and the number of targets.

    ``draft`` has the names under which the draft is known, by their keys below ``models.draft``. Raises
    ``ConfigError`` naming the key that differs.
    """
    metadata = head.metadata
    names = {resolved(name) for name in draft.values() if name} | {name for name in draft.values() if name}
    if not any(
        is_same_model(trained, name) for trained in (metadata.draft, resolved(metadata.draft)) for name in names
    ):
        given = ", ".join(f"{key} = {name!r}" for key, name in draft.items() if name)
        raise ConfigError(
            f"models.router: the head was trained on the draft {metadata.draft!r}, but models.draft has {given}. Train "
            f"a head on this draft. If it is the same model under another name, set models.draft.tokenizer to "
            f"{metadata.draft!r}"
        )
    if (template.before_steps, template.annotate) != (metadata.prompt, metadata.annotate):
        raise ConfigError(
            f"models.router: the head was trained with the draft's prompt {metadata.prompt!r} (annotate = "
            f"{str(metadata.annotate).lower()}), but models.draft reads {template.before_steps!r} (annotate = "
            f"{str(template.annotate).lower()}): set the same prompt, or train the head again"
        )
    estimates = max(1, len(metadata.targets))
    if estimates != targets:
        raise ConfigError(f"models.router: the head estimates {estimates} targets, but {targets} are configured")


def _floats(path: Path) -> dict[str, tuple[list[int], list[float]]]:
    """Read a safetensors file of float32 tensors: the shape and the values of each, by name.

    Raises ``ValueError`` or ``struct.error`` if the file is damaged or has other types.
    """
    data = path.read_bytes()
    (size,) = struct.unpack_from("<Q", data)
    header = msgspec.json.decode(data[8 : 8 + size], type=dict[str, msgspec.Raw])
    found: dict[str, tuple[list[int], list[float]]] = {}
    for name in header.keys() - {"__metadata__"}:
        tensor = msgspec.json.decode(header[name], type=_Tensor)
        start, end = tensor.data_offsets
        if 4 * math.prod(tensor.shape) != end - start:
            raise ValueError(f"{name} has {end - start} bytes for the shape {tensor.shape}")
        values = struct.unpack_from(f"<{(end - start) // 4}f", data, 8 + size + start)
        if not all(map(math.isfinite, values)):
            raise ValueError(f"{name} has a value that is not finite")
        found[name] = tensor.shape, list(values)
    return found


class _Tensor(msgspec.Struct, frozen=True):
    dtype: Literal["F32"]
    shape: list[int]
    data_offsets: Annotated[list[int], msgspec.Meta(min_length=2, max_length=2)]


def _rows(weights: Mapping[str, tuple[list[int], list[float]]], name: str) -> list[list[float]]:
    (outputs, inputs), values = weights[name]
    return [values[index * inputs : (index + 1) * inputs] for index in range(outputs)]


def _check_shapes(head: DraftHead, folder: Path) -> None:
    """Raise ``DataError`` if the weights do not fit the features, each other or the targets."""
    width, shapes = len(head.metadata.names), [(len(rows), len(rows[0]) if rows else 0) for rows, _ in head.layers]
    sizes = [width, *(outputs for outputs, _ in shapes)]
    fits = bool(shapes) and [inputs for _, inputs in shapes] == sizes[:-1]
    fits = fits and all(len(biases) == len(rows) for rows, biases in head.layers)
    if not fits or sizes[-1] != max(1, len(head.metadata.targets)) or {len(head.mean), len(head.scale)} != {width}:
        raise DataError(f"the head in {folder} has weights of other shapes than its {METADATA} says")


def _sigmoid(value: float) -> float:
    return 1 / (1 + math.exp(-value)) if value >= 0 else math.exp(value) / (1 + math.exp(value))
