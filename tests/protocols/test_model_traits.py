"""What opens the thought of an answer: by what a model says of itself, and by the effort that is requested."""

from collections.abc import Mapping

import msgspec
import pytest

from arbiter.protocols.model_traits import ThoughtOpening, thought_opening
from arbiter.protocols.tools import Effort


class Model(msgspec.Struct):
    """A model that says whether it thinks, and which efforts its prompts can request."""

    opens_thought: bool = False
    thinks: bool = False
    efforts: Mapping[Effort, bool] | None = None


SILENT, OPENED, OPENING = Model(), Model(opens_thought=True), Model(thinks=True)
SWITCHED = Model(thinks=True, efforts={"none": False, "medium": False, "high": True})


@pytest.mark.parametrize(
    ("model", "effort", "opening"),
    [
        (object(), None, None),
        (object(), "high", None),
        (SILENT, None, None),
        (SILENT, "high", "answer"),
        (OPENED, None, "prompt"),
        (OPENED, "none", "prompt"),
        (OPENING, None, "answer"),
        (OPENING, "low", "answer"),
        (OPENING, "minimal", None),
        (SWITCHED, None, "answer"),
        (SWITCHED, "none", None),
        (SWITCHED, "medium", "answer"),
        (SWITCHED, "high", "prompt"),
        (SWITCHED, "low", "answer"),
    ],
)
def test_what_opens_a_thought_follows_from_the_model_and_the_effort(
    model: object, effort: Effort | None, opening: ThoughtOpening | None
) -> None:
    assert thought_opening(model, effort) == opening
