"""The tokens of an answer as its steps arrive: each is sent with the last of its text."""

from collections.abc import Sequence

from arbiter.protocols.answer_tokens import tokens_within
from arbiter.protocols.records import AnswerToken, StepRecord, answer_tokens


class SentTokens:
    """The tokens of a problem that are not sent yet.

    One that ends in the separator waits for the next step, with which the separator is sent.
    """

    def __init__(self) -> None:
        self._waiting: list[AnswerToken] = []
        self._room = 0

    def add(self, step: StepRecord, sent: str) -> tuple[AnswerToken, ...]:
        """Add a step, with which the text ``sent`` goes out. Return the tokens that are complete in what went out."""
        self._waiting += answer_tokens(step)
        self._room += len(sent)
        found = list[AnswerToken]()
        while self._waiting and self._room and len(self._waiting[0].text) <= self._room:
            found.append(self._waiting.pop(0))
            self._room -= len(found[-1].text)
        return tuple(found)

    def end(self, sent: str) -> tuple[AnswerToken, ...]:
        """Return the remaining tokens of an answer that ends with the text ``sent``."""
        return tokens_within(self._waiting, 0, self._room + len(sent))


class ContentTokens:
    """The tokens of an answer's content, which is the end of the text that goes out after its thought."""

    def __init__(self) -> None:
        self._waiting: list[AnswerToken] = []
        self._at = 0
        self._sent = 0
        self._content = 0

    def add(self, tokens: Sequence[AnswerToken], text: str, content: str) -> tuple[AnswerToken, ...]:
        """Add a part of an answer: its ``tokens``, its ``text``, and what it adds to the content.

        Return the tokens of the content that are complete. They wait while it is not known whether there is a thought.
        """
        self._waiting += tokens
        self._sent += len(text)
        self._content += len(content)
        if not self._content:
            return ()
        end = self._at + sum(len(token.text) for token in self._waiting)
        found = tokens_within(self._waiting, max(self._sent - self._content - self._at, 0), end - self._at)
        self._waiting, self._at = [], end
        return found
