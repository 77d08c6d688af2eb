"""Refuses settings that the engine of a server does not support, before any server starts."""

from arbiter.config.model_tables import HostedTable, ServedTable
from arbiter.config.server_tables import ServerTable, SpeculationTable

_KEYS = {
    "--port": "url",
    "--host": "server.host",
    "--model": "server.path",
    "--model-path": "server.path",
    "--served-model-name": "model",
    "--model_alias": "model",
    "--tp-size": "server.tensor_parallel",
    "--tensor-parallel-size": "server.tensor_parallel",
    "--dp-size": "server.data_parallel",
    "--data-parallel-size": "server.data_parallel",
    "--mem-fraction-static": "server.memory_fraction",
    "--gpu-memory-utilization": "server.memory_fraction",
    "--enable-session-radix-cache": "server.sessions",
}
_FORWARDED = ("embeddings", "token-embeddings", "label-tokens")  # the dialects that the sglang router forwards
_NOT_OF_LLAMA_CPP = ("memory_fraction", "quantization", "dtype", "speculation")


def refusal(table: ServedTable, server: ServerTable, scores: bool) -> str | None:
    """Return the first wrong key of a model's ``table``, with the reason and the fix; None if all are possible.

    ``scores``: the server is a classifier, otherwise it generates text.
    """
    return (
        _wrong_gpus(server)
        or _wrong_arguments(server)
        or _wrong_dialect(table, server, scores)
        or _wrong_engine(table, server, scores)
        or _wrong_sessions(server, scores)
        or _wrong_speculation(server, scores)
    )


def _wrong_gpus(server: ServerTable) -> str | None:
    each, there = server.tensor_parallel * server.data_parallel, len(server.gpus)
    if server.device == "cpu":
        return 'server.gpus: the device is "cpu", which uses no GPU; leave out one of the two keys' if there else None
    needed = server.replicas * each
    if there != needed:
        kinds = "replicas · tensor_parallel · data_parallel"
        example = list(range(needed))
        return f"server.gpus names {there} GPUs, but {kinds} is {needed}: write for example gpus = {example}"
    if len(set(server.gpus)) != there:
        return "server.gpus names a GPU twice: each part of a server needs its own GPU"
    return None


def _wrong_arguments(server: ServerTable) -> str | None:
    for argument in server.args:
        name = argument.partition("=")[0]
        if name in _KEYS:
            return f"server.args: {name} is set by the key {_KEYS[name]}; leave it out here"
    return None


def _wrong_dialect(table: ServedTable, server: ServerTable, scores: bool) -> str | None:
    dialect = table.scores or ("classify" if scores and not isinstance(table, HostedTable) else None)
    if server.replicas == 1 or dialect is None or dialect in _FORWARDED:
        return None
    return (
        f"scores: the router in front of several replicas does not forward {dialect!r}; use one of "
        f"{', '.join(_FORWARDED)}"
    )


def _wrong_engine(table: ServedTable, server: ServerTable, scores: bool) -> str | None:
    engine = server.engine
    if engine == "sglang" and ":" in table.model:
        return (
            f"model: sglang cannot serve a name with a colon, {table.model!r}: write another name, and "
            f"server.path = {server.path or table.model!r}"
        )
    if engine == "vllm" and table.priority == "sglang":
        return 'priority: vLLM orders its queue in the other direction: write priority = "vllm"'
    if table.verifies is not None and table.verifies != engine:
        return f"verifies: the server's engine is {engine}, not {table.verifies}; write {engine!r} or leave out the key"
    if engine != "llama.cpp":
        return None
    if scores:
        return "server.engine: the llama.cpp server cannot score; use sglang or vllm"
    if table.priority:
        return "priority: the llama.cpp server has no priorities; leave out the key"
    if server.tensor_parallel * server.data_parallel * server.replicas > 1:
        return "server: the llama.cpp server cannot be parallel: leave out tensor_parallel, data_parallel and replicas"
    wrong = next((key for key in _NOT_OF_LLAMA_CPP if getattr(server, key) is not None), None)
    return f"server.{wrong}: the llama.cpp server has no such setting; leave it out" if wrong else None


def _wrong_sessions(server: ServerTable, scores: bool) -> str | None:
    if not server.sessions:
        return None
    if server.engine != "sglang":
        return f"server.sessions: {server.engine} has no sessions; leave it out"
    if scores:
        return "server.sessions: a model that scores has no sessions; leave it out"
    if server.replicas > 1:
        return "server.sessions: the router in front of several replicas closes no sessions; leave it out"
    return None


def _wrong_speculation(server: ServerTable, scores: bool) -> str | None:
    speculation = server.speculation
    if speculation is None:
        return None
    if scores:
        return "server.speculation: a model that scores generates no tokens; leave it out"
    if server.engine == "vllm" and (speculation.steps or speculation.topk):
        return "server.speculation: steps and topk are settings of sglang; for vLLM use only tokens"
    if server.engine != "vllm" and (speculation.rejection or speculation.accepted):
        return "server.speculation: rejection and accepted are settings of vLLM; leave them out"
    return _wrong_rejection(speculation)


def _wrong_rejection(speculation: SpeculationTable) -> str | None:
    """Return what vLLM would refuse about how tokens are accepted (its ``SpeculativeConfig``)."""
    tokens, accepted = speculation.tokens or 0, speculation.accepted
    if (speculation.rejection == "synthetic") != (accepted is not None):
        return 'server.speculation: rejection = "synthetic" and accepted need each other: set both, or neither'
    if accepted is not None and accepted > tokens + 1:
        return f"server.speculation: accepted = {accepted:g} is more than a pass can yield: tokens + 1 = {tokens + 1}"
    if speculation.rejection == "fly" and tokens < 2:
        return 'server.speculation: rejection = "fly" looks at the tokens after a rejected one: set tokens to 2 or more'
    return None
