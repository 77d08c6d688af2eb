"""A language model that was trained to write one of two tokens behind a step: how likely the good one is.

As Math-Shepherd was: the step tag, behind which ``+`` or ``-`` comes next. Any server of completions that tells
log-probabilities will do.
"""

import math
from collections.abc import Mapping

from arbiter.backends.confidence import TOP
from arbiter.backends.prompts import PromptTemplate
from arbiter.backends.served.generator import PATH, complete
from arbiter.backends.served.logprobs import Logprobs, alternatives_asked, first_alternatives
from arbiter.backends.served.scorer import text_of
from arbiter.backends.served.transport import Transport
from arbiter.protocols.errors import BackendError
from arbiter.protocols.ports import Score, ScoreRequest

_ROUNDING = 1e-3


class LabelScorer:
    """A ``Scorer`` over a transport: of what comes behind the newest step, p(good) / (p(good) + p(bad)).

    ``labels`` are the texts of the two tokens, good first. ``step_tag`` stands behind each step, or else the separator.
    A ``hosted`` endpoint refuses fields that it does not know.
    """

    def __init__(
        self,
        transport: Transport,
        model: str,
        template: PromptTemplate,
        labels: tuple[str, str],
        step_tag: str | None = None,
        hosted: bool = False,
    ) -> None:
        self._transport = transport
        self._model = model
        self._template = template
        self._labels = labels
        self._step_tag = step_tag
        self._hosted = hosted

    async def score(self, request: ScoreRequest) -> Score:
        """Score one candidate. Raises ``BackendError`` if the server does not tell how likely both labels are."""
        text = text_of(self._template, request, self._step_tag)
        asked = {"max_tokens": 1, "temperature": 0, **alternatives_asked(TOP, self._hosted)}
        choice, usage = await complete(
            self._transport, {"model": self._model, "prompt": text, **asked}, request.problem
        )
        told = first_alternatives(choice.logprobs or Logprobs())
        return Score(value=label_probability(told, *self._labels, self._transport.address.url + PATH), usage=usage)


def label_probability(alternatives: Mapping[str, float], good: str, bad: str, where: str) -> float:
    """p(good) / (p(good) + p(bad)) from the log-probabilities of first tokens.

    Raises ``BackendError`` if one of the two is not among them, or what is there is no log-probability.
    """
    if any(logprob > _ROUNDING for logprob in alternatives.values()):
        raise BackendError(f"{where} answered with log-probabilities above 0: {dict(alternatives)}")
    positive, negative = (_log_sum(alternatives, label) for label in (good, bad))
    if positive is None or negative is None:
        missing = good if positive is None else bad
        raise BackendError(
            f"{where} does not tell how likely {missing!r} comes next: it is not among the {len(alternatives)} "
            f"alternatives that were told ({', '.join(map(repr, list(alternatives)[:5]))} …). Are labels, step_tag and "
            "prompt those that the model was trained with, and does the server tell 20 log-probabilities?"
        )
    margin = positive - negative
    return 1 / (1 + math.exp(-margin)) if margin >= 0 else math.exp(margin) / (1 + math.exp(margin))


def _log_sum(alternatives: Mapping[str, float], label: str) -> float | None:
    """The log-probability of all tokens that are the label but for blanks; None if there is none."""
    found = [each for token, each in alternatives.items() if _bare(token) == _bare(label) and each > -math.inf]
    return max(found) + math.log(math.fsum(math.exp(each - max(found)) for each in found)) if found else None


def _bare(token: str) -> str:
    """Engines show blanks before a token in ways of their own."""
    return token.strip().lstrip("▁Ġ")
