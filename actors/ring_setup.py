"""What a ring is made with: its models, and how far it works ahead."""

from collections.abc import Collection, Mapping

import msgspec

from arbiter.actors.controllers import Verify
from arbiter.actors.policies import called_models, check_policy, target_names
from arbiter.protocols.errors import ConfigError
from arbiter.protocols.ports import Generator, ModelHandle, Policy, Scorer
from arbiter.protocols.records import Model, ScoreKind


class Models(msgspec.Struct, frozen=True):
    """The models of a ring; a policy can be used if the models that it calls are there.

    ``targets`` are those of policies that know several, by name.
    """

    draft: ModelHandle[Generator] | None = None
    target: ModelHandle[Generator] | None = None
    scorers: Mapping[ScoreKind, ModelHandle[Scorer]] = {}
    targets: Mapping[str, ModelHandle[Generator]] = {}

    def require(self, policy: Policy, audit: float = 0.0, besides: Collection[Model] = ()) -> None:
        """Raises ``ConfigError`` if ``policy`` lacks a member, or naming the first model that it or its audit calls and
        that is not there.

        Those ``besides`` are there in another way.
        """
        check_policy(policy)
        there = {"draft": self.draft, "target": self.target, **self.scorers}
        names = () if "target" in besides else target_names(policy.targets)
        for model in called_models(policy, audit):
            if there.get(model) is None and model not in besides and not (model == "target" and names):
                raise ConfigError(
                    f"the run calls the {model} model, and none is configured: add a table [models.{model}]"
                )
        for name in names:
            if name not in self.targets:
                raise ConfigError(
                    f"the run calls the target {name!r}, and it is not there: add a table [models.targets.{name}]"
                )


class RingSettings(msgspec.Struct, frozen=True):
    """How the actors work ahead of what they are asked for; see ``open_ring``."""

    lookahead: int | None
    verify: Verify
    salvage: bool
