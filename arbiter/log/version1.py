"""Logs of version 1: each line is read as the event of the current version that says the same."""

from typing import Any

import msgspec

from arbiter.protocols.events import SCHEMA, Event

_KINDS = {
    "asked": "call_started",
    "generated": "call_generated",
    "scored": "call_scored",
    "step_chosen": "step_accepted",
}
_FIELDS = {
    "agreement": "prefix_match",
    "ending": "stop_reason",
    "finish": "finish_reason",
    "noise": "seed_key",
    "unserved": "failed_kind",
}
_ACCEPTED = "/step_chosen"  # the one kind of a message that had another name: the ids of its events end with it


def read_event(line: bytes) -> Event:
    """The event of a line of version 1. Raises ``msgspec.DecodeError`` if it is not one."""
    tree = msgspec.json.decode(line, type=dict[str, Any])
    tree["payload"] = _payload(msgspec.convert(tree.get("payload"), dict[str, Any]))
    for name in ("id", "cause"):
        if isinstance(tree.get(name), str) and not _names_a_problem(tree, name):
            tree[name] = _renamed_id(tree[name])
    return msgspec.convert({**tree, "v": SCHEMA}, Event)


def _names_a_problem(tree: dict[str, Any], name: str) -> bool:
    """The cause of a problem's start is the problem's own id, which may be any text."""
    return name == "cause" and tree["payload"]["kind"] == "start_problem"


def _renamed_id(name: str) -> str:
    return name.removesuffix(_ACCEPTED) + "/step_accepted" if name.endswith(_ACCEPTED) else name


def _payload(old: dict[str, Any]) -> dict[str, Any]:
    payload = {_FIELDS.get(name, name): value for name, value in old.items()}
    payload["kind"] = _KINDS.get(old.get("kind", ""), old.get("kind"))
    if "failed_kind" in payload:
        payload["failed_kind"] = _KINDS.get(payload["failed_kind"], payload["failed_kind"])
    if payload.get("prefix_match"):
        payload["prefix_match"] = _renamed(payload["prefix_match"], "agreed", "matched")
    if "turns" in payload:
        payload["turns"] = [_renamed(turn, "speaker", "role") for turn in payload["turns"]]
    return payload


def _renamed(tree: dict[str, Any], old: str, new: str) -> dict[str, Any]:
    return {new if name == old else name: value for name, value in tree.items()}
