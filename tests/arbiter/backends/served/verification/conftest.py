"""Servers of a scripted model that return its own choices, each in the format of its engine."""

import json
import random
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import anyio
import msgspec
import pytest

from arbiter.backends.prompts import PromptTemplate
from arbiter.backends.served.completion_answers import OPENAI, EndSigns
from arbiter.backends.served.generator import ServedGenerator
from arbiter.backends.served.request_fields import WITHOUT_PENALTIES
from arbiter.backends.served.token_steps import TokenSteps
from arbiter.backends.served.transport import Address
from arbiter.backends.served.verification import VerificationSettings, VerifyingGenerator
from arbiter.backends.token_texts import TransformersTokenTexts
from arbiter.config.model_tables import Engine
from arbiter.protocols.ports import Generation, GenerationRequest, Proposal

TEXTS = ["<end>", "<also>", "a", "b", "\n", "\n\n", "a\n", "\nb", "ab", " "]
"""Tokens are indices into this list. The first two end an answer and are not part of its text."""

ENDS = frozenset({0, 1})
Next = Callable[[Sequence[int]], int]
Body = dict[str, Any]


class Tokenizer:
    """Matches the longest token first, so a text may tokenise differently from the tokens that a model wrote."""

    eos_token_id = 0
    is_fast = False

    def __call__(self, text: str, *, add_special_tokens: bool = True) -> dict[str, list[int]]:
        ids: list[int] = []
        while text:
            fitting = [token for token, its in enumerate(TEXTS) if text.startswith(its)]
            ids.append(max(fitting, key=lambda token: len(TEXTS[token])))
            text = text[len(TEXTS[ids[-1]]) :]
        return {"input_ids": ids}

    def decode(self, ids: Sequence[int], *, skip_special_tokens: bool) -> str:
        return "".join(TEXTS[token] for token in ids if not (skip_special_tokens and token in ENDS))


class ScriptedServer:
    """A transport to a server whose model writes ``next`` after tokens, unless a penalty forbids it.

    It looks for ends and stop texts in what it writes alone, and shows its choices as they are before penalties.
    """

    def __init__(self, following: Next, tokenizer: Any = None, size: int = len(TEXTS)) -> None:
        self.following = following
        self.tokenizer = tokenizer or Tokenizer()
        self.size = size
        self.ends = ENDS
        self.penalty = 1.0
        self.asked: list[tuple[str, Body]] = []
        self.change: Callable[[str, Body], Body] = lambda _, answer: answer
        self.address = Address("http://scripted", timeout=1, retries=0, connections=1)

    async def post(self, path: str, body: Mapping[str, Any], problem: str, hear: object = None) -> bytes:
        self.asked.append((path, dict(body)))
        return json.dumps(self.answer(path, dict(body))).encode()

    async def get(self, path: str) -> bytes:
        raise NotImplementedError(path)

    def answer(self, path: str, body: Body) -> Body:
        by_path = {"/v1/completions": self._completion, "/generate": self._generated}
        return self.change(path, by_path[path](body))

    def _write(self, ids: list[int], most: int, sampling: Body) -> tuple[list[int], str, str | int | None]:
        written: list[int] = []
        stop: list[str] = sampling.get("stop") or []
        while True:
            written.append(self._chosen([*ids, *written], sampling))
            text: str = self.tokenizer.decode(written, skip_special_tokens=True)
            matched: str | int | None = next((one for one in stop if one in text), None)
            if matched is None and written[-1] in self.ends:
                matched = written[-1]
            if matched is not None or len(written) == most:
                return written, "length" if matched is None else "stop", matched

    def _chosen(self, ids: list[int], sampling: Body) -> int:
        first = self.following(ids)
        is_penalised = sampling.get("repetition_penalty", self.penalty) != 1 and first in ids
        return (first + 1) % self.size if is_penalised else first

    def _generated(self, body: Body) -> Body:
        ids, sampling = body["input_ids"], body["sampling_params"]
        written, reason, matched = self._write(ids, sampling["max_new_tokens"], sampling)
        why = {"type": reason, "length": len(written)} if reason == "length" else {"type": reason, "matched": matched}
        meta: Body = {"finish_reason": why, "prompt_tokens": len(ids), "cached_tokens": len(ids) - 1}
        if body.get("return_logprob"):
            assert body["top_logprobs_num"] == 1
            start = body["logprob_start_len"]
            own = [[[-0.5, self.following(ids[:place]), None]] for place in range(start + 1, len(ids))]
            meta |= {"input_top_logprobs": [None, *own], "cached_tokens": start}
        return {"text": "", "output_ids": written, "meta_info": meta}

    def _completion(self, body: Body) -> Body:
        prompt = body["prompt"]
        ids = self.tokenizer(prompt)["input_ids"] if isinstance(prompt, str) else prompt
        written, reason, matched = self._write(ids, body["max_tokens"], body)
        text = self.tokenizer.decode(written, skip_special_tokens=True)
        text = text.partition(matched)[0] if isinstance(matched, str) else text
        choice: Body = {"text": text, "finish_reason": reason, "matched_stop": matched, "stop_reason": matched}
        if body.get("return_token_ids"):
            choice["token_ids"] = written
        if body.get("prompt_logprobs") == 1:
            choice["prompt_logprobs"] = [None, *(self._ranks(ids, place) for place in range(1, len(ids)))]
        return {"choices": [choice], "usage": {"prompt_tokens": len(ids), "completion_tokens": len(written)}}

    def _ranks(self, ids: list[int], place: int) -> Body:
        """Return the prompt's own token first. Its rank is above 1, unless it is the first choice or in a tie."""
        own = {"logprob": -2.0, "rank": 1 if place % 3 == 0 else 7}
        return {str(ids[place]): own, str(self.following(ids[:place])): {"rank": 1}}


class Target:
    """A model at a scripted server, and its steps without and with a proposal."""

    def __init__(
        self, server: ScriptedServer, engine: Engine, ends: frozenset[int], context: int | None, by_tokens: bool = False
    ) -> None:
        self.server = server
        texts, signs = TransformersTokenTexts(server.tokenizer), EndSigns(ends, engine)
        checks, template = VerificationSettings(engine, texts, {*ends}, context), PromptTemplate("{question}")
        steps = TokenSteps(texts, OPENAI.numbered) if by_tokens else "no tokens"
        plain = ServedGenerator(server, "m", template, WITHOUT_PENALTIES, signs=signs, steps=steps)
        self.generator = VerifyingGenerator(plain, server, "m", template, checks)

    def write(self, request: GenerationRequest, proposal: Proposal | None = None) -> Generation:
        self.server.asked.clear()
        asked = msgspec.structs.replace(request, proposal=proposal)
        return anyio.run(self.generator.generate, asked)


def random_model(seed: int) -> Next:
    """Return a model whose next token depends on the last two."""
    return lambda ids: random.Random(f"{seed} {ids[-2:]}").randrange(len(TEXTS))


def writing(prompt: int, tokens: Sequence[int]) -> Next:
    """Return a model that writes ``tokens`` and the end after any prompt of ``prompt`` tokens."""
    return lambda ids: tokens[len(ids) - prompt] if len(ids) - prompt < len(tokens) else 0


@pytest.fixture(scope="session")
def target() -> Callable[..., Target]:
    """Return a target whose model writes the given tokens after the context ``b``, or what ``model`` returns."""

    def build(
        tokens: Sequence[int] = (),
        model: Next | None = None,
        engine: Engine = "sglang",
        ends: frozenset[int] = ENDS,
        context: int | None = None,
        tokenizer: Any = None,
        by_tokens: bool = False,
    ) -> Target:
        return Target(ScriptedServer(model or writing(1, tokens), tokenizer), engine, ends, context, by_tokens)

    return build


@pytest.fixture(scope="session")
def models() -> Callable[[int], Next]:
    return random_model


@pytest.fixture(scope="session")
def tiny() -> Tokenizer:
    return Tokenizer()


@pytest.fixture(scope="session")
def scripted_server() -> type[ScriptedServer]:
    return ScriptedServer


@pytest.fixture
def backend() -> str:
    """The one that reaches what is asked here."""
    return "http"
