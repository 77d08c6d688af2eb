"""What all requests share: the Arbiter, how many may be there at once, and who looks on."""

import math
from collections.abc import Awaitable, Callable, Sequence
from contextlib import AsyncExitStack
from typing import Protocol, TypeVar

import anyio
import anyio.to_thread
from starlette.requests import Request
from starlette.types import Receive

from arbiter.actors.supervision import services
from arbiter.backends.tokenizers import read_tokenizer
from arbiter.config.model_tables import InProcessTable
from arbiter.gateway.live_state import LiveState
from arbiter.gateway.prometheus import Metrics
from arbiter.library.arbiter import Arbiter
from arbiter.library.questions import Overrides, Question
from arbiter.protocols.errors import ClosedError, ConfigError, DataError, RequestError
from arbiter.protocols.messages import Task
from arbiter.protocols.records import Solution

Answer = TypeVar("Answer")
_SMOOTHING = 0.1  # of the mean length of problems, from which clients at capacity are told when to come again


class Decoder(Protocol):
    """A tokenizer, as far as it is needed here."""

    def decode(self, tokens: Sequence[int], skip_special_tokens: bool) -> str:
        """Their text."""
        ...


class Admission:
    """``most`` problems may be open at once, in the ring or waiting for room in it; more are refused with 429.

    Bodies may have ``largest`` bytes. A client that sends nothing of its body, or reads nothing of its stream, for
    ``patience`` seconds is left.
    """

    def __init__(
        self, arbiter: Arbiter, live_state: LiveState, metrics: Metrics, most: int, largest: int, patience: float
    ) -> None:
        self.arbiter = arbiter
        self.live_state = live_state
        self.metrics = metrics
        self.most = most
        self.largest = largest
        self.patience = patience
        self.open = 0
        self._seconds = 1.0
        self._tokenizer: Decoder | None = None
        self._reading = anyio.Lock()

    def enter(self, request: Request, problems: int = 1) -> None:
        """Take places for so many problems until the request is answered.

        Raises ``RequestError`` (429) if there are not so many left.
        """
        if self.open + problems > self.most:
            raise RequestError(
                f"all {self.most} places are taken: try again later",
                status=429,
                code="at_capacity",
                retry_after=self._until_room(),
            )
        self.open += problems
        after(request).callback(self._leave, problems)

    def _leave(self, problems: int) -> None:
        self.open -= problems

    def ended(self, solution: Solution) -> None:
        """A problem has been solved."""
        self._seconds += _SMOOTHING * (solution.seconds - self._seconds)

    def gone(self, task: Task) -> None:
        """The client of a problem has gone away."""
        self.live_state.left(task.id)
        self.metrics.left(task.id)

    async def detokenized(self, tokens: Sequence[int]) -> str:
        """The text of token ids of the draft's tokenizer, without the beginning and the end that tokenizers set.

        Raises ``RequestError`` if the tokenizer is not known here.
        """
        async with self._reading:
            tokenizer = self._tokenizer or await self._read()
            self._tokenizer = tokenizer
        try:
            return await anyio.to_thread.run_sync(tokenizer.decode, tokens, True)
        except Exception as error:  # whatever a tokenizer makes of numbers that it does not have
            raise RequestError(
                f"prompt: these are no tokens of the draft: {error}", code="invalid_value", param="prompt"
            ) from error

    async def _read(self) -> Decoder:
        try:
            return await anyio.to_thread.run_sync(read_tokenizer, self._tokenizer_name(), "prompt", "send texts")
        except ConfigError as error:
            raise RequestError(str(error), code="unsupported_parameter", param="prompt") from error

    def _tokenizer_name(self) -> str:
        draft = self.arbiter.config.models.draft
        name = draft and (draft.tokenizer or (draft.model if isinstance(draft, InProcessTable) else None))
        if not name:
            raise RequestError(
                "prompt: token ids cannot be read, since the draft's tokenizer is not known here: send texts, or have "
                "models.draft.tokenizer set",
                code="unsupported_parameter",
                param="prompt",
            )
        return name

    def _until_room(self) -> int:
        waves = self.open / max(1, self.arbiter.config.limits.problems)
        return max(1, math.ceil(self._seconds * max(1.0, waves - 1)))


def closing() -> RequestError:
    """The endpoint is being shut down."""
    return RequestError("the server is shutting down: ask another one", status=503, code="closing", retry_after=1)


def task_of(admission: Admission, question: Question, overrides: Overrides) -> Task:
    """The task of what a client asks. Raises ``RequestError``."""
    try:
        return admission.arbiter.task(question, **overrides)
    except ClosedError as error:
        raise closing() from error
    except (ConfigError, DataError) as error:
        raise RequestError(str(error), code="invalid_value") from error


class GoneError(Exception):
    """The client has gone away: there is nobody to answer."""


async def while_there(request: Request, work: Callable[[], Awaitable[Answer]]) -> Answer:
    """What ``work`` gives, which is cancelled if the client goes away. Raises ``GoneError`` then, or what it raises."""
    answers: list[Answer] = []
    async with services() as tasks:
        tasks.start_soon(cancel_when_gone, request.receive, tasks.cancel_scope)
        answers.append(await work())
    if not answers:
        raise GoneError
    return answers[0]


async def cancel_when_gone(receive: Receive, scope: anyio.CancelScope) -> None:
    """Wait until the client of a request goes away, and cancel then."""
    while (await receive())["type"] != "http.disconnect":
        pass
    scope.cancel()


def after(request: Request) -> AsyncExitStack:
    """What is done when the response has been sent, or cannot be sent any more."""
    stack: AsyncExitStack = request.state.after
    return stack
