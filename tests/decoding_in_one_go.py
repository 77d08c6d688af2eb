"""Helpers for the rule that decoding in steps writes the tokens of decoding in one go, with tiny random models."""

# pyright: reportUnknownMemberType=false, reportUnknownVariableType=false, reportUnknownArgumentType=false
# (torch is typed in part)

from collections.abc import AsyncGenerator, Sequence
from contextlib import AsyncExitStack, asynccontextmanager, nullcontext
from typing import Any

import torch

from arbiter.actors.ring_setup import Models
from arbiter.actors.supervision import services
from arbiter.backends.in_process.decoding import InProcessGenerator
from arbiter.backends.in_process.llama import LlamaModel, LlamaShape
from arbiter.backends.in_process.model_loading import Loaded
from arbiter.backends.prompts import TEMPLATES, PromptTemplate
from arbiter.backends.token_texts import TokenTexts
from arbiter.config.config import parse
from arbiter.library.arbiter import Arbiter
from arbiter.protocols.ports import Generator, ModelHandle
from arbiter.protocols.records import Solution

NEVER = "\0no model writes this\0"
LONGEST = 80  # tokens of an answer
WORDS = ("a", "B", " c", " The", "x", "2", "=", ".", ",", ")", "\\", " $", "-", "#", "é", " is", "So", " ", "  ")
BREAKS = ("\n", "\n\n", "\n\n\n", "\n\n\n\n", ".\n", ".\n\n", ")\n\n", " \n\n", "\n\n  b", "\n  c", "\r\n\r\n", "\n \n")


def tiny_model(texts: TokenTexts, size: int, seed: int) -> Loaded:
    """Return a model with random weights over the vocabulary of ``texts``, which has ``size`` tokens.

    It writes words, and blank lines of many kinds; the logits of all other tokens are 0.
    """
    noise = torch.Generator().manual_seed(seed)
    shape = LlamaShape(
        hidden_size=32,
        intermediate_size=64,
        num_hidden_layers=2,
        num_attention_heads=2,
        num_key_value_heads=2,
        head_dim=16,
        vocab_size=size,
        max_position_embeddings=1024,
        rms_norm_eps=1e-6,
    )
    weights = {
        name: torch.ones(dims) if "norm" in name else torch.randn(dims, generator=noise) * 0.4
        for name, dims in shape.weights().items()
    }
    written = [token for text in (*WORDS, *BREAKS, *BREAKS) for token in texts.encode(text, special=False)]
    head = torch.zeros_like(weights["lm_head.weight"])
    head[written] = weights["lm_head.weight"][written]
    weights["lm_head.weight"] = head
    return Loaded(f"tiny {seed}", LlamaModel(shape, weights), texts, frozenset(), 0, 2**28, nullcontext())


@asynccontextmanager
async def opened(models: dict[str, Loaded], prompt: str, **keys: Any) -> AsyncGenerator[Arbiter]:
    """Yield an Arbiter over ``models``, by their roles. No limit but that of all tokens ends an answer."""
    limits = {"max_tokens": LONGEST, "step_tokens": LONGEST, "max_steps": 500, "repeats": 500}
    config = parse({"run_type": "target", "models": {}, "limits": limits, **keys}, "test")
    async with AsyncExitStack() as stack:
        tasks, handles = await stack.enter_async_context(services()), dict[str, ModelHandle[Generator]]()
        for role, loaded in models.items():
            generator = InProcessGenerator(loaded, PromptTemplate(prompt), 8)
            await tasks.start(generator.engine.worker.run)
            stack.callback(generator.engine.worker.close)
            handles[role] = ModelHandle[Generator](generator)
        yield await stack.enter_async_context(Arbiter(config, models=Models(handles.get("draft"), handles["target"])))


async def solved(
    models: dict[str, Loaded], questions: Sequence[str], prompt: str = TEMPLATES["plain"], **keys: Any
) -> list[Solution]:
    """Return the solutions of ``questions``."""
    async with opened(models, prompt, **keys) as arbiter:
        return [await arbiter.solve(question) for question in questions]


async def in_one_go(
    target: Loaded, questions: Sequence[str], prompt: str = TEMPLATES["plain"], **keys: Any
) -> list[Solution]:
    """Return what the model writes greedily as one step."""
    return await solved({"target": target}, questions, prompt, separator=NEVER, **keys)


def token_ids(solution: Solution) -> list[int]:
    """Return all tokens of the kept steps."""
    return [token for step in solution.steps for token in step.kept.token_ids]


def authors(solution: Solution) -> set[str]:
    """Return who wrote steps."""
    return {step.kept.author for step in solution.steps}


def texts_of(solution: Solution, separator: str) -> str:
    """Return the answer, with the separator after a last step that ended with it at the limit of all tokens."""
    kept = solution.steps[-1].kept
    return solution.text + (separator + kept.overrun if kept.stop_reason == "separator" else "")
