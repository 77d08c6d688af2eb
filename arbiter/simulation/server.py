"""A simulated model server, and the adapters that put it behind the ports of the ring.

No thread, process or socket takes part, so it runs in virtual time (``arbiter.replay.virtual_time``), where results are
exact and every run is the same.
"""

from collections.abc import Callable

import anyio
import msgspec
from anyio.abc import TaskStatus

from arbiter.actors.future import Future
from arbiter.protocols.ports import Generation, GenerationRequest, Proposal, Score, ScoreRequest
from arbiter.protocols.records import PrefixMatch, Record, Transcript, Usage
from arbiter.simulation.cache import CachedText
from arbiter.simulation.engine import EngineLoad, EngineRequest, EngineWork, SimulatedEngine, Speed

AnswerMeasure = Callable[[str], int]
"""How many tokens a text has."""


class ServedRequest(Record, frozen=True):
    """What a request found: tokens of its prompt in the cache, seconds in the queue, and seconds in all."""

    cached: int
    waited: float
    seconds: float


Watch = Callable[[GenerationRequest | ScoreRequest, EngineWork, ServedRequest], None]
"""Is told of each request that a server has answered, on behalf of which request of the ring."""


def unwatched(request: GenerationRequest | ScoreRequest, work: EngineWork, served: ServedRequest) -> None:
    """Nobody looks on."""


class SimulatedServer:
    """Serves requests at the given speed while ``run`` runs, as ``arbiter.simulation.engine`` describes it."""

    def __init__(self, speed: Speed) -> None:
        self.speed = speed
        self._engine = SimulatedEngine(speed)
        self._answers: dict[EngineRequest, Future[float]] = {}
        self._changed = anyio.Event()

    @property
    def load(self) -> EngineLoad:
        """What it has done so far."""
        return self._engine.load

    async def run(self, *, task_status: TaskStatus[None] = anyio.TASK_STATUS_IGNORED) -> None:
        """Serve until cancelled."""
        task_status.started()
        while True:
            await anyio.wait_all_tasks_blocked()  # whatever else happens at this instant comes first
            self._changed = anyio.Event()
            self._tell(self._engine.advance(anyio.current_time()))
            self._engine.plan()
            with anyio.CancelScope(deadline=self._engine.due):
                await self._changed.wait()

    async def serve(self, work: EngineWork) -> ServedRequest:
        """Wait for the server to do ``work``. A cancelled request leaves its place at once.

        Requests of equal priority are begun in the order of these calls.
        """
        called = anyio.current_time()
        job = self._engine.job(work)
        answer = self._answers[job] = Future[float]()
        try:
            await anyio.sleep(self.speed.fixed)
            self._engine.arrive(job, anyio.current_time())
            self._changed.set()
            await answer.wait()
        except BaseException:
            self._tell(self._engine.cancel(job, anyio.current_time()))
            self._changed.set()
            raise
        finally:
            del self._answers[job]
        return ServedRequest(job.cached, job.waited, anyio.current_time() - called)

    def remember(self, context: tuple[CachedText, ...]) -> None:
        """Keep ``context`` in the prefix cache, where it was read and written in other pieces."""
        self._engine.remember(context)

    def _tell(self, answered: list[EngineRequest]) -> None:
        for job in answered:
            self._answers[job].set(anyio.current_time())


class SimulatedGenerator:
    """A generator at a server. ``script`` says text, ending and completion tokens, whatever the timing.

    Prompt and cached tokens of the answer's usage are the server's. What is written ahead waits behind all that
    somebody waits for.

    If the request has a proposal and the script says how far the model agrees with it, the model reads the proposal
    after the context, in a request of its own. So the tokens agreed on and the one after them are known; the others, if
    there are any, it writes in a second request, whose prompt ends with those and is in the cache but for the last. The
    completion tokens of a script hold the one that ends the step: where no more than one is left, there is no second
    request. The cache then holds the tokens agreed on twice, as a piece of the proposal and in the step.
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
        written, prompt = self._script(request), _prompt(request.transcript, self._measure)
        if request.proposal is not None and written.prefix_match is not None:
            return await self._checked(request, prompt, request.proposal, written, written.prefix_match)
        completion = CachedText(written.text, written.usage.completion_tokens)
        served = await self._serve(request, EngineWork(prompt, completion))
        usage = Usage(sum(text.tokens for text in prompt), completion.tokens, served.cached)
        return Generation(written.text, written.stop_reason, usage, written.overhead, confidence=written.confidence)

    async def _checked(
        self,
        request: GenerationRequest,
        context: tuple[CachedText, ...],
        proposal: Proposal,
        written: Generation,
        agreement: PrefixMatch,
    ) -> Generation:
        """The step, of which the server has to write what is left after the tokens agreed on."""
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
        return Generation(step.key, written.stop_reason, usage, written.overhead + Usage(more), agreement)

    async def _serve(self, request: GenerationRequest, work: EngineWork) -> ServedRequest:
        work = msgspec.structs.replace(work, priority=int(request.ahead))
        served = await self._server.serve(work)
        self._watch(request, work, served)
        return served


class SimulatedScorer:
    """A scorer at a server, which reads and writes nothing. ``script`` says the score, whatever the timing."""

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


def _prompt(transcript: Transcript, measure: AnswerMeasure) -> tuple[CachedText, ...]:
    texts = (transcript.question, *(step.text for step in transcript.steps))
    return tuple(CachedText(text, measure(text)) for text in texts)
