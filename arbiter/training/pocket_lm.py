"""Train the pocket draft and target: next-token prediction on right solutions of the pocket world."""

# pyright: reportUnknownMemberType=false
# (torch is typed in part)

import itertools
import random
from collections import Counter
from collections.abc import Iterator, Sequence
from typing import Any

import torch
from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedModel

from arbiter.pocket import world
from arbiter.training.batches import IGNORED, Batch, Labelled, collated, windows
from arbiter.training.tokenizer import EncodedText
from arbiter.training.trainer import Settings, fit

HEAD_SIZE = 32  # smaller heads crash vLLM's CPU build


def llama_config(text: EncodedText, hidden: int, layers: int, intermediate: int) -> LlamaConfig:
    """Return the configuration of a pocket model: a small Llama with the tokenizer's context length."""
    heads = hidden // HEAD_SIZE
    return LlamaConfig(
        vocab_size=len(text.tokenizer),
        hidden_size=hidden,
        intermediate_size=intermediate,
        num_hidden_layers=layers,
        num_attention_heads=heads,
        num_key_value_heads=heads,
        head_dim=HEAD_SIZE,
        max_position_embeddings=text.longest,
        bos_token_id=None,
        eos_token_id=text.end,
        pad_token_id=text.pad,
        tie_word_embeddings=True,
    )


def train_language_model(
    config: LlamaConfig,
    text: EncodedText,
    settings: Settings,
    seed: int,
    weights: world.Weights = world.KIND_WEIGHTS,
) -> LlamaForCausalLM:
    """Return a new model of the shape ``config``, trained on the pocket world's train split.

    ``weights`` gives the relative frequency of each kind of operation.
    """
    torch.manual_seed(seed)
    model = LlamaForCausalLM(config)
    train_further(model, text, settings, seed, weights)
    return model


def train_further(
    model: LlamaForCausalLM,
    text: EncodedText,
    settings: Settings,
    seed: int,
    weights: world.Weights = world.KIND_WEIGHTS,
    annotated: float = 0.0,
) -> None:
    """Train ``model`` in place. In a share ``annotated`` of the solutions, each step has a random author."""
    held_out = list(itertools.islice(world.problems(seed + 1, "train"), 256))

    def begin(size: int) -> Iterator[list[Labelled]]:
        return _batches(text, world.problems(seed, "train", weights), random.Random(seed), size, annotated)

    fit(model, begin, _next_token_loss, settings, lambda: step_accuracy(model, text, held_out), pad=text.pad)


def _next_token_loss(model: Any, batch: Batch) -> torch.Tensor:  # noqa: ANN401 - it may be wrapped
    return model(**{name: batch[name] for name in ("input_ids", "attention_mask", "labels")}).loss


def _batches(
    text: EncodedText, source: Iterator[world.PocketProblem], rng: random.Random, size: int, annotated: float
) -> Iterator[list[Labelled]]:
    """Yield batches without end. No problem is repeated."""
    while True:
        rows = [
            encoded(text, problem, rng if annotated and rng.random() < annotated else None)
            for problem in itertools.islice(source, size * 32)
        ]
        yield from windows(rows, size, rng)


def encoded(text: EncodedText, problem: world.PocketProblem, authors: random.Random | None = None) -> Labelled:
    """Return prompt and solution; only the solution has labels. With ``authors``, each step has a random author."""
    prompt = text.ids(world.PROMPT.format(question=problem.question))
    steps = problem.steps if authors is None else [f"Model {authors.randrange(2)}: {step}" for step in problem.steps]
    solution = [*text.ids(world.SEPARATOR.join(steps)), text.end]
    return Labelled(prompt + solution, [IGNORED] * len(prompt) + solution)


def step_accuracy(
    model: PreTrainedModel, text: EncodedText, problems: Sequence[world.PocketProblem]
) -> dict[str, float]:
    """Return the share of right steps by kind of operation, and the share of solved problems.

    Each step is predicted after a right context. One teacher-forced pass is enough: greedy decoding writes the right
    step exactly if the model's first choice is the right token at each of its positions.
    """
    right, seen = Counter[str](), Counter[str]()
    for start in range(0, len(problems), 64):
        chunk = problems[start : start + 64]
        batch = collated([encoded(text, problem) for problem in chunk], text.pad)
        logits = model(input_ids=batch["input_ids"], attention_mask=batch["attention_mask"]).logits
        hits = (logits[:, :-1].argmax(-1) == batch["labels"][:, 1:]) | (batch["labels"][:, 1:] == IGNORED)
        for row, problem in enumerate(chunk):
            position = len(text.ids(world.PROMPT.format(question=problem.question))) - 1
            all_right = True
            kinds = *(operation.kind for operation in problem.operations), "answer"
            for kind, step in zip(kinds, problem.steps, strict=True):
                length = len(text.ids(step + world.SEPARATOR))
                step_right = bool(hits[row, position : position + length].all())
                position, all_right = position + length, all_right and step_right
                right[kind] += step_right
                seen[kind] += 1
            right["solved"] += all_right
            seen["solved"] += 1
    return {kind: round(right[kind] / seen[kind], 3) for kind in sorted(seen)}
