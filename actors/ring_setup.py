"""The models and the settings of a ring."""

from collections.abc import Collection, Mapping

import msgspec

from arbiter.actors.controllers import Verify
from arbiter.actors.policies import called_models, check_policy, target_names
from arbiter.protocols.errors import ConfigError
from arbiter.protocols.messages import Task
from arbiter.protocols.ports import (
    Generator,
    ModelHandle,
    Policy,
    RefusesConstraints,
    RefusesTools,
    Scorer,
    WritesThoughts,
)
from arbiter.protocols.records import Model, ScoreKind


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

    def require_rules(self, task: Task) -> None:
        """Raise ``ConfigError`` if a model that writes steps cannot keep the rules of the task's answer.

        It cannot be offered tools, or fails under the constraint of a schema.
        """
        transcript = task.transcript
        for model in self._writers(task.policy) if transcript.has_tools else ():
            if isinstance(model, RefusesTools) and model.without_tools is not None:
                raise ConfigError(
                    f"the question offers tools, but a model cannot be offered tools. {model.without_tools}"
                )
        for model in self._writers(task.policy) if transcript.rules and transcript.rules.schema else ():
            if isinstance(model, RefusesConstraints) and model.without_constraints is not None:
                raise ConfigError(f"schema: {model.without_constraints}")

    def opens_thought(self, task: Task) -> bool:
        """Return whether the answer begins within a thought: the prompt of a model that writes its steps opens one."""
        return any(isinstance(model, WritesThoughts) and model.opens_thought for model in self._writers(task.policy))

    def _writers(self, policy: Policy) -> list[Generator]:
        """Return the models that write steps for ``policy``."""
        writing = [model for model in called_models(policy, 0.0) if model in ("draft", "target")]
        names = target_names(policy.targets)
        targets = [self.targets.get(name) for name in names] if names else [self.target]
        handles = [*([self.draft] if "draft" in writing else []), *(targets if "target" in writing else [])]
        return [handle.port for handle in handles if handle is not None]


class RingSettings(msgspec.Struct, frozen=True):
    """Options for drafting ahead and verified escalation; see ``open_ring``."""

    lookahead: int | None
    verify: Verify
    salvage: bool
