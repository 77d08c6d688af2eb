"""A served judge: it writes one token, with its alternatives if the server returns them, or it decides on a level."""

from arbiter.backends.confidence import TOP
from arbiter.backends.judge_prompts import JudgePrompt, judged
from arbiter.backends.served import chat_hosts
from arbiter.backends.served.completion_answers import PATH, complete
from arbiter.backends.served.context_room import refuse_cut
from arbiter.backends.served.level_decisions import PATH as DECISIONS
from arbiter.backends.served.level_decisions import decided, without_decisions
from arbiter.backends.served.logprobs import alternatives_option, first_alternatives
from arbiter.backends.served.problem_sessions import release_at
from arbiter.backends.served.prompt_form import PromptForm, as_text
from arbiter.backends.served.transport import Transport
from arbiter.protocols.ports import Score, ScoreRequest


class ServedJudge:
    """A ``Scorer`` over a transport.

    A ``hosted`` endpoint refuses unknown fields. With ``chats``, the prompt is a message of chat completions, else it
    is sent in ``form``. ``context`` is the model's context in tokens, if the server reports it.
    """

    def __init__(
        self,
        transport: Transport,
        model: str,
        prompt: JudgePrompt,
        hosted: bool = False,
        chats: bool = False,
        form: PromptForm = as_text,
        context: int | None = None,
    ) -> None:
        self._transport = transport
        self._model = model
        self._prompt = prompt
        self._hosted = hosted
        self._chats = chats
        self._form = form
        self.context = context
        """The size of the model's context in tokens, if the server reports it."""
        self.without_levels: str | None = "its server was not asked for levels"
        """Why the judge writes a token; None if the server returns the probabilities of the levels."""

    def release(self, problem: str) -> None:
        """Close the problem's session at the server, if it has one."""
        release_at(self._transport, problem)

    async def try_levels(self, request: ScoreRequest, written: Score) -> None:
        """Find out whether the server rates ``request`` by levels as it did by a token, with the score ``written``.

        From then on it is asked for levels alone if it does. The prompt must be that of ``levels``.
        """
        self.without_levels = await without_decisions(self._transport, self._model, request, written)

    async def score(self, request: ScoreRequest) -> Score:
        """Judge one candidate.

        Raises ``BackendError`` if the request fails, if the answer has no digit, or if the text fills the context.
        """
        if self.without_levels is None:
            found = await decided(self._transport, self._model, request)
            refuse_cut(found.usage.prompt_tokens, self.context, self._transport.address.at(DECISIONS))
            return found
        return await self._written(request)

    async def _written(self, request: ScoreRequest) -> Score:
        text = self._prompt.render(request.transcript, request.candidate, request.separator)
        body = {"model": self._model, "max_tokens": 1, "temperature": 0}
        if self._chats:
            messages = [{"role": "user", "content": text}]
            sent = body | chat_hosts.chat_logprobs(TOP)
            choice, usage = await chat_hosts.complete_chat(self._transport, messages, sent, request.problem)
        else:
            sent = body | {"prompt": self._form(text), **alternatives_option(TOP, self._hosted)}
            choice, usage = await complete(self._transport, sent, request.problem)
        alternatives = first_alternatives(choice.logprobs) if choice.logprobs else None
        where = self._transport.address.at(chat_hosts.PATH if self._chats else PATH)
        refuse_cut(usage.prompt_tokens, self.context, where)
        return Score(value=judged(alternatives or {choice.text: 0.0}, where), usage=usage)
