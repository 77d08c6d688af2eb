"""The port of graders: what a grader receives, what it returns, and the interface that every grader has."""

import inspect
from collections.abc import Awaitable, Callable, Mapping
from typing import Any, Protocol, Self

import anyio.to_thread
import msgspec

from arbiter.grading.answers import Reference
from arbiter.protocols.events import Graded
from arbiter.protocols.records import Judgement, Record
from arbiter.protocols.tools import ToolCall
from arbiter.structured.thoughts import text_after_thought

LONGEST = 2000
"""The number of characters of an answer that a grade keeps."""

NO_REFERENCE = "the problem has no reference answer"
"""The reason of a grade that no grader could give."""

NO_ANSWER = 'there is no answer: no box, and no phrase such as "The final answer is"'
NO_END = "a thought never ends (there is no </think>), so there is no answer"


class Grade(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A grade. ``right`` is None if the answer could not be judged.

    ``reason`` says why it could not be judged, or why it is wrong. ``found_by`` is the rule that found the answer
    (``FoundBy``). It is None without an answer, and for grades of earlier versions. ``judgement`` is the request to
    the model that graded; without one it is not set, and not stored.
    """

    right: bool | None
    answer: str | None = None
    reason: str | None = None
    found_by: str | None = None
    judgement: Judgement | msgspec.UnsetType = msgspec.UNSET

    @classmethod
    def recorded(cls, graded: Graded) -> Self:
        """Return the grade that a log has."""
        judgement = graded.judgement or msgspec.UNSET
        return cls(graded.right, graded.answer, graded.reason, graded.found_by, judgement)


class GradingRequest(Record, frozen=True):
    """An answer to grade, and its problem.

    - ``text`` is the whole text of the solution, with its thoughts. ``conclusion`` is the part that counts.
    - ``reference`` is the right answer; None if the problem has none.
    - ``in_thought`` is True if the model's prompt opens the thought with which the text begins.
    - ``prompt`` is the text of that prompt, to which the question is added.
    - ``choices`` are the texts of the choices, in the order of their letters A, B, …; empty without choices.
    - ``row`` is the row of the data from which the problem was read; empty if it is not known.
    - ``problem`` is the id of the problem.
    - ``calls`` are the calls of tools with which the answer ends; ``text`` is the text before them.

    Example::

        GradingRequest("So it is \\\\boxed{42}.", reference="42")
    """

    text: str
    reference: str | Reference | None = None
    in_thought: bool = False
    prompt: str = ""
    question: str = ""
    choices: tuple[str, ...] = ()
    row: Mapping[str, Any] = msgspec.field(default_factory=dict[str, Any])
    problem: str = ""
    calls: tuple[ToolCall, ...] = ()

    @property
    def conclusion(self) -> str | None:
        """The text after the last thought; None if a thought never ends."""
        return text_after_thought(self.text, self.in_thought)

    @property
    def asked(self) -> str:
        """Prompt and question: a phrase that they ask for is looked for first, after a box."""
        return f"{self.prompt}\n{self.question}"


class Grader(Protocol):
    """Grades answers.

    ``name`` and ``version`` say in the results which rules gave a grade. ``version`` changes when an answer may get
    another verdict.
    """

    @property
    def name(self) -> str: ...

    @property
    def version(self) -> int: ...

    async def grade(self, request: GradingRequest) -> Grade:
        """Return the grade of an answer. A failure of the grader itself is a grade without a verdict, with a reason."""
        ...


GradingFunction = Callable[[GradingRequest], Grade | bool | Awaitable[Grade | bool]]
"""A function that grades: it returns a grade, or only whether the answer is right. It may be asynchronous."""


class FunctionGrader:
    """Grades with a function. One that is not asynchronous runs in a worker thread.

    The version of its rules is the attribute ``version`` of the function, or 1. If it raises, the answer is ungraded,
    with the error as the reason.
    """

    def __init__(self, name: str, function: GradingFunction) -> None:
        self.name = name
        self.version: int = getattr(function, "version", 1)
        self._function = function

    async def grade(self, request: GradingRequest) -> Grade:
        """Return the function's grade."""
        try:
            found: object = await self._called(request)
        except Exception as error:  # a grader that crashes must not end the run
            return Grade(right=None, reason=f"the grader {self.name} failed: {type(error).__name__}: {error}")
        if isinstance(found, bool):
            return Grade(right=found)
        if isinstance(found, Grade):
            return found
        return Grade(
            right=None, reason=f"the grader {self.name} returned {found!r}, which is neither a Grade nor a bool"
        )

    async def _called(self, request: GradingRequest) -> object:
        if inspect.iscoroutinefunction(self._function):
            return await self._function(request)
        found: object = await anyio.to_thread.run_sync(self._function, request)
        return await found if inspect.isawaitable(found) else found


def missing(request: GradingRequest, reason: str = NO_ANSWER) -> Grade:
    """Return the grade of a text without an answer: wrong, or ungraded if there is no reference either."""
    if request.reference is None:
        return Grade(right=None, reason=NO_REFERENCE)
    return Grade(right=False, reason=NO_END if request.conclusion is None else reason)


def right_answer_is(reference: object) -> str:
    """Return the reason why an answer is wrong."""
    return f"the right answer is {reference}"
