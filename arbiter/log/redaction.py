"""Reduce an event to what the log holds at each level: ``record = "full" | "redacted" | "decisions"``."""

import hashlib
import re

import msgspec

from arbiter.protocols import events
from arbiter.protocols.events import Detail, Entry
from arbiter.protocols.records import Judgement, Solution, Step, Turn
from arbiter.protocols.tools import AnswerRules, ToolCall

_NOT_DECISIONS = (
    events.StepGlimpsedEvent,
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
        replace(
            step,
            candidates=tuple(
                replace(
                    one,
                    text=redacted(one.text),
                    calls=_hidden_calls(one.calls, bool(one.valid)),
                    violation=_hidden(one.violation),
                    tokens=None,
                    token_ids=(),
                    overrun="",
                )
                for one in step.candidates
            ),
        )
        for step in solution.steps
    )
    error = solution.error and _kinds(solution.error)
    return replace(solution, question=redacted(solution.question), steps=steps, error=error)


def without_token_ids(solution: Solution) -> Solution:
    """Return ``solution`` without the numbers of its tokens, which only the log has."""
    replace = msgspec.structs.replace
    steps = tuple(
        replace(step, candidates=tuple(replace(one, token_ids=()) for one in step.candidates))
        for step in solution.steps
    )
    return replace(solution, steps=steps)


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
        case events.StartProblemEvent(question=question, steps=steps, rules=rules):
            return replace(
                payload,
                question=redacted(question),
                steps=tuple(Step(redacted(step.text), step.author) for step in steps),
                turns=tuple(_hidden_turn(turn, rules) for turn in payload.turns),
                after=tuple(_hidden_turn(turn, rules) for turn in payload.after),
                rules=rules and _hidden_rules(rules),
                stop=(),
                tags={},
            )
        case events.CallGenerated(text=text, calls=calls, valid=valid, violation=violation):
            hidden_calls = _hidden_calls(calls, bool(valid))
            # a digest of so short a text as that of a token would be no secret
            return replace(
                payload,
                text=redacted(text),
                calls=hidden_calls,
                violation=_hidden(violation),
                tokens=None,
                token_ids=(),
                overrun="",
                following=tuple(
                    replace(
                        step,
                        text=redacted(step.text),
                        calls=_hidden_calls(step.calls, bool(step.valid)),
                        violation=_hidden(step.violation),
                        tokens=None,
                        token_ids=(),
                        overrun="",
                    )
                    for step in payload.following
                ),
            )
        case events.Graded(judgement=judgement):
            hidden_judgement = judgement and judgement_without_text(judgement)
            return replace(payload, answer=None, reason=None, reference=None, judgement=hidden_judgement)
        case events.CallFailed(error=error) | events.CallRetried(error=error) | events.StepFailedEvent(error=error):
            return replace(payload, error=_kinds(error))
        case events.ProblemEnded(error=str(error)):
            return replace(payload, error=_kinds(error))
        case _:
            return payload


def _hidden_turn(turn: Turn, rules: AnswerRules | None) -> Turn:
    offered = {tool.name for tool in rules.tools} if rules else set[str]()
    calls = (call for one in turn.calls for call in _hidden_calls((one,), one.name in offered))
    return Turn(turn.role, redacted(turn.text), tuple(calls), turn.call_id, redacted(turn.thought))


def _hidden_calls(calls: tuple[ToolCall, ...], named: bool) -> tuple[ToolCall, ...]:
    """Return the calls with placeholders for their arguments, and for their names if these are not ``named``.

    ``named`` is True if the names are those of offered tools. A model can write any text in place of a name, and only
    calls that keep the rules are known to have none.
    """
    return tuple(
        ToolCall(call.id, call.name if named else redacted(call.name), redacted(call.arguments)) for call in calls
    )


def _hidden_rules(rules: AnswerRules) -> AnswerRules:
    replace = msgspec.structs.replace
    tools = (replace(tool, description="", parameters=redacted(tool.parameters)) for tool in rules.tools)
    return replace(rules, tools=tuple(tools), schema=_hidden(rules.schema))


def _hidden(text: str | None) -> str | None:
    """Return a placeholder for a schema, or for the reason why a step breaks the rules: it quotes names."""
    return None if text is None else redacted(text)


def _kinds(error: str) -> str:
    """Return only the kind of an error: its text may quote the request, as the answer of a server can."""
    where, _, rest = error.partition(": ") if error.startswith(_ACTORS) else ("", "", error)
    kind = rest.partition(":")[0]
    return f"{where}: {kind}" if where else kind


_ACTORS = ("assembler,", "drafter,", "verifier,", "router,", "escalator,")
