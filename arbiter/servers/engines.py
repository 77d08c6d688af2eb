"""The command lines of the engines: sglang, vLLM and llama.cpp, in their own words."""

import os
from collections.abc import Callable
from pathlib import Path

import msgspec

from arbiter.config.model_tables import Engine
from arbiter.config.server_tables import Program, ServerTable
from arbiter.servers.interpreters import Interpreter

CPU = Path(__file__).parent / "sglang_cpu"
"""What sglang lacks on a machine without a GPU."""

_ORIGINAL = {"SGLANG_RETURN_ORIGINAL_LOGPROB": "1"}
"""Log-probabilities are the model's own, above temperature 0 as well: a confidence is computed from them."""

Command = tuple[list[str], dict[str, str]]
"""A command, and what its environment has beside this process's own."""


class LaunchJob(msgspec.Struct, frozen=True, kw_only=True):
    """What one server is to do.

    It serves the checkpoint at ``path`` under the name ``model``; it ``scores``, or writes; it schedules by the
    numbers that ``priority`` sends; ``fraction`` is the share of a GPU's memory, as the engine counts it.
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
    """``python -m sglang.launch_server``; on a CPU without sglang's own kernels, with the stand-in for them."""
    server = job.server
    command = [python.path, "-m", "sglang.launch_server", "--model-path", job.path, "--served-model-name", job.model]
    command += ["--host", job.host, "--port", str(job.port), "--enable-metrics"]
    command += ["--is-embedding"] if job.scores else ["--enable-cache-report"]
    command += _more("--tp-size", server.tensor_parallel) + _more("--dp-size", server.data_parallel)
    command += _option("--mem-fraction-static", job.fraction) + _option("--context-length", server.context_length)
    is_gguf = _is_gguf(job.path)
    command += ["--load-format", "gguf"] if is_gguf else []
    command += _option("--quantization", server.quantization or ("gguf" if is_gguf else None))
    if job.priority:
        # what runs stays: with it on, a request is thrown out for one of a problem that is 10 older, and done again
        command += ["--enable-priority-scheduling", "--disable-priority-preemption"]
        command += ["--schedule-low-priority-values-first"] if job.priority == "vllm" else []
    if speculation := server.speculation:
        command += ["--speculative-algorithm", speculation.algorithm]
        command += _option("--speculative-draft-model-path", speculation.model)
        command += _option("--speculative-num-steps", speculation.steps)
        command += _option("--speculative-eagle-topk", speculation.topk)
        command += _option("--speculative-num-draft-tokens", speculation.tokens)
    stands_in = server.device == "cpu" and not python.has_kernels
    command += ["--device", "cpu"] if server.device == "cpu" else []
    command += ["--attention-backend", "torch_native"] if stands_in else []
    command += _option("--dtype", server.dtype or ("float32" if stands_in else None))
    told = {} if job.scores else _ORIGINAL
    return [*command, *server.args], {**told, **(without_kernels() if stands_in else {})}


def without_kernels() -> dict[str, str]:
    """The environment of a program that imports sglang where there is no ``sgl_kernel``.

    What a thread is bound to has no meaning for the stand-in, and sglang would ask the machine for its nodes.
    """
    path = os.pathsep.join([str(CPU), *filter(None, [os.environ.get("PYTHONPATH")])])
    return {
        "PYTHONPATH": path,
        "SGLANG_USE_CPU_ENGINE": "1",
        "OMP_NUM_THREADS": os.environ.get("OMP_NUM_THREADS", "1"),
        "SGLANG_CPU_OMP_THREADS_BIND": os.environ.get("SGLANG_CPU_OMP_THREADS_BIND", "0"),
    }


def vllm(job: LaunchJob, python: Interpreter) -> Command:
    """``vllm serve``, by its module."""
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
        chosen = {**found, "num_speculative_tokens": speculation.tokens}
        said = {key: value for key, value in chosen.items() if value is not None}
        command += ["--speculative-config", msgspec.json.encode(said).decode()]
    on_cpu = server.device == "cpu"
    command += _option("--dtype", server.dtype or ("float32" if on_cpu else None))
    command += ["--enforce-eager"] if on_cpu else []
    space = {"VLLM_CPU_KVCACHE_SPACE": os.environ.get("VLLM_CPU_KVCACHE_SPACE", "1")}
    return [*command, *server.args], space if on_cpu else {}


def llama_cpp(job: LaunchJob, python: Interpreter) -> Command:
    """``python -m llama_cpp.server``; all layers on the GPU where it has one."""
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
    """The sglang router before several replicas, which keeps all requests with one routing key at one of them.

    A key that is new goes to the replica that has the fewest in work. One that does not answer twice in a row, or to
    three requests, gets none until it does again; by itself the router would look once a minute. Its own metrics would
    listen at every address.
    """
    command = [python.path, "-m", "sglang_router.launch_router", "--worker-urls", *workers]
    command += ["--host", host, "--port", str(port), "--policy", "manual", "--assignment-mode", "min_group"]
    command += ["--prometheus-host", "127.0.0.1", "--prometheus-port", str(metrics_port)]
    command += ["--health-check-interval-secs", "2", "--health-failure-threshold", "2"]
    command += ["--health-success-threshold", "1"]
    command += ["--cb-failure-threshold", "3", "--cb-success-threshold", "1", "--cb-timeout-duration-secs", "5"]
    command += ["--shutdown-grace-period-secs", "5", "--log-level", "warn"]
    return command, {} if python.has_kernels else without_kernels()


def _is_gguf(path: str) -> bool:
    return path.lower().endswith(".gguf")


def _option(name: str, value: object | None) -> list[str]:
    return [] if value is None else [name, str(value)]


def _more(name: str, count: int) -> list[str]:
    return _option(name, count if count > 1 else None)
