"""Apply a head on the draft to rows: the draft reads each row, and the head estimates ŷ."""

from collections.abc import Sequence

import msgspec

from arbiter.backends.draft_features import CandidateReading, FeatureSet, features_of, split_tokens
from arbiter.backends.head_model import DraftHead
from arbiter.backends.in_process.transformers_loading import Checkpoint, load
from arbiter.backends.prompts import PromptTemplate
from arbiter.data.training_rows import TrainingRow
from arbiter.protocols.errors import DataError
from arbiter.protocols.records import Transcript
from arbiter.training.draft_reading import read_candidates
from arbiter.training.silence import quiet


class RowReading(msgspec.Struct, frozen=True):
    """What the draft computes at the draft's step of a row. ``length`` counts the tokens of context and step."""

    reading: CandidateReading
    length: int
    step: int

    def features(self, features: FeatureSet) -> list[float]:
        """Return the features of the set, in the order of ``feature_names``."""
        return features_of(self.reading, self.length, self.step, features)


def readings_of(
    loaded: Checkpoint, rows: Sequence[TrainingRow], template: PromptTemplate, separator: str
) -> list[RowReading | None]:
    """Return what the draft computes at each row, in batches; None for a row that is longer than its context.

    The draft reads the same tokens as in a run (``split_tokens``).
    """
    with quiet():  # no warning for a text that is too long
        texts = [
            split_tokens(
                lambda text: loaded.tokenizer(text)["input_ids"],
                template.render(Transcript(row.question, row.history), separator),
                row.draft + separator,
            )
            for row in rows
        ]
    lengths = [len(prompt) + len(candidate) for prompt, candidate in texts]
    fitting = [index for index, length in enumerate(lengths) if length <= loaded.context]
    readings = dict(zip(fitting, read_candidates(loaded, [texts[index] for index in fitting]), strict=True))
    return [
        RowReading(readings[index], lengths[index], len(row.history)) if index in readings else None
        for index, row in enumerate(rows)
    ]


def predict_with_head(head: DraftHead, rows: Sequence[TrainingRow], device: str = "auto") -> list[list[float]]:
    """Return ŷ in [0, 1] for each target, for the draft's step of each row.

    The draft model on which the head was trained is loaded in this process, on ``device``. Raises ``BackendError`` if
    that fails, and ``DataError`` naming a row that is longer than its context.
    """
    metadata = head.metadata
    loaded = load(metadata.draft, "generator", device)
    found: list[list[float]] = []
    for row, reading in zip(rows, readings_of(loaded, rows, metadata.template, metadata.separator), strict=True):
        if reading is None:
            raise DataError(
                f"problem {row.problem!r}, step {row.step}: question and steps have more than {loaded.context} tokens, "
                f"which the draft {metadata.draft} cannot read; leave the row out"
            )
        found.append(head.estimates(reading.features(metadata.features)))
    return found
