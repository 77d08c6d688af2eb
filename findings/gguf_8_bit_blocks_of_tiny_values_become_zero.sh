#!/usr/bin/env bash
# Version: gguf 0.19.0 with numpy 2.4.6, on CPython 3.11.
#
# Guess: 8-bit quantisation (Q8_0) keeps every weight to about half a percent of the largest value of its block, whatever
#   the size of the values: each block of 32 values has a scale of its own. A list that is written can be read again.
#
# What happens: the scale is in half precision. Below 3.8e-6 it is zero, and so is the whole block. Somewhat above, most
#   digits are lost; above 8.3e6 the block is infinite. An empty list is left out of the file without a word. The largest
#   error of a block, as a share of its largest value:
#     largest value 0.001: 0.004
#     largest value 1e-05: 0.243
#     largest value 4e-06: 0.892
#     largest value 3.7e-06: 1.000
#
# Why it matters: heads and adapters that were trained from zero, scaled embeddings and models with small initial weights
#   have such blocks. The file loads, and the model is another one. A program that reads the list of a tokenizer's merges
#   finds no key where the tokenizer has none.
set -euo pipefail

work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
python3 -m venv "$work/env"
"$work/env/bin/pip" install --quiet gguf==0.19.0 numpy==2.4.6

cat > "$work/blocks.py" <<'PROGRAM'
import sys
import warnings
from importlib.metadata import version
from pathlib import Path

import numpy as np
from gguf import GGMLQuantizationType, GGUFReader, GGUFWriter, quants

warnings.simplefilter("ignore")  # the overflow is shown below
KIND = GGMLQuantizationType.Q8_0


def error(largest):
    values = np.linspace(-largest, largest, 32, dtype=np.float32)[None]
    read = quants.dequantize(quants.quantize(values, KIND), KIND)
    return float(np.abs(read - values).max() / largest)


print(f"gguf {version('gguf')}, numpy {np.__version__}, Python {sys.version.split()[0]}")
print("expected: an error of about 0.004 whatever the largest value is")
errors = {largest: error(largest) for largest in (1e-3, 1e-5, 4e-6, 3.7e-6, 1e7)}
for largest, share in errors.items():
    print(f"largest value {largest:g}: {share:.3f}")
file = Path(sys.argv[1]) / "lists.gguf"
writer = GGUFWriter(file, "llama")
writer.add_array("tokenizer.ggml.merges", [])
writer.add_array("tokenizer.ggml.tokens", ["a"])
writer.write_header_to_file()
writer.write_kv_data_to_file()
writer.close()
names = [name for name in GGUFReader(file).fields if name.startswith("tokenizer")]
print(f"expected: tokenizer.ggml.merges and tokenizer.ggml.tokens in the file; seen: {', '.join(names)}")
as_described = errors[1e-3] < 0.01 < 0.1 < errors[1e-5] < errors[4e-6] < errors[3.7e-6] == 1.0 and errors[1e7] > 1e30
sys.exit(0 if as_described and names == ["tokenizer.ggml.tokens"] else 1)
PROGRAM
"$work/env/bin/python" "$work/blocks.py" "$work"
