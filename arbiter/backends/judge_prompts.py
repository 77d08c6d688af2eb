"""A language model as a judge of steps: the prompt that requests a digit, and the score from its answer."""

import math
import re
from collections.abc import Mapping, Sequence

import msgspec

from arbiter.backends.conversations import Variables, as_text
from arbiter.backends.prompts import CHAT, chat_turn
from arbiter.protocols.errors import BackendError, ConfigError
from arbiter.protocols.records import Transcript

PLACEHOLDERS = ("{question}", "{steps}", "{step}")
_HIGHEST = 9
_PLACEHOLDER = re.compile(r"\{(question|steps|step)\}")
_TASK = """\
You judge one step of a solution to a mathematics problem. Rate how good the step is for reaching the right answer,
given the problem and the steps before it, with one digit from 0 (wrong or useless) to 9 (certainly right and useful).

Problem:
{question}

Steps before it:
{steps}

Step to rate:
{step}

Answer with the digit alone."""

JUDGE_TEMPLATES = {"judge": f"{_TASK}\nRating:\n"}
"""The templates by name. ``judge``, the default, ends with a newline: after it a digit is one token in any vocabulary.
``chat`` puts the same task into the tokenizer's own chat template."""

LEVELS = "levels"
"""The name of the template in which sglang 0.5.23 asks for a level on ``/v1/decisions``, in the chat template."""

LEVEL_QUESTION = "How good is the step for reaching the right answer, given the problem and the steps before it?"
LEVEL_TEXTS = (
    "certainly wrong, or useless",
    "almost certainly wrong",
    "very likely wrong",
    "likely wrong",
    "rather wrong than right",
    "rather right than wrong",
    "likely right",
    "very likely right",
    "almost certainly right",
    "certainly right, and useful",
)
"""What the digits mean, from 0."""

LEVEL_INPUT = "Problem:\n{question}\n\nSteps before it:\n{steps}\n\nStep to rate:\n{step}"
_LEVEL_TASK = "\n".join(
    [
        f"{LEVEL_INPUT}\n",
        f"Question: {LEVEL_QUESTION}",
        *(f"{level}: {text}" for level, text in enumerate(LEVEL_TEXTS)),
        "Answer with the number of one level only.",
    ]
)
_WITHOUT_THOUGHTS: Variables = {"enable_thinking": False, "thinking": False}


class JudgePrompt(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A text that contains ``{question}``, ``{steps}`` and ``{step}`` once each; the model continues it with a digit.

    Raises ``ConfigError`` if a placeholder is missing or repeated.
    """

    text: str

    def __post_init__(self) -> None:
        if any(self.text.count(name) != 1 for name in PLACEHOLDERS):
            known = ", ".join([*JUDGE_TEMPLATES, CHAT, LEVELS])
            raise ConfigError(
                f"the prompt {self.text!r} is not the name of a judge's template (there are {known}); as the text of "
                f"a template it must contain {', '.join(PLACEHOLDERS)} exactly once each"
            )

    def render(self, transcript: Transcript, candidate: str, separator: str) -> str:
        """Return the text that the judge reads.

        Without earlier steps, ``{steps}`` is empty. Turns of a conversation precede the question, separated by blank
        lines.
        """
        steps = "".join(step.ended(separator) for step in transcript.steps).removesuffix(separator)
        filled = {"question": as_text(transcript), "steps": steps, "step": candidate}
        return _PLACEHOLDER.sub(lambda found: filled[found[1]], self.text)


def judge_prompt(prompt: str, tokenizer: str) -> JudgePrompt:
    """Return the prompt that a configuration names or contains. Raises ``ConfigError`` as ``prompt_template``.

    That of ``levels`` switches thoughts off, where the chat template can: the level is the first token of the answer.
    """
    if prompt == LEVELS:
        return JudgePrompt(chat_turn(tokenizer, _LEVEL_TASK, LEVELS, _WITHOUT_THOUGHTS))
    return JudgePrompt(chat_turn(tokenizer, _TASK) if prompt == CHAT else JUDGE_TEMPLATES.get(prompt, prompt))


def judge_message(prompt: str) -> JudgePrompt:
    """Return the prompt as a message to a host that adds the chat template. Raises as ``JudgePrompt``."""
    texts = {**JUDGE_TEMPLATES, CHAT: _TASK, LEVELS: _LEVEL_TASK}
    return JudgePrompt(texts.get(prompt, prompt))


def expected_level(probabilities: Sequence[float]) -> float:
    """Return the expected level divided by the highest, from the probabilities of the levels, which add up to 1."""
    return min(math.fsum(level * each for level, each in enumerate(probabilities)) / (len(probabilities) - 1), 1.0)


def judged(alternatives: Mapping[str, float], where: str) -> float:
    """Return the expected digit divided by 9, from the log-probabilities of a judge's first token.

    Only digits count. Raises ``BackendError``, which names the model ``where``, if there is no digit.
    """
    weights = dict.fromkeys(range(_HIGHEST + 1), 0.0)
    digits = [(_digit(token), logprob) for token, logprob in alternatives.items()]
    likeliest = max((logprob for digit, logprob in digits if digit is not None), default=None)
    if likeliest is None or likeliest == -math.inf:
        raise BackendError(
            f"{where} judged a step without a digit: it answered {next(iter(alternatives), '')!r}. Write the prompt of "
            '[models.judge] so that the digit comes next (prompt = "chat" for a chat model), or use another judge'
        )
    for digit, logprob in digits:
        if digit is not None:
            weights[digit] += math.exp(logprob - likeliest)
    expected = math.fsum(digit * weight for digit, weight in weights.items()) / math.fsum(weights.values())
    return min(expected / _HIGHEST, 1.0)


def _digit(token: str) -> int | None:
    """Return the digit that ``token`` is; None if it is none. Engines mark a space before a token differently."""
    bare = token.strip().lstrip("▁Ġ")
    return int(bare) if len(bare) == 1 and bare in "0123456789" else None
