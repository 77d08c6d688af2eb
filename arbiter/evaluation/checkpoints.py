"""The router that is evaluated: a name, and what it says of steps."""

from collections.abc import Callable, Sequence

import msgspec

from arbiter.config.model_tables import AnyModelTable, InProcessTable
from arbiter.data.training_rows import TrainingRow
from arbiter.protocols.errors import ConfigError

Predict = Callable[[Sequence[TrainingRow]], Sequence[Sequence[float]]]
"""The ŷ in [0, 1] of each row, one a target."""


class RouterCheckpoint(msgspec.Struct, frozen=True):
    """``targets`` are the names of its heads in their order; empty where it has one, for all samples of the target."""

    name: str
    predict: Predict
    targets: tuple[str, ...] = ()


def checkpoint(name: str, table: AnyModelTable | None = None, separator: str | None = None) -> RouterCheckpoint:
    """The router of a folder, a hub name or ``pocket:router``; loaded when it is asked.

    A checkpoint that says in its ``arbiter.json`` how it reads a step is asked so; any other as the ``table`` of a
    configuration and its ``separator`` say. Raises ``ConfigError`` if torch is missing, ``DataError`` if
    ``arbiter.json`` is damaged; asking it raises what ``arbiter.training.inference.predict`` does.
    """
    try:
        from arbiter.backends.prompts import prompt_template
        from arbiter.training.inference import folder_of, predict
        from arbiter.training.metadata import read_metadata
    except ModuleNotFoundError as error:
        raise ConfigError(
            f"a router needs {error.name}, not installed: pip install 'arbiter-reasoning[train]'"
        ) from error
    metadata = read_metadata(folder_of(name))
    template = None
    if metadata is None and table is not None:
        template = prompt_template(table.prompt, table.annotate, table.tokenizer or table.model)
    device = table.device if isinstance(table, InProcessTable) else "auto"
    given = separator if template else None
    return RouterCheckpoint(
        name,
        lambda rows: predict(name, rows, template=template, separator=given, device=device),
        metadata.targets if metadata else (),
    )
