"""Checks of a model that generates steps."""

from collections.abc import AsyncGenerator
from contextlib import nullcontext

import anyio
import msgspec

from arbiter.backends.calling import unwrapped
from arbiter.backends.opening import open_generator
from arbiter.backends.served.chat_hosts import Continued
from arbiter.backends.served.generator import ServedGenerator
from arbiter.backends.served.queue_depth import ServerQueueDepth, open_queue_depth
from arbiter.config.config import Config
from arbiter.config.model_tables import AnyModelTable, HostedTable, ServedTable, is_chat
from arbiter.protocols.errors import BackendError
from arbiter.protocols.model_traits import ReadsSteps
from arbiter.protocols.ports import Generation, GenerationRequest, Generator, Proposal
from arbiter.protocols.records import Author, Step, Transcript, Usage
from arbiter.runs.limit_notes import context_note
from arbiter.servers.doctor.findings import Check
from arbiter.servers.doctor.location import clock, falls_idle, place
from arbiter.servers.doctor.scorer_checks import QUESTION
from arbiter.servers.doctor.tokenizer_checks import count_check, token_checks

_STEP_TOKENS, _BURST_TOKENS = 256, 32
_SPARE = 1  # tokens that a tokenizer may need for a letter besides one
_MOST_STEPS = 16  # in the answer to a small question
_BURST = 16  # concurrent requests
_NEVER = "\x1e\x1e"  # a separator that no model writes


class _Patient(msgspec.Struct, frozen=True):
    """The model to check: its table, its port, and how to request a step."""

    role: Author
    table: AnyModelTable
    config: Config
    generator: Generator

    def request(self, temperature: float = 0.0, steps: tuple[Step, ...] = ()) -> GenerationRequest:
        return GenerationRequest(
            problem="doctor",
            step=len(steps),
            sample=0,
            author=self.role,
            transcript=Transcript(QUESTION, steps),
            separator=self.config.separator,
            max_tokens=min(_STEP_TOKENS, self.config.limits.step_tokens),
            temperature=temperature,
            top_p=1.0,
            seed=self.config.seed,
        )


async def writer_checks(name: str, table: AnyModelTable, config: Config) -> AsyncGenerator[Check]:
    """Yield one check per property. Raises ``BackendError`` or ``ConfigError`` if no further check is possible."""
    yield await place(name, table)
    for check in await token_checks(table, config):
        yield check
    role: Author = "draft" if name == "draft" else "target"
    served = isinstance(table, ServedTable)
    depth_reader = open_queue_depth(name, table) if served else nullcontext(None)
    opening = open_generator(name, table, config.cpu_threads, separator=config.separator)
    async with opening as generator, depth_reader as queue_depth:
        model = unwrapped(generator)
        if isinstance(model, ServedGenerator) and model.continued:
            yield _continued(model.continued)
        if (note := context_note(config, name, generator, QUESTION)) is not None:
            yield Check("limits", note, "warning")
        if config.token_exact and isinstance(generator, ReadsSteps) and served:
            yield _own_steps(generator.without_token_ids)
        patient = _Patient(role, table, config, generator)
        step, checks = await _step(patient)
        for check in checks:
            yield check
        if is_chat(table) and (grown := await _growth(patient, step.usage.prompt_tokens)):
            yield grown
        yield await _seeds(patient)
        if role == "target":
            yield await _proposal(patient, step)
        yield await _end(patient, step)
        if served:
            yield await _cache(patient)
            yield await _cancellation(patient, queue_depth)
        yield await _burst(patient)
    if checked := await clock(table):
        yield checked


def _continued(continued: Continued) -> Check:
    """Report how a host of chat completions continues a partial answer; opening it has found that it does."""
    repeats = ", and repeats it in its answer" if continued.repeats else ""
    return Check("partial answers", f"continues a partial answer ({continued.way}){repeats}")


def _own_steps(reason: str | None) -> Check:
    """Report how the model reads the steps that it wrote itself: ``reason`` says why it reads them as text."""
    if reason is None:
        return Check("own steps", "continues from the tokens that it wrote itself")
    return Check("own steps", f"reads its own steps as text, so they may differ from one long answer: {reason}")


async def _growth(patient: _Patient, before: int) -> Check | None:
    """Compare the tokens of a prompt with those of the same prompt and a step of one letter.

    Return a warning if there are other tokens between them, None if the host does not count.
    """
    steps = (Step("A", patient.role),)
    request = msgspec.structs.replace(patient.request(steps=steps), max_tokens=1)
    after = (await patient.generator.generate(request)).usage.prompt_tokens
    if not (before and after):
        return None
    grown, most = after - before, 1 + _SPARE + len(patient.config.separator)
    if 0 < grown <= most:
        return Check("prompt", f"a step of one letter and its separator add {grown} tokens to the prompt")
    text = (
        f"a step of one letter and its separator change the prompt by {grown} tokens, not by 1 to {most}: the host's "
        "chat template writes a partial answer in another way than the beginning of an answer, as some do for models "
        "that think. Use /v1/completions there"
    )
    return Check("prompt", text, "warning")


async def _step(patient: _Patient) -> tuple[Generation, list[Check]]:
    started, request = anyio.current_time(), patient.request()
    step = await patient.generator.generate(request)
    wrote = f"wrote a step of {step.usage.completion_tokens} tokens in {anyio.current_time() - started:.2f} s"
    separator = patient.config.separator
    if step.stop_reason == "limit":
        limit = ", the limit limits.step_tokens" if request.max_tokens < _STEP_TOKENS else ""
        text = (
            f"{wrote}{limit}, and did not stop: check that prompt = {patient.table.prompt!r} is the model's own "
            f"template, and that the model writes {separator!r} between steps"
        )
        checks = [Check("step", text, "warning")]
    else:
        stopped = f"stopped at the separator {separator!r}" if step.stop_reason == "separator" else "ended its answer"
        checks = [Check("step", f"{wrote}, and {stopped}")]
    if step.overhead.prompt_tokens:
        text = "the server does not report what stopped a step, so each step needs a second, short request"
        checks.append(Check("stops", text))
    if step.usage.prompt_tokens == 0:
        text = "the server reports no token counts: figures have 0 for prompts, and estimates for steps"
        checks.append(Check("usage", text, "warning"))
    if counted := await count_check(patient.table, request, step.usage.prompt_tokens):
        checks.append(counted)
    if step.stop_reason == "end":
        checks += await _first_step(patient)
    return step, checks


async def _first_step(patient: _Patient) -> list[Check]:
    """Return a warning if the answer, whose first step ended it, has more steps where nothing stops it."""
    whole = await patient.generator.generate(msgspec.structs.replace(patient.request(), separator=_NEVER))
    if patient.config.separator not in whole.text.strip():
        return []
    text = (
        "the first step ended the answer, but without a stop text the model writes more than one step: the server "
        "reports a stop at the separator as the end. Set engine to the engine that is served, and tokenizer to the "
        "model's own"
    )
    return [Check("first step", text, "warning")]


async def _seeds(patient: _Patient) -> Check:
    """Check that the same seed gives the same text above temperature 0."""
    texts = {(await patient.generator.generate(patient.request(temperature=1.0))).text for _ in range(3)}
    text = "honours seeds" if len(texts) == 1 else "ignores seeds: runs above temperature 0 cannot be repeated exactly"
    return Check("seeds", text)


async def _proposal(patient: _Patient, own: Generation) -> Check:
    """Check verified escalation: propose the target's own step with a space inserted in the middle."""
    table = patient.table
    if isinstance(table, ServedTable) and not table.verifies:
        fix = "use the http backend" if isinstance(table, HostedTable) else 'set verifies = "sglang" or "vllm"'
        text = f"writes escalated steps from their beginning; to keep the right prefix of a rejected draft, {fix}"
        return Check("proposals", text)
    half = len(own.text) // 2
    proposal = Proposal(f"{own.text[:half]} {own.text[half:]}", own.stop_reason)
    request = msgspec.structs.replace(patient.request(), proposal=proposal)
    try:
        step = await patient.generator.generate(request)
    except BackendError as error:
        return Check("proposals", f"cannot check a proposal: {error}", "warning")
    if step.prefix_match is None:
        why = (
            "its context is too short for limits.step_tokens more"
            if isinstance(table, ServedTable)
            else "it has a sliding window or a recurrent state"
        )
        return Check("proposals", f"does not check proposals: {why}")
    kept = f"checks proposals: kept {step.prefix_match.matched} of {step.prefix_match.proposed} tokens"
    if (step.text, step.stop_reason, step.usage.completion_tokens) == (
        own.text,
        own.stop_reason,
        own.usage.completion_tokens,
    ):
        return Check("proposals", f"{kept}, and wrote the same step")
    text = (
        f"{kept}, but wrote {step.text!r} ({step.stop_reason}), and {own.text!r} ({own.stop_reason}) without a "
        "proposal: unless the steps differ only by one close choice of a token, leave out verifies"
    )
    return Check("proposals", text, "warning")


async def _end(patient: _Patient, first: Generation) -> Check:
    """Check that the answer to a small question ends."""
    steps, made = (Step(first.text, patient.role),), first
    while made.stop_reason == "separator" and len(steps) < _MOST_STEPS:
        made = await patient.generator.generate(patient.request(steps=steps))
        steps = (*steps, Step(made.text, patient.role))
    if made.stop_reason == "end":
        return Check("end", f"ended its answer with step {len(steps)}")
    unended = f"step {len(steps)} did not stop" if made.stop_reason == "limit" else f"not within {len(steps)} steps"
    text = f"did not end its answer ({unended}): is prompt = {patient.table.prompt!r} its own template?"
    return Check("end", text, "warning")


async def _cache(patient: _Patient) -> Check:
    """Check that the server takes a prompt that it has just read from its prefix cache."""
    usages: list[Usage] = [(await patient.generator.generate(patient.request())).usage for _ in range(2)]
    cached, prompt = usages[-1].cached_tokens, usages[-1].prompt_tokens
    if cached:
        return Check("cache", f"took {cached} of {prompt} prompt tokens of a repeated request from its prefix cache")
    text = (
        "reports no cached tokens for a repeated prompt: start the server with its prefix cache and with the report of "
        "cached tokens (sglang: --enable-cache-report; vLLM: --enable-prompt-tokens-details)"
    )
    return Check("cache", text, "warning")


async def _cancellation(patient: _Patient, queue_depth: ServerQueueDepth | None) -> Check:
    """Check that a cancelled request ends at the server."""
    before = await queue_depth.load() if queue_depth else None
    if queue_depth is None or before is None:
        return Check("cancel", "not checked: the server does not report its running requests")
    long = msgspec.structs.replace(patient.request(), separator=_NEVER, max_tokens=patient.config.limits.step_tokens)
    with anyio.move_on_after(0.3) as scope:
        await patient.generator.generate(long)
    if not scope.cancelled_caught:
        return Check("cancel", "not checked: the request ended before it could be cancelled")
    if await falls_idle(queue_depth, before.running + before.waiting):
        return Check("cancel", "ends a request when it is cancelled")
    text = "continues a cancelled request: check whether a proxy keeps the connection open"
    return Check("cancel", text, "warning")


async def _burst(patient: _Patient) -> Check:
    """Compare the tokens per second of concurrent requests with those of a single one."""
    request = msgspec.structs.replace(patient.request(), max_tokens=_BURST_TOKENS)
    written: list[int] = []

    async def request_step() -> None:
        written.append((await patient.generator.generate(request)).usage.completion_tokens)

    started = anyio.current_time()
    await request_step()
    alone = anyio.current_time() - started
    started = anyio.current_time()
    async with anyio.create_task_group() as tasks:
        for _ in range(_BURST):
            tasks.start_soon(request_step)
    together = max(1e-9, anyio.current_time() - started)
    gain = _BURST * alone / together
    text = f"{_BURST} concurrent requests: {sum(written[1:]) / together:.0f} tokens/s, {gain:.1f} times as many as one"
    return Check("burst", text if gain > 2 else f"{text}; for many problems use an engine that batches requests")
