#!/usr/bin/env bash
# Version: transformers 5.23.0, torch 2.13.0, on a CPU.
#
# Guess: DynamicCache(config=...) of transformers makes the layers that the model of that configuration keeps its state
# in: attention layers for attention, recurrent layers for Mamba. For a family that keeps no state in such a cache, it
# would raise an error or hold no layers.
#
# What happens: for RWKV, which has no attention and whose forward takes neither past_key_values nor cache_params, it
# returns one attention layer (DynamicLayer) for each layer of the model. The layers stay empty: the model keeps its
# state in an argument of its own, called "state".
#
#   RwkvForCausalLM.forward takes: state
#   layers of DynamicCache: ['DynamicLayer', 'DynamicLayer']
#   layers for a Llama of that size: ['DynamicLayer', 'DynamicLayer']
#
# Why it matters: a program that asks the cache what kind of state a model has gets the answer "keys and values". If it
# then continues a text through that cache, each token is read without those before it, or the call fails on an unknown
# argument. The signature of forward says what the model takes; the cache does not.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/env"
"$folder/env/bin/pip" install --quiet transformers==5.23.0 torch==2.13.0

"$folder/env/bin/python" - <<'PYTHON'
import inspect
import sys

import torch
import transformers
from transformers import DynamicCache, LlamaConfig, RwkvConfig, RwkvForCausalLM

print("transformers", transformers.__version__, "torch", torch.__version__)
config = RwkvConfig(vocab_size=16, hidden_size=8, num_hidden_layers=2, attention_hidden_size=8, context_length=16)
taken = [
    name
    for name in inspect.signature(RwkvForCausalLM.forward).parameters
    if name in ("past_key_values", "cache_params", "state")
]
layers = [type(layer).__name__ for layer in DynamicCache(config=config).layers]
llama = LlamaConfig(vocab_size=16, hidden_size=8, num_hidden_layers=2, num_attention_heads=2)
print("RwkvForCausalLM.forward takes:", *taken)
print("expected: an error, or no layers for attention")
print("layers of DynamicCache:", layers)
print("layers for a Llama of that size:", [type(layer).__name__ for layer in DynamicCache(config=llama).layers])
sys.exit(0 if taken == ["state"] and layers == ["DynamicLayer"] * 2 else 1)
PYTHON
