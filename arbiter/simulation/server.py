"""A simulated model server, and the adapters that put it behind the ports of the ring.

No thread, process or socket takes part, so it runs in virtual time (``arbiter.replay.virtual_time``), where results are
exact and every run is the same.
"""

from collections.abc import Callable

import anyio
import msgspec
from anyio.abc import TaskStatus

from arbiter.actors.future import Later
from arbiter.protocols.ports import Generation, GenerationRequest, Proposal, Score, ScoreRequest
from arbiter.protocols.records import Agreement, Record, Transcript, Usage
from arbiter.simulation.cache import Text
from arbiter.simulation.engine import Engine, Job, Load, Speed, Work

Measure = Callable[[str], int]
"""How many tokens a text has."""


class Served(Record, frozen=True):
    """What a request found: tokens of its prompt in the cache, seconds in the queue, and seconds in all."""

    cached: int
    waited: float
    seconds: float


Watch = Callable[[GenerationRequest | ScoreRequest, Work, Served], None]
"""Is told of each request that a server has answered, on behalf of which request of the ring."""


def unwatched(request: GenerationRequest | ScoreRequest, work: Work, served: Served) -> None:
    """Nobody looks on."""


class SimulatedServer:
    """Serves requests at the given speed while ``run`` runs, as ``arbiter.simulation.engine`` describes it."""

    def __init__(self, speed: Speed) -> None:
        self.speed = speed
        self._engine = Engine(speed)
        self._answers: dict[Job, Later[float]] = {}
        self._changed = anyio.Event()

    @property
    def load(self) -> Load:
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

    async def serve(self, work: Work) -> Served:
        """Wait for the server to do ``work``. A cancelled request leaves its place at once.

        Requests of equal priority are begun in the order of these calls.
        """
        called = anyio.current_time()
        job = self._engine.job(work)
        answer = self._answers[job] = Later[float]()
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
        return Served(job.cached, job.waited, anyio.current_time() - called)

    def remember(self, context: tuple[Text, ...]) -> None:
        """Keep ``context`` in the prefix cache, where it was read and written in other pieces."""
        self._engine.remember(context)

    def _tell(self, answered: list[Job]) -> None:
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
        measure: Measure,
        watch: Watch = unwatched,
    ) -> None:
        self._server = server
        self._script = script
        self._measure = measure
        self._watch = watch

    async def generate(self, request: GenerationRequest) -> Generation:
        written, prompt = self._script(request), _prompt(request.transcript, self._measure)
        if request.proposal is not None and written.agreement is not None:
            return await self._checked(request, prompt, request.proposal, written, written.agreement)
        completion = Text(written.text, written.usage.completion_tokens)
        served = await self._serve(request, Work(prompt, completion))
        usage = Usage(sum(text.tokens for text in prompt), completion.tokens, served.cached)
        return Generation(written.text, written.ending, usage, written.overhead, confidence=written.confidence)

    async def _checked(
        self,
        request: GenerationRequest,
        context: tuple[Text, ...],
        proposal: Proposal,
        written: Generation,
        agreement: Agreement,
    ) -> Generation:
        """The step, of which the server has to write what is left after the tokens agreed on."""
        agreed, more = agreement.agreed, agreement.proposed - agreement.agreed
        head = Text(f"{proposal.text}[:{agreed}]" if more else proposal.text, agreed)
        served = await self._serve(request, Work((*context, head, Text(f"{proposal.text}[{agreed}:]", more))))
        step = Text(written.text, written.usage.completion_tokens)
        if (left := step.tokens - agreed - 1) > 0:
            known = (*context, head, Text(f"{step.key}[{agreed}]", 1))
            await self._serve(request, Work(known, Text(f"{step.key}[{agreed + 1}:]", left)))
        self._server.remember((*context, step))
        prompt = sum(text.tokens for text in context)
        usage = Usage(prompt, step.tokens, min(served.cached, prompt))
        return Generation(step.key, written.ending, usage, written.overhead + Usage(more), agreement)

    async def _serve(self, request: GenerationRequest, work: Work) -> Served:
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
        measure: Measure,
        watch: Watch = unwatched,
    ) -> None:
        self._server = server
        self._script = script
        self._measure = measure
        self._watch = watch

    async def score(self, request: ScoreRequest) -> Score:
        candidate = Text(request.candidate, self._measure(request.candidate))
        work = Work((*_prompt(request.transcript, self._measure), candidate))
        served = await self._server.serve(work)
        self._watch(request, work, served)
        return Score(self._script(request), Usage(sum(text.tokens for text in work.prompt), 0, served.cached))


def _prompt(transcript: Transcript, measure: Measure) -> tuple[Text, ...]:
    texts = (transcript.question, *(step.text for step in transcript.steps))
    return tuple(Text(text, measure(text)) for text in texts)
