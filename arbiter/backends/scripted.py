"""Backends without a model: a function answers. They are for tests of Arbiter and of programs that use it."""

from collections.abc import Callable, Generator, Sequence
from contextlib import contextmanager

import anyio

from arbiter.backends.step_blocks import written_in_turn
from arbiter.protocols.ports import Generation, GenerationRequest, Say, Score, ScoreRequest
from arbiter.protocols.records import Usage

Seconds = float | Callable[[GenerationRequest | ScoreRequest], float]


def _no_texts(_request: GenerationRequest) -> Sequence[str]:
    return ()


class _Scripted:
    """Counts calls. ``seconds`` is the duration of each call, on the clock of the event loop."""

    def __init__(self, seconds: Seconds) -> None:
        self._seconds = seconds
        self.calls = 0
        self.running = 0
        self.most_running = 0
        self.cancelled = 0

    @contextmanager
    def _counted(self) -> Generator[None]:
        self.calls += 1
        self.running += 1
        self.most_running = max(self.most_running, self.running)
        try:
            yield
        except anyio.get_cancelled_exc_class():
            self.cancelled += 1
            raise
        finally:
            self.running -= 1

    async def _take_time(self, request: GenerationRequest | ScoreRequest, share: float = 1.0) -> None:
        await anyio.sleep(share * (self._seconds(request) if callable(self._seconds) else self._seconds))


class ScriptedGenerator(_Scripted):
    """Answers with ``script(request)``: a ``Generation``, or the text of a step that ends at the separator.

    The tokens of a text are its words. If the script raises, the request fails with that exception.

    ``texts(request)`` are the texts so far that it passes on if its text is wanted while it writes. Each of them, and
    the whole step, takes an equal part of the duration.

    With ``writes_blocks`` it writes several steps in one request, which takes the duration of all of them.
    """

    def __init__(
        self,
        script: Callable[[GenerationRequest], Generation | str],
        seconds: Seconds = 0.0,
        texts: Callable[[GenerationRequest], Sequence[str]] = _no_texts,
        writes_blocks: bool = False,
    ) -> None:
        super().__init__(seconds)
        self.writes_blocks = writes_blocks
        self._script = script
        self._texts = texts

    async def generate(self, request: GenerationRequest) -> Generation:
        with self._counted():
            return await self._step(request)

    async def stream(self, request: GenerationRequest, say: Say) -> Generation:
        """Answer as ``generate``, and pass on the texts so far."""
        with self._counted():
            texts = self._texts(request)
            for text in texts:
                await self._take_time(request, 1 / (len(texts) + 1))
                say(text)
            await self._take_time(request, 1 / (len(texts) + 1))
            return self._answer(request)

    async def generate_block(self, request: GenerationRequest, steps: int) -> tuple[Generation, ...]:
        """Answer as ``generate`` would for each of the steps after one another."""
        with self._counted():
            return await written_in_turn(self._step, request, steps)

    async def _step(self, request: GenerationRequest) -> Generation:
        await self._take_time(request)
        return self._answer(request)

    def _answer(self, request: GenerationRequest) -> Generation:
        answer = self._script(request)
        if isinstance(answer, Generation):
            return answer
        return Generation(text=answer, stop_reason="separator", usage=Usage(completion_tokens=len(answer.split())))


class ScriptedScorer(_Scripted):
    """Scores with ``script(request)``: a value, or one value for each of several targets."""

    def __init__(self, script: Callable[[ScoreRequest], float | tuple[float, ...]], seconds: Seconds = 0.0) -> None:
        super().__init__(seconds)
        self._script = script

    async def score(self, request: ScoreRequest) -> Score:
        with self._counted():
            await self._take_time(request)
            return self._score(request)

    @property
    def scores_blocks(self) -> bool:
        """True: a function scores any candidates."""
        return True

    async def score_block(self, requests: tuple[ScoreRequest, ...]) -> tuple[Score, ...]:
        """Score the candidates in one call, which takes as long as that of the first one."""
        with self._counted():
            await self._take_time(requests[0])
            return tuple(map(self._score, requests))

    def _score(self, request: ScoreRequest) -> Score:
        value = self._script(request)
        usage = Usage(prompt_tokens=len(request.candidate.split()))
        return Score(max(value), usage, estimates=value) if isinstance(value, tuple) else Score(value, usage)
