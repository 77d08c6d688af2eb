"""The faults of ``benchmarks/faulty_server.py``: what servers say wrongly, and what it must come to.

- A *temporary* fault is requested again.
- A *harmless* one is an unusual answer that means the same.
- A *permanent* one fails its problem, and the error names the ``cause``.
"""

import copy
import gzip
from collections.abc import Callable
from random import Random
from typing import Any, Literal

import msgspec

Kind = Literal["temporary", "harmless", "permanent"]
Request = Literal["step", "probe", "classify"]
Response = tuple[bytes, bool]
"""The bytes of a response, and whether the connection ends after them."""

_STATUSES = (408, 409, 425, 429, 500, 502, 503, 504, *range(520, 528), 529, 530)
_COMPLETIONS: frozenset[Request] = frozenset({"step", "probe"})
_ALL: frozenset[Request] = frozenset({"step", "probe", "classify"})
_NARROW = 64  # tokens; steps are shorter
_PAGE = b"<!DOCTYPE html>\n<html><body>Welcome to nginx!</body></html>"


class Answer(msgspec.Struct, frozen=True):
    """The right answer to a request.

    ``found``: the step ended at the separator. ``rest`` is what the model would write after the text.
    """

    request: Request
    problem: int | None
    body: Any
    max_tokens: int = 0
    found: object = False
    rest: str = ""

    def changed(self, **fields: Any) -> Any:  # noqa: ANN401 - JSON
        """Return the body with other fields of the choice."""
        body = copy.deepcopy(self.body)
        body["choices"][0].update(fields)
        return body

    @property
    def text(self) -> str:
        """The text of the choice."""
        return self.body["choices"][0]["text"]


def plain(body: object, status: int = 200, **headers: str) -> bytes:
    """Return a response with JSON, or with bytes as they are."""
    data = body if isinstance(body, bytes) else msgspec.json.encode(body)
    lines = {"content-type": "application/json", "content-length": str(len(data)), **headers}
    head = "".join(f"{name.replace('_', '-')}: {value}\r\n" for name, value in lines.items())
    return f"HTTP/1.1 {status} -\r\n{head}\r\n".encode() + data


class Fault(msgspec.Struct, frozen=True):
    """A fault. ``requests`` are those that can have it, and ``cause`` is in the error of a permanent one."""

    name: str
    kind: Kind
    send: Callable[[Answer, Random], Response]
    requests: frozenset[Request] = _ALL
    cause: str = ""
    needs: Callable[[Answer], object] = lambda _: True

    def applies(self, answer: Answer) -> bool:
        """Whether the answer can have this fault."""
        return answer.request in self.requests and bool(self.needs(answer))


def _status(_: Answer, noise: Random) -> Response:
    headers = {"retry_after": "0"} if noise.random() < 0.5 else {}
    return plain({"error": {"message": "try again"}}, noise.choice(_STATUSES), **headers), False


def _with_error(answer: Answer, noise: Random) -> Response:
    error = {"error": {"code": noise.choice((429, "503", 502)), "message": "overloaded"}}
    body: Any = [*answer.body, error] if answer.request == "classify" else {**answer.body, **error}
    return plain(body), False


def _broken_off(answer: Answer, noise: Random) -> Response:
    reason = noise.choice(("model_error", "abort", None))
    return plain(answer.changed(finish_reason=reason, text=answer.text[: len(answer.text) // 2])), False


def _half(answer: Answer, _: Random) -> Response:
    data = msgspec.json.encode(answer.body)
    return plain(data[: len(data) // 2]), False


def _closed(answer: Answer, noise: Random) -> Response:
    response = plain(answer.body)
    return response[: noise.randrange(len(response))], True


def _half_packed(answer: Answer, _: Random) -> Response:
    data = gzip.compress(msgspec.json.encode(answer.body))
    return plain(data[: len(data) - 9], content_encoding="gzip"), False


def _counts_as_texts(answer: Answer, noise: Random) -> Response:
    body = copy.deepcopy(answer.body)
    counts = body[0]["meta_info"] if answer.request == "classify" else body["usage"]
    for name, value in counts.items():
        counts[name] = noise.choice((float(value), str(value), f"{value}.0"))
    return plain(body), False


def _without_counts(answer: Answer, noise: Random) -> Response:
    body = copy.deepcopy(answer.body)
    if answer.request == "classify":
        body[0].pop("meta_info")
    else:
        body["usage"] = noise.choice((None, {}, {"prompt_tokens": 0, "completion_tokens": 0}))
    return plain(body), False


def _wrong_order(answer: Answer, _: Random) -> Response:
    body = copy.deepcopy(answer.body)
    body["choices"].insert(0, {**body["choices"][0], "index": 1, "text": "another answer"})
    return plain(body), False


def _written_on(answer: Answer, _: Random) -> Response:
    """The server leaves the separator in the text, and the model writes on after it."""
    text = (answer.text + answer.rest)[: 4 * answer.max_tokens]
    return plain(answer.changed(text=text, finish_reason="length", matched_stop=None)), False


def _unnamed(answer: Answer, noise: Random) -> Response:
    """The field says nothing: the token of a blank line, or null."""
    return plain(
        answer.changed(**noise.choice(({"matched_stop": 271}, {"matched_stop": None, "stop_reason": None})))
    ), False


def _named(answer: Answer, _: Random) -> Response:
    limited = answer.body["choices"][0]["finish_reason"] == "length"
    reason = "model_length" if limited else "stop_sequence" if answer.found else "eos_token"
    return plain(answer.changed(finish_reason=reason, matched_stop=None)), False


def _too_much(answer: Answer, noise: Random) -> Response:
    read = int(answer.body["usage"]["prompt_tokens"])
    context = read + _NARROW
    words = noise.choice(
        (
            f"This model's maximum context length is {context} tokens. However, you requested {answer.max_tokens} "
            f"tokens ({read} in the messages, {answer.max_tokens} in the completion).",
            f"input length and `max_tokens` exceed context limit: {read} + {answer.max_tokens} > {context}",
            f"`inputs` tokens + `max_new_tokens` must be <= {context}. Given: {read} `inputs` tokens and "
            f"{answer.max_tokens} `max_new_tokens`",
        )
    )
    return plain({"error": {"message": words}}, noise.choice((400, 413, 422, 500))), False


def _impossible(answer: Answer, noise: Random) -> Response:
    body, wrong = copy.deepcopy(answer.body), noise.choice((-50, 10**15, "many"))
    if answer.request == "classify":
        body[0]["meta_info"]["prompt_tokens"] = -1
    else:
        body["usage"]["completion_tokens"] = wrong
    return plain(body), False


def _sends(body: object, status: int = 200) -> Callable[[Answer, Random], Response]:
    return lambda _, __: (plain(body, status), False)


FAULTS = (
    Fault("a temporary status", "temporary", _status),
    Fault("status 200 with an error", "temporary", _sends({"error": {"code": 429, "message": "slow down"}})),
    Fault("an error next to the answer", "temporary", _with_error),
    Fault("an unknown reason", "temporary", _broken_off, _COMPLETIONS),
    Fault("a body that ends early", "temporary", _half),
    Fault("no body", "temporary", _sends(b"")),
    Fault("a connection that breaks", "temporary", _closed),
    Fault("a packed body that ends early", "temporary", _half_packed),
    Fault("counts as texts", "harmless", _counts_as_texts),
    Fault("no counts", "harmless", _without_counts),
    Fault("two choices in the wrong order", "harmless", _wrong_order, _COMPLETIONS),
    Fault("a text after the separator", "harmless", _written_on, frozenset({"step"}), needs=lambda one: one.found),
    Fault(
        "a part of the separator",
        "harmless",
        lambda answer, _: (plain(answer.changed(text=f"{answer.text}\n")), False),
        frozenset({"step"}),
        needs=lambda one: one.found,
    ),
    Fault("a stop that is not named", "harmless", _unnamed, frozenset({"step"})),
    Fault("a reason of another engine", "harmless", _named, _COMPLETIONS),
    Fault(
        "null among log-probabilities",
        "harmless",
        lambda answer, _: (plain(answer.changed(logprobs={"top_logprobs": [None, {"a": None}]})), False),
        _COMPLETIONS,
    ),
    Fault(
        "a packed body",
        "harmless",
        lambda answer, _: (plain(gzip.compress(msgspec.json.encode(answer.body)), content_encoding="gzip"), False),
    ),
    Fault(
        "more than the context leaves",
        "harmless",
        _too_much,
        frozenset({"step"}),
        needs=lambda one: one.max_tokens > _NARROW,
    ),
    Fault("an impossible count", "permanent", _impossible, cause="where only a number from 0 to"),
    Fault("a refusal", "permanent", _sends({"error": {"message": "bad seed"}}, 400), cause="answered 400"),
    Fault("no such path", "permanent", _sends({"detail": "no"}, 404), cause="answered 404"),
    Fault("a page", "permanent", _sends(_PAGE), cause="answered with HTML"),
    Fault("deep nesting", "permanent", _sends(b"[" * 100_000), cause="answered with something unexpected"),
    Fault("no answer in the answer", "permanent", _sends({"choices": []}), _COMPLETIONS, "answered without a choice"),
    Fault("no score", "permanent", _sends([]), frozenset({"classify"}), "answered without a score"),
    Fault(
        "a score that is no number",
        "permanent",
        _sends(b'[{"embedding": [NaN]}]'),
        frozenset({"classify"}),
        "a score that is not a number",
    ),
    Fault(
        "a filter",
        "permanent",
        lambda answer, _: (plain(answer.changed(finish_reason="content_filter")), False),
        _COMPLETIONS,
        "did not complete its answer (content_filter)",
    ),
)
