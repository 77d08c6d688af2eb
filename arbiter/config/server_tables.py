"""The tables ``[models.NAME.server]`` of a configuration: how ``arbiter up`` starts the server of a model."""

from typing import Annotated, Literal

import msgspec

from arbiter.config.base import ConfigTable, Count

Name = Annotated[str, msgspec.Meta(min_length=1)]
Program = Literal["sglang", "vllm", "llama.cpp"]


class SpeculationTable(ConfigTable, frozen=True):
    """The engine's own speculative decoding, token by token.

    ``algorithm`` is the engine's word for it: sglang's ``--speculative-algorithm`` (``EAGLE3``, ``STANDALONE``,
    ``NGRAM``), or the ``method`` of vLLM's ``--speculative-config`` (``eagle3``, ``draft_model``, ``ngram``).
    ``model`` is the small model that proposes, where the algorithm has one. ``steps`` in a row it proposes, ``topk``
    branches at each (sglang alone knows these two), and ``tokens`` are checked at once.
    """

    algorithm: Name
    model: Name | None = None
    steps: Count | None = None
    topk: Count | None = None
    tokens: Count | None = None


class ServerTable(ConfigTable, frozen=True):
    """How the server of a model is started; the model's ``url`` says at which port, its ``model`` under which name.

    ``path`` is a folder, a hub name, ``pocket:ROLE`` or a GGUF file (``model``, if it is not set). ``python`` is the
    interpreter of the environment that has the engine. It listens at ``host``. Of ``gpus`` (their numbers) each of
    ``replicas`` has ``tensor_parallel`` · ``data_parallel``, in order; more than one replica stands behind a router at
    the port of ``url``. ``memory_fraction`` is the engine's share of a GPU's memory, in (0, 1). ``context_length`` is
    in tokens. ``quantization`` and ``dtype`` are the engine's words. ``args`` are handed on to the engine as they are.
    """

    engine: Program = "sglang"
    path: Name | None = None
    python: Name | None = None
    host: Name = "127.0.0.1"
    device: Literal["cuda", "cpu"] = "cuda"
    gpus: tuple[Annotated[int, msgspec.Meta(ge=0)], ...] = ()
    tensor_parallel: Count = 1
    data_parallel: Count = 1
    replicas: Count = 1
    memory_fraction: Annotated[float, msgspec.Meta(gt=0, lt=1)] | None = None
    context_length: Count | None = None
    quantization: Name | None = None
    dtype: Name | None = None
    speculation: SpeculationTable | None = None
    args: tuple[str, ...] = ()
