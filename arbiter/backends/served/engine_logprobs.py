"""How engines show a model's own choices: what to ask of tokens, and how to read the answer."""

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import msgspec

from arbiter.backends.served.generator import PATH, WITHOUT_PENALTIES, ServerUsage, counted
from arbiter.config.model_tables import Engine


class LogprobQuery(msgspec.Struct, frozen=True):
    """``tokens`` to read and at most how many to write behind them, greedily and without penalties.

    At each of the last ``shown`` of them the model's own choice is asked for.
    """

    model: str
    tokens: Sequence[int]
    max_tokens: int
    shown: int = 0
    stop: Sequence[str] = ()


class LogprobAnswer(msgspec.Struct, frozen=True):
    """``choices`` are the model's own where they were asked for, None if they are not all there.

    ``tokens`` are what it wrote; ``reason`` and ``matched`` say why it stopped, in the engine's words. ``cached`` are
    the tokens that it read out of its cache.
    """

    choices: list[int] | None
    tokens: list[int]
    reason: str | None
    matched: str | int | list[int] | None
    cached: int


class _Reason(msgspec.Struct, frozen=True):
    type: str
    matched: str | int | list[int] | None = None


class _Meta(msgspec.Struct, frozen=True):
    finish_reason: _Reason | None = None
    cached_tokens: int | None = 0
    input_top_logprobs: list[list[tuple[float | None, int, str | None]] | None] | None = None


class _Generated(msgspec.Struct, frozen=True):
    output_ids: list[int]
    meta_info: _Meta


def _asked_of_sglang(asked: LogprobQuery) -> dict[str, Any]:
    sampling = {"max_new_tokens": asked.max_tokens, "temperature": 0, "stop": asked.stop, **WITHOUT_PENALTIES}
    body = {"input_ids": asked.tokens, "sampling_params": sampling}
    if asked.shown:  # the place before the first: what it has chosen there is told at the next one
        start = len(asked.tokens) - asked.shown - 1
        body |= {"return_logprob": True, "logprob_start_len": start, "top_logprobs_num": 1}
    return body


def _told_by_sglang(answer: _Generated, asked: LogprobQuery) -> LogprobAnswer:
    meta = answer.meta_info
    told = meta.input_top_logprobs or [None]
    choices = [place[0][1] for place in told[1:] if place] if len(told) == asked.shown + 1 else []
    reason = meta.finish_reason or _Reason("")
    cached = meta.cached_tokens or 0
    return LogprobAnswer(_all(choices, asked), answer.output_ids, reason.type, reason.matched, cached)


class _Ranked(msgspec.Struct, frozen=True):
    rank: int | None = None


class _Choice(msgspec.Struct, frozen=True):
    token_ids: list[int]
    finish_reason: str | None = None
    stop_reason: str | int | None = None
    prompt_logprobs: list[dict[int, _Ranked] | None] | None = None


class _Completion(msgspec.Struct, frozen=True):
    choices: list[_Choice]
    usage: ServerUsage | None = None


def _asked_of_vllm(asked: LogprobQuery) -> dict[str, Any]:
    body = {"model": asked.model, "prompt": asked.tokens, "max_tokens": asked.max_tokens, "temperature": 0}
    body |= {"stop": asked.stop, "return_token_ids": True, **WITHOUT_PENALTIES}
    return body | {"prompt_logprobs": 1} if asked.shown else body


def _told_by_vllm(answer: _Completion, asked: LogprobQuery) -> LogprobAnswer:
    """Each place has the prompt's own token with its rank, and the first choice."""
    first = answer.choices[0] if answer.choices else _Choice([])
    told = first.prompt_logprobs or []
    places = told[len(told) - asked.shown :] if len(told) == len(asked.tokens) else []
    firsts = [[token for token, ranked in (place or {}).items() if ranked.rank == 1] for place in places]
    choices = [tokens[-1] for tokens in firsts if tokens]
    cached = counted(answer.usage).cached_tokens
    return LogprobAnswer(_all(choices, asked), first.token_ids, first.finish_reason, first.stop_reason, cached)


def _all(choices: list[int], asked: LogprobQuery) -> list[int] | None:
    return choices if len(choices) == asked.shown else None


class LogprobDialect(NamedTuple):
    """How an engine is asked, and how its answer is read."""

    path: str
    body: Callable[[LogprobQuery], dict[str, Any]]
    decoder: "msgspec.json.Decoder[Any]"
    read: Callable[[Any, LogprobQuery], LogprobAnswer]


LOGPROB_DIALECTS: dict[Engine, LogprobDialect] = {
    "sglang": LogprobDialect("/generate", _asked_of_sglang, msgspec.json.Decoder(_Generated), _told_by_sglang),
    "vllm": LogprobDialect(PATH, _asked_of_vllm, msgspec.json.Decoder(_Completion), _told_by_vllm),
}
