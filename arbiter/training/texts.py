"""The text that a router reads for a row, as token ids of a bounded length."""

# pyright: reportUnknownMemberType=false, reportUnknownVariableType=false
# (transformers is typed in part)

import bisect
from collections.abc import Sequence
from typing import Any, cast

from transformers import PreTrainedTokenizerBase

from arbiter.backends.prompts import PromptTemplate
from arbiter.data.training_rows import TrainingRow
from arbiter.protocols.records import Transcript
from arbiter.training.silence import quiet


class RouterTexts:
    """Rows as a router reads them: the same text as the ring's scorer reads (``PromptTemplate.render_candidate``).

    A text above ``longest`` tokens loses its oldest steps, only whole ones. Question and candidate always stay.
    """

    def __init__(
        self, tokenizer: PreTrainedTokenizerBase, template: PromptTemplate, separator: str, longest: int
    ) -> None:
        self._tokenizer: Any = tokenizer
        self._template = template
        self._separator = separator
        self._longest = longest

    def text(self, row: TrainingRow, dropped: int = 0) -> str:
        """Return the text without the ``dropped`` oldest steps."""
        context = Transcript(question=row.question, steps=row.history[dropped:])
        return self._template.render_candidate(context, row.draft, "draft", self._separator)

    def ids(self, rows: Sequence[TrainingRow]) -> list[list[int] | None]:
        """Return the token ids of each row; None if question and candidate alone are too long."""
        if not rows:
            return []
        with quiet():  # no warning for a text that is too long: it is shortened below
            whole = cast("list[list[int]]", self._tokenizer([self.text(row) for row in rows])["input_ids"])
        return [
            ids if len(ids) <= self._longest else self._shortened(row) for row, ids in zip(rows, whole, strict=True)
        ]

    def _shortened(self, row: TrainingRow) -> list[int] | None:
        def tokens(dropped: int) -> list[int]:
            return cast("list[int]", self._tokenizer(self.text(row, dropped))["input_ids"])

        # Dropping a step only shortens the text, so bisection finds the fewest steps to drop.
        least = bisect.bisect_left(
            range(len(row.history) + 1), -self._longest, key=lambda dropped: -len(tokens(dropped))
        )
        return tokens(least) if least <= len(row.history) else None
