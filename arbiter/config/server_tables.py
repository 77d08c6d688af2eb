"""The tables ``[models.NAME.server]``: how ``arbiter up`` starts the server of a model."""

from collections.abc import Sequence
from typing import Annotated, Literal

import msgspec

from arbiter.config.base import ConfigTable, Count

Name = Annotated[str, msgspec.Meta(min_length=1)]
_SECRETS = ("--api-key", "--admin-api-key", "--hf-token")
"""Options of sglang, vLLM and llama.cpp. Their parsers also take ``_`` for ``-``, and unique beginnings."""
_WHOLE = ("-hft", "--ssl-keyfile-password")
_SHORTEST = len("--api")

Program = Literal["sglang", "vllm", "llama.cpp"]


class SpeculationTable(ConfigTable, frozen=True):
    """The engine's own speculative decoding, token by token."""

    algorithm: Name
    """The engine's name for the algorithm.

    For sglang the value of ``--speculative-algorithm`` (``EAGLE3``, ``STANDALONE``, ``NGRAM``); for vLLM the
    ``method`` of ``--speculative-config`` (``eagle3``, ``draft_model``, ``ngram``).
    """
    model: Name | None = None
    """The small model that proposes tokens, if the algorithm uses one: a folder, a hub name or ``pocket:ROLE``."""
    steps: Count | None = None
    """The number of consecutive tokens that the small model proposes; sglang only."""
    topk: Count | None = None
    """The number of branches at each of these tokens; sglang only."""
    tokens: Count | None = None
    """The number of proposed tokens that the served model checks in one pass."""
    rejection: Literal["standard", "block", "synthetic", "fly"] | None = None
    """How a proposed token is accepted; vLLM only, its ``rejection_sample_method``. Not set: ``standard``.

    ``standard`` and ``block`` keep the model's distribution. ``fly`` (needs vLLM 0.33) accepts more, and changes what
    is written. ``synthetic`` accepts at random with given chances: the text means nothing, only its speed does.
    """
    accepted: Annotated[float, msgspec.Meta(ge=1)] | None = None
    """The mean number of tokens that a pass of the model yields, up to ``tokens`` + 1; only for ``synthetic``."""


class ServerTable(ConfigTable, frozen=True):
    """How the server of a model is started.

    The server listens at the port in the model's ``url``, and lists the model under the name in ``model``.
    """

    engine: Program = "sglang"
    """The inference engine."""
    path: Name | None = None
    """The weights: a folder, a hub name, ``pocket:ROLE`` or a GGUF file. Not set: the model's ``model``."""
    python: Name | None = None
    """The Python interpreter of the environment in which the engine is installed.

    Not set: found by the rules in [Start servers](../how-to/start-servers.md).
    """
    host: Name = "127.0.0.1"
    """The address at which the server listens."""
    device: Literal["cuda", "cpu"] = "cuda"
    """Where the model runs."""
    gpus: tuple[Annotated[int, msgspec.Meta(ge=0)], ...] = ()
    """The numbers of the GPUs that the server uses.

    There must be ``replicas`` × ``tensor_parallel`` × ``data_parallel`` of them; they are assigned in order.
    """
    tensor_parallel: Count = 1
    """The number of GPUs that share one copy of the model."""
    data_parallel: Count = 1
    """The number of copies of the model in one server."""
    replicas: Count = 1
    """The number of servers. If there are several, the sglang router listens at the port of ``url`` and calls them."""
    memory_fraction: Annotated[float, msgspec.Meta(gt=0, lt=1)] | None = None
    """The share of each GPU's memory that the engine may use. Required if several servers share a GPU."""
    context_length: Count | None = None
    """The longest context, in tokens. Not set: the engine decides."""
    quantization: Name | None = None
    """The engine's name for a quantization method."""
    dtype: Name | None = None
    """The engine's name for the number format of the weights."""
    sessions: bool | None = None
    """Whether sglang keeps what it read for a problem until the problem ends, even if the cache is full.

    Not set: yes, for a single server of a model that writes steps, unless ``args`` replace its cache.
    """
    speculation: SpeculationTable | None = None
    """Speculative decoding inside the engine."""
    args: tuple[str, ...] = ()
    """Further arguments for the engine's command line, unchanged. Example: ``args = ["--enable-metrics"]``.

    Keys and tokens are refused in every spelling, because each run stores its configuration. An option that names a
    file with keys (``--api-key-file``) is allowed.
    """


def secret_in(args: Sequence[str]) -> str | None:
    """Return the first option of ``args`` whose value is a key or a token for one of the engines, without the value."""
    for argument in args:
        name = argument.partition("=")[0]
        spelling = name.lower().replace("_", "-")
        if spelling in _WHOLE or (len(spelling) >= _SHORTEST and any(one.startswith(spelling) for one in _SECRETS)):
            return name
    return None
