"""The command lines of the engines: sglang, vLLM and llama.cpp."""

import os
from collections.abc import Callable
from pathlib import Path

import msgspec

from arbiter.config.model_tables import Engine
from arbiter.config.server_tables import Program, ServerTable
from arbiter.servers.interpreters import Interpreter

CPU = Path(__file__).parent / "sglang_cpu"
"""The folder with substitutes for packages that sglang lacks on a machine without a GPU."""

_ORIGINAL = {"SGLANG_RETURN_ORIGINAL_LOGPROB": "1"}
"""Report the model's unscaled log-probabilities above temperature 0 too: confidences are computed from them."""

_OTHER_CACHES = ("--disable-radix-cache", "--radix-cache-backend", "--enable-flexkv", "--enable-kv-cache-sharding")
"""Arguments of sglang that replace or change its prefix cache, so that it refuses to start with sessions."""

Command = tuple[list[str], dict[str, str]]
"""A command, and the environment variables that are added to those of this process."""


class LaunchJob(msgspec.Struct, frozen=True, kw_only=True):
    """What one server serves, and how.

    ``path`` is the checkpoint, and ``model`` the name that it is served under. ``scores``: the server is a classifier,
    otherwise it generates text. ``priority`` is the convention of the request priorities. ``fraction`` is the share of
    a GPU's memory, as the engine counts it.
    """

    server: ServerTable
    path: str
    model: str
    scores: bool
    priority: Engine | None
    host: str
    port: int
    fraction: float | None


def sglang(job: LaunchJob, python: Interpreter) -> Command:
    """Return the command of sglang. On a CPU without sglang's kernels, it uses the substitute for them."""
    server = job.server
    command = [python.path, "-m", "sglang.launch_server", "--model-path", job.path, "--served-model-name", job.model]
    command += ["--host", job.host, "--port", str(job.port), "--enable-metrics"]
    command += ["--is-embedding"] if job.scores else ["--enable-cache-report"]
    command += ["--enable-session-radix-cache"] if _keeps_sessions(job) else []
    command += _more("--tp-size", server.tensor_parallel) + _more("--dp-size", server.data_parallel)
    command += _option("--mem-fraction-static", job.fraction) + _option("--context-length", server.context_length)
    is_gguf = _is_gguf(job.path)
    command += ["--load-format", "gguf"] if is_gguf else []
    command += _option("--quantization", server.quantization or ("gguf" if is_gguf else None))
    if job.priority:
        # with preemption, sglang would drop a running request for one of a problem 10 places older, and repeat it
        command += ["--enable-priority-scheduling", "--disable-priority-preemption"]
        command += ["--schedule-low-priority-values-first"] if job.priority == "vllm" else []
    if speculation := server.speculation:
        command += ["--speculative-algorithm", speculation.algorithm]
        command += _option("--speculative-draft-model-path", speculation.model)
        command += _option("--speculative-num-steps", speculation.steps)
        command += _option("--speculative-eagle-topk", speculation.topk)
        command += _option("--speculative-num-draft-tokens", speculation.tokens)
    no_kernels = server.device == "cpu" and not python.has_kernels
    command += ["--device", "cpu"] if server.device == "cpu" else []
    command += ["--attention-backend", "torch_native"] if no_kernels else []
    command += _option("--dtype", server.dtype or ("float32" if no_kernels else None))
    environment = {} if job.scores else _ORIGINAL
    return [*command, *server.args], {**environment, **(without_kernels() if no_kernels else {})}


def without_kernels() -> dict[str, str]:
    """Return the environment variables for a program that imports sglang without ``sgl_kernel``.

    The substitute does not use thread binding. It is set because sglang would otherwise query the machine's NUMA nodes.
    """
    path = os.pathsep.join([str(CPU), *filter(None, [os.environ.get("PYTHONPATH")])])
    return {
        "PYTHONPATH": path,
        "SGLANG_USE_CPU_ENGINE": "1",
        "OMP_NUM_THREADS": os.environ.get("OMP_NUM_THREADS", "1"),
        "SGLANG_CPU_OMP_THREADS_BIND": os.environ.get("SGLANG_CPU_OMP_THREADS_BIND", "0"),
    }


def vllm(job: LaunchJob, python: Interpreter) -> Command:
    """Return the command ``vllm serve``, called by its module."""
    server = job.server
    command = [python.path, "-m", "vllm.entrypoints.cli.main", "serve", job.path, "--served-model-name", job.model]
    command += ["--host", job.host, "--port", str(job.port)]
    command += ["--runner", "pooling"] if job.scores else ["--enable-prompt-tokens-details"]
    command += _more("--tensor-parallel-size", server.tensor_parallel)
    command += _more("--data-parallel-size", server.data_parallel)
    command += _option("--gpu-memory-utilization", job.fraction) + _option("--max-model-len", server.context_length)
    command += _option("--quantization", server.quantization)
    command += ["--scheduling-policy", "priority"] if job.priority else []
    if speculation := server.speculation:
        found = {"method": speculation.algorithm, "model": speculation.model}
        accepting = {
            "rejection_sample_method": speculation.rejection,
            "synthetic_acceptance_length": speculation.accepted,
        }
        chosen = {**found, "num_speculative_tokens": speculation.tokens, **accepting}
        given = {key: value for key, value in chosen.items() if value is not None}
        command += ["--speculative-config", msgspec.json.encode(given).decode()]
    on_cpu = server.device == "cpu"
    command += _option("--dtype", server.dtype or ("float32" if on_cpu else None))
    command += ["--enforce-eager"] if on_cpu else []
    space = {"VLLM_CPU_KVCACHE_SPACE": os.environ.get("VLLM_CPU_KVCACHE_SPACE", "1")}
    return [*command, *server.args], space if on_cpu else {}


def llama_cpp(job: LaunchJob, python: Interpreter) -> Command:
    """Return the command of llama.cpp's Python server. With a GPU, it holds all layers."""
    server = job.server
    command = [python.path, "-m", "llama_cpp.server", "--model", job.path, "--model_alias", job.model]
    command += ["--host", job.host, "--port", str(job.port), *_option("--n_ctx", server.context_length)]
    command += ["--n_gpu_layers", "-1"] if server.device == "cuda" else []
    return [*command, *server.args], {}


COMMANDS: dict[Program, Callable[[LaunchJob, Interpreter], Command]] = {
    "sglang": sglang,
    "vllm": vllm,
    "llama.cpp": llama_cpp,
}


def router(python: Interpreter, workers: list[str], host: str, port: int, metrics_port: int) -> Command:
    """Return the command of the sglang router in front of ``workers``, the addresses of several replicas.

    It is ``smg``, or its predecessor ``sglang_router`` where that is installed alone. Both have these options.

    All requests with the same routing key go to one replica. A new key goes to the replica with the fewest keys. A
    replica that fails two health checks in a row, or three requests, gets no request until it answers
    again. By default the router checks only once a minute, and its metrics listen on every address.
    """
    module = ["smg", "launch"] if python.has_smg else ["sglang_router.launch_router"]
    command = [python.path, "-m", *module, "--worker-urls", *workers]
    command += ["--host", host, "--port", str(port), "--policy", "manual", "--assignment-mode", "min_group"]
    command += ["--prometheus-host", "127.0.0.1", "--prometheus-port", str(metrics_port)]
    command += ["--health-check-interval-secs", "2", "--health-failure-threshold", "2"]
    command += ["--health-success-threshold", "1"]
    command += ["--cb-failure-threshold", "3", "--cb-success-threshold", "1", "--cb-timeout-duration-secs", "5"]
    command += ["--shutdown-grace-period-secs", "5", "--log-level", "warn"]
    return command, {} if python.has_smg or python.has_kernels else without_kernels()


def _keeps_sessions(job: LaunchJob) -> bool:
    """Return whether sglang is started with sessions. A classifier has none, and the router does not close any."""
    server = job.server
    if server.sessions is not None:
        return server.sessions
    replaced = any(argument.partition("=")[0] in _OTHER_CACHES for argument in server.args)
    return not job.scores and server.replicas == 1 and not replaced


def _is_gguf(path: str) -> bool:
    return path.lower().endswith(".gguf")


def _option(name: str, value: object | None) -> list[str]:
    return [] if value is None else [name, str(value)]


def _more(name: str, count: int) -> list[str]:
    return _option(name, count if count > 1 else None)
