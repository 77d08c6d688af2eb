"""A simulated model server, and adapters that connect it to the ports of the ring.

It uses no threads, processes or sockets, so it runs in virtual time (``arbiter.replay.virtual_time``). There, every
run is the same.
"""

from collections.abc import Callable
from functools import partial

import anyio
import msgspec
from anyio.abc import TaskStatus

from arbiter.actors.future import Future
from arbiter.protocols.model_traits import next_request
from arbiter.protocols.ports import Generation, GenerationRequest, Proposal, Say, Score, ScoreRequest
from arbiter.protocols.records import PrefixMatch, Record, Transcript, Usage
from arbiter.simulation.cache import CachedText
from arbiter.simulation.engine import EngineLoad, EngineRequest, EngineWork, SimulatedEngine, Speed

AnswerMeasure = Callable[[str], int]
"""Returns the number of tokens of a text."""


class ServedRequest(Record, frozen=True):
    """Figures of a request: ``cached`` prompt tokens, seconds in the queue (``waited``), total ``seconds``."""

    cached: int
    waited: float
    seconds: float


Watch = Callable[[GenerationRequest | ScoreRequest, EngineWork, ServedRequest], None]
"""Called for each request that a server has answered, with the ring's request that caused it."""


def unwatched(request: GenerationRequest | ScoreRequest, work: EngineWork, served: ServedRequest) -> None:
    """Ignore the request."""


class SimulatedServer:
    """Serves requests at the given speed while ``run`` runs. ``arbiter.simulation.engine`` describes how."""

    def __init__(self, speed: Speed) -> None:
        self.speed = speed
        self._engine = SimulatedEngine(speed)
        self._answers: dict[EngineRequest, Future[float]] = {}
        self._streams: dict[EngineRequest, Callable[[], object]] = {}
        self._changed = anyio.Event()

    @property
    def load(self) -> EngineLoad:
        """The work done so far."""
        return self._engine.load

    async def run(self, *, task_status: TaskStatus[None] = anyio.TASK_STATUS_IGNORED) -> None:
        """Serve until cancelled."""
        task_status.started()
        while True:
            await anyio.wait_all_tasks_blocked()  # let everything else that happens at this instant run first
            self._changed = anyio.Event()
            answered = self._engine.advance(anyio.current_time())
            while self._engine.begun:
                self._streams.pop(self._engine.begun.pop(0), _nothing)()
            self._answer(answered)
            self._engine.plan()
            with anyio.CancelScope(deadline=self._engine.due):
                await self._changed.wait()

    async def serve(self, work: EngineWork, begun: Callable[[], object] | None = None) -> ServedRequest:
        """Wait until the server has done ``work``, and return the figures. Cancelling frees the slot immediately.

        Requests of equal priority start in the order of these calls. ``begun`` is called when the first token of a
        streamed request is written.
        """
        called = anyio.current_time()
        job = self._engine.job(work)
        if begun is not None:
            self._streams[job] = begun
        answer = self._answers[job] = Future[float]()
        try:
            await anyio.sleep(self.speed.fixed)
            self._engine.arrive(job, anyio.current_time())
            self._changed.set()
            await answer.wait()
        except BaseException:
            self._answer(self._engine.cancel(job, anyio.current_time()))
            self._changed.set()
            raise
        finally:
            del self._answers[job]
            self._streams.pop(job, None)
        return ServedRequest(job.cached, job.waited, anyio.current_time() - called)

    def remember(self, context: tuple[CachedText, ...]) -> None:
        """Add ``context`` to the prefix cache, if it was read and written in other pieces."""
        self._engine.remember(context)

    def _answer(self, answered: list[EngineRequest]) -> None:
        for job in answered:
            self._answers[job].set(anyio.current_time())


def _nothing() -> None:
    """The stream of a request that was cancelled."""


class SimulatedGenerator:
    """A generator on a simulated server. ``script`` sets text, stop reason and completion tokens, whatever the timing.

    The prompt and cached tokens of the usage come from the server. Requests for drafting ahead have a lower priority
    than all others.

    If the request has a proposal, and the script sets how much of it the model keeps, there are up to two requests. The
    first one reads the context and the proposal: it yields the kept tokens and the next one. The second one writes the
    remaining tokens. Its prompt ends with the known tokens, and all but the last are cached. The completion tokens of a
    script include the token that ends the step, so there is no second request if at most one token remains. The cache
    then holds the kept tokens twice: as a piece of the proposal and in the step.
    """

    def __init__(
        self,
        server: SimulatedServer,
        script: Callable[[GenerationRequest], Generation],
        measure: AnswerMeasure,
        watch: Watch = unwatched,
    ) -> None:
        self._server = server
        self._script = script
        self._measure = measure
        self._watch = watch

    async def generate(self, request: GenerationRequest) -> Generation:
        return await self._written(request, None)

    @property
    def writes_blocks(self) -> bool:
        """True: a simulated server writes as many tokens as the script says."""
        return True

    async def generate_block(self, request: GenerationRequest, steps: int) -> tuple[Generation, ...]:
        """Write several steps in one request: the context is read once, and the tokens of all steps are decoded."""
        written, after = list[Generation](), request
        while len(written) < steps and (not written or written[-1].stop_reason == "separator"):
            after = next_request(after, written[-1]) if written else request
            written.append(self._script(after))
        prompt = _prompt(request.transcript, self._measure)
        pieces = [CachedText(step.text, step.usage.completion_tokens) for step in written]
        whole = CachedText("".join(piece.key for piece in pieces), sum(piece.tokens for piece in pieces))
        served = await self._serve(request, EngineWork(prompt, whole))
        self._server.remember((*prompt, *pieces))
        first = Usage(sum(text.tokens for text in prompt), pieces[0].tokens, served.cached)
        usages = [first, *(Usage(0, piece.tokens) for piece in pieces[1:])]
        return tuple(
            msgspec.structs.replace(step, usage=usage, prefix_match=None)
            for step, usage in zip(written, usages, strict=True)
        )

    async def stream(self, request: GenerationRequest, say: Say) -> Generation:
        """Write a step as ``generate``. Its first character stands for its first token, and is passed on to ``say``."""
        return await self._written(request, say)

    async def _written(self, request: GenerationRequest, say: Say | None) -> Generation:
        written, prompt = self._script(request), _prompt(request.transcript, self._measure)
        if request.proposal is not None and written.prefix_match is not None:
            return await self._checked(request, prompt, request.proposal, written, written.prefix_match)
        completion = CachedText(written.text, written.usage.completion_tokens)
        work = EngineWork(prompt, completion, is_streamed=say is not None)
        served = await self._serve(request, work, None if say is None else partial(say, written.text[:1]))
        usage = Usage(sum(text.tokens for text in prompt), completion.tokens, served.cached)
        return Generation(
            written.text,
            written.stop_reason,
            usage,
            written.overhead,
            confidence=written.confidence,
            calls=written.calls,
        )

    async def _checked(
        self,
        request: GenerationRequest,
        context: tuple[CachedText, ...],
        proposal: Proposal,
        written: Generation,
        agreement: PrefixMatch,
    ) -> Generation:
        """Return the step. The server writes only the tokens after those that the proposal shares with it."""
        agreed, more = agreement.matched, agreement.proposed - agreement.matched
        head = CachedText(f"{proposal.text}[:{agreed}]" if more else proposal.text, agreed)
        served = await self._serve(
            request, EngineWork((*context, head, CachedText(f"{proposal.text}[{agreed}:]", more)))
        )
        step = CachedText(written.text, written.usage.completion_tokens)
        if (left := step.tokens - agreed - 1) > 0:
            known = (*context, head, CachedText(f"{step.key}[{agreed}]", 1))
            await self._serve(request, EngineWork(known, CachedText(f"{step.key}[{agreed + 1}:]", left)))
        self._server.remember((*context, step))
        prompt = sum(text.tokens for text in context)
        usage = Usage(prompt, step.tokens, min(served.cached, prompt))
        overhead = written.overhead + Usage(more)
        return Generation(step.key, written.stop_reason, usage, overhead, agreement, calls=written.calls)

    async def _serve(
        self, request: GenerationRequest, work: EngineWork, begun: Callable[[], object] | None = None
    ) -> ServedRequest:
        work = msgspec.structs.replace(work, priority=int(request.ahead))
        served = await self._server.serve(work, begun)
        self._watch(request, work, served)
        return served


class SimulatedScorer:
    """A scorer on a simulated server, which only reads. ``script`` sets the score, whatever the timing."""

    def __init__(
        self,
        server: SimulatedServer,
        script: Callable[[ScoreRequest], float],
        measure: AnswerMeasure,
        watch: Watch = unwatched,
    ) -> None:
        self._server = server
        self._script = script
        self._measure = measure
        self._watch = watch

    async def score(self, request: ScoreRequest) -> Score:
        candidate = CachedText(request.candidate, self._measure(request.candidate))
        work = EngineWork((*_prompt(request.transcript, self._measure), candidate))
        served = await self._server.serve(work)
        self._watch(request, work, served)
        return Score(self._script(request), Usage(sum(text.tokens for text in work.prompt), 0, served.cached))

    @property
    def scores_blocks(self) -> bool:
        """True: one prefill pass reads all candidates."""
        return True

    async def score_block(self, requests: tuple[ScoreRequest, ...]) -> tuple[Score, ...]:
        """Score several candidates in one request, which reads the context once, and all candidates after it."""
        pieces = [CachedText(request.candidate, self._measure(request.candidate)) for request in requests]
        work = EngineWork((*_prompt(requests[0].transcript, self._measure), *pieces))
        served = await self._server.serve(work)
        self._watch(requests[0], work, served)
        usage = Usage(sum(text.tokens for text in work.prompt), 0, served.cached)
        return tuple(
            Score(self._script(request), Usage() if index else usage) for index, request in enumerate(requests)
        )


def _prompt(transcript: Transcript, measure: AnswerMeasure) -> tuple[CachedText, ...]:
    texts = (transcript.question, *(step.text for step in transcript.steps))
    return tuple(CachedText(text, measure(text)) for text in texts)
