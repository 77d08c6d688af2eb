"""The router that is evaluated: its name and its predictions."""

from collections.abc import Callable, Sequence

import msgspec

from arbiter.config.model_tables import DraftHeadTable, InProcessTable, RouterTable
from arbiter.data.training_rows import TrainingRow
from arbiter.protocols.errors import ConfigError, not_installed

Predict = Callable[[Sequence[TrainingRow]], Sequence[Sequence[float]]]
"""Returns the ŷ in [0, 1] of each row, one per target."""


class RouterCheckpoint(msgspec.Struct, frozen=True):
    """A router. ``targets`` are the names of its heads, in order. Empty if it has one head, for all target samples."""

    name: str
    predict: Predict
    targets: tuple[str, ...] = ()


def checkpoint(name: str, table: RouterTable | None = None, separator: str | None = None) -> RouterCheckpoint:
    """Return the router of a folder, a hub name or ``pocket:router``. It is loaded on the first prediction.

    A head on the draft reads the rows with the draft model on which it was trained, in this process. The input format
    of a checkpoint is in its ``arbiter.json``. Without that file, it is taken from ``table`` and
    ``separator``. Raises ``ConfigError`` if torch is missing, and ``DataError`` if ``arbiter.json`` is damaged.
    Predictions raise the errors of ``arbiter.training.inference.predict``.
    """
    try:
        from arbiter.backends.head_model import is_head, load_head
        from arbiter.backends.prompts import prompt_template
        from arbiter.training.head_inference import predict_with_head
        from arbiter.training.inference import folder_of, predict
        from arbiter.training.metadata import read_metadata
    except ModuleNotFoundError as error:
        raise ConfigError(not_installed("a router", error.name, "train")) from error
    if is_head(folder_of(name)):
        head = load_head(name)
        return RouterCheckpoint(name, lambda rows: predict_with_head(head, rows), head.metadata.targets)
    metadata = read_metadata(folder_of(name))
    template = None
    if isinstance(table, DraftHeadTable):
        table = None
    if metadata is None and table is not None:
        template = prompt_template(table.prompt, table.annotate, table.tokenizer or table.model)
    device = table.device if isinstance(table, InProcessTable) else "auto"
    given = separator if template else None
    return RouterCheckpoint(
        name,
        lambda rows: predict(name, rows, template=template, separator=given, device=device),
        metadata.targets if metadata else (),
    )
