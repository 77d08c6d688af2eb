"""From a table to a model behind a server: a transport, and a look at what the server says that it has."""

import asyncio
import os
from collections.abc import AsyncGenerator, Awaitable, Callable
from contextlib import asynccontextmanager

import anyio.to_thread
import msgspec

from arbiter.backends.judge_prompts import JudgePrompt
from arbiter.backends.prompts import PromptTemplate
from arbiter.backends.served.dialects import dialect_of, way_out
from arbiter.backends.served.generator import WITHOUT_PENALTIES, ServedGenerator
from arbiter.backends.served.judge import ServedJudge
from arbiter.backends.served.label_tokens import LabelScorer
from arbiter.backends.served.scorer import ServedScorer
from arbiter.backends.served.transport import (
    Address,
    NotServedError,
    TemporaryError,
    Transport,
    UnreachableError,
    persistent,
    understood,
)
from arbiter.backends.served.verification import VerificationSettings, VerifyingGenerator
from arbiter.backends.tokenizers import end_tokens, read_tokenizer
from arbiter.config.model_tables import Engine, HostedTable, ServedTable
from arbiter.protocols.errors import BackendError, ConfigError
from arbiter.protocols.ports import GenerationRequest, Generator, Proposal, Scorer, ScoreRequest
from arbiter.protocols.records import Transcript

_MODELS = "/v1/models"
_CHECK_SECONDS, _CHECK_RETRIES = 15.0, 1
_TRIAL = Transcript("Compute 1+1.")
_SMALL = GenerationRequest("", 0, 0, "draft", _TRIAL, "\n\n", 1, 0.0, 1.0, 0)


class ServedModel(msgspec.Struct, frozen=True):
    """A model as a server lists it; ``max_model_len`` is its context in tokens, where the server says so."""

    id: str
    max_model_len: int | None = None


class _ModelList(msgspec.Struct, frozen=True):
    data: list[ServedModel]


class _ModelInfo(msgspec.Struct, frozen=True):
    is_generation: bool | None = None


_DECODER = msgspec.json.Decoder(_ModelList | list[ServedModel])  # some hosts send the list bare


@asynccontextmanager
async def open_served_generator(name: str, table: ServedTable, template: PromptTemplate) -> AsyncGenerator[Generator]:
    """A model that writes. Raises ``ConfigError`` if its key is not there, ``BackendError`` as ``served_model``."""
    async with open_transport(name, table) as transport:
        greedily = WITHOUT_PENALTIES if table.verifies else None
        generator = ServedGenerator(
            transport, table.model, template, greedily, table.priority, isinstance(table, HostedTable), _always(table)
        )
        listed = await served_model(name, table)
        await _writes(name, table, transport)
        if table.verifies:
            checks = await _checks(name, table, table.verifies, listed)
            checking = VerifyingGenerator(generator, transport, table.model, template, checks)
            await _tried(name, _shown(name, table, checking))
            yield checking
            return
        if listed is None:
            await _tried(name, generator.generate(_SMALL))
        yield generator


@asynccontextmanager
async def open_served_scorer(
    name: str, table: ServedTable, template: PromptTemplate, targets: int = 1
) -> AsyncGenerator[Scorer]:
    """A model that scores for so many ``targets``, or so it has shown with one small request: a server may list a model
    and speak another dialect, or have a model of another kind. Raises as ``open_served_generator``.
    """
    async with open_transport(name, table) as transport:
        scorer, check = _scorer(name, transport, table, template, targets)
        await served_model(name, table)
        try:
            await check(ScoreRequest("", 0, "prm", _TRIAL, "2", "draft", "\n\n"))
        except BackendError as error:
            raise BackendError(f"models.{name}: {error}{way_out(str(error), name)}") from error
        yield scorer


@asynccontextmanager
async def open_served_judge(table: ServedTable, prompt: JudgePrompt) -> AsyncGenerator[Scorer]:
    """A language model that judges, and has shown with one small request that a digit comes of it. Raises as above."""
    async with open_transport("judge", table) as transport:
        judge = ServedJudge(transport, table.model, prompt, hosted=isinstance(table, HostedTable))
        await served_model("judge", table)
        await _writes("judge", table, transport)
        await _tried("judge", judge.score(ScoreRequest("", 0, "judge", _TRIAL, "2", "draft", "\n\n")))
        yield judge


@asynccontextmanager
async def open_transport(name: str, table: ServedTable) -> AsyncGenerator[Transport]:
    """The transport of the table's backend. Raises ``ConfigError`` if its key is not there, or this is not asyncio."""
    try:
        asyncio.get_running_loop()
    except RuntimeError as error:
        raise ConfigError(f"models.{name}: servers are reached from asyncio alone; run it with anyio.run(…)") from error
    address = Address(
        url=table.base,
        timeout=table.timeout,
        retries=table.retries,
        connections=table.in_flight,
        key=_key(name, table),
        key_variable=table.api_key_env,
    )
    if isinstance(table, HostedTable):  # each has an HTTP client that takes long to import
        from arbiter.backends.served.openai_transport import open_openai

        opening = open_openai(address)
    else:
        from arbiter.backends.served.aiohttp_transport import open_aiohttp

        opening = open_aiohttp(address)
    async with opening as transport:
        yield transport


async def served_model(name: str, table: ServedTable) -> ServedModel | None:
    """The table's model as its server lists it; None if the server has no list to give.

    Asked before any work starts, with little patience. Raises ``BackendError`` naming the table if the server cannot
    be reached, or lists other models (sglang would answer in the name of any).
    """
    timeout, retries = min(table.timeout, _CHECK_SECONDS), min(table.retries, _CHECK_RETRIES)
    patient = msgspec.structs.replace(table, timeout=timeout, retries=retries)
    async with open_transport(name, patient) as transport:
        try:
            answer = await persistent(transport.address, lambda: transport.get(_MODELS))
            listed: _ModelList | list[ServedModel] = understood(transport.address, _MODELS, answer, _DECODER)
        except UnreachableError as error:
            raise BackendError(f"models.{name}: {error}") from error
        except (NotServedError, TemporaryError):  # transformers serve, say, fails to list models without a hub
            return None
        except BackendError as error:
            raise BackendError(f"models.{name}: {error}") from error
    models = listed if isinstance(listed, list) else listed.data
    found = next((model for model in models if model.id == table.model), None)
    if found is None:
        there = ", ".join(model.id for model in models) or "none"
        raise BackendError(f"models.{name}: {table.base} does not serve {table.model!r}; it serves: {there}")
    return found


def _always(table: ServedTable) -> dict[str, float]:
    """What llama.cpp's server has to be told for the model's own distribution: it has defaults that change it."""
    is_llama_cpp = table.server is not None and table.server.engine == "llama.cpp"
    return {"repeat_penalty": 1.0, "min_p": 0.0} if is_llama_cpp else {}


async def _writes(name: str, table: ServedTable, transport: Transport) -> None:
    """Raises ``BackendError`` if a reward server of sglang is there: a request to write would end it."""
    if isinstance(table, HostedTable):
        return
    try:
        told = msgspec.json.decode(await transport.get("/model_info"), type=_ModelInfo)
    except (BackendError, msgspec.DecodeError):
        return  # another engine
    if told.is_generation is False:
        raise BackendError(
            f"models.{name}: {table.base} serves a reward model (sglang, --is-embedding), and a request to write would "
            "end that server. Is the url right?"
        )


def _scorer(
    name: str, transport: Transport, table: ServedTable, template: PromptTemplate, targets: int
) -> tuple[Scorer, Callable[[ScoreRequest], Awaitable[object]]]:
    """The scorer of the table's dialect, and what to ask it before any work."""
    hosted = isinstance(table, HostedTable)
    scores = table.scores or ("embeddings" if hosted else "classify")
    if scores != "label-tokens":
        dialect = dialect_of(scores, table.step_tag, table.labels)
        classifier = ServedScorer(transport, table.model, template, dialect, targets, table.step_tag)
        return classifier, classifier.check
    if targets > 1:
        raise ConfigError(
            f"models.{name}.scores: label-tokens has one score for a step, a router of {targets} targets one for each"
        )
    good, bad = map(str, table.labels or ())
    labelled = LabelScorer(transport, table.model, template, (good, bad), table.step_tag, hosted)
    return labelled, labelled.score


async def _checks(name: str, table: ServedTable, engine: Engine, listed: ServedModel | None) -> VerificationSettings:
    """What the model of ``table`` needs to check proposals. Raises ``ConfigError`` if its tokenizer cannot be read."""
    tokenizer_name = table.tokenizer or table.model

    def read() -> VerificationSettings:
        tokenizer = read_tokenizer(tokenizer_name, f"models.{name}.verifies", "leave verifies out")
        context = listed.max_model_len if listed else None
        return VerificationSettings(
            engine, tokenizer, {*end_tokens(tokenizer_name, tokenizer, engine)}, context, table.priority
        )

    return await anyio.to_thread.run_sync(read)


async def _shown(name: str, table: ServedTable, checking: VerifyingGenerator) -> None:
    """Ask for a token plainly, and for one with a proposal: another engine, or another tokenizer, is found out here."""
    request = msgspec.structs.replace(_SMALL, max_tokens=2)
    plain = await checking.generate(request)
    try:
        checked = await checking.generate(msgspec.structs.replace(request, proposal=Proposal("2", "limit")))
    except NotServedError as error:
        raise BackendError(f"{error} Set verifies to the engine that is served there, or leave it out") from error
    read, counted = checked.usage.prompt_tokens, plain.usage.prompt_tokens
    if counted not in (0, read):
        raise BackendError(
            f"{table.base} counts {counted} tokens where the tokenizer {table.tokenizer or table.model!r} makes {read} "
            f"of them. Set models.{name}.tokenizer to the one that is served, or leave verifies out"
        )


async def _tried(name: str, answer: Awaitable[object]) -> None:
    """One small request before any work starts."""
    try:
        await answer
    except BackendError as error:
        raise BackendError(f"models.{name}: {error}") from error


def _key(name: str, table: ServedTable) -> str | None:
    variable = table.api_key_env
    if not variable:
        return None
    key = os.environ.get(variable, "").strip()
    if not key:
        raise ConfigError(
            f"models.{name}: the environment variable {variable} (api_key_env) is not set; put the key there, "
            f'the name of another variable into models.{name}.api_key_env, or "" if the server wants no key'
        )
    if not (key.isascii() and key.isprintable()):
        raise ConfigError(
            f"models.{name}: the environment variable {variable} (api_key_env) holds no key: "
            "something in it cannot be sent, such as a line break, a quotation mark of a text or an ellipsis"
        )
    return key
