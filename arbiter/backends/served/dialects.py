"""The dialects in which servers return scores: what to send, and how to read the answer.

Sources, with the versions read:

- sglang 0.5.23: ``/classify``, ``/v1/embeddings`` and ``/v1/score`` in ``srt/entrypoints`` and
  ``srt/managers/tokenizer_manager_score_mixin.py``;
- vLLM 0.32.0: ``/classify`` and ``/pooling`` in ``entrypoints/pooling``, the rows of step tags in
  ``model_executor/layers/pooler/tokwise/methods.py``;
- for ``token-embeddings``: the published vLLM plug-in of Skywork-o1-Open-PRM, with ``derive_step_rewards_vllm`` of its
  client.

sglang's ``/v1/classify`` is not supported: it applies a softmax, which turns every single value into 1.0.
"""

from collections.abc import Callable, Mapping, Sequence
from typing import Any, Literal, TypeVar

import msgspec

from arbiter.backends.served.completion_answers import CacheDetails, Number, ServerUsage, counted, first
from arbiter.config.model_tables import Classifier, Labels
from arbiter.protocols.records import Usage

Logits = list[float | None]
Range = Literal["logits", "probabilities"]


class ShapeError(Exception):
    """A decoded answer with unexpected numbers. The text of the error continues "answered with"."""


class ScoreAnswer(msgspec.Struct, frozen=True):
    """The numbers of the newest step, and the tokens of the request."""

    numbers: Logits
    usage: Usage


class ScoreDialect(msgspec.Struct, frozen=True):
    """A dialect: where to send a request, its fields besides the model's name, and how to read the answer.

    ``request_fields`` takes a text, or a list of several if ``takes_lists``. ``read`` takes the answer, the index of a
    text, and the number of steps in it. The tokens of an answer that counts those of all texts together are those of
    the first one. ``range`` says what the numbers are: raw logits, or
    probabilities (one, or two whose sum is 1). ``softened`` has the fields that request probabilities instead of raw
    logits; they serve to check that the server honours the request.
    """

    path: str
    request_fields: Callable[[str | list[str]], dict[str, Any]]
    decoder: "msgspec.json.Decoder[Any]"
    read: Callable[[Any, int, int], ScoreAnswer]
    range: Range = "logits"
    softened: Mapping[str, Any] | None = None
    takes_lists: bool = True


_FIXES = (
    (
        "At least one of text, input_ids",  # sglang's /classify, called in vLLM's dialect
        'sglang is served there: set models.{name}.scores = "classify"',
    ),
    (
        "body.input",  # vLLM's /classify, called in sglang's dialect
        'vLLM is served there: set models.{name}.scores = "vllm-classify"',
    ),
    (
        "only supported for CausalLM",  # sglang's /v1/score over a reward model
        'A reward model of sglang is served there: set models.{name}.scores = "classify"',
    ),
    (
        "--is-embedding",  # sglang over a language model
        "If the model is a classifier, start its server with --is-embedding; for a language model that was trained to "
        'write labels after steps set models.{name}.scores to "score" or "label-tokens", and labels',
    ),
    (
        "Unsupported task: 'classify'",  # vLLM's /pooling over a model that has a row for each step
        "That server returns a row for each token or step: set models.{name}.step_tag to the tag of the model",
    ),
    (
        "pooler-config.task token_classify",  # vLLM's /pooling over a sequence classifier
        "That server returns one row per text: leave models.{name}.step_tag out",
    ),
    (
        "/pooling answered 404",
        'Only vLLM has /pooling: for sglang set models.{name}.scores = "classify"',
    ),
    (
        "/v1/embeddings answered 404",
        'vLLM has no /v1/embeddings for classifiers: set models.{name}.scores to "vllm-classify" or "pooling"',
    ),
    (
        "/classify answered 404",
        'sglang\'s router has no /classify: set models.{name}.scores = "embeddings". vLLM has none for a model with a '
        'row for each step: set models.{name}.scores = "pooling", and step_tag',
    ),
    (
        "/v1/score answered 404",
        'Only sglang\'s server has /v1/score, not its router: set models.{name}.scores = "label-tokens"',
    ),
    (
        "expected is one for each token",
        'For the numbers of only the last token set models.{name}.scores = "embeddings"',
    ),
)
"""Pairs of a text that an answer contains if the dialect does not match the server, and how to fix it."""


class _Meta(msgspec.Struct, frozen=True):
    prompt_tokens: Number = 0
    cached_tokens: Number = 0


class _Classified(msgspec.Struct, frozen=True):
    embedding: Logits
    meta_info: _Meta = _Meta()


class _Embedding(msgspec.Struct, frozen=True):
    embedding: Logits
    index: int = 0


class _Embedded(msgspec.Struct, frozen=True):
    data: list[_Embedding]
    usage: ServerUsage | None = None


class _Probabilities(msgspec.Struct, frozen=True):
    probs: Logits
    index: int = 0


class _ClassifiedByVllm(msgspec.Struct, frozen=True):
    data: list[_Probabilities]
    usage: ServerUsage | None = None


class _Pool(msgspec.Struct, frozen=True):
    data: Logits
    index: int = 0


class _Pooled(msgspec.Struct, frozen=True):
    data: list[_Pool]
    usage: ServerUsage | None = None


class _Rows(msgspec.Struct, frozen=True):
    data: list[Logits]
    index: int = 0


class _PooledRows(msgspec.Struct, frozen=True):
    data: list[_Rows]
    usage: ServerUsage | None = None


Indexed = TypeVar("Indexed", _Embedding, _Probabilities, _Pool, _Rows)


class _Scored(msgspec.Struct, frozen=True):
    scores: list[Logits]
    token_logprobs: list[Logits] | None = None
    usage: ServerUsage | None = None


def _classified(answer: _Classified | list[_Classified], index: int, _: int) -> ScoreAnswer:
    one = answer[index] if isinstance(answer, list) else answer
    reported = ServerUsage(one.meta_info.prompt_tokens, 0, CacheDetails(one.meta_info.cached_tokens))
    return ScoreAnswer(one.embedding, counted(reported))


def _embedded(answer: _Embedded, index: int, _: int) -> ScoreAnswer:
    return ScoreAnswer(_nth(answer.data, index).embedding, _share(answer.usage, index))


def _embedded_by_token(answer: _Embedded, _index: int, _: int) -> ScoreAnswer:
    """Return the numbers of the last token. The flat list has one number for each token, or two."""
    numbers, usage = first(answer.data).embedding, counted(answer.usage)
    if len(numbers) not in (usage.prompt_tokens, 2 * usage.prompt_tokens) or not numbers:
        raise ShapeError(
            f"{len(numbers)} numbers for a text of {usage.prompt_tokens} tokens; expected is one for each token (a "
            "value head), or two (classes)"
        )
    return ScoreAnswer(numbers[-(len(numbers) // usage.prompt_tokens) :], usage)


def _classified_by_vllm(answer: _ClassifiedByVllm, index: int, _: int) -> ScoreAnswer:
    return ScoreAnswer(_nth(answer.data, index).probs, _share(answer.usage, index))


def _pooled(answer: _Pooled, index: int, _: int) -> ScoreAnswer:
    return ScoreAnswer(_nth(answer.data, index).data, _share(answer.usage, index))


def _pooled_by_step(answer: _PooledRows, index: int, steps: int) -> ScoreAnswer:
    rows = _nth(answer.data, index).data
    if len(rows) != steps:
        raise ShapeError(
            f"{len(rows)} rows for a text of {steps} steps. Is step_tag the model's tag, is it a single token that no "
            "step contains, and is the server started with it "
            '(--pooler-config \'{"tok_pooling_type": "STEP", "step_tag_id": …}\')?'
        )
    return ScoreAnswer(rows[-1], _share(answer.usage, index))


def _scored(answer: _Scored, index: int, _: int) -> ScoreAnswer:
    """Require log-probabilities: only a language model returns them, and without them a classifier looks the same."""
    scores = answer.scores
    if len(answer.token_logprobs or []) != len(scores) or index >= len(scores) or len(scores[index]) != 2:
        raise ShapeError(
            "something other than two probabilities with their log-probabilities. Is a language model served there, "
            "by sglang 0.5.23 or later?"
        )
    return ScoreAnswer(scores[index], _share(answer.usage, index))


def _nth(data: Sequence[Indexed], index: int) -> Indexed:
    """Return the entry of the text number ``index``. Raises ``IndexError`` if there is none."""
    return first(data) if len(data) == 1 and not index else sorted(data, key=lambda one: one.index)[index]


def _share(usage: ServerUsage | None, index: int) -> Usage:
    return counted(usage) if index == 0 else Usage()


def dialect_of(scores: Classifier, step_tag: str | None = None, labels: Labels | None = None) -> ScoreDialect:
    """Return the dialect ``scores``. With ``step_tag``, vLLM's pooling returns a row for each step.

    ``labels`` are the ids of the tokens for good and bad.
    """
    match scores:
        case "classify":
            decoder = msgspec.json.Decoder(_Classified | list[_Classified])
            return ScoreDialect("/classify", lambda text: {"text": text}, decoder, _classified)
        case "embeddings":
            return ScoreDialect("/v1/embeddings", _input, msgspec.json.Decoder(_Embedded), _embedded)
        case "token-embeddings":
            return ScoreDialect(
                "/v1/embeddings", _input, msgspec.json.Decoder(_Embedded), _embedded_by_token, takes_lists=False
            )
        case "score":
            good, bad = labels or (None, None)
            fields = {"query": "", "label_token_ids": [bad, good], "apply_softmax": True, "return_token_logprobs": True}
            return ScoreDialect(
                "/v1/score",
                lambda text: {"items": [text] if isinstance(text, str) else text, **fields},
                msgspec.json.Decoder(_Scored),
                _scored,
                "probabilities",
            )
        case "vllm-classify":
            return ScoreDialect(
                "/classify",
                lambda text: {"input": text, "use_activation": False},
                msgspec.json.Decoder(_ClassifiedByVllm),
                _classified_by_vllm,
                softened={"use_activation": True},
            )
        case "pooling" if step_tag is not None:
            return ScoreDialect(
                "/pooling",
                lambda text: {"input": text, "task": "token_classify", "use_activation": True},
                msgspec.json.Decoder(_PooledRows),
                _pooled_by_step,
                "probabilities",
            )
        case "pooling":
            return ScoreDialect(
                "/pooling",
                lambda text: {"input": text, "task": "classify", "use_activation": False},
                msgspec.json.Decoder(_Pooled),
                _pooled,
                softened={"use_activation": True},
            )


def remedy(error: str, name: str) -> str:
    """Return which key of ``models.NAME`` to change, if the text of an ``error`` shows it; else an empty text."""
    found = next((fix for mark, fix in _FIXES if mark in error), None)
    return f"{' ' if error.endswith('?') else '. '}{found.format(name=name)}" if found else ""


def _input(text: str | list[str]) -> dict[str, Any]:
    return {"input": text}
