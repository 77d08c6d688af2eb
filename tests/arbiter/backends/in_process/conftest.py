"""Tiny checkpoints with random weights, and requests served in one batch or one by one."""

# pyright: reportUnknownMemberType=false, reportUnknownVariableType=false, reportUnknownArgumentType=false
# (transformers and torch are typed in part)

import itertools
import random
from collections.abc import Awaitable, Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, TypeVar

import anyio
import pytest
import torch
from torch import Tensor
from transformers import LlamaConfig, LlamaForCausalLM, LlamaForSequenceClassification, PreTrainedTokenizerFast

from arbiter.actors.supervision import services
from arbiter.backends.in_process.sequence_model import Chunk
from arbiter.backends.in_process.worker import Worker
from arbiter.pocket import world
from arbiter.protocols.ports import GenerationRequest, ScoreRequest
from arbiter.protocols.records import Transcript
from arbiter.training.tokenizer import train_tokenizer

Ask = TypeVar("Ask")
Answer = TypeVar("Answer")

CONTEXT = 160


def _text(problem: world.PocketProblem) -> str:
    return world.PROMPT.format(question=problem.question) + world.SEPARATOR.join(problem.steps)


@pytest.fixture(scope="session")
def tokenizer() -> PreTrainedTokenizerFast:
    texts = [_text(problem) for problem in itertools.islice(world.problems(1, "train"), 200)]
    return train_tokenizer(texts, 384, CONTEXT)


@pytest.fixture(scope="session")
def shape(tokenizer: PreTrainedTokenizerFast) -> Callable[..., LlamaConfig]:
    """Return the shape of the tiny models. The wide range of weights makes next tokens differ between contexts."""

    def build(**fields: Any) -> LlamaConfig:
        given: dict[str, Any] = {
            "pad_token_id": tokenizer.pad_token_id,
            "eos_token_id": tokenizer.eos_token_id,
            **fields,
        }
        return LlamaConfig(
            vocab_size=len(tokenizer),
            hidden_size=64,
            intermediate_size=128,
            num_hidden_layers=2,
            num_attention_heads=2,
            num_key_value_heads=2,
            head_dim=32,
            max_position_embeddings=CONTEXT,
            initializer_range=0.3,
            bos_token_id=None,
            **given,
        )

    return build


@pytest.fixture(scope="session")
def writer(
    tokenizer: PreTrainedTokenizerFast, shape: Callable[..., LlamaConfig], tmp_path_factory: pytest.TempPathFactory
) -> Path:
    """Return a language model that writes plain text: the logits of all other tokens are always 0."""
    torch.manual_seed(5)
    model = LlamaForCausalLM(shape())
    texts = [str(tokenizer.decode([token], skip_special_tokens=True)) for token in range(len(tokenizer))]
    plain = [token for token, text in enumerate(texts) if text and text.isascii()]
    with torch.no_grad():
        kept = model.lm_head.weight[plain].clone()
        model.lm_head.weight.zero_()
        model.lm_head.weight[plain] = kept
    folder = tmp_path_factory.mktemp("writer")
    model.save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return folder


@pytest.fixture(scope="session")
def classifier(
    tokenizer: PreTrainedTokenizerFast, shape: Callable[..., LlamaConfig], tmp_path_factory: pytest.TempPathFactory
) -> Callable[..., Path]:
    """Return a sequence classifier with the given number of labels, whose scores are spread out."""

    def build(labels: int, **fields: Any) -> Path:
        torch.manual_seed(labels)
        model = LlamaForSequenceClassification(shape(num_labels=labels, **fields))
        folder = tmp_path_factory.mktemp(f"classifier-{labels}")
        model.save_pretrained(folder)
        tokenizer.save_pretrained(folder)
        return folder

    return build


@pytest.fixture(scope="session")
def generation() -> Callable[..., GenerationRequest]:
    """Return a request for a first step, with the fields that matter to a test."""

    def build(question: str = "Compute 1+1.", **fields: Any) -> GenerationRequest:
        given: dict[str, Any] = {
            "separator": "\n\n",
            "max_tokens": 12,
            "temperature": 0.0,
            "top_p": 1.0,
            "seed": 0,
            **fields,
        }
        context: dict[str, Any] = {
            "problem": "p",
            "step": 0,
            "sample": 0,
            "author": "draft",
            "transcript": Transcript(question),
        }
        return GenerationRequest(**{**context, **given})

    return build


@pytest.fixture(scope="session")
def scoring() -> Callable[..., ScoreRequest]:
    """Return a request to score the draft's first step."""

    def build(question: str = "Compute 1+1.", candidate: str = "1+1: 1+1=2: 2.", **fields: Any) -> ScoreRequest:
        given: dict[str, Any] = {
            "score_kind": "prm",
            "author": "draft",
            "separator": "\n\n",
            "transcript": Transcript(question),
            **fields,
        }
        return ScoreRequest(problem="p", step=0, candidate=candidate, **given)

    return build


@pytest.fixture(scope="session")
def served() -> Callable[..., list[Any]]:
    """Return the answers or errors of requests that are queued together before the worker starts."""

    def serve(
        ask: Callable[[Ask], Awaitable[Answer]], worker: Worker, requests: Sequence[Ask]
    ) -> list[Answer | Exception]:
        answers: dict[int, Answer | Exception] = {}

        async def one(place: int, request: Ask) -> None:
            try:
                answers[place] = await ask(request)
            except Exception as error:
                answers[place] = error

        async def all_of_them() -> None:
            with anyio.fail_after(120):
                async with services() as service, anyio.create_task_group() as asking:
                    for place, request in enumerate(requests):
                        asking.start_soon(one, place, request)
                    await anyio.wait_all_tasks_blocked()
                    await service.start(worker.run)

        anyio.run(all_of_them)
        return [answers[place] for place in range(len(requests))]

    return serve


@pytest.fixture(scope="session")
def in_mixed_passes() -> Callable[..., None]:
    """Read texts into slots in random passes, and give each chunk and its outputs to ``check``.

    Passes mix chunks of one token and longer ones, of slots in any order, with gaps between them.
    """

    def read_all(
        read: Callable[..., Tensor],
        texts: Mapping[int, Sequence[int]],
        draw: random.Random,
        check: Callable[[Chunk, Tensor], None],
    ) -> None:
        done = dict.fromkeys(texts, 0)
        while unread := [slot for slot in texts if done[slot] < len(texts[slot])]:
            draw.shuffle(unread)
            chunks: list[Chunk] = []
            for slot in unread[: draw.randint(1, len(unread))]:
                ids = texts[slot][done[slot] :][: draw.choice((1, 1, draw.randint(1, 25)))]
                chunks.append(Chunk(slot, done[slot], ids, draw.randint(0, len(ids))))
            found = read(*chunks)
            for chunk in chunks:
                done[chunk.slot] += len(chunk.ids)
                check(chunk, found[: chunk.shown])
                found = found[chunk.shown :]
            assert len(found) == 0

    return read_all
