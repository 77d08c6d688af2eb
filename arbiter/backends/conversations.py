"""Render the turns of a conversation for a model, before its steps.

A conversation is written in the markup of the model's family, with the tokenizer's chat template, or as plain text.
Texts of the conversation are concatenated, never substituted into earlier text: a placeholder in a turn stays text.
"""

from collections.abc import Iterable, Iterator
from functools import lru_cache
from typing import Any, Protocol

import msgspec

from arbiter.protocols.errors import ConversationError
from arbiter.protocols.records import ChatRole, Transcript, Turn

Turns = tuple[Turn, ...]

_REMEMBERED = 256  # conversations whose heads are cached: a problem needs its own at each step


class Conversation(Protocol):
    """Renders everything before the steps."""

    def head(self, turns: Turns, question: str) -> str:
        """Return the turns, the question and the beginning of the answer, as text.

        Raises ``ConversationError`` if the model's own template refuses such a conversation.
        """
        ...


class Markup(msgspec.Struct, frozen=True):
    """The markup of a turn in a family of models: the texts before and after the role, and the end of the turn."""

    before: str
    after: str
    end: str

    def opening(self, speaker: ChatRole) -> str:
        return f"{self.before}{speaker}{self.after}"

    def said(self, turns: Iterable[Turn]) -> str:
        return "".join(f"{self.opening(turn.role)}{turn.text}{self.end}" for turn in turns)


CHATML = Markup("<|im_start|>", "\n", "<|im_end|>\n")
LLAMA_3 = Markup("<|start_header_id|>", "<|end_header_id|>\n\n", "<|eot_id|>")


class MarkedConversation(msgspec.Struct, frozen=True):
    """Conversations in a family's ``markup``.

    ``before`` and ``after`` are the template's texts before and after a single question. Instructions of the
    conversation replace those of the template.
    """

    before: str
    after: str
    markup: Markup

    def head(self, turns: Turns, question: str) -> str:
        said, user = self.markup.said(turns), self.markup.opening("user")
        if instructed(turns):
            answer = self.after.partition(self.markup.end)[2]
            return f"{said}{self.markup.said([Turn('user', question)])}{answer}"
        first, _, before = self.before.rpartition(user)
        return f"{first}{said}{user}{before}{question}{self.after}"


class TokenizerConversation:
    """Conversations with the chat template of ``tokenizer``, whose name is ``name``.

    ``instruction`` follows the question of a conversation that has no instructions.
    """

    def __init__(self, name: str, tokenizer: Any, instruction: str) -> None:  # noqa: ANN401
        self._name = name
        self._tokenizer = tokenizer
        self._instruction = instruction
        self._cached = lru_cache(_REMEMBERED)(self._render)

    def head(self, turns: Turns, question: str) -> str:
        return self._cached(turns, question)

    def _render(self, turns: Turns, question: str) -> str:
        last = question if instructed(turns) else f"{question}\n\n{self._instruction}"
        try:
            return chat_text(self._tokenizer, (*turns, Turn("user", last)))
        except Exception as error:  # a template may raise anything
            raise ConversationError(
                f"the chat template of {self._name} refuses the conversation: "
                f"{str(error).strip().partition(chr(10))[0].rstrip('.')}. Send turns that it accepts, or set the "
                "model's prompt to another template"
            ) from error


def chat_text(tokenizer: Any, turns: Turns) -> str:  # noqa: ANN401
    """Return the turns in the chat template of ``tokenizer``, up to where the answer begins.

    Start tokens that the tokenizer adds itself are left out, so that tokenising the text gives the tokens of the
    template. Raises whatever the template raises.
    """
    messages = [{"role": turn.role, "content": turn.text} for turn in turns]
    text: str = tokenizer.apply_chat_template(messages, tokenize=False, add_generation_prompt=True)
    own = tokenizer(text, add_special_tokens=False)["input_ids"]
    for start in _starts(tokenizer):
        bare = text.removeprefix(start)
        if tokenizer(bare)["input_ids"][: len(own)] == own:
            return bare
    return text.removeprefix(tokenizer.bos_token or "")


def _starts(tokenizer: Any) -> Iterator[str]:  # noqa: ANN401
    """Yield the texts of the start tokens that ``tokenizer`` may add: none, its own, all that it adds to a text."""
    yield ""
    yield tokenizer.bos_token or ""
    plain, around = (tokenizer("a", add_special_tokens=special)["input_ids"] for special in (False, True))
    before = next((at for at in range(len(around)) if around[at : at + len(plain)] == plain), 0)
    yield "".join(tokenizer.convert_ids_to_tokens(around[:before]))


def as_text(transcript: Transcript) -> str:
    """Return the turns and the question as plain text, for templates that take a single question."""
    return "\n\n".join([*(turn.text for turn in transcript.turns), transcript.question])


def instructed(turns: Turns) -> bool:
    """Return whether the conversation contains instructions (a system turn)."""
    return any(turn.role == "system" for turn in turns)
