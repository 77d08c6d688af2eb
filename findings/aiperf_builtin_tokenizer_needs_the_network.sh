#!/usr/bin/env bash
# Version: aiperf 0.13.0, tiktoken 0.14.0.
#
# Guess: the tokenizer "builtin" works without a network. The help of --tokenizer calls it "a zero-network-access
# tokenizer".
#
# What happens: no file of the tokenizer is in the packages. The first use on a machine downloads o200k_base.tiktoken from
# openaipublic.blob.core.windows.net, and fails where that cannot be reached. AIPerf also chooses this tokenizer for model
# names that look made up, so a benchmark with such a name fails as well.
#
#   builtin: ProxyError for https://openaipublic.blob.core.windows.net/encodings/o200k_base.tiktoken
#
# Why it matters: benchmarks run next to servers, often in networks without a way out, and there the option that was meant
# for them ends the benchmark before its first request. A tokenizer in a folder works, and so does a filled
# TIKTOKEN_CACHE_DIR.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/env"
"$folder/env/bin/pip" install --quiet uv
"$folder/env/bin/uv" pip install --quiet --python "$folder/env/bin/python" aiperf==0.13.0 tiktoken==0.14.0

# A network without a way out: no proxy listens there.
HTTPS_PROXY=http://127.0.0.1:9 HTTP_PROXY=http://127.0.0.1:9 NO_PROXY= no_proxy= https_proxy=http://127.0.0.1:9 \
  TIKTOKEN_CACHE_DIR="$folder/cache" "$folder/env/bin/python" - <<'PYTHON'
import importlib.metadata
import sys

import requests
from aiperf.common.tokenizer import Tokenizer

print("aiperf", importlib.metadata.version("aiperf"), "tiktoken", importlib.metadata.version("tiktoken"))
print("expected: builtin counts tokens without a network")
try:
    tokens = Tokenizer.from_pretrained("builtin").encode("Why is the sky blue?")
except requests.exceptions.ConnectionError as error:
    print(f"builtin: {type(error).__name__} for {error.request.url}")
    sys.exit(0 if "o200k_base.tiktoken" in error.request.url else 1)
print("builtin:", len(tokens), "tokens")
sys.exit(1)
PYTHON
