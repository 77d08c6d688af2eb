"""An HTTP server with fixed answers, so that a benchmark measures the client.

    python benchmarks/fixed_server.py [--delays]

It serves ``/v1/models``, ``/v1/completions``, ``/v1/chat/completions``, ``/classify`` and ``/v1/embeddings`` on
127.0.0.1, and prints its port. The steps that the prompt already holds decide which step comes next, and the last one
has a boxed answer. A solution has ``STEPS`` steps, and every score is high.

With ``--delays``, the problem's number (the question ends with it) and the step decide the length of the solution, the
score of the draft, and the seconds of each answer: ``drawn_steps``, ``is_rejected`` and ``drawn_seconds``. Otherwise
there is no delay.
"""

import asyncio
import math
import random
import re
import sys
from functools import cache

from persistent_connection import PersistentConnection

STEPS = 5
QUESTION = "We multiply the first number by the second one, carry the ten, and write the sum of both rows below. " * 4
MEDIAN_SECONDS = {"draft": 0.15, "target": 0.4, "prm": 0.02}
"""The median time of an answer, by the name of the model."""

_NUMBER = re.compile(rb"both rows below\. +(\d+)")
_MODEL = re.compile(rb'"model": ?"(\w+)"')
_REJECTED = 0.3

_STEP = rb"""{"id":"1","object":"text_completion","created":1,"model":"fixed","choices":[{"index":0,
"text":"We take the next step, and write down what follows from it: $x + %d = %d$.",
"finish_reason":"stop","stop_reason":"\n\n"}],"usage":{"prompt_tokens":200,"completion_tokens":25,"total_tokens":225}}"""
_LAST = rb"""{"id":"1","object":"text_completion","created":1,"model":"fixed","choices":[{"index":0,
"text":"The answer is $\\boxed{42}$.",
"finish_reason":"stop","stop_reason":null}],"usage":{"prompt_tokens":200,"completion_tokens":9,"total_tokens":209}}"""
_MODELS = b'{"data":[%s]}' % b",".join(
    b'{"id":"%s","owned_by":"vllm","max_model_len":4096}' % name for name in (b"fixed", b"draft", b"target", b"prm")
)
_CLASSIFIED = b'[{"embedding":[%.1f],"meta_info":{"prompt_tokens":200}}]'
_EMBEDDED = (
    b'{"object":"list","model":"fixed","data":[{"object":"embedding","index":0,"embedding":[%.1f]}],'
    b'"usage":{"prompt_tokens":200,"total_tokens":200}}'
)
_KEPT, _LOW = 2.0, -2.0  # logits


@cache
def drawn_steps(problem: int) -> int:
    """Return the number of steps of the problem: log-normal, median 6, 2 to 14."""
    return min(max(round(random.Random(f"steps {problem}").lognormvariate(math.log(6), 0.4)), 2), 14)


@cache
def is_rejected(problem: int, step: int) -> bool:
    """Return whether the draft of the step gets a low score: three of ten do."""
    return random.Random(f"score {problem} {step}").random() < _REJECTED


@cache
def drawn_seconds(model: str, problem: int, step: int) -> float:
    """Return the seconds of an answer: log-normal around ``MEDIAN_SECONDS``, σ 0.5."""
    return random.Random(f"{model} {problem} {step}").lognormvariate(math.log(MEDIAN_SECONDS[model]), 0.5)


def chain_seconds(problem: int) -> float:
    """Return the seconds that the problem takes at least: its answers come one after another."""
    return sum(
        drawn_seconds(model, problem, step)
        for step in range(drawn_steps(problem))
        for model in ("draft", "prm", *(("target",) if is_rejected(problem, step) else ()))
    )


class Answering(PersistentConnection):
    """One connection to the server."""

    def __init__(self, delays: bool) -> None:
        super().__init__()
        self._delays = delays

    def answer(self, path: bytes, body: bytes) -> None:
        seconds, answer = _answer(path, body, self._delays)
        head = b"HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: %d\r\n\r\n" % len(answer)
        if seconds:
            asyncio.get_running_loop().call_later(seconds, self.send, head + answer)
        else:
            self.send(head + answer)


def _answer(path: bytes, body: bytes, delays: bool) -> tuple[float, bytes]:
    """Return the seconds until the answer, and the answer."""
    if path == b"/v1/models":
        return 0.0, _MODELS
    steps = body.count(b"We take the next step")
    number = _NUMBER.search(body) if delays else None
    problem = int(number[1]) if number else None
    if path in (b"/classify", b"/v1/embeddings"):
        step = steps - 1 + body.count(b"The answer is")
        low = problem is not None and is_rejected(problem, step)
        answer = (_CLASSIFIED if path == b"/classify" else _EMBEDDED) % (_LOW if low else _KEPT)
    else:
        step, total = steps, STEPS if problem is None else drawn_steps(problem)
        answer = _LAST if steps >= total - 1 else _STEP % (steps, steps + 1)
        if path == b"/v1/chat/completions":
            answer = _as_chat(answer)
    if problem is None:
        return 0.0, answer
    model = _MODEL.search(body)
    return drawn_seconds(model[1].decode() if model else "draft", problem, step), answer


def _as_chat(answer: bytes) -> bytes:
    text = answer.replace(b'"object":"text_completion"', b'"object":"chat.completion"')
    return re.sub(rb'"text":(".*?[.$]")', rb'"message":{"role":"assistant","content":\1}', text)


async def main(delays: bool) -> None:
    """Listen on a free port, print the port, and serve until killed."""
    loop = asyncio.get_running_loop()
    server = await loop.create_server(lambda: Answering(delays), "127.0.0.1", 0, backlog=1024)
    sys.stdout.write(f"{server.sockets[0].getsockname()[1]}\n")
    sys.stdout.flush()
    await server.serve_forever()


if __name__ == "__main__":
    asyncio.run(main("--delays" in sys.argv[1:]))
