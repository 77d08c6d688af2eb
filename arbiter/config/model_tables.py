"""The tables ``[models.NAME]`` of a configuration: which model has a role, and where it runs.

``backend`` selects the kind of table, and with it the keys that the table may have.
"""

import re
from collections.abc import Iterable
from typing import Annotated, Literal
from urllib.parse import urlsplit

import msgspec

from arbiter.config.base import ConfigTable, Count
from arbiter.config.server_tables import ServerTable, secret_in
from arbiter.protocols.errors import ConfigError
from arbiter.protocols.records import Turn

Price = Annotated[float, msgspec.Meta(ge=0, le=1e9)]  # TOML allows inf, which is no price
Backend = Literal["transformers", "http", "openai", "draft-head"]
"""Where the model runs: in this process, behind a server, or behind an endpoint that the ``openai`` package calls.

``draft-head`` is for the router alone: a small head on the numbers of the draft, without a model of its own.
"""
Engine = Literal["sglang", "vllm"]
ServedEngine = Literal[Engine, "llama.cpp", "other"]
Classifier = Literal["classify", "embeddings", "token-embeddings", "score", "vllm-classify", "pooling"]
Scores = Literal[Classifier, "label-tokens"]
Labels = tuple[str | int, str | int]
DEFAULT_BACKEND: Backend = "transformers"
IN_PROCESS_GATHER = 0.25
"""The longest time in seconds for which an escalation to a target in process is held, unless ``gather`` is set."""
PAUSING_GATHER = 0.03
"""The same for a target behind a server that stops decoding in order to read prompts, as sglang does by default."""

SERVED_SHARE = 0.25
"""Escalations to a served target go when this share of the number of its running requests is held."""

_NAME = re.compile(r"[\w-]+")
_CREDENTIALS = re.compile(r"//[^/@]*@|[?&][^=&]*(?:key|token|secret|password)=", re.IGNORECASE)


class PriceTable(ConfigTable, frozen=True, kw_only=True):
    """What a million tokens of the model cost, in one currency for all models."""

    prompt: Price
    """The price of a million tokens that the model reads."""
    cached: Price | None = None
    """The price of a million tokens that come from a prefix cache. Not set: the price in ``prompt``."""
    completion: Price
    """The price of a million tokens that the model writes, whether they are kept or not."""


class ExampleTable(ConfigTable, frozen=True, kw_only=True):
    """A solved problem that stands before the question in the prompt (few-shot prompting)."""

    question: Annotated[str, msgspec.Meta(min_length=1)]
    """The question."""
    answer: Annotated[str, msgspec.Meta(min_length=1)]
    """The whole solution, as the model should write it: its steps, separated by ``separator``, with the answer."""


CallFormName = Literal["hermes", "qwen-coder", "llama-3", "mistral", "deepseek-v3", "harmony"]
"""The form in which a family of models writes calls of tools, and with `harmony` its whole answers."""


class ModelTable(ConfigTable, frozen=True, kw_only=True, tag_field="backend"):
    """The keys that every model has, except a head on the draft (``draft-head``)."""

    model: str
    """The model: a folder, a hub name or ``pocket:ROLE``; behind a server, the name under which the server lists it."""
    prompt: str
    """How a question is presented to the model: the name of a template, ``chat``, or the text of a template.

    ``chat`` is the chat template of the tokenizer. A text must contain ``{question}``. For the judge the default is
    ``judge``. [Scores and engines](scores-and-engines.md#templates) lists the templates.
    """
    system: Annotated[str, msgspec.Meta(min_length=1)] | None = None
    """Instructions before the question (system prompt), only for draft and target. They replace the instruction of the
    template, such as the request for a boxed answer. Not set: the instruction of the template.

    [System prompts and examples](scores-and-engines.md#system-prompts-and-examples) says where they stand.
    """
    examples: tuple[ExampleTable, ...] = ()
    """Solved problems before the question (few-shot prompt), only for draft and target.

    Instead of the list, the path of a file with one JSON object per line, with the same keys.
    """
    tokenizer: str | None = None
    """The tokenizer for ``chat`` and ``verifies``, and for a server's end tokens: a folder or a hub name.

    Not set: that of ``model``.
    """
    calls: CallFormName | None = None
    """The form in which a draft or target writes calls of tools, for the prompt ``chat``.

    Not set: the chat template decides. [Tools](../how-to/tools.md#models) lists the forms.
    """
    annotate: bool = False
    """Whether each step in the prompt is prefixed with its author. Set it for a router trained that way."""
    in_flight: Count = 128
    """The largest number of concurrent requests to the model."""
    price: PriceTable | None = None
    """The prices of the model's tokens. With prices, the summary shows the cost of the run, and the endpoint that
    of each answer."""
    cost: Annotated[float, msgspec.Meta(gt=0, le=1e9)] | None = None
    """What a step of this target costs, relative to the other targets. Required in ``[models.targets.NAME]``, and
    refused elsewhere."""
    gather: Annotated[float, msgspec.Meta(ge=0, le=3600)] | None = None
    """The longest time in seconds for which an escalation to this target is held, so that several start together.

    0 holds none. Not set: 0.25 in process, 0.03 behind sglang unless it reads and decodes in the same pass
    (``--enable-mixed-chunk``), and 0 behind other engines. Only targets have it.
    [Gathering](scores-and-engines.md#gathering) has the rule.
    """

    @property
    def turns(self) -> tuple[Turn, ...]:
        """``system`` and ``examples`` as turns before the question."""
        system = () if self.system is None else (Turn("system", self.system),)
        pairs = [(Turn("user", each.question), Turn("assistant", each.answer)) for each in self.examples]
        return (*system, *(turn for pair in pairs for turn in pair))


class InProcessTable(ModelTable, frozen=True, kw_only=True, tag="transformers"):
    """A model in this process."""

    batch: Count = 128
    """The largest number of requests in one forward pass."""
    cache_bytes: Annotated[int, msgspec.Meta(ge=0)] | None = None
    """The most memory for keys and values, in bytes: those of requests in progress, and those kept for later steps.

    0: nothing is kept. Not set: 1 GiB on a CPU, and a quarter of the free memory of a GPU. Models with a sliding window
    or a recurrent state keep nothing.
    """
    device: str = "auto"
    """The torch device, such as ``cpu`` or ``cuda:0``. ``auto`` is a GPU if there is one."""
    dtype: str = "auto"
    """The torch number format of the weights, such as ``bfloat16``. ``auto`` is ``float32`` on a CPU, and that of the
    checkpoint on a GPU."""


class ServedTable(ModelTable, frozen=True, kw_only=True, tag="http"):
    """A model behind a server that offers ``/v1/completions``, or for a scorer one of the dialects of ``scores``."""

    url: str
    """The address of the server, with or without ``/v1``. It must not contain a password.

    An address with another version in its path, such as ``/v3`` or ``/v1/openai``, is used unchanged.
    """
    api_key_env: str | None = None
    """The name of the environment variable that holds the API key. Not set: no key."""
    timeout: Annotated[float, msgspec.Meta(gt=0, le=86400)] = 600.0
    """The time limit of one attempt, in seconds."""
    retries: Annotated[int, msgspec.Meta(ge=0)] = 5
    """How often a failed request is repeated at most: after status 429 or 5xx, a broken connection or answer."""
    scores: Scores | None = None
    """The dialect of score requests to a PRM or a router. Not set: ``classify`` (``embeddings`` for ``openai``).

    [Scores and engines](scores-and-engines.md#scores) describes the dialects.
    """
    step_tag: Annotated[str, msgspec.Meta(min_length=1)] | None = None
    """The text that replaces the separator after each step that a PRM or a router reads. Not set: the separator."""
    labels: Labels | None = None
    """The two tokens that mean a good and a bad step: their numbers for ``score``, their texts for ``label-tokens``.

    Examples: ``labels = [648, 387]``, ``labels = ["+", "-"]``.
    """
    verifies: Engine | None = None
    """The engine of a target that can check rejected drafts (verified escalation). Needs the target's tokenizer."""
    priority: Engine | None = None
    """The engine of a draft or target that schedules requests by priority.

    Requests of older problems come first; drafting ahead comes last. Start the server with priority scheduling, as
    [Scores and engines](scores-and-engines.md#priorities) says.
    """
    engine: ServedEngine | None = None
    """The engine of the server. Not set: that of ``verifies``, ``server`` or ``priority``, in this order.

    If none of them is set, one request at the start shows whether the server of a draft or target is sglang. If it
    stops decoding to read prompts, escalations gather (see ``gather``), and
    [slots are granted in groups](scores-and-engines.md#slots-in-groups). The engine also decides what shows that an
    answer ended. With ``llama.cpp``, requests switch off the penalty and the limits of sampling that
    its servers have by default.
    """
    server: ServerTable | None = None
    """How ``arbiter up`` starts the server. Not set: ``arbiter up`` does not start it."""

    @property
    def base(self) -> str:
        """``url`` without the trailing ``/v1``. After ``/beta``, which is a version too, it is kept."""
        url = self.url.rstrip("/")
        return url if url.endswith("/beta/v1") else url.removesuffix("/v1")

    @property
    def named_engine(self) -> ServedEngine | None:
        """The engine that the table names, in ``engine`` or in another key; None if it names none."""
        return self.engine or self.verifies or (self.server.engine if self.server else self.priority)


class HostedTable(ServedTable, frozen=True, kw_only=True, tag="openai"):
    """A model behind a server, as ``http``, but called through the ``openai`` package.

    Of the dialects of ``scores``, only ``embeddings``, ``token-embeddings`` and ``label-tokens`` work.
    """

    url: str = "https://api.openai.com"
    """The address of the endpoint, with or without ``/v1``."""
    api_key_env: str | None = "OPENAI_API_KEY"
    """The name of the environment variable that holds the API key. An empty string: no key."""
    api: Literal["chat"] | None = None
    """``chat`` calls ``/v1/chat/completions``. Not set: ``/v1/completions``.

    For draft, target and judge. Draft and target need a host that continues a partial answer; small requests check it
    at the start. [Chat hosts](../how-to/chat-hosts.md) says how, and what does not work there.
    """


class DraftHeadTable(ConfigTable, frozen=True, kw_only=True, tag_field="backend", tag="draft-head"):
    """A router that is a head on the draft. It reads the log-probabilities of the model in ``[models.draft]``, and in
    process also entropies and the last hidden state."""

    model: str
    """The head: the folder that ``arbiter train router --on draft`` wrote, or ``pocket:draft-head``."""
    in_flight: Count = 128
    """The largest number of steps that are scored concurrently. A served draft reads some of them once more."""


AnyModelTable = InProcessTable | ServedTable | HostedTable
RouterTable = AnyModelTable | DraftHeadTable


class ModelTables(ConfigTable, frozen=True, omit_defaults=True):
    """The models of an experiment. A run needs only the models that its run type calls."""

    draft: AnyModelTable | None = None
    """The small model that proposes each step."""
    target: AnyModelTable | None = None
    """The large model that writes a step on an escalation."""
    prm: AnyModelTable | None = None
    """The process reward model, which scores steps."""
    router: RouterTable | None = None
    """The model that predicts whether the target would write a better step."""
    judge: AnyModelTable | None = None
    """The language model that rates steps for the run type ``judge``."""
    targets: dict[str, AnyModelTable] = {}  # noqa: RUF012 - msgspec gives each its own, and omits it if empty
    """Several targets by name, instead of ``target``. Their order counts. Run types for one target use the first."""

    def configured(self) -> dict[str, RouterTable]:
        """The tables that are set, by their keys below ``models.``. Only the router may be a ``DraftHeadTable``."""
        tables: dict[str, RouterTable | None] = {
            name: getattr(self, name) for name in self.__struct_fields__ if name != "targets"
        }
        present = {name: table for name, table in tables.items() if table is not None}
        return present | {f"targets.{name}": table for name, table in self.targets.items()}

    def check(self, source: str) -> None:
        """Raise ``ConfigError`` naming ``source`` and the first key whose value does not fit the others."""
        self._check_targets(source)
        for name, table in self.configured().items():
            key = f"{source}: models.{name}"
            if isinstance(table, DraftHeadTable):
                if self.draft is None:
                    raise ConfigError(f"{key}: a head on the draft needs a draft: add a table [models.draft]")
                if is_chat(self.draft):
                    raise ConfigError(
                        f"{key}: a head on the draft reads prompts, which chat completions cannot: leave "
                        "models.draft.api out, or use a router model of its own"
                    )
                if self.draft.turns:
                    raise ConfigError(
                        f"{key}: a head on the draft was trained without system and examples in the draft's prompt: "
                        "leave both out of models.draft, or use a router model of its own"
                    )
                continue
            if table.cost is not None and not name.startswith("targets."):
                raise ConfigError(
                    f"{key}.cost: only one of several targets, [models.targets.NAME], has a cost; leave the key out"
                )
            if table.gather is not None and not is_target(name):
                raise ConfigError(f"{key}.gather: only requests to a target gather; leave the key out")
            if table.calls and not (name == "draft" or is_target(name)):
                raise ConfigError(f"{key}.calls: only models that write steps call tools; leave the key out")
            if table.turns and not (name == "draft" or is_target(name)):
                raise ConfigError(
                    f"{key}: only models that write steps have system and examples; the {name} model reads question "
                    "and steps as it was trained; leave both out"
                )
            if not isinstance(table, ServedTable):
                continue
            if not table.url.startswith(("http://", "https://")):
                raise ConfigError(f"{key}.url: {table.url!r} must begin with http:// or https://")
            if not _is_url(table.url):
                raise ConfigError(f"{key}.url: {table.url!r} is not an address; write it like 'http://localhost:30000'")
            if _CREDENTIALS.search(table.url):
                raise ConfigError(
                    f"{key}.url contains a password or key, which would be stored with the run: put the key into an "
                    f"environment variable, and the variable's name into models.{name}.api_key_env"
                )
            wrong = _key_of_another(name, table) or _wrong_server(table)
            if wrong:
                raise ConfigError(f"{key}.{wrong}")

    def _check_targets(self, source: str) -> None:
        if self.targets and self.target is not None:
            raise ConfigError(
                f"{source}: models.target and models.targets are both set: make models.target one of the targets, "
                "[models.targets.NAME], or leave it out"
            )
        for name, table in self.targets.items():
            if not _NAME.fullmatch(name):
                raise ConfigError(f"{source}: models.targets: the name {name!r} may contain only letters, 0-9, _ and -")
            if table.cost is None:
                raise ConfigError(
                    f"{source}: models.targets.{name}: cost is missing: set what a step of this target costs, relative "
                    "to the other targets (cost = 1.0)"
                )


def is_target(name: str) -> bool:
    """Whether ``name``, a key below ``models.``, is a target or one of several."""
    return name == "target" or name.startswith("targets.")


def first_target(tables: Iterable[str]) -> str:
    """Return the key below ``models.`` of the target, or of the first of several, among the keys of ``tables``."""
    return next((name for name in tables if name.startswith("targets.")), "target")


def is_chat(table: AnyModelTable) -> bool:
    """Whether the model is called through ``/v1/chat/completions``."""
    return isinstance(table, HostedTable) and table.api == "chat"


def _key_of_another(name: str, table: ServedTable) -> str | None:
    """Return the key of ``table`` that only models of another role or backend may have, and the reason."""
    writes, hosted = name == "draft" or is_target(name), isinstance(table, HostedTable)
    if table.scores and (writes or name == "judge"):
        does = "writes steps and does not score" if writes else "rates by a token, not as a classifier"
        return f"scores: the {name} model {does}; leave the key out"
    if table.step_tag and (writes or name == "judge"):
        return f"step_tag: the {name} model is not a reward model; leave the key out"
    if hosted and table.scores not in (None, "embeddings", "token-embeddings", "label-tokens"):
        return (
            "scores: the openai backend supports only 'embeddings', 'token-embeddings' and 'label-tokens': use one of "
            f"these, or the http backend for {table.scores!r}"
        )
    if is_chat(table) and not (writes or name == "judge"):
        return f"api: chat completions give no scores of the {name} model; leave the key out"
    if wrong := _wrong_labels(table):
        return wrong
    if table.verifies and not is_target(name):
        return "verifies: only the target checks rejected drafts; leave the key out"
    if table.verifies and hosted:
        return "verifies: the openai backend cannot check drafts; use the http backend"
    if table.priority and not writes:
        return f"priority: only draft and target have priorities, not the {name} model; leave the key out"
    if table.engine and table.verifies and table.engine != table.verifies:
        return f"engine: {table.engine!r} is not the engine of verifies, {table.verifies!r}; leave one of them out"
    return None


def _wrong_labels(table: ServedTable) -> str | None:
    """Return why the labels of ``table`` do not fit its dialect."""
    labels = table.labels
    if table.scores not in ("score", "label-tokens"):
        return "labels: only scores = 'score' and 'label-tokens' have labels; leave the key out" if labels else None
    numbered = table.scores == "score"
    kind, example = ("numbers", "[648, 387]") if numbered else ("texts", '["+", "-"]')
    numbers = {label for label in labels or () if isinstance(label, int) and label >= 0}
    texts = {label.strip() for label in labels or () if isinstance(label, str)} - {""}
    if len(numbers if numbered else texts) != 2:
        return f"labels: scores = {table.scores!r} needs the {kind} of the tokens for good and for bad, like {example}"
    return None


def _wrong_server(table: ServedTable) -> str | None:
    """Return the key of ``table`` that conflicts with its server table, and the reason."""
    server = table.server
    if server is None:
        return None
    if (secret := secret_in(server.args)) is not None:
        return (
            f"server.args: the value of {secret} would be stored with each run: leave it out. A server on 127.0.0.1 "
            "needs no key; where one is needed, name a file with it (--api-key-file), or start the server yourself"
        )
    if urlsplit(table.url).port is None:
        return f"url: {table.url!r} has no port for the server to listen at: write it like http://127.0.0.1:30000"
    return None


def _is_url(url: str) -> bool:
    """Whether ``url`` has a host, and its port, if any, is a number."""
    try:
        parts = urlsplit(url)
        _ = parts.port  # raises if it is not a number
    except ValueError:
        return False
    return bool(parts.hostname) and not any(map(str.isspace, url))
