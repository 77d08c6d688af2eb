"""Checks of a model that scores steps."""

from collections.abc import AsyncGenerator

from arbiter.backends.judge_prompts import LEVELS
from arbiter.backends.opening import open_scorer
from arbiter.backends.served.judge import ServedJudge
from arbiter.config.config import Config
from arbiter.config.model_tables import DraftHeadTable, RouterTable
from arbiter.protocols.ports import Scorer, ScoreRequest
from arbiter.protocols.records import ScoreKind, Transcript
from arbiter.runs.limit_notes import context_note
from arbiter.servers.doctor.findings import Check
from arbiter.servers.doctor.location import clock, place

QUESTION = "Compute (12+30)-17."
_RIGHT, _WRONG = "12+30: 2+0=2,1+3=4: 42.", "12+30: 2+0=2,1+3=4: 57."


async def scorer_checks(name: ScoreKind, table: RouterTable, config: Config) -> AsyncGenerator[Check]:
    """Yield one check per property. Raises ``BackendError`` or ``ConfigError`` if no further check is possible."""
    if isinstance(table, DraftHeadTable):
        yield Check("model", f"{table.model}, a head on models.draft")
    else:
        yield await place(name, table)
    targets, draft = max(1, len(config.models.targets)), config.models.draft
    async with open_scorer(name, table, config.cpu_threads, targets, draft) as scorer:
        if isinstance(scorer, ServedJudge) and table.prompt == LEVELS:
            yield _levels(scorer.without_levels)
        if (note := context_note(config, name, scorer)) is not None:
            yield Check("limits", note, "warning")
        right, wrong = [await _score(scorer, name, step, config) for step in (_RIGHT, _WRONG)]
    yield _range(name, right, wrong)
    if not isinstance(table, DraftHeadTable) and (checked := await clock(table)):
        yield checked


def _levels(reason: str | None) -> Check:
    """Report how the judge rates: ``reason`` says why it writes a token."""
    if reason is None:
        return Check("levels", "returns the probability of each level, and writes nothing")
    return Check("levels", f"writes one token a rating: {reason}")


def _range(name: ScoreKind, right: float, wrong: float) -> Check:
    text = f"scored a right step {right:.3f} and a wrong one {wrong:.3f}"
    if right == wrong:
        why = "the same: check that this model scores steps, and that the dialect in scores returns raw logits"
        return Check("scores", f"{text}, {why}", "warning")
    if name != "router" and right < wrong:  # a high score of a router means that the target is better
        why = "the wrong one higher: check that class 1, or a high value, means a good step for this model"
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
