"""Render the turns of a conversation for a model, before its steps.

A conversation is written in the markup of the model's family, with the tokenizer's chat template, or as plain text.
Texts of the conversation are concatenated, never substituted into earlier text: a placeholder in a turn stays text.
"""

from collections.abc import Iterable, Iterator, Mapping
from functools import lru_cache
from typing import Any, Protocol

import msgspec

from arbiter.backends.tool_turns import (
    HERMES_TOOLS,
    as_plain_turns,
    chat_messages_of,
    described_tools,
    in_hermes,
    tool_list,
)
from arbiter.config.model_tables import CallFormName
from arbiter.protocols.errors import ConversationError
from arbiter.protocols.records import ChatRole, Transcript, Turn
from arbiter.protocols.tools import Tool

Turns = tuple[Turn, ...]
Tools = tuple[Tool, ...]
Variables = Mapping[str, Any]
"""Values that a chat template takes by name, such as ``enable_thinking``."""

NO_VARIABLES: Variables = {}

_REMEMBERED = 256  # conversations whose heads are cached: a problem needs its own at each step


class Conversation(Protocol):
    """Renders everything before the steps."""

    def head(
        self, turns: Turns, question: str, after: Turns = (), tools: Tools = (), is_instructed: bool = False
    ) -> str:
        """Return the turns, the question, the turns ``after`` it and the beginning of the answer, as text.

        ``tools`` are described at the beginning. If the question ``is_instructed``, it says itself what the answer must
        be, and the instructions of the template are left out, as where the turns have instructions. Raises
        ``ConversationError`` if the model's own template refuses such a conversation.
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
    conversation replace those of the template. With ``hermes``, tools and their calls are written as Hermes and Qwen
    read them. Otherwise tools are not described, and calls are JSON text.
    """

    before: str
    after: str
    markup: Markup
    hermes: bool = False

    def head(
        self, turns: Turns, question: str, after: Turns = (), tools: Tools = (), is_instructed: bool = False
    ) -> str:
        written = in_hermes if self.hermes else as_plain_turns
        turns, after = written(turns, thoughts=False), written(after, thoughts=self.hermes)
        described = HERMES_TOOLS.format(tools=described_tools(tools)) if self.hermes and tools else ""
        user, end = self.markup.opening("user"), self.markup.end
        rest, _, answer = self.after.partition(end)
        if is_instructed and described and not instructed(turns):
            turns, described = (Turn("system", described.lstrip()), *turns), ""
        if instructed(turns) or is_instructed:
            if described:
                turns = (msgspec.structs.replace(turns[0], text=turns[0].text + described), *turns[1:])
            return f"{self.markup.said((*turns, Turn('user', question), *after))}{answer}"
        first, _, before = self.before.rpartition(user)
        if described and first:
            first = first.removesuffix(end) + described + end
        elif described:
            first = self.markup.said([Turn("system", described.lstrip())])
        asked = f"{user}{before}{question}{rest}{end}"
        return f"{first}{self.markup.said(turns)}{asked}{self.markup.said(after)}{answer}"


class TokenizerConversation:
    """Conversations with the chat template of ``tokenizer``, whose name is ``name``.

    ``instruction`` follows the question of a conversation that has neither instructions nor tools. ``form`` is the form
    of its calls, and ``variables`` are those of the template.
    """

    def __init__(
        self,
        name: str,
        tokenizer: Any,  # noqa: ANN401
        instruction: str,
        form: CallFormName | None = None,
        variables: Variables = NO_VARIABLES,
    ) -> None:
        self._name = name
        self._tokenizer = tokenizer
        self._instruction = instruction
        self._form: CallFormName | None = form
        self._variables = variables
        self._cached = lru_cache(_REMEMBERED)(self._render)

    def head(
        self, turns: Turns, question: str, after: Turns = (), tools: Tools = (), is_instructed: bool = False
    ) -> str:
        return self._cached(turns, question, after, tools, is_instructed)

    def _render(self, turns: Turns, question: str, after: Turns, tools: Tools, is_instructed: bool) -> str:
        alone = not (instructed(turns) or tools or is_instructed)
        last = f"{question}\n\n{self._instruction}" if alone else question
        try:
            text = chat_text(self._tokenizer, (*turns, Turn("user", last), *after), tools, self._form, self._variables)
        except Exception as error:  # a template may raise anything
            raise ConversationError(
                f"the chat template of {self._name} refuses the conversation: "
                f"{str(error).strip().partition(chr(10))[0].rstrip('.')}. Send turns that it accepts, or set the "
                "model's prompt to another template"
            ) from error
        called = [*(tool.name for tool in tools), *(call.name for turn in (*turns, *after) for call in turn.calls)]
        if unwritten := next((name for name in called if name not in text), None):
            raise ConversationError(
                f"the chat template of {self._name} leaves out the tool {unwritten}: it has no place for tools. Set "
                "the model's prompt to a template that has one, such as qwen3"
            )
        return text


def chat_text(
    tokenizer: Any,  # noqa: ANN401
    turns: Turns,
    tools: Tools = (),
    form: CallFormName | None = None,
    variables: Variables = NO_VARIABLES,
) -> str:
    """Return the turns in the chat template of ``tokenizer``, up to where the answer begins.

    ``form`` is the form in which the template writes calls of ``tools``, and ``variables`` are those of the template.
    Start tokens that the tokenizer adds itself are left out, so that tokenising the text gives the tokens of the
    template. Raises whatever the template raises.
    """
    messages, options = chat_messages_of(turns, form), {**variables, **({"tools": tool_list(tools)} if tools else {})}
    text: str = tokenizer.apply_chat_template(messages, tokenize=False, add_generation_prompt=True, **options)
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
    """Return the turns and the question as plain text, for templates that take a single question.

    Calls in turns are JSON text.
    """
    before, after = (as_plain_turns(turns, thoughts=False) for turns in (transcript.turns, transcript.after))
    return "\n\n".join([*(turn.text for turn in before), transcript.question, *(turn.text for turn in after)])


def instructed(turns: Turns) -> bool:
    """Return whether the conversation contains instructions (a system turn)."""
    return any(turn.role == "system" for turn in turns)
