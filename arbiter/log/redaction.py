"""Reduce an event to what the log holds at each level: ``record = "full" | "redacted" | "decisions"``."""

import hashlib
import re

import msgspec

from arbiter.protocols import events
from arbiter.protocols.events import Detail, Entry
from arbiter.protocols.records import Judgement, Solution, Step, Turn

_NOT_DECISIONS = (
    events.DraftStepEvent,
    events.StepScoredEvent,
    events.AuditStepEvent,
    events.CallStarted,
    events.CallRetried,
)


def reduced(entry: Entry, detail: Detail) -> Entry | None:
    """Return ``entry`` as a log of that detail holds it; None if such a log leaves it out."""
    if detail == "full":
        return entry
    if detail == "decisions" and (isinstance(entry.payload, _NOT_DECISIONS) or _handed_on(entry)):
        return None
    return msgspec.structs.replace(entry, payload=_without_text(entry.payload))


def without_text(solution: Solution) -> Solution:
    """Return ``solution`` as it would be read from a log without texts."""
    replace = msgspec.structs.replace
    steps = tuple(
        replace(step, candidates=tuple(replace(one, text=redacted(one.text)) for one in step.candidates))
        for step in solution.steps
    )
    error = solution.error and _kinds(solution.error)
    return replace(solution, question=redacted(solution.question), steps=steps, error=error)


def judgement_without_text(judgement: Judgement) -> Judgement:
    """Return ``judgement`` as a log without texts has it."""
    prompt, text, error = redacted(judgement.prompt), redacted(judgement.text), judgement.error
    return msgspec.structs.replace(judgement, prompt=prompt, text=text, error=error and _kinds(error))


_PLACEHOLDER = re.compile(r"\[[0-9a-f]{16}, \d+ characters\]")


def redacted(text: str) -> str:
    """Return a placeholder for ``text``: its digest and length.

    Equal texts have equal placeholders. A text of white space only becomes empty; a placeholder is returned unchanged.
    """
    stripped = text.strip()
    if not stripped or _PLACEHOLDER.fullmatch(text):
        return stripped
    digest = hashlib.blake2b(stripped.encode(errors="surrogatepass"), digest_size=8).hexdigest()
    return f"[{digest}, {len(text)} characters]"


def _handed_on(entry: Entry) -> bool:
    """Return whether ``entry`` only passes a candidate on to be scored or judged: it decides nothing."""
    return entry.to != "assembler" and isinstance(entry.payload, events.StepDraftedEvent | events.StepRegeneratedEvent)


def _without_text(payload: events.AnyPayload) -> events.AnyPayload:
    replace = msgspec.structs.replace
    match payload:
        case events.StartProblemEvent(question=question, steps=steps, turns=turns):
            hidden = tuple(Step(redacted(step.text), step.author) for step in steps)
            hidden_turns = tuple(Turn(turn.role, redacted(turn.text)) for turn in turns)
            return replace(payload, question=redacted(question), steps=hidden, turns=hidden_turns, stop=(), tags={})
        case events.CallGenerated(text=text):
            return replace(payload, text=redacted(text))
        case events.Graded(judgement=judgement):
            hidden_judgement = judgement and judgement_without_text(judgement)
            return replace(payload, answer=None, reason=None, reference=None, judgement=hidden_judgement)
        case events.CallFailed(error=error) | events.CallRetried(error=error) | events.StepFailedEvent(error=error):
            return replace(payload, error=_kinds(error))
        case events.ProblemEnded(error=str(error)):
            return replace(payload, error=_kinds(error))
        case _:
            return payload


def _kinds(error: str) -> str:
    """Return only the kind of an error: its text may quote the request, as the answer of a server can."""
    where, _, rest = error.partition(": ") if error.startswith(_ACTORS) else ("", "", error)
    kind = rest.partition(":")[0]
    return f"{where}: {kind}" if where else kind


_ACTORS = ("assembler,", "drafter,", "verifier,", "router,", "escalator,")
