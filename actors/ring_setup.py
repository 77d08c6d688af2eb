"""The models and the settings of a ring."""

from collections.abc import Collection, Mapping
from typing import get_args

import msgspec

from arbiter.actors.controllers import Verify
from arbiter.actors.policies import called_models, check_policy, target_names
from arbiter.protocols.errors import ConfigError
from arbiter.protocols.messages import Task
from arbiter.protocols.model_traits import (
    RefusesConstraints,
    RefusesLogprobs,
    RefusesTools,
    TakesEfforts,
    ThoughtOpening,
    thought_opening,
)
from arbiter.protocols.policy import Policy
from arbiter.protocols.ports import Generator, ModelHandle, Scorer
from arbiter.protocols.records import Model, ScoreKind, Transcript
from arbiter.protocols.tools import AnswerRules, Effort


class Models(msgspec.Struct, frozen=True):
    """The models of a ring. A policy can be used if all models that it calls are present.

    ``scorers`` are by kind of score, and ``targets`` by name, for policies that name several targets.

    Example::

        Models(draft=ModelHandle(MyDraft()), target=ModelHandle(MyTarget(), in_flight=8))
    """

    draft: ModelHandle[Generator] | None = None
    target: ModelHandle[Generator] | None = None
    scorers: Mapping[ScoreKind, ModelHandle[Scorer]] = {}
    targets: Mapping[str, ModelHandle[Generator]] = {}

    def require(self, policy: Policy, audit: float = 0.0, besides: Collection[Model] = ()) -> None:
        """Check that all models are present that ``policy`` and its audit call.

        Raises ``ConfigError`` if one is missing, or if ``policy`` lacks a member. The models in ``besides`` need not be
        present.
        """
        check_policy(policy)
        present = {"draft": self.draft, "target": self.target, **self.scorers}
        names = () if "target" in besides else target_names(policy.targets)
        for model in called_models(policy, audit):
            if present.get(model) is None and model not in besides and not (model == "target" and names):
                raise ConfigError(
                    f"the run calls the {model} model, but none is configured: add a table [models.{model}]"
                )
        for name in names:
            if name not in self.targets:
                raise ConfigError(
                    f"the run calls the target {name!r}, but it is not configured: add a table [models.targets.{name}]"
                )

    def require_answer(self, task: Task) -> None:
        """Raise ``ConfigError`` if a model that writes steps cannot write the answer that the task requests.

        It cannot be offered tools, takes no such effort, fails under the constraint of a schema, or is known to return
        no log-probabilities.
        """
        rules = task.transcript.rules
        self.require_tools(task.policy, task.transcript)
        if rules is not None and rules.effort is not None:
            self._require_effort(task.policy, rules.effort)
        if rules is not None and rules.schema is not None:
            self._require_constraints(task.policy)
        if task.top_logprobs is not None:
            self.require_logprobs(task.policy)

    def require_tools(self, policy: Policy, transcript: Transcript) -> None:
        """Raise ``ConfigError`` if ``transcript`` has tools, and a model that writes steps for ``policy`` cannot."""
        if not transcript.has_tools:
            return
        offers = transcript.rules is not None and bool(transcript.rules.tools)
        subject = "tools: the question offers them" if offers else "the conversation calls tools"
        for model in self.writers(policy):
            if isinstance(model, RefusesTools) and model.without_tools is not None:
                raise ConfigError(f"{subject}, but a model cannot be offered tools. {model.without_tools}")

    def require_logprobs(self, policy: Policy) -> None:
        """Raise ``ConfigError`` if a model that writes steps for ``policy`` is known to return no log-probabilities."""
        for model in self.writers(policy):
            if isinstance(model, RefusesLogprobs) and model.without_logprobs is not None:
                raise ConfigError(f"top_logprobs: a model returns no log-probabilities. {model.without_logprobs}")

    def _require_constraints(self, policy: Policy) -> None:
        for model in self.writers(policy):
            if isinstance(model, RefusesConstraints) and model.without_constraints is not None:
                raise ConfigError(f"schema: {model.without_constraints}")

    def _require_effort(self, policy: Policy, effort: Effort) -> None:
        said = [model.efforts for model in self.writers(policy) if isinstance(model, TakesEfforts)]
        known = [efforts for efforts in said if efforts is not None]
        common = [name for name in get_args(Effort) if all(name in efforts for efforts in known)]
        if effort not in common:
            choices = f"can request only {', '.join(common)}: send one of these, or" if common else "request no effort:"
            raise ConfigError(
                f"reasoning_effort: {effort!r} cannot be honoured. The prompt templates of the models that write the "
                f"answer {choices} leave it out"
            )

    def thought_opening(self, task: Task) -> ThoughtOpening | None:
        """Return what opens the thought with which an answer to ``task`` may begin.

        It is ``prompt`` if the prompt of any model that writes its steps opens one, else ``answer`` if any of them may
        open one itself. None if the models are not known to write thoughts, and any text may answer: JSON that must fit
        a schema is divided from a thought in any case.
        """
        rules = task.transcript.rules
        effort = None if rules is None else rules.effort
        openings = [thought_opening(model, effort) for model in self.writers(task.policy)]
        return "prompt" if "prompt" in openings else "answer" if "answer" in openings or _is_json(rules) else None

    @property
    def ports(self) -> list[Generator | Scorer]:
        """The models, each once."""
        handles = [self.draft, self.target, *self.targets.values(), *self.scorers.values()]
        found = {id(handle.port): handle.port for handle in handles if handle is not None}
        return list(found.values())

    def writers(self, policy: Policy) -> list[Generator]:
        """Return the models that write steps for ``policy``, as far as they are present."""
        writing = [model for model in called_models(policy, 0.0) if model in ("draft", "target")]
        names = target_names(policy.targets)
        targets = [self.targets.get(name) for name in names] if names else [self.target]
        handles = [*([self.draft] if "draft" in writing else []), *(targets if "target" in writing else [])]
        return [handle.port for handle in handles if handle is not None]


def _is_json(rules: AnswerRules | None) -> bool:
    return rules is not None and rules.schema is not None


class RingSettings(msgspec.Struct, frozen=True):
    """Options for drafting ahead, verified escalation and blocks; see ``open_ring``."""

    lookahead: int | None
    verify: Verify
    salvage: bool
    block: int = 1
