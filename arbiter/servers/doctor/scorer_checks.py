"""What is looked at in a model that scores."""

from collections.abc import AsyncGenerator

from arbiter.backends.opening import open_scorer
from arbiter.config.config import Config
from arbiter.config.model_tables import AnyModelTable
from arbiter.protocols.ports import Scorer, ScoreRequest
from arbiter.protocols.records import ScoreKind, Transcript
from arbiter.servers.doctor.findings import Check
from arbiter.servers.doctor.location import clock, place

QUESTION = "Compute (12+30)-17."
_RIGHT, _WRONG = "12+30: 2+0=2,1+3=4: 42.", "12+30: 2+0=2,1+3=4: 57."


async def scorer_checks(name: ScoreKind, table: AnyModelTable, config: Config) -> AsyncGenerator[Check]:
    """A line a check; raises ``BackendError`` or ``ConfigError`` where nothing more can be looked at."""
    yield await place(name, table)
    async with open_scorer(name, table, config.cpu_threads, max(1, len(config.models.targets))) as scorer:
        right, wrong = [await _score(scorer, name, step, config) for step in (_RIGHT, _WRONG)]
    yield _range(name, right, wrong)
    if checked := await clock(table):
        yield checked


def _range(name: ScoreKind, right: float, wrong: float) -> Check:
    text = f"scored a right step {right:.3f} and a wrong one {wrong:.3f}"
    if right == wrong:
        why = "which is the same: is this a model that scores, and the dialect in scores one of raw logits?"
        return Check("scores", f"{text}, {why}", "warning")
    if name != "router" and right < wrong:  # a router's score says that the target would do better
        why = "the wrong one higher: is class 1, or a high value, what this model says of a good step?"
        return Check("scores", f"{text}, {why}", "warning")
    return Check("scores", text)


async def _score(scorer: Scorer, name: ScoreKind, step: str, config: Config) -> float:
    request = ScoreRequest(
        problem="doctor",
        step=0,
        score_kind=name,
        transcript=Transcript(QUESTION),
        candidate=step,
        author="draft",
        separator=config.separator,
    )
    return (await scorer.score(request)).value
