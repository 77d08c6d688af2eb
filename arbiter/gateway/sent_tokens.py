"""The tokens of an answer as its steps arrive: each is sent with the last of its text."""

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
