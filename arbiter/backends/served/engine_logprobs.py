"""The engines' requests for what a model finds likely at given tokens, and how to read their answers."""

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple, TypeVar

import msgspec

from arbiter.backends.served.completion_answers import (
    PATH,
    CountError,
    ServerUsage,
    check_reason,
    counted,
    first,
    requested,
)
from arbiter.backends.served.request_fields import WITHOUT_PENALTIES
from arbiter.backends.served.transport import Transport
from arbiter.config.model_tables import Engine
from arbiter.protocols.errors import BackendError

Value = TypeVar("Value", int, float)


class LogprobQuery(msgspec.Struct, frozen=True):
    """A request to read ``tokens`` and write at most ``max_tokens`` after them, greedily and without penalties.

    For each of the last ``shown`` of ``tokens``, two things are requested: its log-probability, and the model's own
    choice at that position.
    """

    model: str
    tokens: Sequence[int]
    max_tokens: int
    shown: int = 0
    stop: Sequence[str] = ()


class LogprobAnswer(msgspec.Struct, frozen=True):
    """An answer. ``choices`` are the model's own choices at the requested positions, None if any is missing.

    ``tokens`` is what the model wrote. ``reason`` and ``matched`` say why it stopped, in the engine's words. ``cached``
    is the number of prompt tokens read from the cache. ``logprobs`` are the log-probabilities of the shown tokens
    themselves, None if any is missing.
    """

    choices: list[int] | None
    tokens: list[int]
    reason: str | None
    matched: str | int | list[int] | None
    cached: int
    logprobs: list[float] | None = None


class _Reason(msgspec.Struct, frozen=True):
    type: str
    matched: str | int | list[int] | None = None


class _Meta(msgspec.Struct, frozen=True):
    finish_reason: _Reason | None = None
    cached_tokens: int | None = 0
    input_top_logprobs: list[list[tuple[float | None, int, str | None]] | None] | None = None
    input_token_logprobs: list[tuple[float | None, int, str | None]] | None = None


class _Generated(msgspec.Struct, frozen=True):
    output_ids: list[int]
    meta_info: _Meta


def _sglang_body(query: LogprobQuery) -> dict[str, Any]:
    sampling = {"max_new_tokens": query.max_tokens, "temperature": 0, "stop": query.stop, **WITHOUT_PENALTIES}
    body = {"input_ids": query.tokens, "sampling_params": sampling}
    if query.shown:  # one position earlier: sglang reports the choice at a position with the next one
        start = len(query.tokens) - query.shown - 1
        body |= {"return_logprob": True, "logprob_start_len": start, "top_logprobs_num": 1}
    return body


def _read_sglang(answer: _Generated, query: LogprobQuery) -> LogprobAnswer:
    meta = answer.meta_info
    positions = meta.input_top_logprobs or [None]
    choices = [position[0][1] for position in positions[1:] if position] if len(positions) == query.shown + 1 else []
    reason = meta.finish_reason or _Reason("")
    own = meta.input_token_logprobs or []  # the first has no log-probability; sglang may report 0 for a token's number
    logprobs = [logprob for logprob, _, _ in own[1:] if logprob is not None] if len(own) == query.shown + 1 else []
    return LogprobAnswer(
        _all(choices, query),
        answer.output_ids,
        reason.type,
        reason.matched,
        meta.cached_tokens or 0,
        _all(logprobs, query),
    )


class _Ranked(msgspec.Struct, frozen=True):
    rank: int | None = None
    logprob: float | None = None


class _Choice(msgspec.Struct, frozen=True):
    token_ids: list[int]
    finish_reason: str | None = None
    stop_reason: str | int | None = None
    prompt_logprobs: list[dict[int, _Ranked] | None] | None = None
    index: int = 0


class _Completion(msgspec.Struct, frozen=True):
    choices: list[_Choice]
    usage: ServerUsage | None = None


def _vllm_body(query: LogprobQuery) -> dict[str, Any]:
    body = {"model": query.model, "prompt": query.tokens, "max_tokens": query.max_tokens, "temperature": 0}
    body |= {"stop": query.stop, "return_token_ids": True, **WITHOUT_PENALTIES}
    return body | {"prompt_logprobs": 1} if query.shown else body


def _read_vllm(answer: _Completion, query: LogprobQuery) -> LogprobAnswer:
    """Read an answer in which each position has the prompt's own token with its rank, and the first choice."""
    choice = first(answer.choices or [_Choice([], "stop")])
    ranks = choice.prompt_logprobs or []
    positions = ranks[len(ranks) - query.shown :] if len(ranks) == len(query.tokens) else []
    firsts = [[token for token, ranked in (position or {}).items() if ranked.rank == 1] for position in positions]
    choices = [tokens[-1] for tokens in firsts if tokens]
    shown = query.tokens[len(query.tokens) - query.shown :]
    own = [(position or {}).get(token) for position, token in zip(positions, shown, strict=False)]
    logprobs = [ranked.logprob for ranked in own if ranked is not None and ranked.logprob is not None]
    return LogprobAnswer(
        _all(choices, query),
        choice.token_ids,
        choice.finish_reason,
        choice.stop_reason,
        counted(answer.usage).cached_tokens,
        _all(logprobs, query),
    )


def _all(found: list[Value], query: LogprobQuery) -> list[Value] | None:
    return found if len(found) == query.shown else None


class LogprobDialect(NamedTuple):
    """The path and body of an engine's request, and the reader of its answer."""

    path: str
    body: Callable[[LogprobQuery], dict[str, Any]]
    decoder: "msgspec.json.Decoder[Any]"
    read: Callable[[Any, LogprobQuery], LogprobAnswer]


LOGPROB_DIALECTS: dict[Engine, LogprobDialect] = {
    "sglang": LogprobDialect("/generate", _sglang_body, msgspec.json.Decoder(_Generated), _read_sglang),
    "vllm": LogprobDialect(PATH, _vllm_body, msgspec.json.Decoder(_Completion), _read_vllm),
}


async def read_answer(
    transport: Transport, engine: Engine, query: LogprobQuery, problem: str, **more: int
) -> LogprobAnswer:
    """Send ``query``, with ``more`` fields, in the dialect of ``engine``, and return the answer.

    Raises ``BackendError`` if the request fails, if the answer is incomplete, or for counts that cannot be.
    """
    dialect = LOGPROB_DIALECTS[engine]
    where = transport.address.at(dialect.path)

    def read(answer: Any) -> LogprobAnswer:  # noqa: ANN401 - of the dialect's own kind
        try:
            found = dialect.read(answer, query)
        except CountError as error:
            raise BackendError(f"{where} answered with {error}") from error
        check_reason(found.reason, where)
        if len(found.tokens) > query.max_tokens:
            raise BackendError(f"{where} answered with {len(found.tokens)} tokens to a request for {query.max_tokens}")
        return found

    return await requested(transport, dialect.path, dialect.body(query) | more, problem, dialect.decoder, read)
