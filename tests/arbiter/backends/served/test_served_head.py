"""A head on a served draft: what it remembers, what it has the server read, and when it is refused."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import msgspec
import pytest
from transformers import AutoTokenizer

from arbiter.actors.ring import open_ring, solve_all
from arbiter.backends.opening import open_scorer
from arbiter.backends.served.draft_memory import DraftMemory, WrittenStep
from arbiter.backends.served.logprobs import Logprobs
from arbiter.config.config import Config, parse
from arbiter.pocket import resolved
from arbiter.protocols.errors import BackendError, ConfigError
from arbiter.protocols.messages import Task
from arbiter.protocols.ports import ScoreRequest
from arbiter.protocols.records import Solution, Step, Transcript, Usage
from arbiter.runs.model_opening import open_models
from arbiter.servers.doctor import examine

if TYPE_CHECKING:
    from conftest import Asked, FakeServer, Reply

STEPS = ["12+30: 2+0=2,1+3=4: 42.", "42-17: 25.", "The result is 25."]
Heads = Callable[..., Path]
Body = dict[str, Any]


def likely(ids: Sequence[int], place: int) -> float:
    """Return the log-probability that the scripted model gives to a token after those before it."""
    return -((7 * sum(ids[:place]) + 13 * ids[place]) % 101) / 40


class Engine:
    """A server of a model that writes ``STEPS``, and reads prompts as ``kind`` does; ``none`` reads none.

    Without ``returns_logprobs`` the steps that it writes come without log-probabilities.
    """

    def __init__(self, tokenizer: Any, kind: str) -> None:
        self.tokenizer = tokenizer
        self.kind = kind
        self.returns_logprobs = True
        self.reads: list[list[int]] = []

    def __call__(self, asked: Asked) -> Reply:
        body = asked.body
        if asked.path == "/generate":
            return self._generate(body) if self.kind == "sglang" else {"status": 404}
        if isinstance(body["prompt"], str):
            return {"body": self._write(body["prompt"], body)}
        return {"body": self._read(body)}

    def _write(self, prompt: str, body: Body) -> Body:
        done = prompt.count("\n\n")
        step = f"So {done}." if body["model"] == "target" else STEPS[min(done, 2)]
        ended = done >= 2
        text = step if ended else f"{step}\n\n"
        before, written = self._ids(prompt), self._ids(text)
        ids = [*before, *written]
        logprobs = [likely(ids, len(before) + index) for index in range(len(written))]
        texts = [self.tokenizer.decode([token]) for token in written]
        reported = (
            {"tokens": texts, "token_logprobs": logprobs} if self.returns_logprobs and "logprobs" in body else None
        )
        choice = {
            "text": step,
            "finish_reason": "stop",
            "matched_stop": self.tokenizer.eos_token_id if ended else "\n\n",
            "logprobs": reported,
        }
        tokens = min(len(written), body["max_tokens"])
        return {"choices": [choice], "usage": {"prompt_tokens": len(before), "completion_tokens": tokens}}

    def _generate(self, body: Body) -> Reply:
        ids, start = body["input_ids"], body["logprob_start_len"]
        self.reads.append(ids)
        own = [
            [None, ids[start], None],
            *([likely(ids, place), ids[place], None] for place in range(start + 1, len(ids))),
        ]
        meta = {"finish_reason": {"type": "length"}, "cached_tokens": start, "input_token_logprobs": own}
        return {"body": {"text": "", "output_ids": [1], "meta_info": meta}}

    def _read(self, body: Body) -> Body:
        ids = body["prompt"]
        self.reads.append(ids)
        choice: Body = {"text": "a", "token_ids": [1], "finish_reason": "length"}
        if self.kind == "vllm":
            ranked = [{str(ids[place]): {"logprob": likely(ids, place), "rank": 3}} for place in range(1, len(ids))]
            choice["prompt_logprobs"] = [None, *ranked]
        return {"choices": [choice], "usage": {"prompt_tokens": len(ids), "completion_tokens": 1}}

    def _ids(self, text: str) -> list[int]:
        return self.tokenizer(text)["input_ids"]


@pytest.fixture(scope="module")
def tokenizer() -> Any:
    reader: Any = AutoTokenizer  # typed in part
    return reader.from_pretrained(resolved("pocket:draft"))


@pytest.fixture
def kind(backend: str) -> str:
    return "vllm" if backend == "openai" else "sglang"


@pytest.fixture
def served(server: FakeServer, tokenizer: Any, kind: str) -> Engine:
    """Return the engine at the server."""
    engine = Engine(tokenizer, kind)
    server.models = {"body": {"data": [{"id": "draft"}, {"id": "target"}]}}
    server.trial = engine
    server.replies(engine)
    return engine


@pytest.fixture
def a_config(server: FakeServer, backend: str, a_head: Heads) -> Callable[..., Config]:
    """Return a factory of configurations whose router is a head on the served draft."""

    def build(head: dict[str, Any] | None = None, threshold: float = 0.5, **draft: Any) -> Config:
        table = {"backend": backend, "url": server.url, "prompt": "{question}\n", "api_key_env": "", "retries": 0}
        models = {name: {**table, "model": name} for name in ("draft", "target")}
        models["draft"] |= {"tokenizer": "pocket:draft", **draft}
        folder = a_head({"logprob_first": -2.0, "logprob_min": -0.5, "length": 0.01}, bias=-4.0, **head or {})
        models["router"] = {"backend": "draft-head", "model": str(folder)}
        return parse({"models": models, "thresholds": {"router": threshold}}, "test")

    return build


async def solved(config: Config, *questions: str) -> dict[str, Solution]:
    found: dict[str, Solution] = {}

    async def done(solution: Solution) -> None:
        found[solution.problem] = solution

    tasks = [Task(id=text, transcript=Transcript(text), policy=config.policy()) for text in questions]
    async with open_models(config) as models, open_ring(models) as ring:
        await solve_all(ring, tasks, 10, done)
    return found


def without_usage(solution: Solution) -> list[Any]:
    """Return what was decided, and the scores, but not what the scores cost."""
    return [
        (step.kept.text, step.verdict, None if step.draft is None else round(step.draft.score or 0.0, 12))
        for step in solution.steps
    ]


@pytest.mark.asyncio
@pytest.mark.slow
async def test_steps_that_were_just_written_are_not_read_again_and_the_run_is_the_same_as_when_all_are(
    served: Engine, a_config: Callable[..., Config]
) -> None:
    questions = [f"{number}+30?" for number in range(8)]
    remembered = await solved(a_config(), *questions)
    reads = len(served.reads)
    served.reads.clear()
    served.returns_logprobs = False
    asked_again = await solved(a_config(), *questions)
    assert {name: without_usage(one) for name, one in remembered.items()} == {
        name: without_usage(one) for name, one in asked_again.items()
    }
    verdicts = [step.verdict for one in remembered.values() for step in one.steps]
    assert {"keep_draft", "escalate"} == set(verdicts)
    ended = sum(
        step.draft is not None and step.draft.stop_reason == "end" for one in remembered.values() for step in one.steps
    )
    trials = len(served.reads) - len(verdicts)
    assert trials >= 1
    assert reads == trials + ended  # a last step has no separator after it, so its tokens are not those to read


@pytest.mark.asyncio
async def test_the_score_is_that_of_the_tokens_log_probabilities(
    served: Engine, a_config: Callable[..., Config], tokenizer: Any
) -> None:
    config = a_config({"separator": "\n\n"})
    router, draft = config.models.router, config.models.draft
    assert router is not None
    async with open_scorer("router", router, None, draft=draft) as scorer:
        served.reads.clear()
        step = Step("12+30: 2+0=2,1+3=4: 42.", "target")
        request = ScoreRequest("p", 1, "router", Transcript("1+1?", (step,)), "42-17: 24.", "target", "\n\n")
        score = await scorer.score(request)
    context = tokenizer("1+1?\n" + step.text + "\n\n")["input_ids"]
    whole = tokenizer("1+1?\n" + step.text + "\n\n" + request.candidate + "\n\n")["input_ids"]
    assert served.reads == [whole]
    logprobs = [likely(whole, place) for place in range(len(context), len(whole))]
    expected = -2.0 * logprobs[0] - 0.5 * min(logprobs) + 0.01 * len(whole) - 4.0
    assert score.value == pytest.approx(1 / (1 + math.exp(-expected)))
    cached = len(context) - 1 if served.kind == "sglang" else 0
    assert score.usage == Usage(len(whole), 1, cached)


@pytest.mark.asyncio
@pytest.mark.slow
async def test_the_draft_is_asked_for_log_probabilities_only_if_a_head_reads_them(
    server: FakeServer, served: Engine, a_config: Callable[..., Config]
) -> None:
    await solved(a_config(), "1+1?")
    bodies = [asked.body for asked in server.asked if isinstance(asked.body.get("prompt"), str)]
    assert {(body["model"], body.get("logprobs")) for body in bodies} <= {("draft", 1), ("target", None)}
    server.asked.clear()
    await solved(a_config().with_run_type("random", "test"), "1+1?")
    assert not any("logprobs" in asked.body for asked in server.asked)


@pytest.mark.asyncio
@pytest.mark.parametrize("kind", ["none"])
async def test_a_server_that_reads_no_log_probabilities_is_refused_at_the_start(
    kind: str, served: Engine, a_config: Callable[..., Config]
) -> None:
    with pytest.raises(BackendError, match=r"models.router: .* gives no log-probabilities of a text that it reads"):
        await solved(a_config(), "1+1?")


@pytest.mark.asyncio
async def test_a_vllm_behind_http_is_found_too(
    server: FakeServer, tokenizer: Any, served: Engine, a_config: Callable[..., Config]
) -> None:
    served.kind = "vllm"
    served.returns_logprobs = False
    (solution,) = (await solved(a_config(), "1+1?")).values()
    assert solution.finish_reason == "answered"
    assert {asked.path for asked in server.asked if "input_ids" not in asked.body} == {"/v1/completions"}


@pytest.mark.asyncio
@pytest.mark.slow
async def test_a_head_on_inner_numbers_or_another_draft_and_another_tokenizer_are_refused(
    server: FakeServer, served: Engine, a_config: Callable[..., Config]
) -> None:
    with pytest.raises(ConfigError, match=r"reads logprobs\+entropy, but the draft is served .* --features logprobs"):
        await solved(a_config({"features": "logprobs+entropy"}), "1+1?")
    with pytest.raises(ConfigError, match=r"trained on the draft 'mine', but models.draft has model = 'draft'"):
        await solved(a_config({"draft": "mine"}), "1+1?")

    def counts_more(asked: Asked) -> Reply:
        reply = served(asked)
        if asked.path == "/v1/completions" and isinstance(asked.body["prompt"], str):
            reply["body"]["usage"]["prompt_tokens"] += 1
        return reply

    server.trial = counts_more
    with pytest.raises(BackendError, match=r"counts \d+ tokens where the tokenizer .* Set models.draft.tokenizer"):
        await solved(a_config(), "1+1?")


@pytest.mark.asyncio
async def test_a_head_without_an_open_draft_is_refused(a_config: Callable[..., Config]) -> None:
    router = a_config().models.router
    assert router is not None
    with pytest.raises(ConfigError, match=r"needs the model of the table \[models.draft\]"):
        async with open_scorer("router", router, None):
            pass


@pytest.mark.asyncio
@pytest.mark.slow
async def test_the_doctor_checks_a_head_with_its_draft(served: Engine, a_config: Callable[..., Config]) -> None:
    findings = {finding.model: finding.checks async for finding in examine(a_config())}
    texts = [check.text for check in findings["router"]]
    assert "a head on models.draft" in texts[0]
    assert "scored a right step" in texts[1]


@pytest.mark.asyncio
async def test_an_answer_without_a_log_probability_fails_the_score(
    server: FakeServer, served: Engine, a_config: Callable[..., Config]
) -> None:
    config = a_config()
    router, draft = config.models.router, config.models.draft
    assert router is not None

    def lacks_one(asked: Asked) -> Reply:
        reply = msgspec.json.decode(msgspec.json.encode(served(asked)))
        if "meta_info" in reply["body"]:
            reply["body"]["meta_info"]["input_token_logprobs"][-1][0] = None
        else:
            reply["body"]["choices"][0]["prompt_logprobs"][-1] = {}
        return reply

    async with open_scorer("router", router, None, draft=draft) as scorer:
        server.replies(lacks_one)
        with pytest.raises(BackendError, match="without the log-probability of each token"):
            await scorer.score(ScoreRequest("p", 0, "router", Transcript("1+1?"), "2", "draft", "\n\n"))


def test_the_memory_is_bounded_and_forgets_what_was_used_least_recently() -> None:
    memory, reported = DraftMemory(entries=2), Logprobs(tokens=["a", "\n\n", "b"], token_logprobs=[-0.5, -0.25, -9.0])
    for context in ("one", "two"):
        memory.keep(context, "a", "\n\n", reported)
    assert memory.find("one", "a", "\n\n") == WrittenStep(["a", "\n\n"], [-0.5, -0.25])
    memory.keep("three", "a", "\n\n", reported)
    assert memory.find("two", "a", "\n\n") is None
    assert memory.find("one", "a", "\n\n") is not None
    for other in (("one", "a", "\n"), ("one", "b", "\n\n"), ("onea", "", "\n\n")):
        assert memory.find(*other) is None
    memory.keep("one", "a", "\n\n", Logprobs(tokens=["a"], token_logprobs=[None]))
    assert memory.find("one", "a", "\n\n") is None
