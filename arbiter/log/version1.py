"""Read what schema version 1 wrote, lines of ``events.jsonl`` and ``results.jsonl``, as the current version.

Lines of version 2 before the field ``violation`` had its name are read too.
"""

from collections.abc import Callable
from contextlib import suppress
from typing import Any, TypeVar

import msgspec

from arbiter.protocols.events import SCHEMA, Event
from arbiter.protocols.records import Record

Kind = TypeVar("Kind", bound=Record)
Tree = dict[str, Any]

_KINDS = {
    "asked": "call_started",
    "generated": "call_generated",
    "scored": "call_scored",
    "step_chosen": "step_accepted",
}
_FIELDS = {
    "agreed": "matched",
    "agreement": "prefix_match",
    "calls": "requests",
    "ending": "stop_reason",
    "finish": "finish_reason",
    "noise": "seed_key",
    "predrafts": "lookahead",
    "speaker": "role",
    "unserved": "failed_kind",
}
_ACCEPTED = "/step_chosen"  # the only renamed kind of message; the ids of its events end with the old name


def read_event(line: bytes) -> Event:
    """Return the event of a log line. Raises ``msgspec.DecodeError`` if the line is not an event of version 1."""
    tree = msgspec.json.decode(line, type=Tree)
    tree["payload"] = _payload(_tree(tree.get("payload")))
    for name in ("id", "cause"):
        if isinstance(tree.get(name), str) and not _names_a_problem(tree, name):
            tree[name] = _renamed_id(tree[name])
    return msgspec.convert({**tree, "v": SCHEMA}, Event)


def with_violations(line: bytes) -> bytes:
    """Return a log line of version 2 with the field ``violation``, which was named ``problem`` before.

    Raises ``msgspec.DecodeError`` if the line is none.
    """
    tree = msgspec.json.decode(line, type=Tree)
    before = [_event_with_violation(carried) for carried in _trees(tree.get("before", []))]
    return msgspec.json.encode({**_event_with_violation(tree), "before": before})


def result_decoder(kind: type[Kind]) -> Callable[[bytes], Kind]:
    """Return a decoder for lines of results (``arbiter.runs.results.Result``) of the current version and version 1.

    The decoder raises ``msgspec.DecodeError`` for a line of neither version.
    """
    decoder = msgspec.json.Decoder(kind)

    def decode(line: bytes) -> Kind:
        try:
            return decoder.decode(line)
        except msgspec.ValidationError:
            for candidate in (_with_violation, _candidate):
                with suppress(msgspec.DecodeError):
                    return msgspec.convert(_result(line, candidate), kind)
            raise

    return decode


def _result(line: bytes, candidate_of: Callable[[Tree], Tree]) -> Tree:
    tree = msgspec.json.decode(line, type=Tree)
    solution = _renamed(_tree(tree.get("solution")))
    solution["steps"] = [
        {**step, "candidates": [candidate_of(candidate) for candidate in _trees(step.get("candidates"))]}
        for step in _trees(solution.get("steps"))
    ]
    return {**tree, "solution": solution}


def _event_with_violation(tree: Tree) -> Tree:
    payload = _tree(tree.get("payload"))
    return {**tree, "payload": _with_violation(payload) if payload.get("kind") == "call_generated" else payload}


def _candidate(old: Tree) -> Tree:
    return _with_match(_renamed(old))


def _with_violation(tree: Tree) -> Tree:
    return {("violation" if name == "problem" else name): value for name, value in tree.items()}


def _names_a_problem(tree: Tree, name: str) -> bool:
    """Return whether the field holds a problem's id: the cause of ``start_problem`` does, and it may be any text."""
    return name == "cause" and tree["payload"]["kind"] == "start_problem"


def _renamed_id(name: str) -> str:
    return name.removesuffix(_ACCEPTED) + "/step_accepted" if name.endswith(_ACCEPTED) else name


def _payload(old: Tree) -> Tree:
    payload = _with_match(_renamed(old))
    payload["kind"] = _kind(old.get("kind"))
    if "failed_kind" in payload:
        payload["failed_kind"] = _kind(payload["failed_kind"])
    if "turns" in payload:
        payload["turns"] = [_renamed(turn) for turn in _trees(payload["turns"])]
    return payload


def _kind(old: object) -> str:
    kind = msgspec.convert(old, str)
    return _KINDS.get(kind, kind)


def _with_match(tree: Tree) -> Tree:
    match = tree.get("prefix_match")
    return tree if match is None else {**tree, "prefix_match": _renamed(_tree(match))}


def _renamed(tree: Tree) -> Tree:
    return {_FIELDS.get(name, name): value for name, value in tree.items()}


def _tree(value: object) -> Tree:
    return msgspec.convert(value, Tree)


def _trees(value: object) -> list[Tree]:
    return msgspec.convert(value, list[Tree])
