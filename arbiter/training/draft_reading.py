"""Read the steps of training rows with the draft model: log-probabilities, entropies and the last hidden state."""

# pyright: reportUnknownMemberType=false, reportUnknownVariableType=false, reportUnknownArgumentType=false
# (transformers and torch are typed in part)

from collections.abc import Sequence
from typing import Any

import torch

from arbiter.backends.draft_features import CandidateReading
from arbiter.backends.in_process.transformers_loading import Checkpoint
from arbiter.protocols.records import Usage

Tokens = tuple[Sequence[int], Sequence[int]]
"""A prompt and a candidate, each of at least one token."""

_LOGITS = 2**27  # the most logits of a forward pass: half a GiB in float32


@torch.inference_mode()
def read_candidates(loaded: Checkpoint, texts: Sequence[Tokens], largest: int = 64) -> list[CandidateReading]:
    """Return the reading of each candidate after its prompt, in passes of up to ``largest`` rows of similar length.

    Prompt and candidate together must fit into the model's context.
    """
    order = sorted(range(len(texts)), key=lambda index: len(texts[index][0]) + len(texts[index][1]))
    vocabulary = loaded.model.config.get_text_config().vocab_size
    found: dict[int, CandidateReading] = {}
    while order:
        longest = max(len(texts[index][1]) for index in order[:largest]) + 1
        count = max(1, min(largest, _LOGITS // (longest * vocabulary)))
        chosen, order = order[:count], order[count:]
        found.update(zip(chosen, _read(loaded, [texts[index] for index in chosen]), strict=True))
    return [found[index] for index in range(len(texts))]


def _read(loaded: Checkpoint, texts: Sequence[Tokens]) -> list[CandidateReading]:
    model: Any = loaded.model
    rows = [[*prompt, *candidate] for prompt, candidate in texts]
    batch = loaded.tokenizer.pad({"input_ids": rows}, padding=True, return_tensors="pt").to(loaded.device)
    positions = (batch["attention_mask"].cumsum(-1) - 1).clamp(min=0)
    kept = 1 + max(len(candidate) for _, candidate in texts)
    states: list[torch.Tensor] = []

    def note(_: object, given: tuple[torch.Tensor, ...]) -> None:
        states.append(given[0])

    hook = model.get_output_embeddings().register_forward_pre_hook(note)
    try:
        logits = model(**batch, position_ids=positions, use_cache=False, logits_to_keep=kept).logits
    finally:
        hook.remove()
    readings: list[CandidateReading] = []
    for row, (prompt, candidate) in enumerate(texts):  # padding is on the left, so candidates end together
        logprobs = torch.log_softmax(logits[row, -len(candidate) - 1 : -1].float(), -1)
        tokens = torch.tensor(candidate, device=logprobs.device)
        readings.append(
            CandidateReading(
                logprobs.gather(-1, tokens[:, None])[:, 0].tolist(),
                torch.special.entr(logprobs.exp()).sum(-1).tolist(),
                states[0][row, -1].float().tolist(),
                Usage(prompt_tokens=len(prompt) + len(candidate)),
            )
        )
    return readings
