"""What all parts of a log of inspect_ai have: the models' names, their tokens, moments, identifiers."""

import hashlib
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any

from arbiter.log.history import CallHistory, ProblemHistory
from arbiter.protocols.records import Model, Usage

Json = dict[str, Any]


class EvalModels:
    """Of a run's identity, what concerns its models: their names, how they sample, and the policy over them.

    ``names`` are those of the configuration by role; ``run_name`` is that of all of them together, as one model.
    """

    def __init__(self, identity: Mapping[str, Any]) -> None:
        self._identity = identity
        run_type = str(identity.get("run_type", "router"))
        self.run_name = f"arbiter/{run_type}"
        self.policy = known(run_type=run_type, threshold=identity.get(f"thresholds.{run_type}"))
        self.sampling = known(
            temperature=identity.get("sampling.temperature"),
            top_p=identity.get("sampling.top_p"),
            seed=identity.get("seed"),
            max_tokens=identity.get("limits.max_tokens"),
        )
        self.names = {
            key.removeprefix("models.").removesuffix(".model"): str(name)
            for key, name in identity.items()
            if key.startswith("models.") and key.endswith(".model")
        }

    def name(self, role: Model, target: str = "") -> str:
        """The model of ``role``, or of one of several targets; the role itself where no name is known."""
        table = "prm" if role == "audit" else f"targets.{target}" if target else role
        return self.names.get(table, table)

    def called(self, history: ProblemHistory, call: CallHistory) -> str:
        """The model that ``call`` asked."""
        return self.name(call.model, history.target_of(call) if call.model == "target" else "")

    def usage(self, history: ProblemHistory) -> dict[str, Usage]:
        """The tokens of a problem by the models' names."""
        found: dict[str, Usage] = {}
        for role, counts in history.request_counts().items():
            targets = history.target_counts() if role == "target" else {}
            parts = {self.name("target", target): one.usage for target, one in targets.items()}
            for name, usage in (parts or {self.name(role): counts.usage}).items():
                found[name] = found.get(name, Usage()) + usage
        return found


def usages(by_name: Mapping[str, Usage]) -> Json:
    """Tokens as inspect_ai counts them: what came from a cache is not in ``input_tokens``."""
    return {name: usage_of(usage) for name, usage in by_name.items()}


def usage_of(usage: Usage) -> Json:
    """The tokens of one or several requests."""
    return known(
        input_tokens=usage.prompt_tokens - usage.cached_tokens,
        output_tokens=usage.completion_tokens,
        total_tokens=usage.prompt_tokens + usage.completion_tokens,
        input_tokens_cache_read=usage.cached_tokens or None,
    )


def moment(wall: float) -> str:
    """Unix time as inspect_ai writes it."""
    return datetime.fromtimestamp(wall, UTC).isoformat()


def identifier(*place: object) -> str:
    """The name of a place in a run, the same in each export of it."""
    return hashlib.blake2b("\n".join(map(str, place)).encode(errors="surrogatepass"), digest_size=11).hexdigest()


def known(**values: object) -> Json:
    """``values`` without those that are not known."""
    return {name: value for name, value in values.items() if value is not None}
