"""A head on a draft in process: what the draft reads for it, and that batches and openings do not change it."""

# pyright: reportUnknownMemberType=false, reportUnknownVariableType=false, reportUnknownArgumentType=false
# (transformers and torch are typed in part)

import math
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import anyio
import pytest
import torch
from transformers import AutoModelForCausalLM, AutoTokenizer

from arbiter.actors.supervision import services
from arbiter.backends.draft_features import CandidateReading, features_of
from arbiter.backends.head_model import load_head
from arbiter.backends.in_process.decoding import InProcessGenerator
from arbiter.backends.in_process.draft_head import InProcessHead
from arbiter.backends.in_process.model_loading import open_model
from arbiter.backends.in_process.transformers_loading import load
from arbiter.backends.opening import open_scorer
from arbiter.backends.prompts import PromptTemplate
from arbiter.backends.token_texts import TransformersTokenTexts
from arbiter.config.config import parse
from arbiter.protocols.errors import BackendError, ContextTooLongError
from arbiter.protocols.ports import GenerationRequest, Score, ScoreRequest
from arbiter.protocols.records import Step, Transcript, Usage
from arbiter.training.draft_reading import read_candidates

Heads = Callable[..., Path]
Scoring = Callable[..., ScoreRequest]
TEMPLATE = PromptTemplate("{question}\n")
CONTEXT = 160
TEXTS = [([5, 9, 30], [7, 8]), ([5], [11, 3, 4, 9, 20]), ([40, 41, 42, 43, 44, 45, 46], [12]), ([9, 9], [9, 9, 9])]


class PlainReader:
    """A ``TokenReader`` with one pass over transformers for each request. It records what it reads."""

    def __init__(self, folder: Path) -> None:
        reader: Any = AutoModelForCausalLM
        self.model: Any = reader.from_pretrained(folder, dtype=torch.float32).eval()
        self.asked: list[tuple[list[int], list[int]]] = []

    async def read(self, prompt: Sequence[int], candidate: Sequence[int]) -> CandidateReading:
        self.asked.append(([*prompt], [*candidate]))
        with torch.inference_mode():
            out = self.model(torch.tensor([[*prompt, *candidate]]), output_hidden_states=True)
        logprobs = torch.log_softmax(out.logits[0, len(prompt) - 1 : -1], -1)
        return CandidateReading(
            [float(row[token]) for row, token in zip(logprobs, candidate, strict=True)],
            (-(logprobs.exp() * logprobs).sum(-1)).tolist(),
            out.hidden_states[-1][0, -1].tolist(),
            Usage(len(prompt) + len(candidate), cached_tokens=len(prompt) - 1),
        )


def numbers(reading: CandidateReading) -> list[float]:
    return features_of(reading, 1, 1, "logprobs+entropy+hidden")


@pytest.mark.parametrize("largest", [1, 2, 64])
def test_a_batch_reads_what_each_candidate_alone_gives(writer: Path, largest: int) -> None:
    plain = PlainReader(writer)
    alone = [anyio.run(plain.read, *text) for text in TEXTS]
    in_training = read_candidates(load(str(writer), "generator"), TEXTS, largest)
    in_a_run = anyio.run(read_all, InProcessGenerator(open_model(str(writer), "generator"), TEMPLATE, largest))
    for found in (in_training, in_a_run):
        for together, expected in zip(found, alone, strict=True):
            assert numbers(together) == pytest.approx(numbers(expected), abs=1e-4)
            assert list(together.logprobs) == pytest.approx(list(expected.logprobs), abs=1e-4)
            assert together.usage.prompt_tokens == expected.usage.prompt_tokens


async def read_all(generator: InProcessGenerator) -> list[CandidateReading]:
    found: dict[int, CandidateReading] = {}

    async def read(index: int) -> None:
        found[index] = await generator.read(*TEXTS[index])

    async with services() as service, anyio.create_task_group() as tasks:
        await service.start(generator.engine.worker.run)
        for index in range(len(TEXTS)):
            tasks.start_soon(read, index)
    return [found[index] for index in range(len(TEXTS))]


def test_a_step_that_the_draft_wrote_is_read_with_the_context_that_it_kept(
    writer: Path, generation: Callable[..., GenerationRequest]
) -> None:
    generator = InProcessGenerator(open_model(str(writer), "generator"), TEMPLATE, 4)
    asked = generation(max_tokens=6)
    prompt = generator.texts.encode(TEMPLATE.render(asked.transcript, asked.separator))

    async def write_and_read() -> CandidateReading:
        async with services() as service:
            await service.start(generator.engine.worker.run)
            written = await generator.generate(asked)
            return await generator.read(prompt, generator.texts.encode(written.text))

    assert anyio.run(write_and_read).usage.cached_tokens == len(prompt) - 1


def test_the_score_is_the_head_of_what_the_draft_reads_and_costs_what_it_read(
    writer: Path, a_head: Heads, scoring: Scoring
) -> None:
    weights = {"logprob_mean": -1.0, "entropy_max": 0.5, "hidden_3": 0.25, "step": -0.125}
    head = load_head(str(a_head(weights, features="logprobs+entropy+hidden", hidden=64)))
    reader, tokenizer = PlainReader(writer), load(str(writer), "generator").tokenizer
    scorer = InProcessHead(head, reader, TEMPLATE, TransformersTokenTexts(tokenizer))
    asked = scoring(score_kind="router", transcript=Transcript("Compute 1+1.", (Step("2.", "draft"),)))
    score = anyio.run(scorer.score, asked)
    ((prompt, candidate),) = reader.asked
    assert tokenizer.decode([*prompt, *candidate]) == f"Compute 1+1.\n2.\n\n{asked.candidate}\n\n"
    own = tokenizer("Compute 1+1.\n2.\n\n")["input_ids"]
    assert prompt == own[: len(prompt)]
    read = anyio.run(reader.read, prompt, candidate)
    expected = -math.fsum(read.logprobs) / len(candidate) + 0.5 * max(read.entropies) + 0.25 * read.hidden[3] - 0.125
    assert score == Score(score.value, read.usage)
    assert score.value == pytest.approx(1 / (1 + math.exp(-expected)))


def test_a_separator_of_other_steps_is_refused_before_anything_is_read(
    writer: Path, a_head: Heads, scoring: Scoring
) -> None:
    reader, texts = PlainReader(writer), open_model(str(writer), "generator").texts
    scorer = InProcessHead(load_head(str(a_head())), reader, TEMPLATE, texts)
    with pytest.raises(BackendError, match="set that separator, or train the head again"):
        anyio.run(scorer.score, scoring(separator="\n"))
    assert reader.asked == []


def test_a_text_that_is_longer_than_the_context_fails_alone(writer: Path) -> None:
    generator = InProcessGenerator(open_model(str(writer), "generator"), TEMPLATE, 8)

    async def ask() -> CandidateReading:
        async with services() as service:
            await service.start(generator.engine.worker.run)
            with pytest.raises(ContextTooLongError, match=f"has {CONTEXT + 1} tokens"):
                await generator.read([5] * CONTEXT, [6])
            return await generator.read([5] * (CONTEXT - 1), [6])

    assert len(anyio.run(ask).logprobs) == 1


def test_an_opened_head_scores_as_its_parts_do(writer: Path, a_head: Heads, scoring: Scoring) -> None:
    folder = a_head(draft=str(writer), features="logprobs+entropy")
    draft = {"model": str(writer), "prompt": "{question}\n", "batch": 2}
    config = parse({"models": {"draft": draft, "router": {"backend": "draft-head", "model": str(folder)}}}, "test")
    requests = [scoring(candidate=text) for text in ("1+1: 2.", "3.", "So the result is 2.", "2")]
    router = config.models.router
    assert router is not None

    async def ask() -> list[float]:
        found = [0.0] * len(requests)

        async def score(index: int) -> None:
            found[index] = (await scorer.score(requests[index])).value

        async with (
            open_scorer("router", router, 1, draft=config.models.draft) as scorer,
            anyio.create_task_group() as tasks,
        ):
            for index in range(len(requests)):
                tasks.start_soon(score, index)
        return found

    reader: Any = AutoTokenizer
    plain = InProcessHead(
        load_head(str(folder)), PlainReader(writer), TEMPLATE, TransformersTokenTexts(reader.from_pretrained(writer))
    )
    assert anyio.run(ask) == pytest.approx([anyio.run(plain.score, request).value for request in requests], abs=1e-5)
