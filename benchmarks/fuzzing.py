"""Random requests to the endpoint: valid ones with random changes, and random bytes."""

from random import Random
from typing import Any, cast

import msgspec

from arbiter.gateway.schemas import ChatBody, ChatMessage, CompletionBody, ContentPart, Extras, InputItem, ResponseBody

PATHS = {
    "/v1/chat/completions": {"model": "arbiter", "messages": [{"role": "user", "content": "q"}]},
    "/v1/completions": {"model": "arbiter", "prompt": "q"},
    "/v1/responses": {"model": "arbiter", "input": [{"role": "user", "content": "q"}]},
}
OTHER_PATHS = ["/", "/live", "/health", "/ready", "/metrics", "/openapi.json", "/v1/models", "/v1/models/arbiter"]
KINDS = (ChatBody, ChatMessage, CompletionBody, ContentPart, Extras, InputItem, ResponseBody)
FIELDS = sorted({name for kind in KINDS for name in kind.__struct_fields__} | {"unknown", "", "ünknown"})
VALUES: list[Any] = [
    None,
    True,
    False,
    0,
    1,
    -1,
    2**63,
    10**30,
    0.5,
    1e300,
    "",
    "q",
    "arbiter:router@0.4",
    "arbiter:router@nan",
    "arbiter@",
    "\x00\ufffe",
    "€" * 100,
    "x" * 5_000,
    [],
    {},
    [None],
    [[1, 2]],
    [{}],
    {"role": "user"},
    {"type": "text", "text": "q"},
    [{"role": "assistant", "content": None}],
    [{"type": "reasoning"}],
]
CONTENT_TYPES = ["application/json", "application/json; charset=utf-8", "APPLICATION/JSON", "text/plain", "", "a/b;;"]
METHODS = ["GET", "POST", "PUT", "DELETE", "HEAD", "OPTIONS", "PATCH", "BREW"]
HEADERS = [
    ("authorization", "Bearer x"),
    ("origin", "http://other.example"),
    ("accept-encoding", "br"),
    ("connection", "close"),
    ("expect", "100-continue"),
    ("upgrade", "websocket"),
    ("x-long", "x" * 2_000),
    ("host", "other.example"),
]


class FuzzedRequest(msgspec.Struct, frozen=True):
    """A request; ``raw`` replaces all of it. With ``leaves``, its client does not read the answer."""

    method: str = "POST"
    path: str = "/"
    headers: dict[str, str] = {}
    body: bytes = b""
    raw: bytes | None = None
    leaves: bool = False


def fuzzed_request(random: Random) -> FuzzedRequest:
    """Return the next request."""
    if random.random() < 0.05:
        return FuzzedRequest(raw=_raw(random))
    headers = dict(random.sample(HEADERS, random.choice((0, 0, 0, 1, 2))))
    if random.random() < 0.1:
        path = random.choice([*OTHER_PATHS, f"/{_text(random)}", f"/v1/models/{_text(random)}", *PATHS])
        return FuzzedRequest(random.choice(METHODS), path, headers)
    path = random.choice(list(PATHS))
    body = msgspec.json.encode(_changed(random, PATHS[path]))
    if random.random() < 0.1:
        body = _damaged(random, body)
    kind = random.choice(CONTENT_TYPES) if random.random() < 0.1 else "application/json"
    return FuzzedRequest("POST", path, {**headers, "content-type": kind}, body, leaves=random.random() < 0.05)


def _changed(random: Random, value: Any) -> Any:  # noqa: ANN401 - JSON
    """Return a copy of a JSON value with a few random changes."""
    if isinstance(value, dict):
        fields = cast("dict[str, Any]", value)
        changed = {name: _changed(random, item) for name, item in fields.items() if random.random() > 0.02}
        for _ in range(random.choice((0, 0, 0, 1, 2))):
            changed[random.choice(FIELDS)] = _json(random)
        if random.random() < 0.1:
            changed["stream"] = True
        return changed
    if isinstance(value, list):
        return [_changed(random, item) for item in cast("list[Any]", value) * random.choice((1, 1, 1, 2))]
    return _json(random) if random.random() < 0.03 else value


def _json(random: Random) -> Any:  # noqa: ANN401 - JSON
    value = random.choice(VALUES)
    for _ in range(random.choice((0, 0, 0, 1, 2))):
        value = [value] if random.random() < 0.5 else {random.choice(FIELDS): value}
    return value


def _damaged(random: Random, body: bytes) -> bytes:
    place = random.randrange(len(body) + 1)
    match random.randrange(4):
        case 0:
            return body[:place]
        case 1:
            return body[:place] + random.randbytes(3) + body[place:]
        case 2:
            return body.replace(b'"q"', b"[" * 3_000 + b"]" * 3_000)
        case _:
            return body.replace(b'"q"', random.choice((b'"\\ud800"', b"NaN", b"1e999", b"-0", b'"\xff"')))


def _raw(random: Random) -> bytes:
    head = b"POST /v1/completions HTTP/1.1\r\nhost: localhost\r\n"
    match random.randrange(5):
        case 0:
            return random.randbytes(random.randrange(1, 200))
        case 1:
            return head + b"content-length: 100\r\n\r\n{"
        case 2:
            return head + b"transfer-encoding: chunked\r\n\r\n" + random.randbytes(20)
        case 3:
            return head + random.randbytes(20) + b"\r\n\r\n"
        case _:
            return head[: random.randrange(1, len(head))]


def _text(random: Random) -> str:
    return "".join(random.choice("ab/.%@:€ ?#") for _ in range(random.randrange(1, 12)))
