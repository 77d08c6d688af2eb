#!/usr/bin/env bash
# Version: transformers 5.23.0, torch 2.13.0, on a CPU.
#
# Guess: with head_dim given, the width of a Llama need not be a multiple of the number of its heads: the attention
# projects the width to heads * head_dim numbers and back. So a model that computes can be written, and families with
# the same attention take the same sizes.
#
# What happens: the layers do compute with such sizes. But Llama's configuration refuses them when it is made and when
# it is saved, and not when an attribute is changed in between. Qwen3 and Mistral take the same sizes.
#
#   LlamaConfig refused: The hidden size (256) is not a multiple of the number of attention heads (6).
#   Qwen3Config made
#   MistralConfig made
#   Llama, width changed afterwards: logits [1, 2, 16]; saving refused
#
# Why it matters: whoever widens a trained Llama, as one does to add a value head with a memory of its own or to grow a
# model, notices only at the end of the training, when the checkpoint is to be written.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/env"
"$folder/env/bin/pip" install --quiet transformers==5.23.0 torch==2.13.0

cd "$folder"
"$folder/env/bin/python" - <<'PYTHON'
import sys

import torch
import transformers
from transformers import LlamaConfig, LlamaForCausalLM, MistralConfig, Qwen3Config

print("transformers", transformers.__version__, "torch", torch.__version__)
sizes = {
    "vocab_size": 16, "hidden_size": 256, "num_attention_heads": 6, "num_key_value_heads": 2, "head_dim": 32,
    "num_hidden_layers": 1, "intermediate_size": 8,
}
made = {}
for kind in (LlamaConfig, Qwen3Config, MistralConfig):
    try:
        kind(**sizes)
    except Exception as error:
        made[kind] = False
        print(kind.__name__, "refused:", str(error).strip().rpartition("ValueError: ")[2])
    else:
        made[kind] = True
        print(kind.__name__, "made")

config = LlamaConfig(**{**sizes, "hidden_size": 192})
config.hidden_size = 256
model = LlamaForCausalLM(config)
shape = list(model(torch.tensor([[1, 2]])).logits.shape)
try:
    model.save_pretrained("model")
except Exception:
    saved = False
else:
    saved = True
print(f"Llama, width changed afterwards: logits {shape}; saving {'worked' if saved else 'refused'}")
as_described = made == {LlamaConfig: False, Qwen3Config: True, MistralConfig: True} and shape == [1, 2, 16] and not saved
sys.exit(0 if as_described else 1)
PYTHON
