"""How servers are asked for a score, and what their answers mean: an entry for each dialect.

Sources, by the versions that were read: sglang 0.5.23 (``/classify``, ``/v1/embeddings``, ``/v1/score`` in
``srt/entrypoints`` and ``srt/managers/tokenizer_manager_score_mixin.py``), vLLM 0.32.0 (``/classify``, ``/pooling``
in ``entrypoints/pooling``, the rows of step tags in ``model_executor/layers/pooler/tokwise/methods.py``), and for
``token-embeddings`` the published vLLM plug-in of Skywork-o1-Open-PRM with ``derive_step_rewards_vllm`` of its client.

sglang's ``/v1/classify`` is not among them: it applies a softmax, which makes 1.0 of every value.
"""

from collections.abc import Callable, Mapping
from typing import Any, Literal

import msgspec

from arbiter.backends.served.generator import ServerUsage, counted
from arbiter.config.model_tables import Classifier, Labels
from arbiter.protocols.records import Usage

Logits = list[float | None]
Range = Literal["logits", "probabilities"]


class ShapeError(Exception):
    """An answer that was understood and has other numbers than it must have; the text says which."""


class ScoreAnswer(msgspec.Struct, frozen=True):
    """What an answer says of the newest step, and the tokens that it cost."""

    numbers: Logits
    usage: Usage


class ScoreDialect(msgspec.Struct, frozen=True):
    """Where to ask, what to send beside the model's name, and how to read the answer for so many steps.

    ``range`` is what the numbers are: raw logits, or probabilities (one, or two that are 1 together). ``softened`` is
    sent where the server is to turn the same numbers into probabilities, to see that it heeds the question.
    """

    path: str
    asked: Callable[[str], dict[str, Any]]
    decoder: "msgspec.json.Decoder[Any]"
    read: Callable[[Any, int], ScoreAnswer]
    range: Range = "logits"
    softened: Mapping[str, Any] | None = None


_WAYS = (
    (
        "At least one of text, input_ids",  # sglang's /classify, asked as vLLM's
        'sglang is served there: set models.{name}.scores = "classify"',
    ),
    (
        "body.input",  # vLLM's /classify, asked as sglang's
        'vLLM is served there: set models.{name}.scores = "vllm-classify"',
    ),
    (
        "only supported for CausalLM",  # sglang's /v1/score over a reward model
        'A reward model of sglang is served there: set models.{name}.scores = "classify"',
    ),
    (
        "--is-embedding",  # sglang over a language model
        "If the model is a classifier, start its server with --is-embedding; for a language model that was trained to "
        'write labels behind steps set models.{name}.scores to "score" or "label-tokens", and labels',
    ),
    (
        "Unsupported task: 'classify'",  # vLLM's /pooling over a model that has a row for each step
        "Each token or each step has a row there: set models.{name}.step_tag to the tag of the model",
    ),
    (
        "pooler-config.task token_classify",  # vLLM's /pooling over a sequence classifier
        "One row a text is served there: leave models.{name}.step_tag out",
    ),
    (
        "/pooling answered 404",
        'vLLM alone has /pooling: for sglang set models.{name}.scores = "classify"',
    ),
    (
        "/v1/embeddings answered 404",
        'vLLM has no /v1/embeddings of classifiers: set models.{name}.scores to "vllm-classify" or "pooling"',
    ),
    (
        "/classify answered 404",
        'The router before several sglang servers has no /classify: set models.{name}.scores = "embeddings"; nor has '
        'vLLM for a model with a row for each step: set it to "pooling", and step_tag',
    ),
    (
        "/v1/score answered 404",
        'sglang alone has /v1/score, and not its router: set models.{name}.scores = "label-tokens"',
    ),
    (
        "it is one for each token",
        'For the numbers of the last token alone set models.{name}.scores = "embeddings"',
    ),
)
"""What is in an answer when a model is asked in a dialect that is not its server's, and the way out of it."""


class _Meta(msgspec.Struct, frozen=True):
    prompt_tokens: int | None = 0
    cached_tokens: int | None = 0


class _Classified(msgspec.Struct, frozen=True):
    embedding: Logits
    meta_info: _Meta = _Meta()


class _Embedding(msgspec.Struct, frozen=True):
    embedding: Logits


class _Embedded(msgspec.Struct, frozen=True):
    data: list[_Embedding]
    usage: ServerUsage | None = None


class _Probabilities(msgspec.Struct, frozen=True):
    probs: Logits


class _ClassifiedByVllm(msgspec.Struct, frozen=True):
    data: list[_Probabilities]
    usage: ServerUsage | None = None


class _Pool(msgspec.Struct, frozen=True):
    data: Logits


class _Pooled(msgspec.Struct, frozen=True):
    data: list[_Pool]
    usage: ServerUsage | None = None


class _Rows(msgspec.Struct, frozen=True):
    data: list[Logits]


class _PooledRows(msgspec.Struct, frozen=True):
    data: list[_Rows]
    usage: ServerUsage | None = None


class _Scored(msgspec.Struct, frozen=True):
    scores: list[Logits]
    token_logprobs: list[Logits] | None = None
    usage: ServerUsage | None = None


def _classified(answer: _Classified | list[_Classified], _: int) -> ScoreAnswer:
    first = answer[0] if isinstance(answer, list) else answer
    return ScoreAnswer(
        first.embedding, Usage(first.meta_info.prompt_tokens or 0, 0, first.meta_info.cached_tokens or 0)
    )


def _embedded(answer: _Embedded, _: int) -> ScoreAnswer:
    return ScoreAnswer(answer.data[0].embedding, counted(answer.usage))


def _embedded_by_token(answer: _Embedded, _: int) -> ScoreAnswer:
    """One number for each token, or two, in one list without end: those of the last token are the newest step's."""
    numbers, usage = answer.data[0].embedding, counted(answer.usage)
    if len(numbers) not in (usage.prompt_tokens, 2 * usage.prompt_tokens) or not numbers:
        raise ShapeError(
            f"{len(numbers)} numbers for a text of {usage.prompt_tokens} tokens; it is one for each token (a value "
            "head), or two (classes)"
        )
    return ScoreAnswer(numbers[-(len(numbers) // usage.prompt_tokens) :], usage)


def _classified_by_vllm(answer: _ClassifiedByVllm, _: int) -> ScoreAnswer:
    return ScoreAnswer(answer.data[0].probs, counted(answer.usage))


def _pooled(answer: _Pooled, _: int) -> ScoreAnswer:
    return ScoreAnswer(answer.data[0].data, counted(answer.usage))


def _pooled_by_step(answer: _PooledRows, steps: int) -> ScoreAnswer:
    rows = answer.data[0].data
    if len(rows) != steps:
        raise ShapeError(
            f"{len(rows)} rows for a text of {steps} steps. Is step_tag the tag that the model knows, is it a token of "
            "its own, which no step has in it, and does the server know it "
            '(--pooler-config \'{"tok_pooling_type": "STEP", "step_tag_id": …}\')?'
        )
    return ScoreAnswer(rows[-1], counted(answer.usage))


def _scored(answer: _Scored, _: int) -> ScoreAnswer:
    """Log-probabilities come from a language model alone: a classifier's softmax would look the same without."""
    if len(answer.token_logprobs or []) != 1 or len(answer.scores) != 1 or len(answer.scores[0]) != 2:
        raise ShapeError(
            "something else than two probabilities with their log-probabilities. Is a language model served there, "
            "by sglang 0.5.23 or later?"
        )
    return ScoreAnswer(answer.scores[0], counted(answer.usage))


def dialect_of(scores: Classifier, step_tag: str | None = None, labels: Labels | None = None) -> ScoreDialect:
    """The dialect that a table names. With a ``step_tag`` vLLM's pooling gives a row for each step; ``labels`` are the
    numbers of the tokens for good and for bad.
    """
    match scores:
        case "classify":
            known = msgspec.json.Decoder(_Classified | list[_Classified])
            return ScoreDialect("/classify", lambda text: {"text": text}, known, _classified)
        case "embeddings":
            return ScoreDialect("/v1/embeddings", _input, msgspec.json.Decoder(_Embedded), _embedded)
        case "token-embeddings":
            return ScoreDialect("/v1/embeddings", _input, msgspec.json.Decoder(_Embedded), _embedded_by_token)
        case "score":
            good, bad = labels or (None, None)
            asked = {"query": "", "label_token_ids": [bad, good], "apply_softmax": True, "return_token_logprobs": True}
            return ScoreDialect(
                "/v1/score",
                lambda text: {"items": [text], **asked},
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


def way_out(told: str, name: str) -> str:
    """Which key of ``models.NAME`` to change, where the text of a server's answer tells; else nothing."""
    found = next((way for mark, way in _WAYS if mark in told), None)
    return f"{' ' if told.endswith('?') else '. '}{found.format(name=name)}" if found else ""


def _input(text: str) -> dict[str, Any]:
    return {"input": text}
