"""Is everything there that a configuration names, and does it do what a run needs of it? One finding a model."""

from collections.abc import AsyncGenerator
from typing import Literal, get_args

import anyio
import msgspec

from arbiter.backends.opening import open_generator, open_scorer
from arbiter.backends.served.opening import served_model
from arbiter.config import Config
from arbiter.model_tables import AnyModelTable, Hosted, Served
from protocols.errors import ArbiterError, BackendError
from protocols.ports import Generation, GenerationRequest, Generator, Proposal, Scorer, ScoreRequest
from protocols.records import Role, Scale, Transcript

_QUESTION = "Compute (12+30)-17."
_RIGHT, _WRONG = "12+30: 2+0=2,1+3=4: 42.", "12+30: 2+0=2,1+3=4: 57."
_STEP_TOKENS = 256

State = Literal["ok", "warning", "failed"]


class Finding(msgspec.Struct, frozen=True):
    """What was found about the model of one table: ``told`` is what was seen, and the way out of what is wrong."""

    model: str
    state: State
    told: tuple[str, ...]


async def examine(config: Config) -> AsyncGenerator[Finding]:
    """A finding for each table ``[models.NAME]`` of ``config``, in their order, each with a few small requests."""
    scales: dict[str, Scale] = {scale: scale for scale in get_args(Scale)}
    for name, table in config.models.configured().items():
        try:
            if name in scales:
                yield await _scorer(scales[name], table, config)
            else:
                yield await _writer(name, table, config)
        except ArbiterError as error:
            yield Finding(name, "failed", (str(error).removeprefix(f"models.{name}: "),))


async def _writer(name: str, table: AnyModelTable, config: Config) -> Finding:
    told, state = await _place(name, table), "ok"
    role: Role = "draft" if name == "draft" else "target"
    async with open_generator(name, table, config.cpu_threads) as generator:
        started = anyio.current_time()
        step = await generator.generate(_request(role, config, temperature=0.0))
        seconds = anyio.current_time() - started
        told.append(f"wrote a step of {step.usage.completion_tokens} tokens in {seconds:.2f} s")
        match step.ending:
            case "separator":
                told.append(f"stopped at the separator {config.separator!r}")
            case "end":
                told.append("ended its answer with the first step")
            case "limit":
                state = "warning"
                told.append(
                    f"did not stop within {_STEP_TOKENS} tokens: is prompt = {table.prompt!r} the model's own "
                    f"template, and does it write {config.separator!r} between steps?"
                )
        if step.overhead.prompt_tokens:
            told.append("its server does not say what stopped it, so each step costs a second, short request")
        if step.usage.completion_tokens == 0 and step.text:
            state = "warning"
            told.append(
                "its server counts no tokens: limits.max_tokens will not end a problem, figures of tokens are 0"
            )
        told.append(await _seeds(generator, role, config))
        if role == "target":
            checks, agrees = await _checks(generator, step, table, config)
            told.append(checks)
            state = state if agrees else "warning"
    return Finding(name, state, tuple(told))


async def _checks(generator: Generator, own: Generation, table: AnyModelTable, config: Config) -> tuple[str, bool]:
    """What comes of showing the target its own step with something put into the middle; False if that is no good."""
    served = isinstance(table, Served)
    if served and not table.verifies:
        way = "the http backend" if isinstance(table, Hosted) else 'verifies = "sglang" or "vllm"'
        return f"writes escalated steps whole, also what their drafts have right; {way} could change that", True
    half = len(own.text) // 2
    proposal = Proposal(f"{own.text[:half]} {own.text[half:]}", own.ending)
    request = msgspec.structs.replace(_request("target", config, temperature=0.0), proposal=proposal)
    try:
        step = await generator.generate(request)
    except BackendError as error:
        return f"cannot check a proposal: {error}", False
    if step.agreement is None:
        why = "its context does not hold limits.step_tokens more" if served else "it has a sliding window, or a state"
        return f"does not check proposals: {why}", True
    agreed = f"checks proposals: agreed with {step.agreement.agreed} of {step.agreement.proposed} tokens"
    if (step.text, step.ending, step.usage.completion_tokens) == (own.text, own.ending, own.usage.completion_tokens):
        return f"{agreed}, the same step", True
    return (
        f"{agreed}, and wrote {step.text!r} ({step.ending}) where it writes {own.text!r} ({own.ending}) without one: "
        "if this is not a single close choice, leave verifies out"
    ), False


async def _seeds(generator: Generator, name: Role, config: Config) -> str:
    """Whether the same seed brings the same text above temperature 0."""
    texts = {(await generator.generate(_request(name, config, temperature=1.0))).text for _ in range(3)}
    return "honours seeds" if len(texts) == 1 else "ignores seeds: runs above temperature 0 cannot be repeated exactly"


async def _scorer(name: Scale, table: AnyModelTable, config: Config) -> Finding:
    told, state = await _place(name, table), "ok"
    async with open_scorer(name, table, config.cpu_threads, max(1, len(config.models.targets))) as scorer:
        right, wrong = [await _score(scorer, name, step, config) for step in (_RIGHT, _WRONG)]
    told.append(f"scored a right step {right:.3f} and a wrong one {wrong:.3f}")
    if right == wrong:
        state = "warning"
        told.append("which is the same: is this a model that scores, and the dialect in scores one of raw logits?")
    return Finding(name, state, tuple(told))


async def _place(name: str, table: AnyModelTable) -> list[str]:
    if not isinstance(table, Served):
        return [f"{table.model} in process"]
    model = await served_model(name, table)
    if model is None:
        return [f"{table.model} at {table.base} (which lists no models: the name is not checked)"]
    context = f", a context of {model.max_model_len} tokens" if model.max_model_len else ""
    return [f"{table.model} at {table.base}{context}"]


def _request(name: Role, config: Config, temperature: float) -> GenerationRequest:
    return GenerationRequest(
        problem="doctor",
        step=0,
        sample=0,
        role=name,
        transcript=Transcript(_QUESTION),
        separator=config.separator,
        max_tokens=min(_STEP_TOKENS, config.limits.step_tokens),
        temperature=temperature,
        top_p=1.0,
        seed=config.seed,
    )


async def _score(scorer: Scorer, name: Scale, step: str, config: Config) -> float:
    request = ScoreRequest(
        problem="doctor",
        step=0,
        scale=name,
        transcript=Transcript(_QUESTION),
        candidate=step,
        author="draft",
        separator=config.separator,
    )
    return (await scorer.score(request)).value
