"""A language model with hand-set weights. Its next token depends only on the last one, so its output is known.

Its vocabulary is that of the pocket models, where each digit and each byte is a token. The last digit of a question is
the cue; see ``ANSWERS``. The residual stream is the one-hot vector of the last token, attention and MLP add nothing,
and the head has a one in the row of the next token.
"""

import itertools
from pathlib import Path
from typing import Any

import torch
from transformers import AutoTokenizer, LlamaConfig, LlamaForCausalLM

CONTEXT = 8192
ENDLESS, UNICODE, NOTHING, EMPTY_STEP = "3", "4", "5", "6"
ANSWERS = {
    "1": "abc\n\n",
    "2": "def",
    ENDLESS: "xy" * CONTEXT,
    UNICODE: "世界" * CONTEXT,
    NOTHING: "",
    EMPTY_STEP: "\n\n",
    "7": "ghijkl\n\n",
    "8": "m",
}
"""The text after each cue, up to the separator or the end of the answer."""
_CHAINS = ["1abc\n\n", "2def", "3xyx", "4世界世", "5", "6\n\n", "7ghijkl\n", "8m"]


def make_scribe(pocket: Path, folder: Path) -> Path:
    """Write the checkpoint into ``folder``, with the tokenizer of the model in ``pocket``."""
    reader: Any = AutoTokenizer  # typed in part
    tokenizer = reader.from_pretrained(pocket)
    end: int = tokenizer.eos_token_id
    config = LlamaConfig(
        vocab_size=len(tokenizer),
        hidden_size=512,
        intermediate_size=64,
        num_hidden_layers=1,
        num_attention_heads=16,  # heads of 32: vLLM on a CPU supports no smaller ones
        max_position_embeddings=CONTEXT,
        bos_token_id=None,
        eos_token_id=end,
        pad_token_id=tokenizer.pad_token_id,
        tie_word_embeddings=False,
    )
    maker: Any = LlamaForCausalLM
    model = maker(config)
    successors = dict.fromkeys(range(len(tokenizer)), end)
    for chain in _CHAINS:
        tokens: list[int] = tokenizer(chain)["input_ids"]
        successors |= dict(zip(tokens, [*tokens[1:], *_last(chain, tokens, end)], strict=True))
    with torch.no_grad():
        for name, weight in model.named_parameters():
            weight.fill_(1.0 if "norm" in name else 0.0)
        for token, successor in successors.items():
            model.model.embed_tokens.weight[token, token] = 1.0
            model.lm_head.weight[successor, token] = 1.0
    model.save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return folder


def _last(chain: str, tokens: list[int], end: int) -> list[int]:
    """Return the successor of the last token of ``chain``.

    It is the token itself after a newline, and its earlier successor if it occurs before in the chain.
    """
    if chain.endswith("\n"):
        return [tokens[-1]]
    turns = [after for before, after in itertools.pairwise(tokens) if before == tokens[-1]]
    return turns[:1] or [end]
