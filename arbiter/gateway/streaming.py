"""Stream answers as server-sent events, one per step or, where requested, one per piece of a step."""

from collections import deque
from collections.abc import AsyncIterator, Callable, Coroutine, Sequence
from typing import Any

import anyio
import msgspec
from starlette.requests import Request
from starlette.responses import StreamingResponse
from starlette.types import Message, Receive, Scope, Send

from arbiter.actors.supervision import services
from arbiter.config.serve_tables import StreamUnit
from arbiter.gateway.context import GatewayContext
from arbiter.gateway.disconnect import cancel_when_gone, while_connected
from arbiter.gateway.error_responses import closing, shape
from arbiter.gateway.middleware import after, key_of
from arbiter.gateway.response_schemas import TextSoFar, check
from arbiter.gateway.schemas import Extras
from arbiter.gateway.sent_tokens import SentTokens
from arbiter.gateway.spend_caps import is_capped
from arbiter.library.streams import Pieces, Steps
from arbiter.log.stream_times import StreamTimes
from arbiter.protocols.errors import ClosedError, RequestError
from arbiter.protocols.messages import Task
from arbiter.protocols.records import AnswerToken, Solution, StepPiece, StepRecord
from arbiter.structured.thoughts import AnswerDivider

PING_SECONDS = 15
"""The time in seconds between two comments, which keep the connection open during a long step."""


class AnswerPart(msgspec.Struct, frozen=True):
    """The text that a step adds or, with ``solution``, the remaining text of a problem that has ended.

    Without both, it is the text of a piece. ``tokens`` are the tokens that are complete with it, if they are requested.
    """

    text: str
    step: StepRecord | None = None
    solution: Solution | None = None
    tokens: tuple[AnswerToken, ...] = ()


class AnswerStream:
    """The parts of one problem's text, each as soon as it is final. The problem is cancelled if its request ends.

    ``unit`` says how the text is streamed; None if only the solution is sent.
    """

    def __init__(self, context: GatewayContext, task: Task, unit: StreamUnit | None) -> None:
        self._context = context
        self._task = task
        self._unit: StreamUnit | None = unit
        self._times = StreamTimes(AnswerDivider(context.arbiter.thought_opening(task) == "prompt"))
        self._started = 0.0
        self._steps: Steps | Pieces = (context.arbiter.pieces if unit == "tokens" else context.arbiter.steps)(task)
        self._text = TextSoFar(task.separator, task.stop)
        self._tokens = SentTokens()
        self._first: AnswerPart | None = None
        self._is_capped = False

    async def start(self, request: Request) -> None:
        """Start to solve the problem."""
        self._started = anyio.current_time()
        self._context.costs.shadows.make_room()
        self._context.costs.spending.pays(key_of(request), self._task.id)
        self._is_capped = is_capped(request)
        after(request).callback(self._end)
        await after(request).enter_async_context(self._steps)

    @property
    def has_begun(self) -> bool:
        """Whether ``first`` does not wait."""
        return self._steps.has_begun

    async def begun(self, scope: anyio.CancelScope) -> None:
        """Wait until ``has_begun``, then cancel ``scope``, in which others wait for the same."""
        await self._steps.begun()
        scope.cancel()

    async def first(self) -> None:
        """Wait for the first part, so that an early failure is reported by the status of the response.

        Raises ``RequestError`` if the problem fails before its first step.
        """
        self._first = await self._next()

    async def parts(self) -> AsyncIterator[AnswerPart]:
        """Yield the parts; the last one has the solution. Raises ``RequestError`` if the problem fails."""
        part = self._first or await self._next()
        while part.solution is None:
            yield part
            part = await self._next()
        yield part

    async def solution(self) -> Solution:
        """Wait for the end of the problem and return its solution. Raises ``RequestError`` if the problem failed."""
        part = await self._next()
        while part.solution is None:
            part = await self._next()
        return part.solution

    def _end(self) -> None:
        self._context.costs.spending.paid(self._task.id)
        try:
            solution = self._steps.solution
        except ClosedError:
            self._context.left(self._task.id, self._task.sample)
            return
        self._context.admission.solved(solution)
        if not self._is_capped:
            self._context.costs.shadows.offer(self._task, solution)

    async def _next(self) -> AnswerPart:
        part = await self._taken()
        while not (part.text or part.step or part.solution):
            part = await self._taken()
        if self._unit:
            self._note(part, self._unit)
        return part

    def _note(self, part: AnswerPart, unit: StreamUnit) -> None:
        """Note when a part of a stream is ready."""
        metrics, times, solution = self._context.stream_metrics, self._times, part.solution
        has_begun, has_calls = times.first is not None, bool(part.step and part.step.kept.calls)
        now = anyio.current_time() - self._started
        times.add(part.text, now, has_calls=has_calls, has_ended=solution is not None)
        if times.first is not None and not has_begun:
            metrics.begun(self._task, unit, times.first)
        if solution is not None:
            tokens = sum(step.kept.usage.completion_tokens for step in solution.steps)
            metrics.ended(self._task, unit, times, tokens)

    async def _taken(self) -> AnswerPart:
        try:
            step = await anext(self._steps, None)
        except ClosedError as error:
            raise closing() from error
        if isinstance(step, StepPiece):
            return AnswerPart(self._text.add_piece(step))
        if step is not None:
            text = self._text.add(step)
            return AnswerPart(text, step, tokens=self._tokens.add(step, text))
        try:
            solution = check(self._steps.solution)
        except RequestError:
            if self._unit:
                self._context.stream_metrics.failed()
            raise
        text = self._text.end(solution)
        return AnswerPart(text, None, solution, self._tokens.end(text))


class AnswerStreams:
    """The parts of all answers to a request, each with the index of its answer, in the order in which they are final.

    ``forward`` must run while ``parts`` is iterated over.
    """

    def __init__(self, streams: Sequence[AnswerStream]) -> None:
        self._streams = streams
        self._ready: deque[tuple[int, AnswerPart | RequestError]] = deque()
        self._more = anyio.Event()

    async def forward(self) -> None:
        """Read all streams to their ends. One alone is read by ``parts``, as fast as its client reads."""
        if len(self._streams) == 1:
            return
        async with anyio.create_task_group() as tasks:
            for index, stream in enumerate(self._streams):
                tasks.start_soon(self._forward, index, stream)

    async def parts(self) -> AsyncIterator[tuple[int, AnswerPart]]:
        """Yield the parts; the last one of each answer has its solution. Raises ``RequestError`` if a problem fails."""
        remaining = len(self._streams)
        if remaining == 1:
            async for part in self._streams[0].parts():
                yield 0, part
            return
        while remaining:
            if not self._ready:
                self._more = anyio.Event()
                await self._more.wait()
            index, part = self._ready.popleft()
            if isinstance(part, RequestError):
                raise part
            remaining -= part.solution is not None
            yield index, part

    async def _forward(self, index: int, stream: AnswerStream) -> None:
        try:
            async for part in stream.parts():
                self._put(index, part)
        except RequestError as error:
            self._put(index, error)

    def _put(self, index: int, part: AnswerPart | RequestError) -> None:
        self._ready.append((index, part))
        self._more.set()


async def answer_streams(
    context: GatewayContext, request: Request, tasks: Sequence[Task], extras: Extras | None
) -> AnswerStreams:
    """Start all tasks, wait for the first part of any, and return their streams.

    The texts are streamed as ``extras`` say, or else as the table ``[serve]`` does. Raises ``RequestError`` if a
    problem fails before any has a text, and ``GoneError`` if the client disconnects.
    """
    unit = (extras and extras.stream) or context.arbiter.config.serve.stream
    streams = await _start_all(context, request, tasks, unit)

    async def first() -> None:
        async with anyio.create_task_group() as tasks:
            for stream in streams:
                tasks.start_soon(stream.begun, tasks.cancel_scope)
        for stream in streams:
            if stream.has_begun:
                await stream.first()

    await while_connected(request.receive, first)
    return AnswerStreams(streams)


async def solutions_of(context: GatewayContext, request: Request, tasks: Sequence[Task]) -> list[Solution]:
    """Solve all tasks and return their solutions.

    Raises ``RequestError`` if one of the problems fails, and ``GoneError`` if the client disconnects.
    """
    streams = await _start_all(context, request, tasks, None)

    async def all_of_them() -> list[Solution]:
        return [await stream.solution() for stream in streams]

    return await while_connected(request.receive, all_of_them)


async def _start_all(
    context: GatewayContext, request: Request, tasks: Sequence[Task], unit: StreamUnit | None
) -> list[AnswerStream]:
    request.state.problems = list(dict.fromkeys(task.id for task in tasks))
    streams = [AnswerStream(context, task, unit) for task in tasks]
    for stream in streams:
        await stream.start(request)
    return streams


def event(data: msgspec.Struct, name: str | None = None) -> bytes:
    """Return a server-sent event with ``data`` as JSON, and with the event type ``name``, if given."""
    named = f"event: {name}\n".encode() if name else b""
    return named + b"data: " + msgspec.json.encode(data) + b"\n\n"


DONE = b"data: [DONE]\n\n"
_PING = b": ping\n\n"
_HEADERS = {"cache-control": "no-store", "x-accel-buffering": "no"}


class EventStream(StreamingResponse):
    """Send events as they arrive. Stop if the client disconnects, or reads nothing for ``patience`` seconds.

    ``forward`` runs until the last event is sent. The server closes the connection of a stream that stops early
    (``client_connections.py``).

    An error after the first event is sent as OpenAI does: as an event that has an ``error``.
    """

    def __init__(
        self, events: AsyncIterator[bytes], patience: float, forward: Callable[[], Coroutine[Any, Any, None]]
    ) -> None:
        self._patience = patience
        self._forward = forward
        super().__init__(_with_error(events), headers=_HEADERS, media_type="text/event-stream")

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        turn, ended = anyio.Lock(), False

        async def patient(message: Message) -> None:
            nonlocal ended
            async with turn:
                if ended:
                    return  # a ping that waited for its turn while the end was sent
                ended = message["type"] == "http.response.body" and not message.get("more_body", False)
                with anyio.fail_after(self._patience):
                    await send(message)

        try:
            async with services() as tasks:
                tasks.start_soon(cancel_when_gone, receive, tasks.cancel_scope)
                tasks.start_soon(_ping, patient)
                tasks.start_soon(self._forward)
                await self.stream_response(patient)
        except* (TimeoutError, OSError):  # of the answer, or from the group of a ping: the connection is unusable
            pass


async def _with_error(events: AsyncIterator[bytes]) -> AsyncIterator[bytes]:
    try:
        async for data in events:
            yield data
    except RequestError as error:
        yield event(shape(error))


async def _ping(send: Send) -> None:
    while True:
        await anyio.sleep(PING_SECONDS)
        await send({"type": "http.response.body", "body": _PING, "more_body": True})
