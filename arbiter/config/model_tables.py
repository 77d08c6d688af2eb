"""The tables ``[models.NAME]`` of a configuration: which model stands behind a port, and where.

``backend`` chooses the kind of table, and with it the keys that it may have.
"""

import re
from typing import Annotated, Literal
from urllib.parse import urlsplit

import msgspec

from arbiter.config.base import ConfigTable, Count
from arbiter.config.server_tables import ServerTable
from arbiter.protocols.errors import ConfigError

Price = Annotated[float, msgspec.Meta(ge=0, le=1e9)]  # TOML knows inf, which no price is
Backend = Literal["transformers", "http", "openai"]
Engine = Literal["sglang", "vllm"]
Classifier = Literal["classify", "embeddings", "token-embeddings", "score", "vllm-classify", "pooling"]
Scores = Literal[Classifier, "label-tokens"]
Labels = tuple[str | int, str | int]
DEFAULT_BACKEND: Backend = "transformers"

_NAME = re.compile(r"[\w-]+")
_CREDENTIALS = re.compile(r"//[^/@]*@")


class PriceTable(ConfigTable, frozen=True, kw_only=True):
    """What a million tokens cost, in one currency for all models: read (``prompt``), of these out of a prefix cache
    (``cached``, as any other if not set), and written (``completion``), whether kept or not.
    """

    prompt: Price
    cached: Price | None = None
    completion: Price


class ModelTable(ConfigTable, frozen=True, kw_only=True, tag_field="backend"):
    """What all models have.

    ``model`` is its name; ``prompt`` is how a question is put to it: the name of a template
    (``arbiter.backends.prompts.TEMPLATES``), ``chat`` for the tokenizer's own, or the text itself, with ``{question}``.
    ``tokenizer`` is a folder or hub name, for ``chat`` and ``verifies``, if it is not ``model``. ``annotate`` prefixes
    each step with its author. ``in_flight`` requests are at the model at once. With a ``price`` the summary has the
    model's cost. ``cost`` is what a step of one of several targets costs, relative to the others.
    """

    model: str
    prompt: str
    tokenizer: str | None = None
    annotate: bool = False
    in_flight: Count = 128
    price: PriceTable | None = None
    cost: Annotated[float, msgspec.Meta(gt=0, le=1e9)] | None = None


class InProcessTable(ModelTable, frozen=True, kw_only=True, tag="transformers"):
    """A model in this process, through transformers.

    ``model`` is a folder, a hub name or ``pocket:ROLE``. Up to ``batch`` requests share a forward pass.
    ``device`` and ``dtype`` are torch's names, or ``auto``.
    """

    batch: Count = 128
    device: str = "auto"
    dtype: str = "auto"


class ServedTable(ModelTable, frozen=True, kw_only=True, tag="http"):
    """A model behind a server that speaks ``/v1/completions``, or for scores one of the dialects.

    ``model`` is the server's name of it; ``url`` its address, with or without ``/v1``. ``api_key_env`` is the name of
    the environment variable that holds the key, empty for none. ``timeout`` is in seconds, for one attempt;
    ``retries`` come after it.
    ``scores`` is the dialect in which a PRM or a router is asked (``docs/how-to/servers.md`` has them): ``classify`` (sglang's
    ``/classify``, the default), or another. ``step_tag`` stands behind each step that it reads, in the separator's
    place. ``labels`` are the tokens for a good step and for a bad one: their numbers for ``score``, their texts for
    ``label-tokens``.
    ``verifies`` is the engine of a target that shows its own choices, so that it can check a rejected draft and write
    only the rest; needs its tokenizer (``tokenizer``, or else ``model``). ``priority`` is the engine that schedules by
    priorities; a request that nobody waits for yet then comes after the others. ``server`` says how ``arbiter up``
    starts the server.
    """

    url: str
    api_key_env: str | None = None
    timeout: Annotated[float, msgspec.Meta(gt=0, le=86400)] = 600.0
    retries: Annotated[int, msgspec.Meta(ge=0)] = 5
    scores: Scores | None = None
    step_tag: Annotated[str, msgspec.Meta(min_length=1)] | None = None
    labels: Labels | None = None
    verifies: Engine | None = None
    priority: Engine | None = None
    server: ServerTable | None = None

    @property
    def base(self) -> str:
        """``url`` without ``/v1`` behind it."""
        return self.url.rstrip("/").removesuffix("/v1")


class HostedTable(ServedTable, frozen=True, kw_only=True, tag="openai"):
    """As ``http``, through the ``openai`` package; scores only where that is below ``/v1`` at all engines."""

    url: str = "https://api.openai.com"
    api_key_env: str | None = "OPENAI_API_KEY"


AnyModelTable = InProcessTable | ServedTable | HostedTable


class ModelTables(ConfigTable, frozen=True, omit_defaults=True):
    """The models that a run may call; it needs those alone that its run type calls.

    ``targets`` are several targets by name, in the place of ``target``; run types that know one have the first.
    """

    draft: AnyModelTable | None = None
    target: AnyModelTable | None = None
    prm: AnyModelTable | None = None
    router: AnyModelTable | None = None
    judge: AnyModelTable | None = None
    targets: dict[str, AnyModelTable] = {}  # noqa: RUF012 - msgspec gives each its own, and omits it if empty

    def configured(self) -> dict[str, AnyModelTable]:
        """The tables that are there, by their keys behind ``models.``."""
        one: dict[str, AnyModelTable | None] = {
            name: getattr(self, name) for name in self.__struct_fields__ if name != "targets"
        }
        there = {name: table for name, table in one.items() if table is not None}
        return there | {f"targets.{name}": table for name, table in self.targets.items()}

    def check(self, source: str) -> None:
        """Raises ``ConfigError`` naming ``source`` and a key that no type can refuse."""
        self._check_targets(source)
        for name, table in self.configured().items():
            place = f"{source}: models.{name}"
            if table.cost is not None and not name.startswith("targets."):
                raise ConfigError(f"{place}.cost: only one of several targets, [models.targets.NAME], has a cost")
            if not isinstance(table, ServedTable):
                continue
            if not table.url.startswith(("http://", "https://")):
                raise ConfigError(f"{place}.url: {table.url!r} must begin with http:// or https://")
            if not _is_url(table.url):
                raise ConfigError(f"{place}.url: {table.url!r} is no address; write it like 'http://localhost:30000'")
            if _CREDENTIALS.search(table.url):
                raise ConfigError(
                    f"{place}.url holds a password, which would be stored with the run: put the key into an "
                    f"environment variable, and its name into models.{name}.api_key_env"
                )
            wrong = _key_of_another(name, table) or _wrong_server(table)
            if wrong:
                raise ConfigError(f"{place}.{wrong}")

    def _check_targets(self, source: str) -> None:
        if self.targets and self.target is not None:
            raise ConfigError(
                f"{source}: both models.target and models.targets are there: make models.target one of the targets, "
                "[models.targets.NAME], or leave it out"
            )
        for name, table in self.targets.items():
            if not _NAME.fullmatch(name):
                raise ConfigError(
                    f"{source}: models.targets: the name {name!r} has other signs than letters, 0-9, _, -"
                )
            if table.cost is None:
                raise ConfigError(
                    f"{source}: models.targets.{name}: cost is missing: say what a step of it costs, relative to the "
                    "other targets (cost = 1.0)"
                )


def _key_of_another(name: str, table: ServedTable) -> str | None:
    """The key of ``table`` that only models of another kind or backend may have, and why."""
    is_target = name == "target" or name.startswith("targets.")
    writes, hosted = name == "draft" or is_target, isinstance(table, HostedTable)
    if table.scores and (writes or name == "judge"):
        does = "writes steps and scores none" if writes else "is asked for a token, and not as a classifier"
        return f"scores: the {name} model {does}; leave the key out"
    if table.step_tag and (writes or name == "judge"):
        return f"step_tag: the {name} model is no reward model; leave the key out"
    if hosted and table.scores not in (None, "embeddings", "token-embeddings", "label-tokens"):
        return (
            "scores: the openai backend reaches only 'embeddings', 'token-embeddings' and 'label-tokens', "
            f"http also {table.scores!r}"
        )
    if wrong := _wrong_labels(table):
        return wrong
    if table.verifies and not is_target:
        return "verifies: only the target is shown rejected drafts; leave the key out"
    if table.verifies and hosted:
        return "verifies: the openai backend has no words for it, http has"
    if table.priority and not writes:
        return f"priority: everything that the {name} model scores is waited for; leave the key out"
    return None


def _wrong_labels(table: ServedTable) -> str | None:
    """Why the labels of ``table`` are none of its dialect."""
    labels = table.labels
    if table.scores not in ("score", "label-tokens"):
        return "labels: only scores = 'score' and 'label-tokens' have labels; leave the key out" if labels else None
    numbered = table.scores == "score"
    told, like = ("numbers", "[648, 387]") if numbered else ("texts", '["+", "-"]')
    numbers = {label for label in labels or () if isinstance(label, int) and label >= 0}
    texts = {label.strip() for label in labels or () if isinstance(label, str)} - {""}
    if len(numbers if numbered else texts) != 2:
        return f"labels: scores = {table.scores!r} needs the {told} of the tokens for good and for bad, like {like}"
    return None


def _wrong_server(table: ServedTable) -> str | None:
    """The key for the server of ``table`` that does not go with the others, and why."""
    server = table.server
    if server is None:
        return None
    if urlsplit(table.url).port is None:
        return (
            f"url: {table.url!r} has no port, and the server is to listen at one: write it like http://127.0.0.1:30000"
        )
    return None


def _is_url(url: str) -> bool:
    """Whether ``url`` has a host, and a port that is a number where it has one."""
    try:
        parts = urlsplit(url)
        _ = parts.port  # raises where it is no number
    except ValueError:
        return False
    return bool(parts.hostname) and not any(map(str.isspace, url))
