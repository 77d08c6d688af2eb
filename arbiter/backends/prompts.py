"""Render a context for a model: the question in the model's template, then the steps.

``conversations.py`` renders a question with the turns of a conversation before it. No template begins with a
beginning-of-text token, which servers and tokenizers add themselves. ``chat`` has it if the tokenizer does not add it.
"""

from collections.abc import Mapping
from typing import Any

import msgspec

from arbiter.backends.call_formats.forms import form_of_template
from arbiter.backends.conversations import (
    CHATML,
    LLAMA_3,
    NO_VARIABLES,
    Conversation,
    MarkedConversation,
    Markup,
    TokenizerConversation,
    Turns,
    Variables,
    as_text,
    chat_text,
    instructed,
)
from arbiter.backends.harmony_answers import harmony_of
from arbiter.backends.tokenizers import read_tokenizer
from arbiter.config.model_tables import CallFormName
from arbiter.protocols.errors import ConfigError
from arbiter.protocols.records import Author, Step, Transcript, Turn
from arbiter.protocols.tools import Effort
from arbiter.structured.thoughts import CLOSE_THOUGHT, text_after_thought

QUESTION = "{question}"
CHAT = "chat"
_BOXED = "Please reason step by step, and put your final answer within \\boxed{}."
_JSON = "Answer with one JSON value that fits this JSON schema, and with nothing else:\n"
_STEP_FORMAT = """\
Solve the following math problem efficiently and clearly:

- For simple problems (2 steps or fewer):
Provide a concise solution with minimal explanation.

- For complex problems (3 steps or more):
Use this step-by-step format:

## Step 1: [Concise description]
[Brief explanation and calculations]

## Step 2: [Concise description]
[Brief explanation and calculations]

...

Regardless of the approach, always conclude with:

Therefore, the final answer is: $\\boxed{answer}$. I hope it is correct.

Where [answer] is just the final number or expression that solves the problem."""

_QWEN3 = f"<|im_start|>user\n{QUESTION}\n\n{_BOXED}<|im_end|>\n<|im_start|>assistant\n"

TEMPLATES = {
    "qwen2.5-math": (
        f"<|im_start|>system\n{_BOXED}<|im_end|>\n<|im_start|>user\n{QUESTION}<|im_end|>\n<|im_start|>assistant\n"
    ),
    "llama-3": (
        f"<|start_header_id|>user<|end_header_id|>\n\n{_STEP_FORMAT}\n\nProblem: {QUESTION}<|eot_id|>"
        "<|start_header_id|>assistant<|end_header_id|>\n\n"
    ),
    "qwen3": f"{_QWEN3}<think>\n\n</think>\n\n",
    "qwen3-thinking": _QWEN3,
    "qwen3.5": f"{_QWEN3}<think>\n\n</think>\n\n",
    "qwen3.5-thinking": f"{_QWEN3}<think>\n",
    "plain": f"{QUESTION}\n",
}
"""The templates by name:

- ``qwen2.5-math``: Qwen2.5-Math's own;
- ``llama-3``: Llama 3's mathematics prompt, as the published Arbitrage program uses it;
- ``qwen3``, ``qwen3-thinking``: Qwen3's own, without thinking (it contains an empty thought) and with it;
- ``qwen3.5``, ``qwen3.5-thinking``: those of Qwen3.5 and Qwen3.6; with thinking, the prompt opens the thought;
- ``plain``: the question on a line, as value-head PRMs are trained to read it (Skywork-o1-Open-PRM)."""

FAMILIES: dict[str, Markup] = {
    "qwen2.5-math": CHATML,
    "llama-3": LLAMA_3,
    "qwen3": CHATML,
    "qwen3-thinking": CHATML,
    "qwen3.5": CHATML,
    "qwen3.5-thinking": CHATML,
}
"""The markup of a template's family, by the template's name. Turns of a conversation are written in it.

Without a family they are plain text before the question."""

_THINKING = ("qwen3-thinking",)
_HERMES = ("qwen2.5-math", "qwen3", "qwen3-thinking")  # Qwen3.5 writes calls in a form of its own
_INSTEAD = f"name a template: {', '.join(TEMPLATES)}"
_MODEL_NUMBER: dict[Author, int] = {"draft": 0, "target": 1}


class PromptTemplate(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A template: ``before_steps`` contains ``{question}`` once; the steps follow, each with its separator after it.

    ``turns`` (instructions and solved examples) precede each conversation. Instructions of a conversation replace them.
    With ``annotate``, each step is prefixed by the model that wrote it (``Model 0: `` for the draft, ``Model 1: `` for
    the target), as the router is trained to read them. ``conversation`` renders a question with turns before it;
    without it, turns and question replace ``{question}`` as text, separated by blank lines. ``calls`` is the form in
    which a model with this template writes calls of tools; None if it cannot. Raises ``ConfigError`` if ``{question}``
    is missing or repeated. ``thinks`` is True if the model may begin an answer with a thought that it opens itself.
    ``efforts`` are the templates that replace this one where an answer has an effort (``AnswerRules``).
    """

    before_steps: str
    annotate: bool = False
    conversation: Conversation | None = None
    turns: Turns = ()
    calls: CallFormName | None = None
    thinks: bool = False
    efforts: "Mapping[Effort, PromptTemplate]" = {}

    def __post_init__(self) -> None:
        if self.before_steps.count(QUESTION) != 1:
            known = ", ".join([*TEMPLATES, CHAT])
            raise ConfigError(
                f"the prompt {self.before_steps!r} is not the name of a template (there are {known}); as the text of a "
                f"template it must contain {QUESTION} exactly once"
            )

    @property
    def opens_thought(self) -> bool:
        """Whether the model's answer begins within a thought, which the template opens."""
        return text_after_thought(self.before_steps.partition(QUESTION)[2]) is None

    @property
    def opens_at_effort(self) -> dict[Effort, bool]:
        """The efforts that can be requested, and whether the template then opens a thought."""
        return {effort: template.opens_thought for effort, template in self.efforts.items()}

    def render(self, transcript: Transcript, separator: str) -> str:
        """Return the text of the context. It ends with a separator, or with the template if there is no step yet.

        Raises ``BackendError`` if the model's own chat template refuses the conversation.
        """
        return self.head(transcript, separator) + self.render_steps(transcript, separator)

    def render_steps(self, transcript: Transcript, separator: str) -> str:
        """Return the steps of the context, each with a separator after it."""
        text = "".join(self.render_step(step, separator) for step in transcript.steps)
        return harmony_of(text) if self.calls == "harmony" else text

    def render_step(self, step: Step, separator: str) -> str:
        """Return a step of the context, with the separator after it and what its model wrote after that."""
        return (
            f"Model {_MODEL_NUMBER[step.author]}: {step.ended(separator)}" if self.annotate else step.ended(separator)
        )

    def render_candidate(self, transcript: Transcript, candidate: str, author: Author, separator: str) -> str:
        """Return the text that a scorer reads: the context, the candidate and its separator. Raises as ``render``."""
        return self.render(transcript.extended(Step(text=candidate, author=author)), separator)

    def turns_of(self, transcript: Transcript) -> Turns:
        """Return all turns before the question: instructions, the template's examples, then the conversation.

        There is one system turn at most, the first: that of the conversation, else that of the template.
        """
        if not self.turns:
            return transcript.turns
        theirs = [turn for turn in transcript.turns if turn.role == "system"]
        ours = [turn for turn in self.turns if turn.role != "system" or not theirs]
        return (*theirs, *ours, *(turn for turn in transcript.turns if turn.role != "system"))

    def head(self, transcript: Transcript, separator: str) -> str:
        """Return the text of the context before the first step. Raises as ``render``."""
        turns, rules = self.turns_of(transcript), transcript.rules
        if rules is not None and rules.effort is not None and rules.effort in self.efforts:
            return self.efforts[rules.effort].head(transcript, separator)
        tools, is_json = () if rules is None else rules.offered, _schema_of(transcript) is not None
        question = _question(transcript)
        if self.conversation is not None and (turns or transcript.after or tools or is_json):
            return self.conversation.head(turns, question, transcript.after, tools, is_json)
        before, _, after = self.before_steps.partition(QUESTION)
        asked = as_text(msgspec.structs.replace(transcript, question=question))
        return f"{self._shots(transcript, separator)}{before}{asked}{after}"

    def message(self, transcript: Transcript) -> str:
        """Return the question as a message of the user, for a host that puts messages into the model's own template.

        Instructions of the conversation replace those of the template. So does a schema, in place of a box.
        """
        question = _question(transcript)
        if instructed(self.turns_of(transcript)):
            return question
        before, _, after = self.before_steps.partition(QUESTION)
        return before + question + (after.removesuffix(f"\n\n{_BOXED}") if _schema_of(transcript) else after)

    def _shots(self, transcript: Transcript, separator: str) -> str:
        """Return the instructions and the examples as text: each example in the template, as a question of its own."""
        before, _, after = self.before_steps.partition(QUESTION)
        text = ""
        for turn in self.turns:
            if turn.role == "user":
                text += f"{before}{turn.text}{after}"
            elif turn.role == "assistant" or not instructed(transcript.turns):
                text += f"{turn.text}{separator}"
        return text


def _schema_of(transcript: Transcript) -> str | None:
    return transcript.rules and transcript.rules.schema


def _question(transcript: Transcript) -> str:
    """Return the question. If the answer must fit a JSON schema, the schema follows."""
    schema = _schema_of(transcript)
    return transcript.question if schema is None else f"{transcript.question}\n\n{_JSON}{schema}"


def prompt_template(
    prompt: str, annotate: bool, tokenizer: str, turns: Turns = (), calls: CallFormName | None = None
) -> PromptTemplate:
    """Return the template that a configuration's ``prompt`` names or contains as text.

    ``chat`` reads the chat template of ``tokenizer`` (a folder or a hub name; needs transformers). ``turns`` precede
    each conversation. ``calls`` is the form of calls with that template; None if the template decides.

    Raises ``ConfigError`` if ``prompt`` is neither a name nor a template, if ``tokenizer`` has no chat template, or if
    ``calls`` is set for another template.
    """
    if prompt == CHAT:
        return chat_template(tokenizer, chat_reader(tokenizer), annotate, turns, calls)
    if calls is not None:
        raise ConfigError(
            f'calls = "{calls}" is for models whose prompt is "{CHAT}", which writes tools in their own template: set '
            "prompt to it, or leave calls out"
        )
    text = TEMPLATES.get(prompt, prompt)
    before, _, after = text.partition(QUESTION)
    family = FAMILIES.get(prompt)
    form: CallFormName | None = "hermes" if prompt in _HERMES else None
    conversation = MarkedConversation(before, after, family, form is not None) if family else None
    return PromptTemplate(text, annotate, conversation, turns, form, prompt in _THINKING)


def chat_template(
    name: str,
    reader: Any,  # noqa: ANN401
    annotate: bool,
    turns: Turns = (),
    calls: CallFormName | None = None,
    variables: Variables = NO_VARIABLES,
) -> PromptTemplate:
    """Return the chat template of the tokenizer ``reader``, whose name is ``name``, with ``variables`` of the template.

    The rest is as in ``prompt_template``. Raises ``ConfigError`` if the tokenizer has no chat template, or if the
    template refuses the variables.
    """
    text = _user_turn(name, reader, f"{QUESTION}\n\n{_BOXED}", variables)
    source: str = reader.get_chat_template(tools=[{}])
    form = calls or form_of_template(source)
    thinks = form == "harmony" or (CLOSE_THOUGHT in source and CLOSE_THOUGHT not in text)
    conversation = TokenizerConversation(name, reader, _BOXED, form, variables)
    return PromptTemplate(text, annotate, conversation, turns, form, thinks)


def message_template(prompt: str, annotate: bool, turns: Turns = ()) -> PromptTemplate:
    """Return the template of the user's message to a host that puts messages into the model's own chat template.

    ``chat`` has the question with the instruction after it. Raises ``ConfigError`` for a named template, which has the
    markup of a family, and as ``PromptTemplate``.
    """
    if prompt in FAMILIES:
        raise ConfigError(
            f"the template {prompt!r} has a model's own markup, which a host of chat completions adds itself. Set "
            f'prompt to "{CHAT}", or to the text of a message with {QUESTION}'
        )
    text = f"{QUESTION}\n\n{_BOXED}" if prompt == CHAT else TEMPLATES.get(prompt, prompt)
    return PromptTemplate(text, annotate, turns=turns)


def chat_turn(name: str, text: str, prompt: str = CHAT, variables: Variables = NO_VARIABLES) -> str:
    """Return one user turn ``text`` in the chat template of the tokenizer ``name``, up to where the answer begins.

    ``prompt`` is the configured one, which errors name, and ``variables`` are those of the template. Raises
    ``ConfigError`` if the tokenizer cannot be read, or has no chat template.
    """
    return _user_turn(name, chat_reader(name, prompt), text, variables, prompt)


def chat_reader(name: str, prompt: str = CHAT) -> Any:  # noqa: ANN401
    """Return the tokenizer ``name``, for its chat template. Raises ``ConfigError`` if it cannot be read."""
    return read_tokenizer(name, f'prompt = "{prompt}"', _INSTEAD)


def _user_turn(
    name: str,
    reader: Any,  # noqa: ANN401
    text: str,
    variables: Variables = NO_VARIABLES,
    prompt: str = CHAT,
) -> str:
    try:
        return chat_text(reader, (Turn("user", text),), variables=variables)
    except Exception as error:  # a template may raise anything
        raise ConfigError(
            f'prompt = "{prompt}": cannot read a chat template from the tokenizer {name!r}: '
            f"{str(error).strip().partition(chr(10))[0]}. Set tokenizer to a folder or a hub name, or {_INSTEAD}"
        ) from error
