"""How a context is written for a model: the question in the model's own template, then the steps.

A question that ends a conversation is written with the turns before it (``conversations.py``). No template begins
with a beginning-of-text token: servers and tokenizers put it there themselves.
"""

from typing import Any

import msgspec

from arbiter.backends.conversations import (
    CHATML,
    LLAMA_3,
    Conversation,
    MarkedConversation,
    Markup,
    TokenizerConversation,
    as_text,
    chat_text,
)
from arbiter.backends.tokenizers import read_tokenizer
from arbiter.protocols.errors import ConfigError
from arbiter.protocols.records import Author, Step, Transcript, Turn

QUESTION = "{question}"
CHAT = "chat"
_BOXED = "Please reason step by step, and put your final answer within \\boxed{}."
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
    "plain": f"{QUESTION}\n",
}
"""By name: Qwen2.5-Math's own; Llama 3's mathematics prompt, as the published Arbitrage program uses it; Qwen3's own,
without thinking (an empty thought has been written) and with it; and the bare question on a line, as value-head PRMs
are trained to read it (Skywork-o1-Open-PRM)."""

FAMILIES: dict[str, Markup] = {
    "qwen2.5-math": CHATML,
    "llama-3": LLAMA_3,
    "qwen3": CHATML,
    "qwen3-thinking": CHATML,
}
"""By a template's name, the markup of its family, in which it writes the turns of a conversation; without a family they
stand as text before the question."""

_INSTEAD = f"name a template: {', '.join(TEMPLATES)}"
_MODEL_NUMBER: dict[Author, int] = {"draft": 0, "target": 1}


class PromptTemplate(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """``before_steps`` holds ``{question}`` once; every step follows with the separator behind it.

    With ``annotate``, each step is prefixed by the model that wrote it (``Model 0: `` the draft,
    ``Model 1: `` the target), as the router is trained to read them. ``conversation`` writes the question where turns
    are before it; without one they stand as text in the question's place, a blank line between them.
    """

    before_steps: str
    annotate: bool = False
    conversation: Conversation | None = None

    def __post_init__(self) -> None:
        if self.before_steps.count(QUESTION) != 1:
            known = ", ".join([*TEMPLATES, CHAT])
            raise ConfigError(
                f"the prompt {self.before_steps!r} is no template (there are {known}), and as a template's own text "
                f"it must hold {QUESTION} exactly once"
            )

    def render(self, transcript: Transcript, separator: str) -> str:
        """The text of the context. It ends with a separator, or with the template where there is no step yet.

        Raises ``BackendError`` if the model's own chat template refuses the conversation.
        """
        steps = (self._written(step) + separator for step in transcript.steps)
        return self._head(transcript) + "".join(steps)

    def render_candidate(self, transcript: Transcript, candidate: str, author: Author, separator: str) -> str:
        """What a scorer reads: the context and the candidate, closed by its separator. Raises as ``render``."""
        return self.render(transcript.extended(Step(text=candidate, author=author)), separator)

    def _head(self, transcript: Transcript) -> str:
        if transcript.turns and self.conversation is not None:
            return self.conversation.head(transcript.turns, transcript.question)
        before, _, behind = self.before_steps.partition(QUESTION)
        return f"{before}{as_text(transcript)}{behind}"

    def _written(self, step: Step) -> str:
        return f"Model {_MODEL_NUMBER[step.author]}: {step.text}" if self.annotate else step.text


def prompt_template(prompt: str, annotate: bool, tokenizer: str) -> PromptTemplate:
    """The template that a configuration's ``prompt`` names or spells out.

    ``chat`` reads the chat template of ``tokenizer`` (a folder or a hub name; needs transformers). Raises
    ``ConfigError`` if it is neither, or ``tokenizer`` has no template.
    """
    if prompt == CHAT:
        reader = _reader(tokenizer)
        text = _user_turn(tokenizer, reader, f"{QUESTION}\n\n{_BOXED}")
        return PromptTemplate(text, annotate, TokenizerConversation(tokenizer, reader, _BOXED))
    text = TEMPLATES.get(prompt, prompt)
    before, _, behind = text.partition(QUESTION)
    family = FAMILIES.get(prompt)
    return PromptTemplate(text, annotate, MarkedConversation(before, behind, family) if family else None)


def chat_turn(name: str, asked: str) -> str:
    """One turn of a user who says what is ``asked``, by the tokenizer ``name``; the answer comes next.

    Raises ``ConfigError`` if the tokenizer cannot be read, or has no chat template.
    """
    return _user_turn(name, _reader(name), asked)


def _reader(name: str) -> Any:  # noqa: ANN401
    return read_tokenizer(name, f'prompt = "{CHAT}"', _INSTEAD)


def _user_turn(name: str, reader: Any, asked: str) -> str:  # noqa: ANN401
    try:
        return chat_text(reader, (Turn("user", asked),))
    except Exception as error:  # whatever a template makes of it
        raise ConfigError(
            f'prompt = "{CHAT}": cannot read a chat template from the tokenizer {name!r}: '
            f"{str(error).strip().partition(chr(10))[0]}. Set tokenizer to a folder or a hub name, or {_INSTEAD}"
        ) from error
