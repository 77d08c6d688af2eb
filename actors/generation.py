"""How the Drafter and the Escalator request a candidate from their model."""

import msgspec

from arbiter.actors.checked_generation import CheckedGenerator, without_others
from arbiter.actors.gathering import Gathering
from arbiter.actors.requests import ModelRequest, RequestExecutor
from arbiter.actors.ring_setup import Models
from arbiter.actors.seeds import step_seed
from arbiter.actors.step_pieces import StreamedGenerator, can_stream
from arbiter.protocols.errors import BackendError
from arbiter.protocols.events import CallGenerated
from arbiter.protocols.messages import Context, DraftStep, EscalateStep, GlimpseStep, Task
from arbiter.protocols.model_traits import WritesBlocks
from arbiter.protocols.ports import Generation, GenerationRequest, Generator, ModelHandle, Proposal, StreamsText
from arbiter.protocols.records import Author, Candidate, Glimpse


class StepGenerator:
    """Requests candidates from one model, with at most ``in_flight`` concurrent requests.

    ``target`` is the name of the model, if it is one of several targets. ``models`` are all those of the
    ring.
    """

    def __init__(
        self,
        role: Author,
        actor: str,
        handle: ModelHandle[Generator],
        calls: RequestExecutor,
        models: Models,
        target: str = "",
    ) -> None:
        self._role: Author = role
        self._actor = actor
        self._target = target
        self._generator = handle.port
        self._limiter = calls.limiter(f"targets.{target}" if target else role, handle)
        self._calls = calls
        self._models = models

    @property
    def load(self) -> float:
        """The share of the model's slots that are in use."""
        return self._limiter.load

    @property
    def has_room(self) -> bool:
        """Whether a request would get a slot without waiting."""
        return self._limiter.has_room

    async def candidate(
        self,
        message: DraftStep | EscalateStep,
        sample: int = 0,
        proposal: Proposal | None = None,
        index: int | None = None,
        gathering: Gathering | None = None,
    ) -> Candidate:
        """Return one candidate for the context of ``message``. ``index`` numbers its request; None: as ``sample``.

        With a ``gathering``, the request is an escalation that may be held there before it starts.
        """
        call = ModelRequest(self._actor, message, self._role, sample if index is None else index, self._target)
        answer = await self._write(message.context, call, sample, proposal, gathering)
        return self._candidate(answer.at(0), sample)

    async def candidates(self, message: DraftStep) -> list[Candidate]:
        """Return the draft for the context of ``message``, and those that its answer has for the contexts after it."""
        call = ModelRequest(self._actor, message, self._role, 0, self._target)
        answer = await self._write(message.context, call, 0, keeps_others=True)
        return [self._candidate(answer.at(index), 0) for index in range(len(answer.following) + 1)]

    async def candidate_ahead(self, message: DraftStep | EscalateStep, context: Context, depth: int) -> Candidate:
        """Return one candidate for ``context``, which is ``depth`` steps after the context of ``message``."""
        return self._candidate(await self._write(context, ModelRequest(self._actor, message, self._role, depth), 0), 0)

    def writes_blocks(self, task: Task) -> bool:
        """Whether the model can write several steps of ``task`` in one request, each as in a request of its own."""
        model = self._generator
        can_write = isinstance(model, WritesBlocks) and model.writes_blocks
        return can_write and task.can_verify and task.transcript.rules is None

    async def block(self, message: DraftStep, steps: int) -> list[Candidate]:
        """Return up to ``steps`` candidates from one request: for the context of ``message``, and for those after it.

        ``writes_blocks`` must be True for its task.
        """
        assert isinstance(self._generator, WritesBlocks)  # noqa: S101 - see above
        call = ModelRequest(self._actor, message, self._role, 0, self._target)
        request = self._request(message.context, call, 0)
        answer = await self._calls.generate_block(call, self._generator, self._limiter, request, steps)
        return [self._candidate(answer.at(index), 0) for index in range(len(answer.following) + 1)]

    async def glimpse(self, message: GlimpseStep) -> Glimpse:
        """Return the first token of the step. Raises the model's error, and ``BackendError`` without its entropy."""
        call = ModelRequest(self._actor, message, self._role, 0, self._target)
        whole = self._request(message.context, call, 0)
        request = msgspec.structs.replace(whole, max_tokens=1, confidence="first", top_logprobs=None)
        answer = await self._calls.generate(call, self._generator, self._limiter, request)
        if answer.confidence is None:
            raise BackendError(
                f"the {self._role} model returned no confidence in the first token, which a glimpse needs"
            )
        return Glimpse(self._role, answer.confidence, answer.usage, answer.seconds)

    async def _write(
        self,
        context: Context,
        call: ModelRequest,
        sample: int,
        proposal: Proposal | None = None,
        gathering: Gathering | None = None,
        keeps_others: bool = False,
    ) -> CallGenerated:
        """Request a step. Each of several calls is a step of its own; ``keeps_others`` keeps those after the first."""
        request, checked = self._request(context, call, sample, proposal), self._checked(context)
        if checked is None:
            writer = self._for(context, call.is_ahead)
            return await self._calls.generate(call, writer, self._limiter, request, gathering)

        async def write(one: GenerationRequest) -> tuple[Generation, ...]:
            steps = await checked.write(one)
            return steps if keeps_others or len(steps) == 1 else without_others(steps)

        return await self._calls.generate_calls(call, write, self._limiter, request, gathering)

    def _candidate(self, answer: CallGenerated, sample: int) -> Candidate:
        return Candidate(
            self._role,
            answer.text,
            answer.stop_reason,
            answer.usage,
            answer.seconds,
            sample,
            None,
            answer.prefix_match,
            answer.confidence,
            self._target,
            answer.gathered,
            answer.calls,
            answer.valid,
            answer.violation,
            answer.tokens,
            answer.token_ids,
            answer.overrun,
        )

    def _request(
        self, context: Context, call: ModelRequest, sample: int, proposal: Proposal | None = None
    ) -> GenerationRequest:
        task = context.task
        sampling, is_draft = task.sampling, self._role == "draft"
        return GenerationRequest(
            task.id,
            context.step,
            sample,
            self._role,
            context.transcript,
            task.separator,
            context.max_tokens,
            sampling.temperature,
            sampling.top_p,
            step_seed(task.seed, task.seed_name, context.step, self._role, sample),
            call.id,
            proposal,
            call.is_ahead,
            self._calls.order(task),
            task.policy.confidence if is_draft else None,
            self._target,
            in_thought=context.transcript.rules is not None and self._models.thought_opening(task) == "prompt",
            presence_penalty=sampling.presence_penalty,
            frequency_penalty=sampling.frequency_penalty,
            top_logprobs=task.top_logprobs,
            token_exact=task.token_exact,
        )

    def _checked(self, context: Context) -> CheckedGenerator | None:
        """Return what checks the steps of the model; None if no rule of the answer can be broken.

        Calls are steps of their own where a policy decides about each. Otherwise an answer is kept as a whole.
        """
        task, rules = context.task, context.transcript.rules
        if rules is None or not rules.restricts:
            return None
        decides = task.policy.decides
        is_final = self._role == "target" or not decides
        return CheckedGenerator(self._generator, rules, is_final, task.stop, separates=decides)

    def _for(self, context: Context, is_ahead: bool) -> Generator:
        """Return the model for a step: one that passes on its text, if need be."""
        task = context.task
        listen = self._calls.listener(task)
        can_say = listen is not None and can_stream(task, context.step, self._role, is_ahead)
        if listen is None or not can_say or not isinstance(self._generator, StreamsText):
            return self._generator
        return StreamedGenerator(self._generator, listen)
