"""Questions and per-call overrides, and the tasks of the ring that are made of them."""

import hashlib
import secrets
from collections.abc import Mapping, Sequence
from itertools import count
from typing import Any, TypedDict, cast, get_args, get_type_hints

import msgspec

from arbiter.config.config import Config
from arbiter.config.run_tables import RunType
from arbiter.data import Problem
from arbiter.data.conversation import Message, conversation, texts_of
from arbiter.data.offered_tools import ToolLike, answer_rules
from arbiter.data.tasks import make_task
from arbiter.library.answer_schema import Schema, schema_text
from arbiter.protocols.answer_tokens import MOST_ALTERNATIVES
from arbiter.protocols.errors import ConfigError, DataError
from arbiter.protocols.messages import Task
from arbiter.protocols.policy import Policy
from arbiter.protocols.records import Limits, Sampling, Transcript
from arbiter.protocols.tools import AnswerRules, Effort

Question = str | Problem | Sequence[Message]
"""A text, a ``Problem`` with its own id, or a conversation. Its last message is the user's, or the result of a tool."""


class Overrides(TypedDict, total=False):
    """Options of one call that replace those of the configuration. All are optional.

    - ``run_type`` and ``threshold`` choose the policy. The threshold is on the scale of the run type.
    - ``policy`` is the caller's own policy. It excludes ``run_type`` and ``threshold``.
    - ``max_steps`` and ``max_tokens`` limit the problem, and ``step_tokens`` limits a step; each is 1 or more.
    - ``deadline`` is in seconds after the problem enters the ring, above 0; None for no deadline.
    - ``temperature`` is 0 or more, and ``top_p`` is in (0, 1].
    - ``presence_penalty`` and ``frequency_penalty`` are from −2 to 2 (``Sampling``). With one that is not 0, no draft
      is verified.
    - ``top_logprobs`` requests the tokens of the answer (``Solution.tokens``) with their log-probabilities, and as
      many alternatives for each, from 0 to 20. No draft is then verified. None requests none.
    - ``seed`` decides the sampling. Equal questions with equal seeds get equal answers.
    - ``stop`` are texts that end the answer. The answer ends before the first of them that appears in it completely.
    - ``tags`` are the caller's labels for the log.
    - ``tools`` are the tools that the answer may call, in OpenAI's form or as ``Tool``. Default: those of the
      ``Problem``.
    - ``tool_choice`` is ``auto`` (the default), ``none``, ``required``, the name of the tool that must be called, or an
      object in OpenAI's form.
    - ``parallel_tool_calls`` is False if the answer may make one call only.
    - ``schema`` is the JSON schema that the answer must fit, unless it calls tools: a dictionary, or JSON text.
      ``{"type": "object"}`` is for any object.
    - ``reasoning_effort`` is how much the models are to think: ``none``, ``minimal``, ``low``, ``medium``, ``high``,
      ``xhigh`` or ``max``. Those are honoured that the prompt templates of the models can request.

    Example::

        await arbiter.solve("Compute 12+30.", run_type="target", max_steps=8, stop=["Note"])
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
    presence_penalty: float
    frequency_penalty: float
    top_logprobs: int | None
    seed: int
    stop: Sequence[str]
    tags: Mapping[str, str]
    tools: Sequence[ToolLike]
    tool_choice: str | Mapping[str, Any]
    parallel_tool_calls: bool
    schema: Schema
    reasoning_effort: Effort


_CHECKED_APART = ("policy", "tools", "tool_choice", "schema")
_KINDS: dict[str, Any] = {name: kind for name, kind in get_type_hints(Overrides).items() if name not in _CHECKED_APART}


class TaskFactory:
    """Makes tasks of questions. The id of a task is that of the ``Problem``, or a new one for other questions."""

    def __init__(self, config: Config) -> None:
        self.config = config
        self._plain = make_task(config, Problem("", ""))
        self._session = secrets.token_hex(3)
        self._numbers = count(1)

    def make(self, question: Question, overrides: Overrides) -> Task:
        """Return a task for ``question``.

        Raises ``DataError`` if there is no question, and ``ConfigError`` naming the override that is wrong.
        """
        plan = self.plan(overrides)
        transcript, name = _transcript(question)
        transcript = msgspec.structs.replace(transcript, rules=plan.transcript.rules or transcript.rules)
        return msgspec.structs.replace(
            plan,
            id=name or f"{self._session}-{next(self._numbers)}",
            seed_key=None if name else _seed_key(transcript),
            transcript=transcript,
        )

    def plan(self, overrides: Overrides) -> Task:
        """Return a task without a question. Raises ``ConfigError`` naming the override that is wrong."""
        given, plain = _checked(overrides), self._plain
        return msgspec.structs.replace(
            plain,
            transcript=Transcript("", rules=given.get("rules")),
            policy=given.get("policy") or self.rule(given.get("run_type"), given.get("threshold")),
            limits=Limits(**{**msgspec.structs.asdict(plain.limits), **_fields_of(Limits, given)}),
            sampling=Sampling(**{**msgspec.structs.asdict(plain.sampling), **_fields_of(Sampling, given)}),
            seed=given.get("seed", plain.seed),
            stop=tuple(given.get("stop", ())),
            tags=given.get("tags", {}),
            top_logprobs=given.get("top_logprobs"),
        )

    def rule(self, run_type: RunType | None, threshold: float | None) -> Policy:
        """Return the policy of a run type and a threshold. None means the configured one. Raises ``ConfigError``."""
        config = self.config
        if run_type is not None:
            config = config.with_run_type(run_type, "run_type", drop_budget=True)
        return (config if threshold is None else config.with_threshold(threshold, "threshold")).policy()


def _transcript(question: Any) -> tuple[Transcript, str]:  # noqa: ANN401 - untyped callers pass anything
    """Return the transcript to start from, and the id if ``question`` is a problem; else an empty text."""
    rules = None
    if isinstance(question, Problem):
        text, turns, after, name = question.question, question.turns, question.after, question.id
        rules = question.rules
    elif isinstance(question, str):
        text, turns, after, name = question, (), (), ""
    elif isinstance(question, Sequence) and not isinstance(question, bytes):
        (turns, text, after), name = conversation(cast("Sequence[Message]", question)), ""
    else:
        raise DataError(f"a question is a text, a Problem or a list of messages, not {question!r}")
    if not text.strip():
        raise DataError("the question is empty")
    if fault := _fault(name, text, *texts_of(turns), *texts_of(after)):
        raise DataError(f"the question is not valid Unicode: {fault}")
    return Transcript(text, turns=turns, after=after, rules=rules), name


def _seed_key(transcript: Transcript) -> str:
    plain: dict[str, Any] = {"question": transcript.question, "steps": transcript.steps, "turns": transcript.turns}
    if transcript.after or transcript.rules is not None:
        plain |= {"after": transcript.after, "rules": transcript.rules}
    return hashlib.blake2b(msgspec.json.encode(plain), digest_size=8).hexdigest()


def _checked(overrides: Overrides) -> dict[str, Any]:
    """Return the overrides, converted to their types. Raises ``ConfigError`` naming the one that is wrong."""
    given: dict[str, Any] = {}
    for name, value in overrides.items():
        if name == "policy":
            given[name] = _policy(value, overrides)
        elif name in _CHECKED_APART:
            continue
        elif name not in _KINDS:
            raise ConfigError(f"unknown override {name!r}; a call can set {', '.join(Overrides.__annotations__)}")
        else:
            try:
                given[name] = msgspec.convert(value, _KINDS[name])
            except msgspec.ValidationError as error:
                choices = f"; one of {', '.join(get_args(RunType))}" if name == "run_type" else ""
                raise ConfigError(f"{name}: {error}{choices}") from error
    rules = _rules(overrides, given.get("parallel_tool_calls", True))
    effort: Effort | None = given.get("reasoning_effort")
    given["rules"] = rules if effort is None else msgspec.structs.replace(rules or AnswerRules(), effort=effort)
    stop, tags, top = given.get("stop", ()), given.get("tags", {}), given.get("top_logprobs")
    if top is not None and not 0 <= top <= MOST_ALTERNATIVES:
        raise ConfigError(f"top_logprobs must be from 0 to {MOST_ALTERNATIVES}, but it is {top}")
    if not all(stop):
        raise ConfigError("stop: a text must not be empty")
    for name, texts in (("stop", stop), ("tags", (*tags, *tags.values()))):
        if fault := _fault(*texts):
            raise ConfigError(f"{name}: not valid Unicode: {fault}")
    return given


def _rules(overrides: Overrides, parallel: bool) -> AnswerRules | None:
    rules = answer_rules(overrides.get("tools", ()), overrides.get("tool_choice"), parallel)
    if "schema" not in overrides:
        return rules
    return msgspec.structs.replace(rules or AnswerRules(), schema=schema_text(overrides["schema"]))


def _fault(*texts: str) -> str | None:
    """Return why the texts cannot be encoded for models and logs; None if they can."""
    try:
        "".join(texts).encode()
    except UnicodeEncodeError as error:
        return error.reason
    return None


def _policy(policy: object, overrides: Overrides) -> object:
    if not callable(getattr(policy, "decide", None)):
        raise ConfigError(f"policy: {policy!r} is not a policy, it has no method decide; use run_type for a run type")
    for name in ("run_type", "threshold"):
        if name in overrides:
            raise ConfigError(f"policy and {name} both choose the policy: leave one of them out")
    return policy


def _fields_of(kind: type[msgspec.Struct], given: Mapping[str, Any]) -> dict[str, Any]:
    """Return the items of ``given`` that are fields of ``kind``."""
    return {name: given[name] for name in kind.__struct_fields__ if name in given}
