"""Fields of requests that do not depend on the prompt."""

from collections.abc import Mapping

from arbiter.config.model_tables import Engine
from arbiter.protocols.ports import GenerationRequest

_LATER: dict[Engine, int] = {
    "sglang": -1,
    "vllm": 1,
}  # sign of later: sglang serves the highest number first, vLLM the lowest
_AHEAD = 1 << 20  # more than the number of problems in flight
WITHOUT_PENALTIES: Mapping[str, int] = {"presence_penalty": 0, "frequency_penalty": 0, "repetition_penalty": 1}
"""Sent to a target that checks proposals: the choices that it shows are without penalties, and some servers take
default penalties from the model's generation settings."""


def priority_of(request: GenerationRequest, engine: Engine | None) -> dict[str, int]:
    """Return the field that gives a request its priority: older problems first, requests ahead of need last.

    Every request has one, since sglang serves requests without one last. Empty without ``engine``.
    """
    if engine is None:
        return {}
    return {"priority": _LATER[engine] * (request.order + _AHEAD * request.ahead)}
