"""What is asked, and how: questions and per-call overrides, as tasks of the ring."""

import hashlib
import secrets
from collections.abc import Mapping, Sequence
from itertools import count
from typing import Any, TypedDict, get_args

import msgspec

from arbiter.bench import make_task
from arbiter.config import Config, override
from arbiter.data import Problem
from arbiter.run_tables import RunType
from protocols.errors import ConfigError, DataError
from protocols.messages import Task
from protocols.ports import Policy
from protocols.records import Limits, Sampling, Speaker, Transcript, Turn

Message = Mapping[str, str]
"""One turn of a conversation, with the keys ``role`` (``system``, ``user`` or ``assistant``) and ``content``."""

Question = str | Problem | Sequence[Message]
"""A bare question, a problem with an id of its own, or a conversation whose last turn is the user's."""

_RULES = 256  # policies that are remembered: reading a configuration anew for each call would cost more than the call
_SPEAKERS: dict[str, Speaker] = {**{speaker: speaker for speaker in get_args(Speaker)}, "developer": "system"}


class Overrides(TypedDict, total=False):
    """What one call may have otherwise than the configuration.

    ``run_type`` and ``threshold`` (on the scale of the run type) choose the policy, or ``policy`` is one of the
    caller's own. ``max_steps``, ``max_tokens``, ``step_tokens`` and ``deadline`` (in seconds, from when the problem
    comes into the ring) are limits; ``temperature``, ``top_p`` and ``seed`` the sampling: equal questions with equal
    seeds have equal answers. ``stop`` are texts that end the answer where one of them comes up first. ``tags`` are the
    caller's own words, which stand in the log.
    """

    run_type: RunType
    threshold: float
    policy: Policy
    max_steps: int
    max_tokens: int
    step_tokens: int
    deadline: float
    temperature: float
    top_p: float
    seed: int
    stop: Sequence[str]
    tags: Mapping[str, str]


class Tasks:
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
        _check_names(overrides)
        stop, plain = overrides.get("stop", ()), self._plain
        if isinstance(stop, str) or not all(stop):
            raise ConfigError(f"stop is a list of texts, each with something in it, and not {stop!r}")
        transcript, named = _transcript(question)
        return msgspec.structs.replace(
            plain,
            id=named or f"{self._session}-{next(self._numbers)}",
            noise=None if named else _noise(transcript),
            transcript=transcript,
            policy=overrides.get("policy") or self.rule(overrides.get("run_type"), overrides.get("threshold")),
            limits=Limits(**{**msgspec.structs.asdict(plain.limits), **_given(overrides, Limits)}),
            sampling=Sampling(**{**msgspec.structs.asdict(plain.sampling), **_given(overrides, Sampling)}),
            seed=overrides.get("seed", plain.seed),
            stop=tuple(stop),
            tags=dict(overrides.get("tags", {})),
        )

    def rule(self, run_type: RunType | None, threshold: float | None) -> Policy:
        """The policy of a run type at a threshold; None is what the configuration has. Raises ``ConfigError``."""
        known = self._rules.get((run_type, threshold))
        if known is None:
            config = self.config if run_type is None else override(self.config, {"run_type": run_type}, "run_type")
            known = (config if threshold is None else config.with_threshold(threshold)).policy()
            if len(self._rules) < _RULES:
                self._rules[run_type, threshold] = known
        return known


def conversation(messages: Sequence[Message]) -> tuple[tuple[Turn, ...], str]:
    """The turns before the last one, and what the user asks last. Instructions at the beginning are one turn.

    Raises ``DataError`` naming the message that is none.
    """
    turns: list[Turn] = []
    for place, message in enumerate(messages):
        speaker, text = _SPEAKERS.get(message.get("role", "")), message.get("content")
        if speaker is None:
            raise DataError(f"message {place}: role must be one of {', '.join(_SPEAKERS)}, not {message.get('role')!r}")
        if not isinstance(text, str):
            raise DataError(f"message {place}: content must be a text")
        if speaker == "system" and len(turns) == 1 and turns[0].speaker == "system":
            turns[0] = Turn("system", f"{turns[0].text}\n\n{text}")
        else:
            turns.append(Turn(speaker, text))
    if not turns or turns[-1].speaker != "user":
        raise DataError("the last message must be the user's: it is what is asked")
    return tuple(turns[:-1]), turns[-1].text


def _transcript(question: Question) -> tuple[Transcript, str]:
    """What is asked, and the id of a problem that has one."""
    if isinstance(question, Problem):
        asked, turns, named = question.question, (), question.id
    elif isinstance(question, str):
        asked, turns, named = question, (), ""
    else:
        (turns, asked), named = conversation(question), ""
    if not asked.strip():
        raise DataError("the question is empty")
    try:
        "".join((asked, *(turn.text for turn in turns))).encode()
    except UnicodeEncodeError as error:
        raise DataError(f"the question is no valid Unicode: {error.reason}") from error
    return Transcript(asked, turns=turns), named


def _noise(transcript: Transcript) -> str:
    return hashlib.blake2b(msgspec.json.encode(transcript), digest_size=8).hexdigest()


def _check_names(overrides: Overrides) -> None:
    unknown = [name for name in overrides if name not in Overrides.__annotations__]
    if unknown:
        raise ConfigError(f"there is no {unknown[0]!r}; a call may have {', '.join(Overrides.__annotations__)}")


def _given(overrides: Overrides, kind: type[msgspec.Struct]) -> dict[str, Any]:
    """Those of ``overrides`` that are fields of ``kind``, checked by their types."""
    fields = {field.name: field.type for field in msgspec.structs.fields(kind)}
    given: dict[str, Any] = {}
    for name, value in overrides.items():
        if name in fields:
            try:
                given[name] = msgspec.convert(value, fields[name])
            except msgspec.ValidationError as error:
                raise ConfigError(f"{name}: {error}") from error
    return given
