"""The models and the settings of a ring."""

from collections.abc import Collection, Mapping

import msgspec

from arbiter.actors.controllers import Verify
from arbiter.actors.policies import called_models, check_policy, target_names
from arbiter.protocols.errors import ConfigError
from arbiter.protocols.ports import Generator, ModelHandle, Policy, RefusesTools, Scorer
from arbiter.protocols.records import Model, ScoreKind, Transcript


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

    def require_tools(self, policy: Policy, transcript: Transcript) -> None:
        """Raise ``ConfigError`` if ``transcript`` has tools, and a model that writes steps for ``policy`` cannot."""
        if not transcript.has_tools:
            return
        offers = transcript.rules is not None and bool(transcript.rules.tools)
        subject = "tools: the question offers them" if offers else "the conversation calls tools"
        writing = [model for model in called_models(policy, 0.0) if model in ("draft", "target")]
        names = target_names(policy.targets)
        targets = [self.targets[name] for name in names] if names else [self.target]
        for handle in [*([self.draft] if "draft" in writing else []), *(targets if "target" in writing else [])]:
            if handle is not None and isinstance(handle.port, RefusesTools) and handle.port.without_tools is not None:
                raise ConfigError(f"{subject}, but a model cannot be offered tools. {handle.port.without_tools}")


class RingSettings(msgspec.Struct, frozen=True):
    """Options for drafting ahead and verified escalation; see ``open_ring``."""

    lookahead: int | None
    verify: Verify
    salvage: bool
