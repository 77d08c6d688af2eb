"""Steps of a served model as numbers of tokens: what is sent, what comes back, and which servers can do it.

sglang 0.5.23 and vLLM 0.32.0 take a prompt of numbers on ``/v1/completions``, and return those that the model wrote
with ``return_token_ids``. llama.cpp's own server does so on ``/completion`` with ``return_tokens``.
A server of another tokenizer would read other text, so a trial compares how both count.
"""

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import msgspec

from arbiter.backends.context_tokens import context_tokens
from arbiter.backends.prompts import PromptTemplate
from arbiter.backends.served.completion_answers import CompletionApi
from arbiter.backends.served.llama_completions import PATH as LLAMA_PATH
from arbiter.backends.served.prompt_form import PromptForm
from arbiter.backends.served.transport import TemporaryError, Transport, UnreachableError
from arbiter.backends.step_tokens import ContextDecoder, StepTokens
from arbiter.backends.token_texts import TokenTexts, prompt_tokens
from arbiter.config.model_tables import ServedEngine
from arbiter.protocols.errors import BackendError
from arbiter.protocols.ports import GenerationRequest
from arbiter.protocols.records import StopReason

_ENGINES = ("sglang", "vllm")
_TRIAL = "Compute 1+1.\n"


class Written(NamedTuple):
    """The tokens of a step, and what the last one adds after the separator; both empty if they are not known."""

    token_ids: tuple[int, ...] = ()
    overrun: str = ""


class TokenSteps(msgspec.Struct, frozen=True):
    """The steps of a model with the tokenizer ``texts``, whose server takes and returns numbers of tokens."""

    texts: TokenTexts
    returned: Mapping[str, Any]
    """The field that requests the numbers of the tokens that the model writes."""

    def prompt(self, template: PromptTemplate, request: GenerationRequest) -> list[int]:
        """Return the tokens of a request's context."""
        return context_tokens(self.texts, template, request.transcript, request.separator, request.wrote)

    def written(
        self, request: GenerationRequest, prompt: Sequence[int], token_ids: Sequence[int], text: str, ending: StopReason
    ) -> Written:
        """Return the tokens of the step ``text``, of those that the server wrote. ``ending`` is its stop reason.

        They end with the token that completes the separator. They are not known if they make up another text.
        """
        if ending != "separator":
            return Written(tuple(token_ids))
        step = StepTokens(ContextDecoder(self.texts, prompt), request.separator, frozenset(), len(token_ids) + 1)
        step.take(token_ids)
        is_same = (step.ending, step.text) == (ending, text)
        return Written(tuple(step.tokens), step.overrun) if is_same else Written()


async def token_steps(
    transport: Transport,
    model: str,
    texts: TokenTexts | None,
    engine: ServedEngine | None,
    form: PromptForm,
    api: CompletionApi,
) -> TokenSteps | str:
    """Return how the steps of ``model`` are sent as tokens, or why they cannot be. Two small requests find out.

    ``texts`` is its tokenizer and ``engine`` that of its server, if they are known. ``form`` is how a text is sent, and
    ``api`` how a completion is requested.
    Raises ``BackendError`` if the server cannot be reached.
    """
    where, complete = transport.address.at(api.path), api.complete
    if engine not in _ENGINES and api.path != LLAMA_PATH:
        return (
            f"{where} is not known to return tokens: serve the model with sglang, vLLM or llama.cpp's own server, and "
            "name it with engine"
        )
    if texts is None:
        return f"the tokenizer of the model behind {where} is not known: set tokenizer"
    prompt = prompt_tokens(texts, _TRIAL)
    body = {"model": model, "max_tokens": 1, "temperature": 0, **api.numbered}
    try:
        answer, counted = await complete(transport, {**body, "prompt": form(_TRIAL)}, "")
        if answer.token_ids is None:
            return f"{where} does not return the tokens that its model writes. Is a gateway before the engine?"
        _, usage = await complete(transport, {**body, "prompt": prompt}, "")
    except (TemporaryError, UnreachableError):
        raise
    except BackendError as error:
        return f"{where} refuses numbers of tokens: {error}"
    if usage.prompt_tokens != counted.prompt_tokens:
        return (
            f"{where} counts {counted.prompt_tokens} tokens where the tokenizer counts {len(prompt)}: set tokenizer to "
            "the one that is served"
        )
    return TokenSteps(texts, api.numbered)
