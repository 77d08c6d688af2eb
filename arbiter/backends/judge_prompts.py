"""A language model as a judge of steps: how it is asked for a digit, and how its answer is read."""

import math
import re
from collections.abc import Mapping

import msgspec

from arbiter.backends.conversations import as_text
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
"""By name: the default. It ends with a line's end, behind which a digit is one token in all vocabularies. ``chat`` puts
the same task into the tokenizer's own chat template."""


class JudgePrompt(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A text with each of ``{question}``, ``{steps}`` and ``{step}`` once; what comes next is the digit."""

    text: str

    def __post_init__(self) -> None:
        if any(self.text.count(name) != 1 for name in PLACEHOLDERS):
            known = ", ".join([*JUDGE_TEMPLATES, CHAT])
            raise ConfigError(
                f"the prompt {self.text!r} is no template of a judge (there are {known}), and as a template's own text "
                f"it must hold {', '.join(PLACEHOLDERS)} exactly once each"
            )

    def render(self, transcript: Transcript, candidate: str, separator: str) -> str:
        """What the judge reads. No step before the candidate is an empty text; turns of a conversation stand before
        the question, a blank line between them.
        """
        steps = separator.join(step.text for step in transcript.steps)
        filled = {"question": as_text(transcript), "steps": steps, "step": candidate}
        return _PLACEHOLDER.sub(lambda found: filled[found[1]], self.text)


def judge_prompt(prompt: str, tokenizer: str) -> JudgePrompt:
    """The prompt that a configuration names or spells out. Raises ``ConfigError`` as ``prompt_template``."""
    return JudgePrompt(chat_turn(tokenizer, _TASK) if prompt == CHAT else JUDGE_TEMPLATES.get(prompt, prompt))


def judged(alternatives: Mapping[str, float], where: str) -> float:
    """The expected digit, as a share of 9, of a judge's first token with these log-probabilities.

    What is no digit counts for nothing. Raises ``BackendError`` if there is no digit: silence is no verdict.
    """
    weights = dict.fromkeys(range(_HIGHEST + 1), 0.0)
    digits = [(_digit(token), logprob) for token, logprob in alternatives.items()]
    likeliest = max((logprob for digit, logprob in digits if digit is not None), default=None)
    if likeliest is None or likeliest == -math.inf:
        raise BackendError(
            f"{where} judged a step with no digit, but with {next(iter(alternatives), '')!r}. Write the prompt of "
            '[models.judge] so that the digit comes next (prompt = "chat" for a chat model), or take another judge'
        )
    for digit, logprob in digits:
        if digit is not None:
            weights[digit] += math.exp(logprob - likeliest)
    expected = math.fsum(digit * weight for digit, weight in weights.items()) / math.fsum(weights.values())
    return min(expected / _HIGHEST, 1.0)


def _digit(token: str) -> int | None:
    """Engines show blanks before a token in ways of their own."""
    bare = token.strip().lstrip("▁Ġ")
    return int(bare) if len(bare) == 1 and bare in "0123456789" else None
