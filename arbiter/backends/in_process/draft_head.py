"""Scores of a head on a draft in process: the draft reads each step, and the head makes a score of what it computes."""

from collections.abc import Sequence
from functools import partial

from arbiter.backends.context_tokens import context_tokens
from arbiter.backends.draft_features import TokenReader, split_tokens
from arbiter.backends.head_model import DraftHead
from arbiter.backends.prompts import PromptTemplate
from arbiter.backends.token_texts import TokenTexts, prompt_tokens
from arbiter.protocols.errors import BackendError
from arbiter.protocols.ports import Score, ScoreRequest


class InProcessHead:
    """A ``Scorer``: a head on the draft behind ``reader``.

    ``template`` and ``texts`` are the template and the tokenizer of the draft. The prompt that ``reader`` gets is a
    prefix of the context's own tokens, so a draft that kept them from writing the step reads only the step again.
    """

    def __init__(self, head: DraftHead, reader: TokenReader, template: PromptTemplate, texts: TokenTexts) -> None:
        self._head = head
        self._reader = reader
        self._template = template
        self._texts = texts

    async def score(self, request: ScoreRequest) -> Score:
        """Score one candidate.

        Raises ``ContextTooLongError`` if context and candidate are longer than the draft's context, and
        ``BackendError`` if the steps end with another separator than in training.
        """
        self._head.check_separator(request)
        prompt, candidate = self._tokens(request)
        if not prompt or not candidate:
            raise BackendError("models.router: a head on the draft needs a context and a step that are not empty")
        reading = await self._reader.read(prompt, candidate)
        return self._head.score(request, reading, len(prompt) + len(candidate))

    def _tokens(self, request: ScoreRequest) -> tuple[Sequence[int], Sequence[int]]:
        """Return the tokens of the context and of the candidate: those that the draft wrote, if they are known."""
        texts, separator = self._texts, request.separator
        if self._template.annotate or not texts.decode(request.token_ids).endswith(separator):
            context = self._template.render(request.transcript, separator)
            return split_tokens(partial(prompt_tokens, texts), context, request.candidate + separator)
        context = context_tokens(texts, self._template, request.transcript, separator, request.of_draft)
        return context, request.token_ids
