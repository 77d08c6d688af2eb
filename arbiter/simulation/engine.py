"""A model of how a server spends its time: continuous batching as a state machine, without clock or tasks.

- Requests wait in the order of (``priority``, number). When one waits and a slot is free, the server makes a prefill
  pass over the waiting requests, as far as there are free slots and the pass has room for their tokens. A pass takes
  ``step`` plus the time of the tokens that are not in the prefix cache. Decoding stops during the pass (sglang's
  default). In a ``mixed`` server the pass is also a decode step and takes the time of both (vLLM's default). A pass
  writes no token of the requests that it reads, and it is never interrupted.
- Otherwise all running sequences decode together, one token each per decode step. The time of a step depends on the
  number of sequences and on their context. A sequence counts with its prompt and half of its completion, from its first
  token to its last. So the time of a step changes only when a sequence starts or ends, and time advances from one such
  event to the next. Tokens are divisible.
- A sequence is never preempted. The budget of the cache is separate from the memory of running sequences.
"""

import heapq
import math
from itertools import count

import msgspec

from arbiter.protocols.errors import ConfigError
from arbiter.protocols.records import Record
from arbiter.simulation.cache import CachedText, PrefixCache


class Speed(Record, frozen=True):
    """The speed and the limits of a server.

    - A decode step takes ``step`` seconds, plus ``sequence`` per running sequence and ``context`` per 1,000 tokens of
      their context.
    - ``prefill`` is in tokens per second. ``fixed`` is the seconds that a request spends outside of the model.
    - At most ``running`` sequences are read and decoded concurrently. A prefill pass reads at most ``pass_tokens`` new
      tokens, or one longer request. The prefix cache holds ``cache_tokens``.
    - In a ``mixed`` server a prefill pass also decodes.
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
        """Raise ``ConfigError`` if a request could never be answered."""
        times = (self.step, self.sequence, self.context, self.fixed)
        if not all(0 <= seconds < math.inf for seconds in times):
            raise ConfigError(f"the times of a server must be finite and at least 0 s: {self}")
        if not self.step > 0 or not self.prefill > 0 or self.running < 1:
            raise ConfigError(f"step and prefill must be above 0, and running at least 1: {self}")

    def reading(self, tokens: int) -> float:
        """Return the seconds of a prefill pass over ``tokens`` new tokens."""
        return self.step + tokens / self.prefill

    def decoding(self, running: int, context: float) -> float:
        """Return the seconds of a decode step of ``running`` sequences with ``context`` tokens in total."""
        return self.step + self.sequence * running + self.context * context / 1000

    def alone(self, prompt: int, cached: int, completion: int) -> float:
        """Return the seconds that a request takes on an idle server, a lower bound under any load."""
        decoding = completion * self.decoding(1, prompt + completion / 2)
        return self.fixed + self.reading(prompt - cached) + decoding

    def least(self, prompt: int, cached: int, completion: int, together: int) -> float:
        """Return the least server time of a request in seconds, if at most ``together`` requests share each pass."""
        shared = (1 + completion) * self.step / min(together, self.running)
        own = completion * (self.sequence + self.context * (prompt + completion / 2) / 1000)
        return (prompt - cached) / self.prefill + shared + own


class EngineWork(Record, frozen=True):
    """A request: the context to read, and the text to write (None: only read, as scorers do).

    Requests with a smaller ``priority`` are served first. ``is_streamed``: its first token is noted when it is written.
    """

    prompt: tuple[CachedText, ...]
    completion: CachedText | None = None
    priority: int = 0
    is_streamed: bool = False


class EngineLoad(msgspec.Struct):
    """The work that a server has done: seconds, requests and tokens.

    - ``reading``, ``decoding``: seconds of prefill passes and of decode steps.
    - ``read``, ``cached``: prompt tokens that were computed, and that came from the prefix cache. ``decoded``: tokens
      of answers. All include cancelled requests.
    - ``wasted``: tokens read and decoded for cancelled requests.
    - ``waited``: the sum of seconds from arrival to the start of the prefill pass, over all started requests.
    - ``evicted``: tokens evicted from the cache.
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
        """Return the share of ``seconds`` in which the server was busy."""
        return self.busy / seconds if seconds else 0.0


class EngineRequest:
    """A request in a server. ``number`` breaks ties. ``cached`` is known once the request is being read."""

    def __init__(self, number: int, work: EngineWork) -> None:
        self.number = number
        self.work = work
        self.arrived = 0.0
        self.prompt = sum(text.tokens for text in work.prompt)
        self.completion = work.completion.tokens if work.completion else 0
        self.cached = 0
        self.started = False
        self.waited = 0.0
        self.first = 0.0  # the value of SimulatedEngine._decoded when this request began to decode
        self.over = False

    @property
    def held(self) -> float:
        """The tokens of context that it counts for while it decodes."""
        return self.prompt + self.completion / 2


class SimulatedEngine:
    """The state of a server. Times are absolute and never decrease. ``due`` is the time of the next event.

    The caller advances time (``advance``) to at most ``due``, and then calls ``plan``. ``begun`` are the streamed
    requests whose first token was written; the caller empties it.
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
        self._pace = 0.0  # tokens per second that each running sequence decodes now
        self._running: set[EngineRequest] = set()
        self._held = 0.0
        self._ends: list[tuple[float, int, EngineRequest]] = []  # ends of sequences, as values of _decoded
        self._begins: list[tuple[float, int, EngineRequest]] = []  # first tokens of streams, as values of _decoded
        self.begun: list[EngineRequest] = []
        self._decoded = 0.0  # tokens that a sequence running since the start would have written

    def job(self, work: EngineWork) -> EngineRequest:
        """Create a request that has not yet arrived at the server."""
        self.load.requests += 1
        return EngineRequest(next(self._numbers), work)

    def arrive(self, job: EngineRequest, now: float) -> None:
        """Add ``job`` to the queue. The next ``plan`` may start it."""
        job.arrived = now
        heapq.heappush(self._waiting, (job.work.priority, job.number, job))

    def advance(self, now: float) -> list[EngineRequest]:
        """Advance time to ``now``. Return the requests answered by then, ordered by number."""
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
        """Start a prefill pass if a request can start, and set ``due``."""
        if self._pass_ends == math.inf and not self._begin():
            self._pace = 1 / self._step() if self._running else 0.0
        for events in (self._ends, self._begins):
            while events and events[0][2].over:
                heapq.heappop(events)
        self._sequence_ends = math.inf
        if self._ends and self._pace:
            self._sequence_ends = self._now + (self._next_event() - self._decoded) / self._pace
        self.due = min(self._pass_ends, self._sequence_ends)

    def cancel(self, job: EngineRequest, now: float) -> list[EngineRequest]:
        """Remove ``job`` immediately and free its slot. Return the other requests answered by ``now``.

        If ``job`` is answered at this very moment, it still counts as cancelled.
        """
        answered = self.advance(now)
        written = 0
        if job.over:
            self.load.answered -= 1
            written = job.completion
        elif job in self._running:
            written = int(self._decoded - job.first)
            self.load.decoded += written
            self._remove(job)
        elif job in self._reading:
            self._reading.remove(job)
        job.over = True
        self.load.cancelled += 1
        self.load.wasted += written + (job.prompt - job.cached if job.started else 0)
        return [other for other in answered if other is not job]

    def remember(self, context: tuple[CachedText, ...]) -> None:
        """Add ``context`` to the prefix cache, if the server has read and written it in other pieces."""
        self._cache.remember(context)
        self.load.evicted = self._cache.evicted

    def _next_event(self) -> float:
        """Return the value of ``_decoded`` at which a sequence ends next, or a stream begins."""
        return min(self._ends[0][0], self._begins[0][0] if self._begins else math.inf)

    def _step(self) -> float:
        return self.speed.decoding(len(self._running), self._held)

    def _begin(self) -> bool:
        """Start a pass with as many waiting requests as fit, in order. Return False if there is none."""
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
        """End a prefill pass: return the requests without completion as answered, and start to decode the others."""
        read, self._reading, self._pass_ends = self._reading, [], math.inf
        for job in read:
            self.remember(job.work.prompt)
            if job.completion:
                job.first = self._decoded
                self._running.add(job)
                self._held += job.held
                heapq.heappush(self._ends, (job.first + job.completion, job.number, job))
                if job.work.is_streamed:
                    heapq.heappush(self._begins, (job.first + 1, job.number, job))
        return [self._answer(job) for job in read if not job.completion]

    def _decode(self) -> list[EngineRequest]:
        """Return the sequences that end now. Note the streams that begin."""
        self._sequence_ends = math.inf
        self._decoded = max(self._decoded, self._next_event())  # removes the rounding error
        while self._begins and self._begins[0][0] <= self._decoded:
            job = heapq.heappop(self._begins)[2]
            if not job.over:
                self.begun.append(job)
        ended = list[EngineRequest]()
        while self._ends and self._ends[0][0] <= self._decoded:
            _, _, job = heapq.heappop(self._ends)
            if not job.over:
                self._remove(job)
                ended.append(self._answer(job))
        return ended

    def _remove(self, job: EngineRequest) -> None:
        self._running.remove(job)
        self._held -= job.held
        if not self._running:  # small numbers keep the rounding error small
            self._ends.clear()
            self._begins.clear()
            self._decoded = 0.0

    def _answer(self, job: EngineRequest) -> EngineRequest:
        job.over = True
        self.load.answered += 1
        self.load.decoded += job.completion
        if job.work.completion is not None:
            self.remember((*job.work.prompt, job.work.completion))
        return job
