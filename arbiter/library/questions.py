"""What is asked, and how: questions and per-call overrides, as tasks of the ring."""

import hashlib
import secrets
from collections.abc import Mapping, Sequence
from itertools import count
from typing import Any, TypedDict, cast, get_args, get_type_hints

import msgspec

from arbiter.config.config import Config, override
from arbiter.config.run_tables import BUDGETED, RunType
from arbiter.data import Problem
from arbiter.data.tasks import make_task
from arbiter.protocols.errors import ConfigError, DataError
from arbiter.protocols.messages import Task
from arbiter.protocols.ports import Policy
from arbiter.protocols.records import ChatRole, Limits, Sampling, Transcript, Turn

Message = Mapping[str, str]
"""One turn of a conversation, with the keys ``role`` (``system``, ``user`` or ``assistant``) and ``content``."""

Question = str | Problem | Sequence[Message]
"""A bare question, a problem with an id of its own, or a conversation whose last turn is the user's."""

_RULES = 256  # policies that are remembered: reading a configuration anew for each call would cost more than the call
_SPEAKERS: dict[str, ChatRole] = {**{speaker: speaker for speaker in get_args(ChatRole)}, "developer": "system"}


class Overrides(TypedDict, total=False):
    """What one call may have otherwise than the configuration.

    ``run_type`` and ``threshold`` (on the scale of the run type) choose the policy, or ``policy`` is one of the
    caller's own. ``max_steps``, ``max_tokens``, ``step_tokens`` and ``deadline`` (in seconds, from when the problem
    comes into the ring; None for none) are limits; ``temperature``, ``top_p`` and ``seed`` the sampling: equal
    questions with equal seeds have equal answers. ``stop`` are texts that end the answer where one of them comes up
    first. ``tags`` are the caller's own words, which stand in the log.
    """

    run_type: RunType
    threshold: float
    policy: Policy
    max_steps: int
    max_tokens: int
    step_tokens: int
    deadline: float | None
    temperature: float
    top_p: float
    seed: int
    stop: Sequence[str]
    tags: Mapping[str, str]


_KINDS: dict[str, Any] = {name: kind for name, kind in get_type_hints(Overrides).items() if name != "policy"}


class TaskFactory:
    """Makes tasks of questions, each with an id of its own."""

    def __init__(self, config: Config) -> None:
        self.config = config
        self._plain = make_task(config, Problem("", ""))
        self._session = secrets.token_hex(3)
        self._numbers = count(1)
        self._rules: dict[tuple[RunType | None, float | None], Policy] = {}

    def make(self, question: Question, overrides: Overrides) -> Task:
        """Raises ``DataError`` if there is no question in ``question``, ``ConfigError`` naming the override that is
        wrong.
        """
        plan = self.plan(overrides)
        transcript, named = _transcript(question)
        return msgspec.structs.replace(
            plan,
            id=named or f"{self._session}-{next(self._numbers)}",
            seed_key=None if named else _noise(transcript),
            transcript=transcript,
        )

    def plan(self, overrides: Overrides) -> Task:
        """A task as ``overrides`` have it, without a question. Raises ``ConfigError`` naming the one that is wrong."""
        given, plain = _checked(overrides), self._plain
        return msgspec.structs.replace(
            plain,
            policy=given.get("policy") or self.rule(given.get("run_type"), given.get("threshold")),
            limits=Limits(**{**msgspec.structs.asdict(plain.limits), **_of(given, Limits)}),
            sampling=Sampling(**{**msgspec.structs.asdict(plain.sampling), **_of(given, Sampling)}),
            seed=given.get("seed", plain.seed),
            stop=tuple(given.get("stop", ())),
            tags=given.get("tags", {}),
        )

    def rule(self, run_type: RunType | None, threshold: float | None) -> Policy:
        """The policy of a run type at a threshold; None is what the configuration has. Raises ``ConfigError``."""
        known = self._rules.get((run_type, threshold))
        if known is None:
            config = self.config if run_type is None else of_type(self.config, run_type, "run_type")
            known = (config if threshold is None else config.with_threshold(threshold)).policy()
            if len(self._rules) < _RULES:
                self._rules[run_type, threshold] = known
        return known


def of_type(config: Config, run_type: RunType, source: str) -> Config:
    """``config`` with another run type, without a budget where that has no threshold to move. Raises ``ConfigError``
    naming ``source``.
    """
    budget = config.budget if run_type in BUDGETED else None
    return override(config, {"run_type": run_type, "budget": budget}, source)


def conversation(messages: Sequence[Message]) -> tuple[tuple[Turn, ...], str]:
    """The turns before the last one, and what the user asks last. Instructions at the beginning are one turn.

    Raises ``DataError`` naming the message that is none.
    """
    turns: list[Turn] = []
    for place, message in enumerate(messages):
        speaker, text = _said(place, message)
        if speaker == "system" and len(turns) == 1 and turns[0].role == "system":
            turns[0] = Turn("system", f"{turns[0].text}\n\n{text}")
        else:
            turns.append(Turn(speaker, text))
    if not turns or turns[-1].role != "user":
        raise DataError("the last message must be the user's: it is what is asked")
    return tuple(turns[:-1]), turns[-1].text


def _said(place: int, message: Any) -> tuple[ChatRole, str]:  # noqa: ANN401 - callers without types send anything
    if not isinstance(message, Mapping):
        raise DataError(f"message {place} has no role and content: it is {message!r}")
    given = cast("Mapping[str, object]", message)
    role, text = given.get("role"), given.get("content")
    speaker = _SPEAKERS.get(role) if isinstance(role, str) else None
    if speaker is None:
        raise DataError(f"message {place}: role must be one of {', '.join(_SPEAKERS)}, not {role!r}")
    if not isinstance(text, str):
        raise DataError(f"message {place}: content must be a text")
    return speaker, text


def _transcript(question: Any) -> tuple[Transcript, str]:  # noqa: ANN401 - callers without types ask anything
    """What is asked, and the id of a problem that has one."""
    if isinstance(question, Problem):
        asked, turns, named = question.question, (), question.id
    elif isinstance(question, str):
        asked, turns, named = question, (), ""
    elif isinstance(question, Sequence) and not isinstance(question, bytes):
        (turns, asked), named = conversation(cast("Sequence[Message]", question)), ""
    else:
        raise DataError(f"a question is a text, a Problem or a list of messages, and not {question!r}")
    if not asked.strip():
        raise DataError("the question is empty")
    if fault := _fault(named, asked, *(turn.text for turn in turns)):
        raise DataError(f"the question is no valid Unicode: {fault}")
    return Transcript(asked, turns=turns), named


def _noise(transcript: Transcript) -> str:
    return hashlib.blake2b(msgspec.json.encode(transcript), digest_size=8).hexdigest()


def _checked(overrides: Overrides) -> dict[str, Any]:
    """The overrides, of the types that they are to have."""
    given: dict[str, Any] = {}
    for name, value in overrides.items():
        if name == "policy":
            given[name] = _policy(value, overrides)
        elif name not in _KINDS:
            raise ConfigError(f"there is no {name!r}; a call may have {', '.join(Overrides.__annotations__)}")
        else:
            try:
                given[name] = msgspec.convert(value, _KINDS[name])
            except msgspec.ValidationError as error:
                choices = f"; one of {', '.join(get_args(RunType))}" if name == "run_type" else ""
                raise ConfigError(f"{name}: {error}{choices}") from error
    stop, tags = given.get("stop", ()), given.get("tags", {})
    if not all(stop):
        raise ConfigError("stop: each text must have something in it")
    for name, texts in (("stop", stop), ("tags", (*tags, *tags.values()))):
        if fault := _fault(*texts):
            raise ConfigError(f"{name}: no valid Unicode: {fault}")
    return given


def _fault(*texts: str) -> str | None:
    """What is wrong with texts that no model and no log could take."""
    try:
        "".join(texts).encode()
    except UnicodeEncodeError as error:
        return error.reason
    return None


def _policy(policy: object, overrides: Overrides) -> object:
    if not callable(getattr(policy, "decide", None)):
        raise ConfigError(f"policy: {policy!r} is none, it has no method decide; a run type goes into run_type")
    for name in ("run_type", "threshold"):
        if name in overrides:
            raise ConfigError(f"policy and {name} both say how steps are chosen: leave one of them out")
    return policy


def _of(given: Mapping[str, Any], kind: type[msgspec.Struct]) -> dict[str, Any]:
    """Those that are fields of ``kind``."""
    return {name: given[name] for name in kind.__struct_fields__ if name in given}
