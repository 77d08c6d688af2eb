"""The table of OpenAI's request fields in docs/reference/http-api.md: what the endpoint does with each."""

import json

from arbiter.gateway.body_decoding import refused_fields
from arbiter.gateway.schemas import AnyBody, ChatBody, CompletionBody, ResponseBody

BODIES: dict[str, type[AnyBody]] = {"chat": ChatBody, "completions": CompletionBody, "responses": ResponseBody}
"""The body of each path, by the heading of its column."""

LOGGED = ("metadata", "prompt_cache_key", "safety_identifier", "user")
"""Fields that are written to the log as tags and change no answer."""

UNKNOWN = {
    "chat": ("moderation", "prompt_cache_options", "prompt_cache_retention"),
    "completions": (),
    "responses": (
        "access_programs",
        "background_options",
        "image",
        "moderation",
        "prompt_cache_options",
        "prompt_cache_retention",
    ),
}
"""Fields of OpenAI's interface that no body has: they are refused as unknown."""

_OWN = ("arbiter",)


def rows() -> dict[str, dict[str, str]]:
    """Return what happens to each field, by path: ``honoured``, ``logged``, ``refused``, or the values it may have."""
    found: dict[str, dict[str, str]] = {}
    for path, body in BODIES.items():
        for name in (*body.__struct_fields__, *UNKNOWN[path]):
            if name not in _OWN:
                found.setdefault(name, {})[path] = _fate(name, body)
    return dict(sorted(found.items()))


def table() -> str:
    """Return the rows as Markdown."""
    lines = [f"| field | {' | '.join(BODIES)} |", "|---" * (len(BODIES) + 1) + "|"]
    for name, fates in rows().items():
        lines.append(f"| `{name}` | {' | '.join(fates.get(path, '–') for path in BODIES)} |")
    return "\n".join(lines)


def _fate(name: str, body: type[AnyBody]) -> str:
    if name not in body.__struct_fields__:
        return "refused"
    neutral = refused_fields(body).get(name)
    if neutral is None:
        return "logged" if name in LOGGED else "honoured"
    return " ".join(["only", ", ".join(f"`{json.dumps(value)}`" for value in neutral)]) if neutral else "refused"
