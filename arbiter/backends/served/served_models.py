"""Open the served model of a table: open its transport, and check what the server serves."""

import asyncio
from collections.abc import AsyncGenerator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager

import anyio.to_thread
import msgspec

from arbiter.backends.judge_prompts import LEVELS, JudgePrompt
from arbiter.backends.prompts import PromptTemplate
from arbiter.backends.served.chat_hosts import ChatRequests, find_continuation
from arbiter.backends.served.completion_answers import OPENAI
from arbiter.backends.served.dialects import dialect_of, remedy
from arbiter.backends.served.draft_memory import DraftMemory
from arbiter.backends.served.end_signs import OWNERS, end_signs
from arbiter.backends.served.generator import ServedGenerator
from arbiter.backends.served.judge import ServedJudge
from arbiter.backends.served.label_tokens import LabelScorer
from arbiter.backends.served.llama_completions import completion_api
from arbiter.backends.served.problem_sessions import control_table, with_sessions
from arbiter.backends.served.prompt_form import PromptForm, prompt_counter, prompt_form, prompt_texts
from arbiter.backends.served.refusals import decoded, understood
from arbiter.backends.served.request_fields import WITHOUT_PENALTIES
from arbiter.backends.served.scorer import ServedScorer
from arbiter.backends.served.token_steps import token_steps
from arbiter.backends.served.transport import (
    Address,
    NotServedError,
    Result,
    TemporaryError,
    Transport,
    UnreachableError,
    persistent,
    read_key,
)
from arbiter.backends.served.verification import VerificationSettings, VerifyingGenerator
from arbiter.backends.token_texts import TransformersTokenTexts, refuse_special_marks
from arbiter.backends.tokenizers import end_tokens, read_tokenizer
from arbiter.config.model_tables import Engine, HostedTable, ServedEngine, ServedTable, is_chat
from arbiter.protocols.errors import BackendError, ConfigError
from arbiter.protocols.ports import GenerationRequest, Generator, Proposal, Scorer, ScoreRequest
from arbiter.protocols.records import Transcript

_MODELS = "/v1/models"
_CHECK_SECONDS, _CHECK_RETRIES = 15.0, 1
_TRIAL = Transcript("Compute 1+1.")
_SMALL = GenerationRequest("", 0, 0, "draft", _TRIAL, "\n\n", 1, 0.0, 1.0, 0)


class ServedModel(msgspec.Struct, frozen=True):
    """A model as its server lists it.

    ``max_model_len`` is its context in tokens, ``owned_by`` names the engine, and ``root`` is its checkpoint, if the
    server reports them.
    """

    id: str
    max_model_len: int | None = None
    owned_by: str | None = None
    root: str | None = None


class _ModelList(msgspec.Struct, frozen=True):
    data: list[ServedModel]


class ModelInfo(msgspec.Struct, frozen=True):
    """What sglang reports about its model: whether it writes text, its checkpoint, and its tokenizer."""

    is_generation: bool | None = None
    model_path: str | None = None
    tokenizer_path: str | None = None


_INFO = msgspec.json.Decoder(ModelInfo)
_DECODER = msgspec.json.Decoder(_ModelList | list[ServedModel])  # some hosts send a bare list


@asynccontextmanager
async def open_served_generator(
    name: str, table: ServedTable, template: PromptTemplate, separator: str, memory: DraftMemory | None = None
) -> AsyncGenerator[Generator]:
    """Yield a model that writes steps. Small requests check it first, if it is not listed or verifies proposals.

    They also find out how a host of chat completions continues an answer that ends with ``separator``. ``memory`` keeps
    the log-probabilities of its steps for a head on the draft.

    Raises ``ConfigError`` if its key is missing or its tokenizer cannot be read, and ``BackendError`` as
    ``served_model``, if a check fails, or if the model marks thoughts with special tokens.
    """
    async with _open_with_sessions(name, table) as transport:
        greedily = WITHOUT_PENALTIES if table.verifies else None
        listed, texts, chats = await served_model(name, table), await prompt_texts(table), None
        if texts and template.calls != "harmony":  # whose marks are kept, or it is refused with its calls
            refuse_special_marks(texts, f"models.{name}", template.before_steps)
        if is_chat(table):
            found = await _try_request(name, find_continuation(transport, table.model, separator))
            chats = ChatRequests(transport, template, found)
        owner = listed.owned_by if listed else None
        signs, form = await end_signs(name, table, owner), prompt_form(texts)
        await _refuse_reward_server(name, table, transport)
        api = OPENAI if chats else await _try_request(name, completion_api(transport, table.model, owner, texts))
        trial = token_steps(transport, table.model, None if chats else texts, signs.engine, form, api)
        steps = await _try_request(name, trial)
        generator = ServedGenerator(
            transport,
            table.model,
            template,
            greedily,
            table.priority,
            isinstance(table, HostedTable),
            _required_fields(signs.engine),
            memory,
            signs,
            listed.max_model_len if listed else None,
            chats,
            form,
            prompt_counter(texts),
            steps,
            api,
        )
        if table.verifies:
            settings = await _verification_settings(name, table, table.verifies, listed)
            verifying = VerifyingGenerator(generator, transport, table.model, template, settings)
            await _try_request(name, _check_verification(name, table, verifying))
            yield verifying
            return
        if listed is None and not chats:
            await _try_request(name, generator.generate(_SMALL))
        yield generator


@asynccontextmanager
async def open_served_scorer(
    name: str, table: ServedTable, template: PromptTemplate, targets: int = 1
) -> AsyncGenerator[Scorer]:
    """Yield a model that scores steps for ``targets`` targets.

    A small request checks it first, since a listed model may be of another kind, or the server may use another
    dialect. Raises as ``open_served_generator``.
    """
    async with _open_with_sessions(name, table) as transport:
        listed, form = await served_model(name, table), prompt_form(await prompt_texts(table))
        scorer, check = _scorer(name, transport, table, template, targets, form, listed and listed.max_model_len)
        try:
            await check(ScoreRequest("", 0, "prm", _TRIAL, "2", "draft", "\n\n"))
        except BackendError as error:
            raise BackendError(f"models.{name}: {error}{remedy(str(error), name)}") from error
        yield scorer


@asynccontextmanager
async def open_served_judge(table: ServedTable, prompt: JudgePrompt) -> AsyncGenerator[Scorer]:
    """Yield a language model that judges steps. A small request first checks that it answers with a digit.

    With the prompt ``levels``, a second one finds out whether an sglang returns the probabilities of the levels.
    Raises as ``open_served_generator``.
    """
    async with _open_with_sessions("judge", table) as transport:
        hosted, form = isinstance(table, HostedTable), prompt_form(await prompt_texts(table))
        listed = await served_model("judge", table)
        context, owner = (listed.max_model_len, listed.owned_by) if listed else (None, None)
        engine = table.named_engine or OWNERS.get(owner or "")
        judge = ServedJudge(transport, table.model, prompt, hosted, is_chat(table), form, context)
        await _refuse_reward_server("judge", table, transport)
        trial = ScoreRequest("", 0, "judge", _TRIAL, "2", "draft", "\n\n")
        written = await _try_request("judge", judge.score(trial))
        if table.prompt == LEVELS and not is_chat(table) and engine == "sglang":
            await judge.try_levels(trial, written)
        yield judge


@asynccontextmanager
async def open_transport(name: str, table: ServedTable) -> AsyncGenerator[Transport]:
    """Yield the transport of the table's backend. Raises ``ConfigError`` without its key, or outside of asyncio."""
    try:
        asyncio.get_running_loop()
    except RuntimeError as error:
        raise ConfigError(f"models.{name}: served models need asyncio; run this with anyio.run(…)") from error
    address = Address(
        url=table.base,
        timeout=table.timeout,
        retries=table.retries,
        connections=table.in_flight,
        key=read_key(name, table),
        key_variable=table.api_key_env,
    )
    if isinstance(table, HostedTable):  # imported here: each HTTP client takes long to import
        from arbiter.backends.served.openai_transport import open_openai

        opening = open_openai(address)
    else:
        from arbiter.backends.served.http_transport import open_http

        opening = open_http(address)
    async with opening as transport:
        yield transport


@asynccontextmanager
async def _open_with_sessions(name: str, table: ServedTable) -> AsyncGenerator[Transport]:
    """Yield the transport as ``open_transport``, with a session for each problem where the server keeps sessions."""
    async with (
        open_transport(name, table) as plain,
        open_transport(name, control_table(table)) as control,
        with_sessions(table, plain, control) as transport,
    ):
        yield transport


async def served_model(name: str, table: ServedTable) -> ServedModel | None:
    """Return the table's model as its server lists it; None if the server provides no list.

    This runs before any work starts, with a short time-out and few retries. Raises ``BackendError`` that names the
    table if the server cannot be reached, or does not list the model (sglang would answer under any model name).
    """
    timeout, retries = min(table.timeout, _CHECK_SECONDS), min(table.retries, _CHECK_RETRIES)
    patient = msgspec.structs.replace(table, timeout=timeout, retries=retries)
    async with open_transport(name, patient) as transport:
        try:
            models = await persistent(transport.address, lambda: list_models(transport))
        except UnreachableError as error:
            raise BackendError(f"models.{name}: {error}") from error
        except (NotServedError, TemporaryError):  # for example, transformers serve cannot list models without the hub
            return None
        except BackendError as error:
            raise BackendError(f"models.{name}: {error}") from error
    found = next((model for model in models if model.id == table.model), None)
    if found is None:
        served = ", ".join(model.id for model in models) or "none"
        raise BackendError(f"models.{name}: {table.base} does not serve {table.model!r}; it serves: {served}")
    return found


async def list_models(transport: Transport) -> Sequence[ServedModel]:
    """Return the models that the server lists. Raises ``BackendError``, as ``NotServedError`` if it has no list."""
    listed: _ModelList | list[ServedModel] = understood(
        transport.address, _MODELS, await transport.get(_MODELS), _DECODER
    )
    return listed if isinstance(listed, list) else listed.data


async def model_info(transport: Transport) -> ModelInfo | None:
    """Return what sglang reports about its model; None for other engines."""
    try:
        return decoded(await transport.get("/model_info"), _INFO)
    except (BackendError, msgspec.DecodeError):
        return None


def _required_fields(engine: ServedEngine | None) -> dict[str, float]:
    """Return the fields for the model's own distribution: the defaults of llama.cpp's servers change it."""
    return {"repeat_penalty": 1.0, "min_p": 0.0, "top_k": 0} if engine == "llama.cpp" else {}


async def _refuse_reward_server(name: str, table: ServedTable, transport: Transport) -> None:
    """Raise ``BackendError`` if sglang serves a reward model there: a completion request would end that server."""
    if isinstance(table, HostedTable):
        return
    info = await model_info(transport)
    if info is not None and info.is_generation is False:
        raise BackendError(
            f"models.{name}: {table.base} serves a reward model (sglang, --is-embedding); a completion request would "
            "end that server. Is the url right?"
        )


def _scorer(
    name: str,
    transport: Transport,
    table: ServedTable,
    template: PromptTemplate,
    targets: int,
    form: PromptForm,
    context: int | None,
) -> tuple[ServedScorer | LabelScorer, Callable[[ScoreRequest], Awaitable[object]]]:
    """Return the scorer of the table's dialect, and its check to run before any work."""
    hosted = isinstance(table, HostedTable)
    scores = table.scores or ("embeddings" if hosted else "classify")
    if scores != "label-tokens":
        dialect = dialect_of(scores, table.step_tag, table.labels)
        classifier = ServedScorer(transport, table.model, template, dialect, targets, table.step_tag, context)
        return classifier, classifier.check
    if targets > 1:
        raise ConfigError(
            f"models.{name}.scores: label-tokens gives one score for a step, but a router of {targets} targets needs "
            "one for each target"
        )
    good, bad = map(str, table.labels or ())
    labelled = LabelScorer(transport, table.model, template, (good, bad), table.step_tag, hosted, form, context)
    return labelled, labelled.score


async def _verification_settings(
    name: str, table: ServedTable, engine: Engine, listed: ServedModel | None
) -> VerificationSettings:
    """Return the settings with which the model of ``table`` checks proposals.

    Raises ``ConfigError`` if its tokenizer cannot be read.
    """
    tokenizer_name = table.tokenizer or table.model

    def read() -> VerificationSettings:
        tokenizer = read_tokenizer(tokenizer_name, f"models.{name}.verifies", "leave verifies out")
        context = listed.max_model_len if listed else None
        ends = {*end_tokens(tokenizer_name, tokenizer, engine)}
        return VerificationSettings(engine, TransformersTokenTexts(tokenizer), ends, context, table.priority)

    return await anyio.to_thread.run_sync(read)


async def _check_verification(name: str, table: ServedTable, verifying: VerifyingGenerator) -> None:
    """Make a small request without a proposal and one with it. This detects another engine or another tokenizer."""
    request = msgspec.structs.replace(_SMALL, max_tokens=2)
    plain = await verifying.generate(request)
    try:
        checked = await verifying.generate(msgspec.structs.replace(request, proposal=Proposal("2", "limit")))
    except NotServedError as error:
        raise BackendError(f"{error} Set verifies to the engine that is served there, or leave it out") from error
    read, counted = checked.usage.prompt_tokens, plain.usage.prompt_tokens
    if counted not in (0, read):
        raise BackendError(
            f"{table.base} counts {counted} tokens where the tokenizer {table.tokenizer or table.model!r} counts "
            f"{read}. Set models.{name}.tokenizer to the one that is served, or leave verifies out"
        )


async def _try_request(name: str, answer: Awaitable[Result]) -> Result:
    """Await one small request before any work starts, and return its result. A ``BackendError`` names the table."""
    try:
        return await answer
    except BackendError as error:
        raise BackendError(f"models.{name}: {error}") from error
