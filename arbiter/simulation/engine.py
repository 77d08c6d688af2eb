"""How a model server spends its time: continuous batching as a state machine, with neither clock nor task in it.

- Requests wait in the order of (``priority``, number). As soon as one waits and there is a place for it, the server
  makes a reading pass over all that wait, as far as there are places and the pass has room for their tokens. A pass
  takes ``step`` and the time of the tokens that are not in the prefix cache. Decoding stands still meanwhile (sglang's
  default), or, in a ``mixed`` server, the pass is a decode step as well and takes the time of both (vLLM's default). It
  writes no token of the requests that it reads, and once begun it is finished.
- Else all running sequences decode together, a token each in a decode step, whose time depends on how many they are
  and how much context they hold. A sequence counts with its prompt and half of what it will write, from its first
  token to its last, so that the time of a step changes only when a sequence comes or goes. Between those events time
  passes in one stride, and tokens are divisible.
- A sequence is never preempted. The cache's budget is apart from the memory of running sequences.
"""

import heapq
import math
from itertools import count

import msgspec

from arbiter.protocols.errors import ConfigError
from arbiter.protocols.records import Record
from arbiter.simulation.cache import CachedText, PrefixCache


class Speed(Record, frozen=True):
    """What a server can do.

    A decode step takes ``step`` seconds, ``sequence`` more for each running sequence, and ``context`` more for each
    1,000 tokens of context that they hold. ``prefill`` is in tokens a second, and ``fixed`` are the seconds that a
    request spends outside of the model. At most ``running`` sequences are read and decoded at once, at most
    ``pass_tokens`` new tokens are read in a pass (or one request, if it is longer), and the prefix cache holds
    ``cache_tokens``. In a ``mixed`` server a pass that reads decodes as well.
    """

    step: float
    sequence: float
    prefill: float
    context: float = 0.0
    fixed: float = 0.0
    running: int = 64
    pass_tokens: int = 16384
    cache_tokens: int = 1_000_000
    mixed: bool = False

    def __post_init__(self) -> None:
        """Raises ``ConfigError`` if a request could never be answered."""
        times = (self.step, self.sequence, self.context, self.fixed)
        if not all(0 <= seconds < math.inf for seconds in times):
            raise ConfigError(f"a server's times must be 0 s or more, and finite: {self}")
        if not self.step > 0 or not self.prefill > 0 or self.running < 1:
            raise ConfigError(f"step and prefill must be more than 0, and running 1 or more: {self}")

    def reading(self, tokens: int) -> float:
        """Seconds of a pass over ``tokens`` new tokens."""
        return self.step + tokens / self.prefill

    def decoding(self, running: int, context: float) -> float:
        """Seconds of a decode step of so many ``running`` sequences that hold ``context`` tokens together."""
        return self.step + self.sequence * running + self.context * context / 1000

    def alone(self, prompt: int, cached: int, completion: int) -> float:
        """Seconds that a request takes on an idle server: no server answers it sooner."""
        decoding = completion * self.decoding(1, prompt + completion / 2)
        return self.fixed + self.reading(prompt - cached) + decoding

    def least(self, prompt: int, cached: int, completion: int, together: int) -> float:
        """Seconds of the server's time that a request costs at least, where at most ``together`` share each pass."""
        shared = (1 + completion) * self.step / min(together, self.running)
        own = completion * (self.sequence + self.context * (prompt + completion / 2) / 1000)
        return (prompt - cached) / self.prefill + shared + own


class EngineWork(Record, frozen=True):
    """A request: the context to read, and the text that will be written (None: only read, as scorers do).

    A smaller ``priority`` goes first.
    """

    prompt: tuple[CachedText, ...]
    completion: CachedText | None = None
    priority: int = 0


class EngineLoad(msgspec.Struct):
    """What a server has done: seconds of its time, requests, and tokens.

    ``read`` and ``cached`` are tokens of prompts, ``decoded`` of answers, those of cancelled requests among them;
    ``wasted`` are the tokens read and decoded for requests that were cancelled. ``waited`` are the seconds from arrival
    to the beginning of the reading pass, over all requests that were begun. ``evicted`` tokens fell out of the cache.
    """

    reading: float = 0.0
    decoding: float = 0.0
    requests: int = 0
    answered: int = 0
    cancelled: int = 0
    read: int = 0
    cached: int = 0
    decoded: int = 0
    wasted: int = 0
    passes: int = 0
    waited: float = 0.0
    longest_wait: float = 0.0
    most_running: int = 0
    evicted: int = 0

    @property
    def busy(self) -> float:
        return self.reading + self.decoding

    def utilisation(self, seconds: float) -> float:
        """Share of ``seconds`` in which the server was busy."""
        return self.busy / seconds if seconds else 0.0


class EngineRequest:
    """A request on its way through a server; ``number`` breaks ties, ``cached`` is known once it is being read."""

    def __init__(self, number: int, work: EngineWork) -> None:
        self.number = number
        self.work = work
        self.arrived = 0.0
        self.prompt = sum(text.tokens for text in work.prompt)
        self.completion = work.completion.tokens if work.completion else 0
        self.cached = 0
        self.started = False
        self.waited = 0.0
        self.first = 0.0  # tokens that the server's sequences had decoded when this one began to
        self.over = False

    @property
    def held(self) -> float:
        """Tokens of context that it counts with while it decodes."""
        return self.prompt + self.completion / 2


class SimulatedEngine:
    """A server's state. Times are absolute and never go backwards; ``due`` is when something next comes to its end.

    Whoever drives it lets time pass (``advance``) up to ``due`` at most, and then calls ``plan``.
    """

    def __init__(self, speed: Speed, now: float = 0.0) -> None:
        self.speed = speed
        self.load = EngineLoad()
        self.due = math.inf
        self._now = now
        self._numbers = count()
        self._cache = PrefixCache(speed.cache_tokens)
        self._waiting: list[tuple[int, int, EngineRequest]] = []
        self._reading: list[EngineRequest] = []
        self._pass_ends = self._sequence_ends = math.inf
        self._pace = 0.0  # tokens a second that each running sequence decodes now
        self._running: set[EngineRequest] = set()
        self._held = 0.0
        self._ends: list[tuple[float, int, EngineRequest]] = []  # in tokens on the scale of _decoded
        self._decoded = 0.0  # tokens that a sequence running from the beginning would have written

    def job(self, work: EngineWork) -> EngineRequest:
        """A request that is on its way to the server."""
        self.load.requests += 1
        return EngineRequest(next(self._numbers), work)

    def arrive(self, job: EngineRequest, now: float) -> None:
        """``job`` waits from now on; the next ``plan`` may begin it."""
        job.arrived = now
        heapq.heappush(self._waiting, (job.work.priority, job.number, job))

    def advance(self, now: float) -> list[EngineRequest]:
        """Let time pass, and return what is answered by then, in the order of numbers."""
        elapsed, self._now = max(now - self._now, 0.0), max(now, self._now)
        self._decoded += elapsed * self._pace
        if self._pass_ends < math.inf:
            self.load.reading += elapsed
        elif self._running:
            self.load.decoding += elapsed
        answered = self._decode() if now >= self._sequence_ends else []
        if now >= self._pass_ends:
            answered += self._read()
        return sorted(answered, key=lambda job: job.number)

    def plan(self) -> None:
        """Begin a pass if there is reason to, and say when something is next due."""
        if self._pass_ends == math.inf and not self._begin():
            self._pace = 1 / self._step() if self._running else 0.0
        while self._ends and self._ends[0][2].over:
            heapq.heappop(self._ends)
        self._sequence_ends = math.inf
        if self._ends and self._pace:
            self._sequence_ends = self._now + (self._ends[0][0] - self._decoded) / self._pace
        self.due = min(self._pass_ends, self._sequence_ends)

    def cancel(self, job: EngineRequest, now: float) -> list[EngineRequest]:
        """Take ``job`` out at once; its place is free for the next pass. Returns what else is answered by now.

        An answer of this very moment comes too late: nobody has it, and the request counts as cancelled.
        """
        answered = self.advance(now)
        written = 0
        if job.over:
            self.load.answered -= 1
            written = job.completion
        elif job in self._running:
            written = int(self._decoded - job.first)
            self.load.decoded += written
            self._leave(job)
        elif job in self._reading:
            self._reading.remove(job)
        job.over = True
        self.load.cancelled += 1
        self.load.wasted += written + (job.prompt - job.cached if job.started else 0)
        return [other for other in answered if other is not job]

    def remember(self, context: tuple[CachedText, ...]) -> None:
        """Keep ``context`` in the prefix cache, where the server has read and written it in other pieces."""
        self._cache.remember(context)
        self.load.evicted = self._cache.evicted

    def _step(self) -> float:
        return self.speed.decoding(len(self._running), self._held)

    def _begin(self) -> bool:
        """Take those that wait, in their order, into a pass, as far as there is room. False if none was taken."""
        tokens = 0
        while self._waiting and len(self._running) + len(self._reading) < self.speed.running:
            job = self._waiting[0][2]
            cached = 0 if job.over else self._cache.known(job.work.prompt)
            if self._reading and tokens + job.prompt - cached > self.speed.pass_tokens:
                break
            heapq.heappop(self._waiting)
            if not job.over:
                self._start(job, cached)
                tokens += job.prompt - cached
        if not self._reading:
            return False
        together = self.speed.mixed and len(self._running) > 0
        seconds = self.speed.reading(tokens) + (self._step() - self.speed.step if together else 0.0)
        self._pass_ends, self._pace = self._now + seconds, 1 / seconds if together else 0.0
        self.load.passes += 1
        self.load.most_running = max(self.load.most_running, len(self._running) + len(self._reading))
        return True

    def _start(self, job: EngineRequest, cached: int) -> None:
        job.started, job.cached, job.waited = True, cached, self._now - job.arrived
        self._reading.append(job)
        self.load.cached += cached
        self.load.read += job.prompt - cached
        self.load.waited += job.waited
        self.load.longest_wait = max(self.load.longest_wait, job.waited)

    def _read(self) -> list[EngineRequest]:
        """A pass is over: what is only read is answered, the others decode from now on."""
        read, self._reading, self._pass_ends = self._reading, [], math.inf
        for job in read:
            self.remember(job.work.prompt)
            if job.completion:
                job.first = self._decoded
                self._running.add(job)
                self._held += job.held
                heapq.heappush(self._ends, (job.first + job.completion, job.number, job))
        return [self._answer(job) for job in read if not job.completion]

    def _decode(self) -> list[EngineRequest]:
        """The sequence that was to end first has ended, and others with it."""
        self._sequence_ends = math.inf
        self._decoded = max(self._decoded, self._ends[0][0])  # exactly: what is left over is rounding
        ended = list[EngineRequest]()
        while self._ends and self._ends[0][0] <= self._decoded:
            _, _, job = heapq.heappop(self._ends)
            if not job.over:
                self._leave(job)
                ended.append(self._answer(job))
        return ended

    def _leave(self, job: EngineRequest) -> None:
        self._running.remove(job)
        self._held -= job.held
        if not self._running:  # numbers stay small, and with them their rounding
            self._ends.clear()
            self._decoded = 0.0

    def _answer(self, job: EngineRequest) -> EngineRequest:
        job.over = True
        self.load.answered += 1
        self.load.decoded += job.completion
        if job.work.completion is not None:
            self.remember((*job.work.prompt, job.work.completion))
        return job
