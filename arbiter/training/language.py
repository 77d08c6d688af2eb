"""Training of the pocket draft and target: next-token prediction on right solutions of the pocket world."""

import itertools
import random
from collections import Counter
from collections.abc import Iterator, Sequence

import torch
from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedModel, PreTrainedTokenizerFast

from arbiter.pocket import world
from arbiter.training.loop import Batch, Settings, fit

IGNORED = -100
HEAD_SIZE = 32  # smaller heads crash vLLM's CPU build


def llama_config(tokenizer: PreTrainedTokenizerFast, hidden: int, layers: int, intermediate: int) -> LlamaConfig:
    """The shape shared by all pocket models: a small Llama whose context is the tokenizer's."""
    heads = hidden // HEAD_SIZE
    return LlamaConfig(
        vocab_size=len(tokenizer),
        hidden_size=hidden,
        intermediate_size=intermediate,
        num_hidden_layers=layers,
        num_attention_heads=heads,
        num_key_value_heads=heads,
        head_dim=HEAD_SIZE,
        max_position_embeddings=tokenizer.model_max_length,
        bos_token_id=None,
        eos_token_id=tokenizer.eos_token_id,
        pad_token_id=tokenizer.pad_token_id,
        tie_word_embeddings=True,
    )


def train_language_model(
    config: LlamaConfig,
    tokenizer: PreTrainedTokenizerFast,
    settings: Settings,
    seed: int,
    weights: world.Weights = world.KIND_WEIGHTS,
) -> LlamaForCausalLM:
    """A new model of the shape ``config``, trained on the pocket world's train split with ``weights`` of the kinds."""
    torch.manual_seed(seed)
    model = LlamaForCausalLM(config)
    held_out = list(itertools.islice(world.problems(seed + 1, "train"), 256))
    batches = _batches(tokenizer, world.problems(seed, "train", weights), random.Random(seed), settings.batch)
    fit(model, batches, _next_token_loss, settings, lambda: step_accuracy(model, tokenizer, held_out))
    return model


def _next_token_loss(model: PreTrainedModel, batch: Batch) -> torch.Tensor:
    return model(**batch).loss


def _batches(
    tokenizer: PreTrainedTokenizerFast, source: Iterator[world.PocketProblem], rng: random.Random, size: int
) -> Iterator[Batch]:
    """Endless batches of solutions; sorted by length inside a window, so that little of a batch is padding."""
    while True:
        rows = [encode(tokenizer, problem) for problem in itertools.islice(source, size * 32)]
        rows.sort(key=lambda row: len(row[0]))
        windows = [rows[start : start + size] for start in range(0, len(rows), size)]
        rng.shuffle(windows)
        yield from (collate(tokenizer, window) for window in windows)


def encode(tokenizer: PreTrainedTokenizerFast, problem: world.PocketProblem) -> tuple[list[int], list[int]]:
    """Token ids of prompt and solution, and the labels: only the solution is learned."""
    prompt: list[int] = tokenizer(world.PROMPT.format(question=problem.question))["input_ids"]
    solution: list[int] = tokenizer(world.SEPARATOR.join(problem.steps))["input_ids"]
    solution.append(tokenizer.eos_token_id)
    return prompt + solution, [IGNORED] * len(prompt) + solution


def collate(tokenizer: PreTrainedTokenizerFast, rows: Sequence[tuple[list[int], list[int]]]) -> Batch:
    """Pad on the right (training needs no shared end) to the longest row."""
    width = max(len(ids) for ids, _ in rows)
    pad: int = tokenizer.pad_token_id
    return {
        "input_ids": torch.tensor([ids + [pad] * (width - len(ids)) for ids, _ in rows]),
        "attention_mask": torch.tensor([[1] * len(ids) + [0] * (width - len(ids)) for ids, _ in rows]),
        "labels": torch.tensor([labels + [IGNORED] * (width - len(labels)) for _, labels in rows]),
    }


def step_accuracy(
    model: PreTrainedModel, tokenizer: PreTrainedTokenizerFast, problems: Sequence[world.PocketProblem]
) -> dict[str, float]:
    """Share of right steps by kind of operation, and of problems solved, each step after a right context.

    One teacher-forced pass is enough: greedy decoding writes the right step exactly if the model's first
    choice is the right token at each of its positions.
    """
    right, seen = Counter[str](), Counter[str]()
    for start in range(0, len(problems), 64):
        chunk = problems[start : start + 64]
        batch = collate(tokenizer, [encode(tokenizer, problem) for problem in chunk])
        logits = model(input_ids=batch["input_ids"], attention_mask=batch["attention_mask"]).logits
        hits = (logits[:, :-1].argmax(-1) == batch["labels"][:, 1:]) | (batch["labels"][:, 1:] == IGNORED)
        for row, problem in enumerate(chunk):
            position = len(tokenizer(world.PROMPT.format(question=problem.question))["input_ids"]) - 1
            all_right = True
            kinds = *(operation.kind for operation in problem.operations), "answer"
            for kind, text in zip(kinds, problem.steps, strict=True):
                length = len(tokenizer(text + world.SEPARATOR)["input_ids"])
                step_right = bool(hits[row, position : position + length].all())
                position, all_right = position + length, all_right and step_right
                right[kind] += step_right
                seen[kind] += 1
            right["solved"] += all_right
            seen["solved"] += 1
    return {kind: round(right[kind] / seen[kind], 3) for kind in sorted(seen)}
