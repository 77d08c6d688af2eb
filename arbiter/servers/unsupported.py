"""What no engine, or not this one, could do: told before anything starts."""

from arbiter.config.model_tables import HostedTable, ServedTable
from arbiter.config.server_tables import ServerTable

_SAID_BY = {
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
}
_SECRETS = ("--api-key", "--admin-api-key")
_FORWARDED = ("embeddings", "token-embeddings", "label-tokens")  # what the sglang router hands on of the dialects
_NOT_OF_LLAMA_CPP = ("memory_fraction", "quantization", "dtype", "speculation")


def refusal(table: ServedTable, server: ServerTable, scores: bool) -> str | None:
    """The key of a model's ``table`` that cannot be as it is, and why; the server ``scores``, or writes."""
    return (
        _wrong_gpus(server)
        or _wrong_arguments(server)
        or _wrong_dialect(table, server, scores)
        or _wrong_engine(table, server, scores)
        or _wrong_speculation(server, scores)
    )


def _wrong_gpus(server: ServerTable) -> str | None:
    each, there = server.tensor_parallel * server.data_parallel, len(server.gpus)
    if server.device == "cpu":
        return 'server.gpus: the device is "cpu"; leave one of the two out' if there else None
    needed = server.replicas * each
    if there != needed:
        kinds = "replicas · tensor_parallel · data_parallel"
        example = list(range(needed))
        return f"server.gpus names {there} GPUs, and {kinds} is {needed}: write as many, like gpus = {example}"
    if len(set(server.gpus)) != there:
        return "server.gpus names a GPU twice; each part of a server has one of its own"
    return None


def _wrong_arguments(server: ServerTable) -> str | None:
    for argument in server.args:
        name = argument.partition("=")[0]
        if name in _SAID_BY:
            return f"server.args: {name} is said by the key {_SAID_BY[name]}; leave it out here"
        if name in _SECRETS:
            return f"server.args: {name} would be stored with each run; a server at 127.0.0.1 needs no key"
    return None


def _wrong_dialect(table: ServedTable, server: ServerTable, scores: bool) -> str | None:
    dialect = table.scores or ("classify" if scores and not isinstance(table, HostedTable) else None)
    if server.replicas == 1 or dialect is None or dialect in _FORWARDED:
        return None
    return (
        f"scores: the router before several replicas does not forward {dialect!r}; take one of {', '.join(_FORWARDED)}"
    )


def _wrong_engine(table: ServedTable, server: ServerTable, scores: bool) -> str | None:
    engine = server.engine
    if engine == "sglang" and ":" in table.model:
        return (
            f"model: sglang serves no name with a colon, as in {table.model!r}: write another name, and "
            f"server.path = {server.path or table.model!r}"
        )
    if engine == "vllm" and table.priority == "sglang":
        return 'priority: the server is vLLM\'s, which takes the other end of the queue first: "vllm"'
    if table.verifies is not None and table.verifies != engine:
        return f"verifies: the server is one of {engine}, and is asked as one of {table.verifies}"
    if engine != "llama.cpp":
        return None
    if scores:
        return "server.engine: llama.cpp's server scores nothing; take sglang or vllm"
    if table.priority:
        return "priority: llama.cpp's server knows no priorities; leave the key out"
    if server.tensor_parallel * server.data_parallel * server.replicas > 1:
        return "server: one of llama.cpp has no parts: leave tensor_parallel, data_parallel and replicas out"
    wrong = next((key for key in _NOT_OF_LLAMA_CPP if getattr(server, key) is not None), None)
    return f"server.{wrong}: llama.cpp's server has no such setting; leave it out" if wrong else None


def _wrong_speculation(server: ServerTable, scores: bool) -> str | None:
    speculation = server.speculation
    if speculation is None:
        return None
    if scores:
        return "server.speculation: a model that scores writes nothing to speculate on; leave it out"
    if server.engine == "vllm" and (speculation.steps or speculation.topk):
        return "server.speculation: steps and topk are sglang's; vLLM knows tokens"
    return None
