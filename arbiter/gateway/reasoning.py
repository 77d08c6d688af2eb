"""The thoughts of answers: where they go, and how many tokens they have."""

from collections.abc import AsyncIterator, Iterable

from msgspec.structs import replace

from arbiter.gateway.context import GatewayContext
from arbiter.gateway.response_schemas import TokenUsage, usage_of
from arbiter.gateway.schemas import CommonBody
from arbiter.gateway.sent_tokens import ContentTokens
from arbiter.gateway.streaming import AnswerPart
from arbiter.library.divided_solutions import divided_solution, reasoning_tokens
from arbiter.protocols.answer_tokens import tokens_within
from arbiter.protocols.messages import Task
from arbiter.protocols.model_traits import ThoughtOpening
from arbiter.protocols.records import AnswerToken, Solution
from arbiter.structured.thoughts import AnswerDivider, DividedAnswer

DividedPart = tuple[int, str, AnswerPart]
"""The index of an answer, what a part adds to its thought, and the part, whose text is what it adds to the content."""


class Thoughts:
    """The thoughts of the answers to a request, whose tasks differ only by their questions and seeds.

    They are separate from the content if the request says so, else if the table ``[serve]`` does, else if a model that
    writes the answers is known to write thoughts. They are always separate from JSON that must fit a schema.
    """

    def __init__(self, context: GatewayContext, body: CommonBody, task: Task) -> None:
        chosen = (body.arbiter and body.arbiter.reasoning) or context.arbiter.config.serve.reasoning
        assumed: ThoughtOpening | None = "answer" if chosen == "separate" else None
        self._known: ThoughtOpening | None = context.arbiter.thought_opening(task) or assumed
        rules = task.transcript.rules
        is_json = rules is not None and rules.schema is not None  # so its content is JSON alone
        self._separated: ThoughtOpening | None = self._known if is_json or chosen != "inline" else None

    @property
    def are_separate(self) -> bool:
        """Whether a thought, if there is one, is separate from the content."""
        return self._separated is not None

    def divided(self, solution: Solution) -> DividedAnswer:
        """Return the thought and the content of an answer. Where thoughts are not separate, all is content."""
        return divided_solution(solution, self._separated)

    def content_tokens(self, solution: Solution) -> tuple[AnswerToken, ...] | None:
        """Return the tokens of the content of an answer, which is the end of its text; None if it has no tokens."""
        content, size = self.divided(solution).content or "", len(solution.text)
        return None if solution.tokens is None else tokens_within(solution.tokens, size - len(content), size)

    async def parts(self, parts: AsyncIterator[tuple[int, AnswerPart]]) -> AsyncIterator[DividedPart]:
        """Yield the parts of several streams, each with the index of its answer, divided."""
        dividers: dict[int, AnswerDivider] = {}
        known: dict[int, ContentTokens] = {}
        async for index, part in parts:
            if self._separated is None:
                yield index, "", part
                continue
            divider = dividers.setdefault(index, AnswerDivider(self._separated == "prompt"))
            reasoning, content = divider.add(part.text)
            if part.solution is not None:
                last_reasoning, last_content = divider.end()
                reasoning, content = reasoning + last_reasoning, content + last_content
            tokens = known.setdefault(index, ContentTokens()).add(part.tokens, part.text, content)
            yield index, reasoning, replace(part, text=content, tokens=tokens)

    def usage(self, solutions: Iterable[Solution]) -> TokenUsage:
        """Return the tokens of all requests to draft and target, with those of thoughts, separate or not."""
        solutions = list(solutions)
        usage = usage_of(solutions)
        details = usage.completion_tokens_details
        tokens = sum(reasoning_tokens(solution, self._known) for solution in solutions)
        return replace(usage, completion_tokens_details=replace(details, reasoning_tokens=tokens))
