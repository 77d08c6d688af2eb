"""How the turns of a conversation are written for a model, before its steps.

In the markup of the model's family, by its tokenizer's own chat template, or as text. What is said is concatenated and
never filled into what was written before, so that no text in it is taken for a place of the template's.
"""

from collections.abc import Iterable
from functools import lru_cache
from typing import Any, Protocol

import msgspec

from arbiter.protocols.errors import ConversationError
from arbiter.protocols.records import ChatRole, Transcript, Turn

Turns = tuple[Turn, ...]

_REMEMBERED = 256  # conversations whose heads are kept: a problem asks for its own at each step


class Conversation(Protocol):
    """How a template writes a conversation: all that stands before the steps."""

    def head(self, turns: Turns, question: str) -> str:
        """What was said, the question, and the beginning of the answer to it.

        Raises ``ConversationError`` if the model's own template refuses such a conversation.
        """
        ...


class Markup(msgspec.Struct, frozen=True):
    """What a family of models is trained to see around a turn: texts before and behind the speaker, and its end."""

    before: str
    behind: str
    end: str

    def opening(self, speaker: ChatRole) -> str:
        return f"{self.before}{speaker}{self.behind}"

    def said(self, turns: Iterable[Turn]) -> str:
        return "".join(f"{self.opening(turn.role)}{turn.text}{self.end}" for turn in turns)


CHATML = Markup("<|im_start|>", "\n", "<|im_end|>\n")
LLAMA_3 = Markup("<|start_header_id|>", "<|end_header_id|>\n\n", "<|eot_id|>")


class MarkedConversation(msgspec.Struct, frozen=True):
    """Conversations in a family's ``markup``; ``before`` and ``behind`` a question are its template for one alone.

    Instructions of the conversation stand in the place of the template's own.
    """

    before: str
    behind: str
    markup: Markup

    def head(self, turns: Turns, question: str) -> str:
        said, user = self.markup.said(turns), self.markup.opening("user")
        if instructed(turns):
            answer = self.behind.partition(self.markup.end)[2]
            return f"{said}{self.markup.said([Turn('user', question)])}{answer}"
        first, _, before = self.before.rpartition(user)
        return f"{first}{said}{user}{before}{question}{self.behind}"


class TokenizerConversation:
    """Conversations by the chat template of ``tokenizer``, which is called ``name``.

    ``instruction`` stands behind the question of a conversation that has none of its own.
    """

    def __init__(self, name: str, tokenizer: Any, instruction: str) -> None:  # noqa: ANN401
        self._name = name
        self._tokenizer = tokenizer
        self._instruction = instruction
        self._known = lru_cache(_REMEMBERED)(self._written)

    def head(self, turns: Turns, question: str) -> str:
        return self._known(turns, question)

    def _written(self, turns: Turns, question: str) -> str:
        asked = question if instructed(turns) else f"{question}\n\n{self._instruction}"
        try:
            return chat_text(self._tokenizer, (*turns, Turn("user", asked)))
        except Exception as error:  # whatever a template makes of it
            raise ConversationError(
                f"the chat template of {self._name} refuses the conversation: "
                f"{str(error).strip().partition(chr(10))[0].rstrip('.')}. Ask in turns that it takes, or set the "
                "model's prompt to another template"
            ) from error


def chat_text(tokenizer: Any, turns: Turns) -> str:  # noqa: ANN401
    """The turns by the chat template of ``tokenizer``, without a beginning-of-text token; the answer comes next.

    Raises what the template does.
    """
    messages = [{"role": turn.role, "content": turn.text} for turn in turns]
    text: str = tokenizer.apply_chat_template(messages, tokenize=False, add_generation_prompt=True)
    return text.removeprefix(tokenizer.bos_token or "")


def as_text(transcript: Transcript) -> str:
    """The question, and before it what was said: for templates that know one question and no turns."""
    return "\n\n".join([*(turn.text for turn in transcript.turns), transcript.question])


def instructed(turns: Turns) -> bool:
    """Whether the conversation has instructions of its own."""
    return any(turn.role == "system" for turn in turns)
