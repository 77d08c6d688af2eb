"""Open the models of a configuration's tables for the ring."""

from collections.abc import AsyncGenerator, Callable, Mapping
from contextlib import AbstractAsyncContextManager, AsyncExitStack, asynccontextmanager, nullcontext
from functools import partial
from typing import TYPE_CHECKING, NamedTuple, TypeVar, cast, get_args

import anyio.to_thread

from arbiter.actors.ring_setup import Models
from arbiter.backends.call_formats.forms import FORMS
from arbiter.backends.calling import CallingGenerator, dropped_marks, hidden_marks, unwrapped, without_tools
from arbiter.backends.effort_prompts import template_with_efforts
from arbiter.backends.harmony_answers import HarmonyGenerator
from arbiter.backends.head_opening import open_head
from arbiter.backends.in_process.local_models import (
    load_side_by_side,
    open_local_generator,
    open_local_judge,
    open_local_scorer,
)
from arbiter.backends.judge_prompts import JudgePrompt, judge_message, judge_prompt
from arbiter.backends.prompts import PromptTemplate, message_template, prompt_template
from arbiter.backends.served.decoding_pauses import pauses_decoding
from arbiter.backends.served.draft_memory import DraftMemory
from arbiter.backends.served.generator import ServedGenerator
from arbiter.backends.served.queue_depth import open_queue_depth
from arbiter.backends.served.served_models import open_served_generator, open_served_judge, open_served_scorer
from arbiter.config.config import SEPARATOR, Config
from arbiter.config.local_paths import refuse_missing
from arbiter.config.model_tables import (
    IN_PROCESS_GATHER,
    PAUSING_GATHER,
    SERVED_SHARE,
    AnyModelTable,
    DraftHeadTable,
    InProcessTable,
    RouterTable,
    ServedTable,
    is_chat,
    is_target,
)
from arbiter.protocols.errors import ConfigError
from arbiter.protocols.ports import Gather, Generator, ModelHandle, QueueDepth, Scorer
from arbiter.protocols.records import ScoreKind

if TYPE_CHECKING:
    from arbiter.backends.in_process.decoding import InProcessGenerator
    from arbiter.backends.in_process.model_loading import Loaded

_TARGETS = "targets."
_SCALES: dict[str, ScoreKind] = {score_kind: score_kind for score_kind in get_args(ScoreKind)}
Prompt = TypeVar("Prompt", JudgePrompt, PromptTemplate)


def required_tables(config: Config) -> dict[str, RouterTable]:
    """Return the tables of the models that the configured run may call, by their keys after ``models.``.

    Raises ``ConfigError`` if one is missing, or names a file that is.
    """
    tables: dict[str, RouterTable] = {}
    for name, table in config.called_tables().items():
        if table is None:
            raise ConfigError(
                f"the run type {config.run_type!r} calls the {name} model, but none is configured: "
                f"add a table [models.{name}]"
            )
        refuse_missing_files(name, table)
        tables[name] = table
    return tables


def refuse_missing_files(name: str, table: RouterTable) -> None:
    """Raise ``ConfigError`` if the table ``[models.name]`` names a file or folder of this machine that is not there."""
    if not isinstance(table, ServedTable):
        refuse_missing(f"models.{name}.model", table.model)
    if not isinstance(table, DraftHeadTable) and table.tokenizer is not None:
        refuse_missing(f"models.{name}.tokenizer", table.tokenizer)


class AnswerForm(NamedTuple):
    """What the prompts of the models that write say about their solutions, for the grader.

    ``in_thought`` is True if a solution begins within a thought, which a prompt opens. ``prompt`` is the prompts' text.
    """

    in_thought: bool
    prompt: str


async def answer_form(config: Config) -> AnswerForm:
    """Return what the prompts of the configured run say about its solutions.

    Raises ``ConfigError`` if the tokenizer of a template cannot be read.
    """
    return await form_of(config.called_tables())


async def form_of(tables: Mapping[str, RouterTable | None]) -> AnswerForm:
    """Return what the prompts of ``tables`` say, by their keys after ``models.``. Raises as ``answer_form``."""
    writers = {
        name: table
        for name, table in tables.items()
        if (name == "draft" or is_target(name)) and table and not isinstance(table, DraftHeadTable)
    }
    forms = [await message_form(name, table) for name, table in writers.items()]
    return AnswerForm(any(form.in_thought for form in forms), "\n".join(form.prompt for form in forms))


async def message_form(name: str, table: AnyModelTable) -> AnswerForm:
    """Return what the prompt of one model that writes says. Raises as ``answer_form``."""
    template = await _template(name, table)
    texts = (*(turn.text for turn in template.turns), template.before_steps)
    return AnswerForm(template.opens_thought, "\n".join(texts))


@asynccontextmanager
async def open_tables(
    tables: Mapping[str, RouterTable], threads: int | None, adaptive: bool = False, separator: str = SEPARATOR
) -> AsyncGenerator[Models]:
    """Yield the models of ``tables``, whose keys are those after ``models.``. They are closed when the block ends.

    The first of several targets serves whatever needs a single target. With ``adaptive``, the number of concurrent
    requests to each served model adapts to its server. ``separator`` is the one of the steps.

    Raises ``ConfigError`` if a table, an extra or a key is missing. Raises ``BackendError`` if a model cannot be
    loaded, or a server cannot be reached or used.
    """
    writers: dict[str, ModelHandle[Generator]] = {}
    targets: dict[str, ModelHandle[Generator]] = {}
    scorers: dict[ScoreKind, ModelHandle[Scorer]] = {}
    heads = max(1, sum(name.startswith(_TARGETS) for name in tables))
    draft, memory = _draft_of_head(tables)
    loaded = await load_side_by_side(tables, threads)
    async with AsyncExitStack() as stack:
        # a head on the draft needs the draft
        for name, table in sorted(tables.items(), key=lambda item: item[0] in _SCALES):
            adapts = adaptive and isinstance(table, ServedTable)
            if name in _SCALES:
                score_kind = _SCALES[name]
                opened = writers.get("draft")
                opening = open_scorer(
                    score_kind,
                    table,
                    threads,
                    heads,
                    draft,
                    memory,
                    opened and unwrapped(opened.port),
                    loaded.get(name),
                )
                scorer = await stack.enter_async_context(opening)
                queue_depth = await stack.enter_async_context(_queue_depth(name, table, adaptive))
                scorers[score_kind] = ModelHandle[Scorer](
                    scorer, table.in_flight, adaptive=adapts, queue_depth=queue_depth
                )
            elif not isinstance(table, DraftHeadTable):  # only the router may be one
                of_draft = memory if name == "draft" else None
                generator = await stack.enter_async_context(
                    open_generator(name, table, threads, of_draft, loaded.get(name), separator)
                )
                queue_depth = await stack.enter_async_context(_queue_depth(name, table, adaptive))
                of_many = name.startswith(_TARGETS)
                handles, key = (targets, name.removeprefix(_TARGETS)) if of_many else (writers, name)
                pauses = isinstance(table, ServedTable) and await pauses_decoding(name, table)
                gather = _gather(table, pauses) if is_target(name) else None
                handles[key] = ModelHandle[Generator](
                    generator, table.in_flight, table.annotate, adapts, queue_depth, gather, pauses
                )
        target = writers.get("target") or next(iter(targets.values()), None)
        yield Models(writers.get("draft"), target, scorers, targets)


@asynccontextmanager
async def open_generator(
    name: str,
    table: AnyModelTable,
    threads: int | None,
    memory: DraftMemory | None = None,
    loaded: "Loaded | None" = None,
    separator: str = SEPARATOR,
) -> AsyncGenerator[Generator]:
    """Yield the model of the table ``[models.name]`` that writes steps. Raises as ``open_tables``.

    ``memory`` keeps the log-probabilities of what a served draft writes, for a head on it. ``loaded`` is a model in
    process that is loaded already. ``separator`` is the one of the steps, with which a host of chat completions is
    checked.
    """
    template = await _template(name, table)
    if isinstance(table, InProcessTable):
        opening = open_local_generator(table, template, threads, loaded)
    else:
        opening = open_served_generator(name, table, template, separator, memory)
    async with opening as generator:
        form, refusal = FORMS[template.calls] if template.calls else None, without_tools(name, table, template)
        if form is not None and isinstance(table, InProcessTable):
            refusal = hidden_marks(cast("InProcessGenerator", generator).texts, form, f"models.{name}")
        elif isinstance(generator, ServedGenerator) and not generator.keeps_marks:
            refusal = refusal or dropped_marks(template.calls, f"models.{name}")
        if template.calls == "harmony":
            if refusal is not None:
                raise ConfigError(f"{refusal}: these marks separate its thoughts from its answer")
            generator = HarmonyGenerator(generator)
        yield CallingGenerator(
            generator, form, refusal, template.opens_thought, template.thinks, template.opens_at_effort
        )


@asynccontextmanager
async def open_scorer(
    name: ScoreKind,
    table: RouterTable,
    threads: int | None,
    targets: int = 1,
    draft: AnyModelTable | None = None,
    memory: DraftMemory | None = None,
    writer: Generator | None = None,
    loaded: "Loaded | None" = None,
) -> AsyncGenerator[Scorer]:
    """Yield the model of the table ``[models.name]`` that scores steps. Raises as ``open_tables``.

    A router makes one estimate for each of ``targets`` targets. A router on the draft needs the table ``draft``, and
    uses the ``memory`` that the draft fills. ``writer`` is the draft, if it is open already, and ``loaded``
    a model in process that is loaded already.
    """
    if isinstance(table, DraftHeadTable):
        if draft is None:
            raise ConfigError(
                "models.router: a head on the draft needs the model of the table [models.draft], which is not open "
                "here. With a draft of your own, use a separate router model"
            )
        template = await _template("draft", draft)
        async with open_head(table, draft, template, threads, targets, memory, writer) as head:
            yield head
        return
    if name == "judge":
        async with await _judge(table, threads, loaded) as judge:
            yield judge
        return
    template = await _template(name, table)
    if isinstance(table, InProcessTable):
        opening = open_local_scorer(table, template, threads, targets if name == "router" else 1, loaded)
    else:
        opening = open_served_scorer(name, table, template, targets if name == "router" else 1)
    async with opening as scorer:
        yield scorer


def _gather(table: AnyModelTable, pauses: bool) -> Gather | None:
    """Return how escalations to the target of ``table`` gather; None if none is held.

    ``pauses`` is True if its server stops decoding in order to read.
    """
    if isinstance(table, InProcessTable):
        gather = Gather(IN_PROCESS_GATHER if table.gather is None else table.gather)
    elif table.gather is None:
        gather = Gather(PAUSING_GATHER if pauses else 0.0, SERVED_SHARE)
    else:
        gather = Gather(table.gather, SERVED_SHARE)
    return gather if gather.seconds else None


def _draft_of_head(tables: Mapping[str, RouterTable]) -> tuple[AnyModelTable | None, DraftMemory | None]:
    """Return the draft's table, and a memory of its steps if the router is a head on a served draft."""
    draft = tables.get("draft")
    if draft is None or isinstance(draft, DraftHeadTable):
        return None, None
    on_draft = isinstance(tables.get("router"), DraftHeadTable) and isinstance(draft, ServedTable)
    return draft, DraftMemory() if on_draft else None


def _queue_depth(name: str, table: RouterTable, adaptive: bool) -> AbstractAsyncContextManager[QueueDepth | None]:
    return open_queue_depth(name, table) if adaptive and isinstance(table, ServedTable) else nullcontext()


async def _judge(
    table: AnyModelTable, threads: int | None, loaded: "Loaded | None"
) -> AbstractAsyncContextManager[Scorer]:
    tokenizer = table.tokenizer or table.model
    reading = partial(judge_message, table.prompt) if is_chat(table) else partial(judge_prompt, table.prompt, tokenizer)
    prompt: JudgePrompt = await _read("judge", reading)
    if isinstance(table, InProcessTable):
        return open_local_judge(table, prompt, threads, loaded)
    return open_served_judge(table, prompt)


async def _template(name: str, table: AnyModelTable) -> PromptTemplate:
    if is_chat(table):
        return await _read(name, partial(message_template, table.prompt, table.annotate, table.turns))
    tokenizer = table.tokenizer or table.model
    read = template_with_efforts if name == "draft" or is_target(name) else prompt_template
    return await _read(name, partial(read, table.prompt, table.annotate, tokenizer, table.turns, table.calls))


async def _read(name: str, read: Callable[[], Prompt]) -> Prompt:
    """Run ``read`` in a thread, since it may read files, and return its result. A ``ConfigError`` names the table."""
    try:
        return await anyio.to_thread.run_sync(read)
    except ConfigError as error:
        raise ConfigError(f"models.{name}: {error}") from error
