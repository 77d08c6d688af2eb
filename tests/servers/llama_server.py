"""Run llama.cpp's own HTTP server, which the package ``xllamacpp`` contains.

Call it as ``python llama_server.py FILE PORT [TEMPLATE]`` in the environment of that package. It runs until it is
stopped. ``TEMPLATE`` is the file of a chat template.
"""

# pyright: reportMissingImports=false, reportUnknownMemberType=false, reportUnknownVariableType=false
# (xllamacpp is only in its own environment)

import signal
import sys
from pathlib import Path
from typing import Any

import xllamacpp

_CONTEXT, _AT_ONCE = 8192, 4


def serve(file: Path, port: int, template: Path | None = None) -> None:
    """Serve the model in the GGUF ``file`` on 127.0.0.1, at most ``_AT_ONCE`` requests at a time."""
    params: Any = xllamacpp.CommonParams()
    params.model.path = str(file)
    params.model_alias = {file.stem}
    params.hostnames = ["127.0.0.1"]
    params.port = port
    params.n_parallel = _AT_ONCE
    params.n_ctx = _CONTEXT * _AT_ONCE
    params.cache_type_k = params.cache_type_v = xllamacpp.ggml_type.GGML_TYPE_F32
    params.cpuparams.n_threads = params.cpuparams_batch.n_threads = 1
    params.endpoint_metrics = True
    params.warmup = False
    if template is not None:
        params.chat_template = template.read_text(encoding="utf-8")
    server = xllamacpp.Server(params)
    address: Any = server.listening_address
    print(address, flush=True)  # noqa: T201 - for the log
    signal.pause()


if __name__ == "__main__":
    serve(Path(sys.argv[1]), int(sys.argv[2]), *map(Path, sys.argv[3:]))
