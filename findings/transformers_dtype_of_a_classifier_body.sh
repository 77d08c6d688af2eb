#!/usr/bin/env bash
# Version: transformers 5.11.0, torch 2.13.0, on a CPU. 5.2.0 and 5.10.4 do the same; 5.23.0 does as one would guess.
#
# Guess: from_config(config, dtype=torch.float32) makes all weights in float32, for a classifier as for a language
# model: the argument that is given overrides the type that the configuration names.
#
# What happens: for a language model it does. For a sequence classifier, the body is made in the type of the
# configuration, float16, and the head alone in float32.
#
#   AutoModelForCausalLM {'body': ['torch.float32'], 'head': ['torch.float32']}
#   AutoModelForSequenceClassification {'body': ['torch.float16'], 'head': ['torch.float32']}
#
# Why it matters: published checkpoints name float16 or bfloat16. Whoever makes a router or a reward model from such a
# configuration to train it in float32 trains almost all of it in half precision, without a message, or gets an error
# about mixed types in the first forward pass. A test that compares with such a model measures its rounding.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/env"
"$folder/env/bin/pip" install --quiet transformers==5.11.0 torch==2.13.0

"$folder/env/bin/python" - <<'PYTHON'
import sys

import torch
import transformers
from transformers import AutoModelForCausalLM, AutoModelForSequenceClassification, LlamaConfig

print("transformers", transformers.__version__, "torch", torch.__version__)
config = LlamaConfig(
    vocab_size=16, hidden_size=8, intermediate_size=8, num_hidden_layers=1, num_attention_heads=2, pad_token_id=0
)
config.dtype = torch.float16
found = {}
for auto in (AutoModelForCausalLM, AutoModelForSequenceClassification):
    model = auto.from_config(config, dtype=torch.float32)
    found[auto.__name__] = {
        "body": sorted({str(weight.dtype) for weight in model.model.parameters()}),
        "head": sorted({str(weight.dtype) for name, weight in model.named_parameters() if "model." not in name}),
    }
print("expected: torch.float32 everywhere")
for name, types in found.items():
    print(name, types)
half, single = ["torch.float16"], ["torch.float32"]
as_described = (
    found["AutoModelForCausalLM"]["body"] == single
    and found["AutoModelForSequenceClassification"] == {"body": half, "head": single}
)
sys.exit(0 if as_described else 1)
PYTHON
