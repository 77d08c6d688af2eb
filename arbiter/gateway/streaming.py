"""Answers that are sent while they are made: server-sent events, one a step."""

from collections.abc import AsyncIterator, Sequence

import anyio
import msgspec
from starlette.requests import Request
from starlette.responses import StreamingResponse
from starlette.types import Message, Receive, Scope, Send

from arbiter.actors.supervision import services
from arbiter.gateway.context import GatewayContext
from arbiter.gateway.disconnect import cancel_when_gone, while_connected
from arbiter.gateway.error_responses import closing, shape
from arbiter.gateway.middleware import after
from arbiter.gateway.response_schemas import TextSoFar, check
from arbiter.protocols.errors import ClosedError, RequestError
from arbiter.protocols.messages import Task
from arbiter.protocols.records import Solution, StepRecord

PING_SECONDS = 15
"""Between two comments that keep a connection open while a step takes long."""


class AnswerPart(msgspec.Struct, frozen=True):
    """What a step adds to the text, or what is left of it when the problem has ended (``solution``)."""

    text: str
    step: StepRecord | None = None
    solution: Solution | None = None


class AnswerStream:
    """The parts of one problem's text, each as soon as it is final; the problem ends with its request at the latest."""

    def __init__(self, context: GatewayContext, task: Task) -> None:
        self._context = context
        self._task = task
        self._steps = context.arbiter.steps(task)
        self._text = TextSoFar(task.separator, task.stop)
        self._first: AnswerPart | None = None

    async def start(self, request: Request) -> None:
        """Begin to solve the problem."""
        after(request).callback(self._end)
        await after(request).enter_async_context(self._steps)

    async def first(self) -> None:
        """Wait for the first part, so that what cannot be asked is refused before anything is sent.

        Raises ``RequestError``.
        """
        self._first = await self._next()

    async def parts(self) -> AsyncIterator[AnswerPart]:
        """Raises ``RequestError`` if the problem fails after its first step."""
        part = self._first or await self._next()
        while part.solution is None:
            yield part
            part = await self._next()
        yield part

    async def solution(self) -> Solution:
        """How the problem ended. Raises ``RequestError`` if it failed."""
        part = await self._next()
        while part.solution is None:
            part = await self._next()
        return part.solution

    def _end(self) -> None:
        try:
            self._context.admission.solved(self._steps.solution)
        except ClosedError:
            self._context.left(self._task.id)

    async def _next(self) -> AnswerPart:
        try:
            step = await anext(self._steps, None)
        except ClosedError as error:
            raise closing() from error
        if step is not None:
            return AnswerPart(self._text.add(step), step)
        solution = check(self._steps.solution)
        return AnswerPart(self._text.end(solution), None, solution)


async def answer_streams(context: GatewayContext, request: Request, tasks: Sequence[Task]) -> list[AnswerStream]:
    """The flows of the tasks, all of them begun, each with its first part: to be sent as events.

    Raises ``RequestError``, and ``GoneError`` if the client goes away meanwhile.
    """
    streams = await _begun(context, request, tasks)

    async def first() -> None:
        for stream in streams:
            await stream.first()

    await while_connected(request.receive, first)
    return streams


async def solutions_of(context: GatewayContext, request: Request, tasks: Sequence[Task]) -> list[Solution]:
    """The solutions of the tasks. Raises as ``answer_streams``: of several, the first that fails fails them all."""
    streams = await _begun(context, request, tasks)

    async def all_of_them() -> list[Solution]:
        return [await stream.solution() for stream in streams]

    return await while_connected(request.receive, all_of_them)


async def _begun(context: GatewayContext, request: Request, tasks: Sequence[Task]) -> list[AnswerStream]:
    request.state.problems = [task.id for task in tasks]
    streams = [AnswerStream(context, task) for task in tasks]
    for stream in streams:
        await stream.start(request)
    return streams


def event(data: msgspec.Struct, name: str | None = None) -> bytes:
    """An event whose data is ``data`` as JSON."""
    named = f"event: {name}\n".encode() if name else b""
    return named + b"data: " + msgspec.json.encode(data) + b"\n\n"


DONE = b"data: [DONE]\n\n"
_PING = b": ping\n\n"
_HEADERS = {"cache-control": "no-store", "x-accel-buffering": "no"}


class EventStream(StreamingResponse):
    """Sends events as they come, and stops when the client goes away, or reads nothing for ``patience`` seconds.

    What goes wrong half-way is told as OpenAI does: by an event with an error in it.
    """

    def __init__(self, events: AsyncIterator[bytes], patience: float) -> None:
        self._patience = patience
        super().__init__(_told(events), headers=_HEADERS, media_type="text/event-stream")

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        turn = anyio.Lock()

        async def patient(message: Message) -> None:
            async with turn:
                with anyio.fail_after(self._patience):
                    await send(message)

        try:
            async with services() as tasks:
                tasks.start_soon(cancel_when_gone, receive, tasks.cancel_scope)
                tasks.start_soon(_ping, patient)
                await self.stream_response(patient)
        except* (TimeoutError, OSError):  # of the answer, or in a group of a ping: the connection is of no use any more
            pass


async def _told(events: AsyncIterator[bytes]) -> AsyncIterator[bytes]:
    try:
        async for one in events:
            yield one
    except RequestError as error:
        yield event(shape(error))


async def _ping(send: Send) -> None:
    while True:
        await anyio.sleep(PING_SECONDS)
        await send({"type": "http.response.body", "body": _PING, "more_body": True})
