"""Events: the contents of a log, and the tags that distinguish their kinds."""

import re
from typing import Any, get_args

import msgspec
import pytest

from arbiter.protocols import events, messages
from arbiter.protocols.events import SCHEMA, AnyPayload, Event, Payload
from arbiter.protocols.messages import Message
from arbiter.protocols.records import Limits, Sampling, Step, Usage

KINDS: tuple[type[Payload], ...] = get_args(AnyPayload)

ONE_OF_EACH: list[AnyPayload] = [
    events.RunStarted(1, "digest", {"seed": 0, "limits.deadline": None}, {"python": "3.11"}, "redacted"),
    events.RunEnded(interrupted=True),
    events.StartProblemEvent(
        "q", {"type": "rsd"}, Limits(deadline=0.5), Sampling(0.5), "\n\n", 3, 0.5, (Step("given", "target"),)
    ),
    events.GlimpseStepEvent("0123456789abcdef", "target"),
    events.StepGlimpsedEvent(),
    events.DraftStepEvent("0123456789abcdef", 100),
    events.EscalateStepEvent("0123456789abcdef", 100, rejects=True),
    events.StepDraftedEvent(),
    events.StepRegeneratedEvent(),
    events.StepScoredEvent("draft"),
    events.StepAcceptedEvent("keep_draft"),
    events.AuditStepEvent(),
    events.StepAuditedEvent(),
    events.StepFailedEvent("drafter", "draft_step", "OSError: gone"),
    events.CallStarted("target", 3),
    events.Predrafted("p/0/draft_step/draft/1"),
    events.Prescored("p/0/step_drafted/prm/1", "prm", 2),
    events.CallGenerated("Δ \u2028 \0", "end", Usage(1, 2, 3), 0.1, Usage(1)),
    events.CallScored(0.1 + 0.2, Usage(1), 1e-6),
    events.CallFailed("OSError: gone", 0.1),
    events.CallCancelled(0.1),
    events.CallRetried(1, 0.5, "OSError: gone"),
    events.LimitMoved("draft", 90, "queue"),
    events.ProblemClaimed("p", 1, 7, "w0", (events.Part("0000-w1-0.jsonl", 0, 9),)),
    events.ProblemEnded("failed", 3, 1.5, error="OSError: gone"),
    events.Graded(None, "7", "no number", {"answers": ["7"]}),
]


def an_event(payload: AnyPayload, **fields: Any) -> Event:
    given: dict[str, Any] = {"id": "p/0/kind", "actor": "drafter", "to": "router", "problem": "p", "step": 0, **fields}
    return Event(v=SCHEMA, run="r", seq=7, mono=0.1, wall=1.7e9, payload=payload, **given)


def test_there_is_one_of_each_kind() -> None:
    assert {type(payload) for payload in ONE_OF_EACH} == set(KINDS)


@pytest.mark.parametrize("payload", ONE_OF_EACH)
def test_an_event_is_read_back_as_it_was_written(payload: AnyPayload) -> None:
    event = an_event(payload)
    line = msgspec.json.encode(event)
    assert b"\n" not in line
    assert msgspec.json.decode(line, type=Event) == event


@pytest.mark.parametrize("kind", KINDS)
def test_a_kind_is_an_explicit_string_and_frozen(kind: type[Payload]) -> None:
    assert re.fullmatch(r"[a-z]+(_[a-z]+)*", str(kind.__struct_config__.tag))
    assert (kind.__struct_config__.tag_field, kind.__struct_config__.frozen) == ("kind", True)


def test_kinds_are_unique() -> None:
    tags = [kind.__struct_config__.tag for kind in KINDS]
    assert len(set(tags)) == len(tags)


def test_every_message_has_an_event_of_its_kind() -> None:
    """The kind of a message in a log must be that of the message."""
    sent = {kind.__struct_config__.tag for kind in Message.__subclasses__() if kind.__module__ == messages.__name__}
    assert {kind.__struct_config__.tag for kind in get_args(events.MessageEvent)} == sent


def test_what_is_not_known_is_refused() -> None:
    line = msgspec.json.encode(an_event(events.StepDraftedEvent())).replace(b'"seq"', b'"new":1,"seq"')
    with pytest.raises(msgspec.ValidationError, match="unknown field `new`"):
        msgspec.json.decode(line, type=Event)


def test_what_has_its_usual_value_is_not_written() -> None:
    line = msgspec.json.encode(an_event(events.RunEnded(), to=None, problem=None, step=None))
    assert msgspec.json.decode(line).keys() == {"v", "run", "seq", "mono", "wall", "id", "actor", "payload"}
    assert msgspec.json.decode(line)["payload"] == {"kind": "run_ended"}
