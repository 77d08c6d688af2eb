"""A served judge (``/v1/completions``): it writes one token, with its alternatives if the server returns them."""

from arbiter.backends.confidence import TOP
from arbiter.backends.judge_prompts import JudgePrompt, judged
from arbiter.backends.served.completion_answers import PATH, complete
from arbiter.backends.served.logprobs import alternatives_option, first_alternatives
from arbiter.backends.served.transport import Transport
from arbiter.protocols.ports import Score, ScoreRequest


class ServedJudge:
    """A ``Scorer`` over a transport. A ``hosted`` endpoint refuses unknown fields."""

    def __init__(self, transport: Transport, model: str, prompt: JudgePrompt, hosted: bool = False) -> None:
        self._transport = transport
        self._model = model
        self._prompt = prompt
        self._hosted = hosted
        self.context: int | None = None
        """The size of the model's context in tokens, if the server reports it."""

    async def score(self, request: ScoreRequest) -> Score:
        """Judge one candidate. Raises ``BackendError`` if the request fails, or if the answer has no digit."""
        text = self._prompt.render(request.transcript, request.candidate, request.separator)
        options = {"max_tokens": 1, "temperature": 0, **alternatives_option(TOP, self._hosted)}
        choice, usage = await complete(
            self._transport, {"model": self._model, "prompt": text, **options}, request.problem
        )
        alternatives = first_alternatives(choice.logprobs) if choice.logprobs else None
        where = self._transport.address.at(PATH)
        return Score(value=judged(alternatives or {choice.text: 0.0}, where), usage=usage)
