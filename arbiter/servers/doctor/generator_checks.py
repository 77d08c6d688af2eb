"""What is looked at in a model that writes."""

from collections.abc import AsyncGenerator
from contextlib import nullcontext

import anyio
import msgspec

from arbiter.backends.opening import open_generator
from arbiter.backends.served.queue_depth import ServerQueueDepth, open_queue_depth
from arbiter.config.config import Config
from arbiter.config.model_tables import AnyModelTable, HostedTable, ServedTable
from arbiter.protocols.errors import BackendError
from arbiter.protocols.ports import Generation, GenerationRequest, Generator, Proposal
from arbiter.protocols.records import Author, Step, Transcript, Usage
from arbiter.servers.doctor.findings import Check
from arbiter.servers.doctor.location import clock, falls_idle, place
from arbiter.servers.doctor.scorer_checks import QUESTION
from arbiter.servers.doctor.tokenizer_checks import token_checks

_STEP_TOKENS, _BURST_TOKENS = 256, 32
_MOST_STEPS = 16  # of the answer to a small question
_BURST = 16  # requests
_NEVER = "\x1e\x1e"  # what no model writes


class _Patient(msgspec.Struct, frozen=True):
    """The model that is looked at: its table, its port, and how it is asked."""

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
    """A line a check; raises ``BackendError`` or ``ConfigError`` where nothing more can be looked at."""
    yield await place(name, table)
    for check in await token_checks(table, config):
        yield check
    role: Author = "draft" if name == "draft" else "target"
    served = isinstance(table, ServedTable)
    looking = open_queue_depth(name, table) if served else nullcontext(None)
    async with open_generator(name, table, config.cpu_threads) as generator, looking as queue_depth:
        patient = _Patient(role, table, config, generator)
        step, checks = await _step(patient)
        for check in checks:
            yield check
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


async def _step(patient: _Patient) -> tuple[Generation, list[Check]]:
    started = anyio.current_time()
    step = await patient.generator.generate(patient.request())
    wrote = f"wrote a step of {step.usage.completion_tokens} tokens in {anyio.current_time() - started:.2f} s"
    separator = patient.config.separator
    if step.stop_reason == "limit":
        text = (
            f"did not stop within {_STEP_TOKENS} tokens: is prompt = {patient.table.prompt!r} the model's own "
            f"template, and does it write {separator!r} between steps?"
        )
        checks = [Check("step", f"{wrote}; {text}", "warning")]
    else:
        stopped = (
            f"stopped at the separator {separator!r}" if step.stop_reason == "separator" else "ended its answer with it"
        )
        checks = [Check("step", f"{wrote}, and {stopped}")]
    if step.overhead.prompt_tokens:
        text = "its server does not say what stopped it, so each step costs a second, short request"
        checks.append(Check("stops", text))
    if step.usage.completion_tokens == 0 and step.text:
        text = "its server counts no tokens: limits.max_tokens will not end a problem, figures of tokens are 0"
        checks.append(Check("usage", text, "warning"))
    return step, checks


async def _seeds(patient: _Patient) -> Check:
    """Whether the same seed brings the same text above temperature 0."""
    texts = {(await patient.generator.generate(patient.request(temperature=1.0))).text for _ in range(3)}
    text = "honours seeds" if len(texts) == 1 else "ignores seeds: runs above temperature 0 cannot be repeated exactly"
    return Check("seeds", text)


async def _proposal(patient: _Patient, own: Generation) -> Check:
    """What comes of showing the target its own step with something put into the middle."""
    table = patient.table
    if isinstance(table, ServedTable) and not table.verifies:
        way = "the http backend" if isinstance(table, HostedTable) else 'verifies = "sglang" or "vllm"'
        text = f"writes escalated steps whole, also what their drafts have right; {way} could change that"
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
            "its context does not hold limits.step_tokens more"
            if isinstance(table, ServedTable)
            else "it has a sliding window, or a state"
        )
        return Check("proposals", f"does not check proposals: {why}")
    agreed = f"checks proposals: agreed with {step.prefix_match.matched} of {step.prefix_match.proposed} tokens"
    if (step.text, step.stop_reason, step.usage.completion_tokens) == (
        own.text,
        own.stop_reason,
        own.usage.completion_tokens,
    ):
        return Check("proposals", f"{agreed}, the same step")
    text = (
        f"{agreed}, and wrote {step.text!r} ({step.stop_reason}) where it writes {own.text!r} ({own.stop_reason}) "
        "without one: "
        "if this is not a single close choice, leave verifies out"
    )
    return Check("proposals", text, "warning")


async def _end(patient: _Patient, first: Generation) -> Check:
    """Whether the answer to a small question comes to an end."""
    steps, made = (Step(first.text, patient.role),), first
    while made.stop_reason == "separator" and len(steps) < _MOST_STEPS:
        made = await patient.generator.generate(patient.request(steps=steps))
        steps = (*steps, Step(made.text, patient.role))
    if made.stop_reason == "end":
        return Check("end", f"ended its answer with step {len(steps)}")
    text = f"did not end its answer within {len(steps)} steps: is prompt = {patient.table.prompt!r} its own template?"
    return Check("end", text, "warning")


async def _cache(patient: _Patient) -> Check:
    """Whether a prompt that the server has just read comes out of its cache."""
    usages: list[Usage] = [(await patient.generator.generate(patient.request())).usage for _ in range(2)]
    cached, prompt = usages[-1].cached_tokens, usages[-1].prompt_tokens
    if cached:
        return Check("cache", f"took {cached} of {prompt} prompt tokens from its prefix cache when asked again")
    text = (
        "reports no cached tokens for a prompt that it has just read: start it with its prefix cache and the report of "
        "it (sglang: --enable-cache-report; vLLM: --enable-prompt-tokens-details)"
    )
    return Check("cache", text, "warning")


async def _cancellation(patient: _Patient, queue_depth: ServerQueueDepth | None) -> Check:
    """Whether a request that nobody waits for any more ends at the server."""
    before = await queue_depth.load() if queue_depth else None
    if queue_depth is None or before is None:
        return Check("cancel", "its server does not tell what it is doing: whether it ends a request is not seen")
    long = msgspec.structs.replace(patient.request(), separator=_NEVER, max_tokens=patient.config.limits.step_tokens)
    with anyio.move_on_after(0.3) as scope:
        await patient.generator.generate(long)
    if not scope.cancelled_caught:
        return Check("cancel", "was done before a request could be cancelled")
    if await falls_idle(queue_depth, before.running + before.waiting):
        return Check("cancel", "ends a request when it is cancelled")
    text = "goes on with a request that was cancelled: is there a proxy between that keeps the connection?"
    return Check("cancel", text, "warning")


async def _burst(patient: _Patient) -> Check:
    """How much more is done at once than one after another."""
    request = msgspec.structs.replace(patient.request(), max_tokens=_BURST_TOKENS)
    written: list[int] = []

    async def ask() -> None:
        written.append((await patient.generator.generate(request)).usage.completion_tokens)

    started = anyio.current_time()
    await ask()
    alone = anyio.current_time() - started
    started = anyio.current_time()
    async with anyio.create_task_group() as tasks:
        for _ in range(_BURST):
            tasks.start_soon(ask)
    together = max(1e-9, anyio.current_time() - started)
    gain = _BURST * alone / together
    text = (
        f"{_BURST} requests at once: {sum(written[1:]) / together:.0f} tokens/s, {gain:.1f} times as many as one alone"
    )
    return Check("burst", text if gain > 2 else f"{text}; an engine that batches would serve many problems better")
