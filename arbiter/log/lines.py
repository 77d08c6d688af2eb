"""The lines of a log: each has an event, and the earlier events of its problem that were carried with it.

A line does not repeat what follows from the grammar of ids and from the usual path of a message
(``arbiter.log.usual``). ``docs/reference/log.md`` describes the form.
"""

from collections.abc import Iterator, Sequence
from typing import NamedTuple, cast

from msgspec import UNSET, UnsetType

from arbiter.log.usual import Trail, usual
from arbiter.protocols.events import SCHEMA, AnyPayload, Entry, Event
from arbiter.protocols.records import Record

MICRO = 1_000_000
"""Microseconds in a second. The times of a log are whole microseconds."""


Timed = tuple[Entry, int]
"""An entry, and when it happened, in microseconds on the run's clock."""


class Happened(NamedTuple):
    """What one line of ``run`` has: the ``events`` of one problem, at least one, in the order in which they happened.

    ``wall`` is the Unix time of the last one, in seconds.
    """

    run: str
    seq: int
    wall: float
    events: Sequence[Timed]


class Carried(Record, frozen=True, omit_defaults=True):
    """An event that happened ``us`` microseconds before the event of its line.

    A ``step`` that is left out is that of the line. The other fields are as in ``Line``.
    """

    payload: AnyPayload
    us: int = 0
    step: int | UnsetType | None = UNSET
    id: str | UnsetType = UNSET
    actor: str | UnsetType = UNSET
    to: str | UnsetType | None = UNSET
    cause: str | UnsetType | None = UNSET
    after: str | UnsetType = UNSET


class Line(Record, frozen=True, omit_defaults=True, kw_only=True):
    """An event as a line has it, and the events ``before`` it, of the same problem and sample.

    With an ``id``, the fields are those of the ``Event``, and a field that is left out has its default. Without an
    ``id``, the fields ``id``, ``actor``, ``to`` and ``cause`` that are left out have their usual values. ``after`` is a
    cause without ``PROBLEM/`` at its beginning. A line of a problem has no ``run``.
    """

    v: int
    run: str = ""
    seq: int
    mono: float
    wall: float
    problem: str | None = None
    sample: int = 0
    step: int | None = None
    id: str | UnsetType = UNSET
    actor: str | UnsetType = UNSET
    to: str | UnsetType | None = UNSET
    cause: str | UnsetType | None = UNSET
    after: str | UnsetType = UNSET
    before: tuple[Carried, ...] = ()
    payload: AnyPayload


_Fields = tuple[str | UnsetType, str | UnsetType, str | UnsetType | None, str | UnsetType | None, str | UnsetType]
"""The fields ``id``, ``actor``, ``to``, ``cause`` and ``after`` of a line."""

_NOTHING: _Fields = (UNSET, UNSET, UNSET, UNSET, UNSET)


def compact(happened: Happened) -> Line:
    """Return the line of the last event, with the others before it."""
    run, seq, wall, events = happened
    trail, (last, micros) = Trail(), events[-1]
    before: list[Carried] = []
    for entry, at in events[:-1]:
        step, fields = UNSET if entry.step == last.step else entry.step, _shortened(entry, trail)
        if fields is _NOTHING:  # most of them: the other form costs twice as much
            before.append(Carried(entry.payload, micros - at, step))
        else:
            before.append(Carried(entry.payload, micros - at, step, *fields))
    name, actor, to, cause, after = _shortened(last, trail)
    return Line(
        v=SCHEMA,
        run=run if last.problem is None else "",
        seq=seq,
        mono=micros / MICRO,
        wall=wall,
        problem=last.problem,
        sample=last.sample,
        step=last.step,
        id=name,
        actor=actor,
        to=to,
        cause=cause,
        after=after,
        before=tuple(before),
        payload=last.payload,
    )


def expand(line: Line, run: str = "") -> Iterator[Event]:
    """Yield the events of a line of ``run``, in the order in which they happened.

    Raises ``ValueError`` if a field is left out that has no usual value.
    """
    trail, run = Trail(), line.run or run
    for carried in line.before:
        step, seconds = line.step if carried.step is UNSET else carried.step, carried.us / MICRO
        yield _event(line, carried, run, step, round(line.mono - seconds, 6), round(line.wall - seconds, 6), trail)
    yield _event(line, line, run, line.step, line.mono, line.wall, trail)


def _shortened(entry: Entry, trail: Trail) -> _Fields:
    payload, cause, actor = entry.payload, entry.cause, entry.actor
    rule = usual(payload) if entry.derived else None
    if rule is None:
        trail.add(entry.id, actor, payload)
        return entry.id, actor, entry.to or UNSET, UNSET if cause is None else cause, UNSET
    problem, step = cast("str", entry.problem), cast("int", entry.step)  # a derived entry has both
    usual_cause, usual_actor = rule.cause(payload, problem, step, entry.sample, trail), rule.actor or trail.actor
    trail.add(entry.id, actor, payload)
    if cause == usual_cause and actor == usual_actor and entry.to == rule.to:
        return _NOTHING
    short, after = (UNSET, UNSET) if cause == usual_cause else _short_cause(cast("str", cause), problem)
    return UNSET, UNSET if actor == usual_actor else actor, UNSET if entry.to == rule.to else entry.to, short, after


def _short_cause(cause: str, problem: str) -> tuple[str | UnsetType, str | UnsetType]:
    start = len(problem) + 1
    return (UNSET, cause[start:]) if cause[:start] == f"{problem}/" else (cause, UNSET)


def _event(
    line: Line, part: Line | Carried, run: str, step: int | None, mono: float, wall: float, trail: Trail
) -> Event:
    payload = part.payload
    cause = part.cause if part.after is UNSET else f"{line.problem}/{part.after}"
    if part.id is not UNSET:
        name, actor = part.id, part.actor
        to, cause = None if part.to is UNSET else part.to, None if cause is UNSET else cause
    else:
        rule = usual(payload)
        if rule is None or line.problem is None or step is None:
            raise ValueError(f"an event of the kind {payload.__struct_config__.tag} has no id")
        place = line.problem, step, line.sample
        cause = rule.cause(payload, *place, trail) if cause is UNSET else cause
        if cause is None:
            raise ValueError(f"an event of the kind {payload.__struct_config__.tag} has no cause")
        name, to = rule.id(payload, *place, cause), rule.to if part.to is UNSET else part.to
        actor = rule.actor or trail.actor or UNSET if part.actor is UNSET else part.actor
    if actor is UNSET:
        raise ValueError(f"{name} has no actor")
    trail.add(name, actor, payload)
    return Event(
        v=line.v,
        run=run,
        seq=line.seq,
        mono=mono,
        wall=wall,
        id=name,
        actor=actor,
        to=to,
        cause=cause,
        problem=line.problem,
        sample=line.sample,
        step=step,
        payload=payload,
    )
