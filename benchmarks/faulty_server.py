"""A server of three models with scripted faults, for ``benchmarks/faults.py``.

    python benchmarks/faulty_server.py [SHARE]

It serves ``/v1/models``, ``/v1/completions`` (draft and target) and ``/classify`` (the router) on 127.0.0.1, and prints
its port. What a model writes depends on its name, the problem and the step alone. Of the requests that belong to a
problem, ``SHARE`` have a fault: which ones, and which faults, depends on the request and on how often it came. So a
repeated request can be answered correctly. ``/faults`` reports what was sent (``Sent``).
"""

import asyncio
import hashlib
import math
import random
import re
import sys
from collections import Counter
from typing import Any

import msgspec
from fault_kinds import FAULTS, Answer, Kind, plain
from persistent_connection import PersistentConnection

SEPARATOR = "\n\n"
STEPS = (6, 14)
_REJECTED = 0.3
_LOGIT = 2.0
_BYTES_PER_TOKEN = 4
_SHARES: dict[Kind, float] = {"temporary": 0.5, "harmless": 0.49, "permanent": 0.01}
_PROBLEM = re.compile(r"Problem (\d+)\.\n")
MODELS = {"data": [{"id": name, "max_model_len": 32768} for name in ("draft", "target", "router")]}


class Sent(msgspec.Struct):
    """How often each fault was sent, and the problems that got one of which no retry could help, with its name."""

    requests: int
    faults: dict[str, int]
    hopeless: dict[str, list[str]]


class _Request(msgspec.Struct):
    """The fields of a request that decide its answer."""

    model: str = ""
    prompt: str | list[int] = ""
    text: str = ""
    max_tokens: int = 0
    stop: list[str] = []


def steps_of(problem: int) -> int:
    """Return the number of steps of a solution."""
    return random.Random(f"steps {problem}").randint(*STEPS)


def step_text(model: str, problem: int, step: int) -> str:
    """Return a step, of 40 to 200 characters."""
    noise = random.Random(f"{model} {problem} {step}")
    words = " ".join(noise.choice(("we", "take", "the", "sum", "of", "x", "and", "carry", "=")) for _ in range(40))
    return f"{model} {problem}.{step}: {words[: noise.randint(20, 180)].strip()}."


class Models:
    """The answers of the models, and the record of what was sent."""

    def __init__(self, share: float) -> None:
        self._share = share
        self._seen = Counter[bytes]()
        self.sent = Sent(0, {}, {})

    def respond(self, path: str, body: bytes) -> tuple[bytes, bool]:
        """Return the response to a request, and whether the connection ends after it."""
        if path == "/v1/models":
            return plain(MODELS), False
        if path == "/faults":
            return plain(self.sent), False
        if path not in ("/v1/completions", "/classify"):
            return plain({"detail": "not found"}, 404), False
        request = msgspec.json.decode(body, type=_Request)
        answer = self._answer(path, request)
        if answer.problem is None:  # a check before the run
            return plain(answer.body), False
        return self._faulty(answer, path.encode() + body)

    def _faulty(self, answer: Answer, request: bytes) -> tuple[bytes, bool]:
        self.sent.requests += 1
        digest = hashlib.blake2b(request, digest_size=8).digest()
        self._seen[digest] += 1
        noise = random.Random(digest + self._seen[digest].to_bytes(4, "big"))
        if noise.random() >= self._share:
            return plain(answer.body), False
        [kind] = noise.choices([*_SHARES], [*_SHARES.values()])
        possible = [fault for fault in FAULTS if fault.kind == kind and fault.applies(answer)]
        fault = noise.choice(possible)
        self.sent.faults[fault.name] = self.sent.faults.get(fault.name, 0) + 1
        if kind == "permanent":
            self.sent.hopeless.setdefault(str(answer.problem), []).append(fault.name)
        return fault.send(answer, noise)

    def _answer(self, path: str, request: _Request) -> Answer:
        text = request.text if path == "/classify" else str(request.prompt)
        found = _PROBLEM.search(text)
        problem = int(found[1]) if found else None
        written = text[found.end() :] if found else ""
        if path == "/classify":
            return _classified(problem, written, text)
        return _completed(request, problem, written)


def _classified(problem: int | None, written: str, text: str) -> Answer:
    step = written.count(SEPARATOR) - 1
    rejected = random.Random(f"score {problem} {step}").random() < _REJECTED
    meta = {"prompt_tokens": _tokens(text), "cached_tokens": 0}
    body = [{"embedding": [_LOGIT if rejected else -_LOGIT], "meta_info": meta}]
    return Answer("classify", problem, body)


def _completed(request: _Request, problem: int | None, written: str) -> Answer:
    partial = written.rpartition(SEPARATOR)[2]
    step = written.count(SEPARATOR)
    last = problem is None or step == steps_of(problem) - 1
    whole = step_text(request.model, problem or 0, step)
    after = "" if last else SEPARATOR + step_text(request.model, problem or 0, step + 1)
    # the request that finds out whether a step was the last one continues the step itself
    rest = after if partial else whole + after
    text, found, _ = rest.partition(SEPARATOR) if request.stop else (rest, "", "")
    cut = text[: request.max_tokens * _BYTES_PER_TOKEN]
    limited = cut != text
    choice: dict[str, Any] = {"index": 0, "text": cut, "finish_reason": "length" if limited else "stop"}
    choice["matched_stop"] = SEPARATOR if found and not limited else None
    usage = {"prompt_tokens": _tokens(str(request.prompt)), "completion_tokens": _tokens(cut)}
    body = {"object": "text_completion", "choices": [choice], "usage": usage}
    return Answer(
        "step" if request.stop else "probe", problem, body, request.max_tokens, found and not limited, rest[len(cut) :]
    )


def _tokens(text: str) -> int:
    return math.ceil(len(text) / _BYTES_PER_TOKEN)


class Connection(PersistentConnection):
    """One connection to the server."""

    def __init__(self, models: Models) -> None:
        super().__init__()
        self._models = models

    def answer(self, path: bytes, body: bytes) -> None:
        response, closes = self._models.respond(path.decode(), body)
        self.send(response)
        if closes:
            self.close()


async def main(share: float) -> None:
    """Listen on a free port, print the port, and serve until killed."""
    models = Models(share)
    loop = asyncio.get_running_loop()
    server = await loop.create_server(lambda: Connection(models), "127.0.0.1", 0, backlog=1024)
    sys.stdout.write(f"{server.sockets[0].getsockname()[1]}\n")
    sys.stdout.flush()
    await server.serve_forever()


if __name__ == "__main__":
    asyncio.run(main(float(sys.argv[1]) if len(sys.argv) > 1 else 0.0))
