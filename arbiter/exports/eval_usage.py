"""Values that all parts of a log of inspect_ai use: model names, tokens, times and identifiers."""

import hashlib
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any

from arbiter.log.history import CallHistory, ProblemHistory
from arbiter.protocols.records import Model, Usage, table_name

Json = dict[str, Any]


class EvalModels:
    """The models of a run, taken from its identity: their names, their sampling, and the policy.

    ``names`` has the configured names by role. ``run_name`` is the name for all models together, as one model.
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
        """Return the model name of ``role``, or of one of several targets; the role itself if no name is known."""
        table = table_name(role, target)
        return self.names.get(table, table)

    def called(self, history: ProblemHistory, call: CallHistory) -> str:
        """Return the name of the model that ``call`` was sent to."""
        return self.name(call.model, history.target_of(call) if call.model == "target" else "")

    def usage(self, history: ProblemHistory) -> dict[str, Usage]:
        """Return the tokens of a problem by model name."""
        found: dict[str, Usage] = {}
        for role, counts in history.request_counts().items():
            targets = history.target_counts() if role == "target" else {}
            parts = {self.name("target", target): requests.usage for target, requests in targets.items()}
            for name, usage in (parts or {self.name(role): counts.usage}).items():
                found[name] = found.get(name, Usage()) + usage
        return found


def usages(by_name: Mapping[str, Usage]) -> Json:
    """Return the tokens by name as inspect_ai counts them: ``input_tokens`` excludes cached tokens."""
    return {name: usage_of(usage) for name, usage in by_name.items()}


def usage_of(usage: Usage) -> Json:
    """Return the tokens of one or several requests as inspect_ai counts them."""
    return known(
        input_tokens=usage.prompt_tokens - usage.cached_tokens,
        output_tokens=usage.completion_tokens,
        total_tokens=usage.prompt_tokens + usage.completion_tokens,
        input_tokens_cache_read=usage.cached_tokens or None,
    )


def moment(wall: float) -> str:
    """Return a Unix time in the format of inspect_ai."""
    return datetime.fromtimestamp(wall, UTC).isoformat()


def identifier(*place: object) -> str:
    """Return an identifier computed from ``place``, the same in every export of a run."""
    return hashlib.blake2b("\n".join(map(str, place)).encode(errors="surrogatepass"), digest_size=11).hexdigest()


def known(**values: object) -> Json:
    """Return ``values`` without those that are None."""
    return {name: value for name, value in values.items() if value is not None}
