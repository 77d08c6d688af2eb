"""A simulated model server, and the adapters that put it behind the ports of the ring.

No thread, process or socket takes part, so it runs in virtual time (``arbiter.replay.virtual``), where results are
exact and every run is the same.
"""

from collections.abc import Callable

import anyio
from anyio.abc import TaskStatus

from actors.later import Later
from arbiter.simulation.cache import Text
from arbiter.simulation.engine import Engine, Job, Load, Speed, Work
from protocols.ports import Generation, GenerationRequest, Score, ScoreRequest
from protocols.records import Record, Transcript, Usage

Measure = Callable[[str], int]
"""How many tokens a text has."""


class Served(Record, frozen=True):
    """What a request found: tokens of its prompt in the cache, seconds in the queue, and seconds in all."""

    cached: int
    waited: float
    seconds: float


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

    def _tell(self, answered: list[Job]) -> None:
        for job in answered:
            self._answers[job].set(anyio.current_time())


class SimulatedGenerator:
    """A generator at a server. ``script`` says text, ending and completion tokens, whatever the timing.

    Prompt and cached tokens of the answer's usage are the server's.
    """

    def __init__(
        self, server: SimulatedServer, script: Callable[[GenerationRequest], Generation], measure: Measure
    ) -> None:
        self._server = server
        self._script = script
        self._measure = measure

    async def generate(self, request: GenerationRequest) -> Generation:
        written = self._script(request)
        prompt = _prompt(request.transcript, self._measure)
        completion = Text(written.text, written.usage.completion_tokens)
        served = await self._server.serve(Work(prompt, completion))
        usage = Usage(sum(text.tokens for text in prompt), completion.tokens, served.cached)
        return Generation(written.text, written.ending, usage, written.overhead)


class SimulatedScorer:
    """A scorer at a server, which reads and writes nothing. ``script`` says the score, whatever the timing."""

    def __init__(self, server: SimulatedServer, script: Callable[[ScoreRequest], float], measure: Measure) -> None:
        self._server = server
        self._script = script
        self._measure = measure

    async def score(self, request: ScoreRequest) -> Score:
        candidate = Text(request.candidate, self._measure(request.candidate))
        prompt = (*_prompt(request.transcript, self._measure), candidate)
        served = await self._server.serve(Work(prompt))
        return Score(self._script(request), Usage(sum(text.tokens for text in prompt), 0, served.cached))


def _prompt(transcript: Transcript, measure: Measure) -> tuple[Text, ...]:
    texts = (transcript.question, *(step.text for step in transcript.steps))
    return tuple(Text(text, measure(text)) for text in texts)
