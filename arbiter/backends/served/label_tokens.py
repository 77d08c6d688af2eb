"""Scores of a language model that is trained to write one of two label tokens after a step.

The score is the probability of the good label. Math-Shepherd is such a model: ``+`` or ``-`` follows the step tag.
Works with any server of completions that returns log-probabilities.
"""

import math
from collections.abc import Mapping

from arbiter.backends.confidence import TOP
from arbiter.backends.prompts import PromptTemplate
from arbiter.backends.served.completion_answers import PATH, complete
from arbiter.backends.served.context_room import refuse_cut
from arbiter.backends.served.logprobs import Logprobs, alternatives_option, first_alternatives
from arbiter.backends.served.problem_sessions import release_at
from arbiter.backends.served.prompt_form import PromptForm, as_text
from arbiter.backends.served.scorer import text_of
from arbiter.backends.served.transport import Transport
from arbiter.protocols.errors import BackendError
from arbiter.protocols.ports import Score, ScoreRequest

_ROUNDING = 1e-3


class LabelScorer:
    """A ``Scorer`` over a transport: p(good) / (p(good) + p(bad)) of the token after the newest step.

    ``labels`` are the texts of the two tokens, good first. Each step is followed by ``step_tag``, or by the separator
    if it is None. A ``hosted`` endpoint refuses unknown fields. ``form`` is the form in which prompts are sent,
    and ``context`` the model's context in tokens, if the server reports it.
    """

    def __init__(
        self,
        transport: Transport,
        model: str,
        template: PromptTemplate,
        labels: tuple[str, str],
        step_tag: str | None = None,
        hosted: bool = False,
        form: PromptForm = as_text,
        context: int | None = None,
    ) -> None:
        self._transport = transport
        self._model = model
        self._template = template
        self._labels = labels
        self._step_tag = step_tag
        self._hosted = hosted
        self._form = form
        self.context = context
        """The size of the model's context in tokens, if the server reports it."""

    def release(self, problem: str) -> None:
        """Close the problem's session at the server, if it has one."""
        release_at(self._transport, problem)

    async def score(self, request: ScoreRequest) -> Score:
        """Score one candidate.

        Raises ``BackendError`` if the answer lacks the log-probability of a label, or if the text fills the context.
        """
        text = text_of(self._template, request, self._step_tag)
        options = {"max_tokens": 1, "temperature": 0, **alternatives_option(TOP, self._hosted)}
        choice, usage = await complete(
            self._transport, {"model": self._model, "prompt": self._form(text), **options}, request.problem
        )
        where = self._transport.address.at(PATH)
        refuse_cut(usage.prompt_tokens, self.context, where)
        value = label_probability(first_alternatives(choice.logprobs or Logprobs()), *self._labels, where)
        return Score(value=value, usage=usage)


def label_probability(alternatives: Mapping[str, float], good: str, bad: str, where: str) -> float:
    """Return p(good) / (p(good) + p(bad)) from the log-probabilities of first tokens.

    Raises ``BackendError``, which names the server ``where``, if a label is missing or a log-probability is above 0.
    """
    if any(logprob > _ROUNDING for logprob in alternatives.values()):
        raise BackendError(f"{where} answered with log-probabilities above 0: {dict(alternatives)}")
    positive, negative = (_log_sum(alternatives, label) for label in (good, bad))
    if positive is None or negative is None:
        missing = good if positive is None else bad
        raise BackendError(
            f"{where} does not return how likely {missing!r} comes next: it is not among the {len(alternatives)} "
            f"alternatives in the answer ({', '.join(map(repr, list(alternatives)[:5]))} …). Are labels, step_tag and "
            "prompt those that the model was trained with, and does the server return 20 log-probabilities?"
        )
    margin = positive - negative
    return 1 / (1 + math.exp(-margin)) if margin >= 0 else math.exp(margin) / (1 + math.exp(margin))


def _log_sum(alternatives: Mapping[str, float], label: str) -> float | None:
    """Return the log-probability of all tokens that equal the label except for spaces; None if there is none."""
    found = [each for token, each in alternatives.items() if _bare(token) == _bare(label) and each > -math.inf]
    return max(found) + math.log(math.fsum(math.exp(each - max(found)) for each in found)) if found else None


def _bare(token: str) -> str:
    """Return the token without spaces. Engines mark a space before a token differently."""
    return token.strip().lstrip("▁Ġ")
