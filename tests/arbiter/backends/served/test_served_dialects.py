"""The requests of each dialect, and which answers are scores."""

from __future__ import annotations

import math
from collections.abc import Awaitable, Callable, Mapping
from typing import TYPE_CHECKING, Any

import pytest

from arbiter.backends.opening import open_scorer
from arbiter.protocols.errors import BackendError, ConfigError
from arbiter.protocols.ports import Score
from arbiter.protocols.records import Step, Transcript, Usage

if TYPE_CHECKING:
    from conftest import Asked, FakeServer

    from arbiter.config.model_tables import AnyModelTable

ScoreOf = Callable[..., Awaitable[Score]]
Keys = Mapping[str, Any]
Answer = dict[str, Any]

USAGE = {"prompt_tokens": 6, "total_tokens": 6}
IDS: Keys = {"scores": "score", "labels": [5, 6]}
TEXTS: Keys = {"scores": "label-tokens", "labels": ["+", "-"]}
STEPS: Keys = {"scores": "pooling", "step_tag": "<extra_0>"}
TOKENS: Keys = {"scores": "token-embeddings"}
ALL: list[Keys] = [
    {},
    {"scores": "embeddings"},
    TOKENS,
    IDS,
    {"scores": "vllm-classify"},
    {"scores": "pooling"},
    STEPS,
    TEXTS,
]
NOTHING: list[float] = []
LIKELY = {"+": 0.0, "-": -2.0}


def embedded(*numbers: float | None) -> Answer:
    return {"data": [{"embedding": numbers}], "usage": USAGE}


def classified(*numbers: float | None) -> Answer:
    return {"data": [{"probs": numbers, "num_classes": len(numbers), "label": "0"}], "usage": USAGE}


def pooled(numbers: object) -> Answer:
    return {"data": [{"data": numbers, "index": 0}], "usage": USAGE}


def labelled(bad: float, good: float) -> Answer:
    return {"scores": [[bad, good]], "token_logprobs": [[-1.0, -2.0]], "usage": USAGE}


def completed(alternatives: Mapping[str, float] | None) -> Answer:
    choice = {"text": "+", "finish_reason": "length", "logprobs": {"top_logprobs": [alternatives]}}
    return {"choices": [choice], "usage": {**USAGE, "completion_tokens": 1}}


RIGHT: list[tuple[Keys, str, dict[str, Any], Answer, float]] = [
    ({"scores": "embeddings"}, "/v1/embeddings", {"input": "1+1?\na step\n\n"}, embedded(1.0, 3.0), 0.880797),
    (TOKENS, "/v1/embeddings", {"input": "1+1?\na step\n\n"}, embedded(9, 9, 9, 9, 9, 2.0), 0.880797),
    (TOKENS, "/v1/embeddings", {}, embedded(*[9] * 10, 1.0, 3.0), 0.880797),
    (IDS, "/v1/score", {"items": ["1+1?\na step\n\n"], "label_token_ids": [6, 5]}, labelled(0.25, 0.75), 0.75),
    (
        {"scores": "vllm-classify"},
        "/classify",
        {"input": "1+1?\na step\n\n", "use_activation": False},
        classified(2.0),
        0.880797,
    ),
    ({"scores": "pooling"}, "/pooling", {"task": "classify", "use_activation": False}, pooled([1.0, 3.0]), 0.880797),
    (STEPS, "/pooling", {"input": "1+1?\na step<extra_0>", "task": "token_classify"}, pooled([[0.25, 0.75]]), 0.75),
    (STEPS, "/pooling", {"use_activation": True}, pooled([[0.75]]), 0.75),
    (TEXTS, "/v1/completions", {"prompt": "1+1?\na step\n\n", "max_tokens": 1, "logprobs": 20}, completed({}), 0.75),
]


@pytest.mark.asyncio
@pytest.mark.parametrize("backend", ["http"])
@pytest.mark.parametrize(("keys", "path", "sent", "answer", "value"), RIGHT)
async def test_a_dialect_asks_in_its_own_words_and_reads_its_own_numbers(
    keys: Keys, path: str, sent: dict[str, Any], answer: Answer, value: float, server: FakeServer, score: ScoreOf
) -> None:
    if keys is TEXTS:
        answer = completed({"▁+": math.log(0.6), "x": -1.0, " -": math.log(0.2)})
    server.trial = {"body": answer}
    server.replies({"body": answer})
    found = await score(dict(keys))
    assert found.value == pytest.approx(value, abs=1e-6)
    assert found.usage == Usage(6, 1 if keys is TEXTS else 0)
    (asked,) = server.asked
    assert (asked.path, asked.body["model"]) == (path, "m")
    assert {key: asked.body[key] for key in sent} == sent


WRONG: list[tuple[Keys, Answer, str]] = [
    (TOKENS, embedded(1.0), "1 numbers for a text of 6 tokens"),
    (TOKENS, embedded(*[0.5] * 7), "7 numbers for a text of 6 tokens"),
    (TOKENS, embedded(), "0 numbers for a text of 6 tokens"),
    (TOKENS, {"data": [{"embedding": [1.0]}]}, "1 numbers for a text of 0 tokens"),
    (TOKENS, embedded(1, 1, 1, 1, 1, None), "not a number"),
    ({"scores": "embeddings"}, {"data": [], "usage": USAGE}, "without a score"),
    (IDS, labelled(0.5, 0.2), r"\[0\.5, 0\.2\] to a request for probabilities"),
    (IDS, labelled(-3.0, 4.0), "to a request for probabilities"),
    (IDS, {"scores": [[0.5, 0.5]], "usage": USAGE}, "Is a language model served there"),
    (IDS, {"scores": [], "token_logprobs": [], "usage": USAGE}, "Is a language model served there"),
    (IDS, {"scores": [[None, 1.0]], "token_logprobs": [[-1.0, -1.0]]}, "not a number"),
    ({"scores": "vllm-classify"}, classified(None), "not a number"),
    ({"scores": "vllm-classify"}, classified(), "0 numbers"),
    ({"scores": "vllm-classify"}, pooled([1.0]), "something unexpected"),
    ({"scores": "pooling"}, pooled([[0.5, 0.5]]), "something unexpected"),
    ({"scores": "pooling"}, {"data": []}, "without a score"),
    (STEPS, pooled([]), "0 rows for a text of 1 steps"),
    (STEPS, pooled([[0.5, 0.5], [0.5, 0.5]]), "2 rows for a text of 1 steps"),
    (STEPS, pooled([NOTHING]), "0 numbers"),
    (STEPS, pooled([[0.2, 0.3, 0.5]]), "3 numbers"),
    (STEPS, pooled([[3.0, -2.0]]), "to a request for probabilities"),
    (STEPS, pooled([[1.5]]), "to a request for probabilities"),
    (STEPS, pooled([[None, 1.0]]), "not a number"),
    (STEPS, pooled([0.5, 0.5]), "something unexpected"),
    (TEXTS, completed(None), "how likely '\\+' comes next"),
    (TEXTS, completed({"+": -0.1, "x": -3.0}), "how likely '-' comes next"),
    (TEXTS, completed({"+": 0.1, "-": -3.0}), "log-probabilities above 0"),
    (TEXTS, {"choices": [], "usage": USAGE}, "without a choice"),
]


@pytest.mark.asyncio
@pytest.mark.parametrize("backend", ["http"])
@pytest.mark.parametrize(("keys", "answer", "told"), WRONG)
@pytest.mark.slow
async def test_what_is_no_score_is_refused_before_any_work_with_its_key(
    keys: Keys, answer: Answer, told: str, server: FakeServer, table: Callable[..., AnyModelTable]
) -> None:
    server.trial = {"body": answer}
    with pytest.raises(BackendError, match=rf"^models\.prm: .*{told}"):
        async with open_scorer("prm", table("prm", **keys), None):
            pass


@pytest.mark.asyncio
@pytest.mark.parametrize("backend", ["http"])
@pytest.mark.parametrize("keys", ALL)
@pytest.mark.parametrize("body", ["", "<html>", "[]", "{}", '{"data": [', '{"data": [{}]}', "null"])
@pytest.mark.slow
async def test_what_no_server_says_is_refused_in_all_dialects(
    keys: Keys, body: str, server: FakeServer, table: Callable[..., AnyModelTable]
) -> None:
    server.trial = {"body": body}
    with pytest.raises(BackendError, match=r"^models\.prm: http://"):
        async with open_scorer("prm", table("prm", **keys), None):
            pass


@pytest.mark.asyncio
@pytest.mark.parametrize("backend", ["openai"])
@pytest.mark.parametrize(
    ("keys", "answer"),
    [({"scores": "embeddings"}, embedded(2.0)), (TOKENS, embedded(*[2.0] * 6)), (TEXTS, completed(LIKELY))],
)
async def test_the_openai_backend_reaches_what_is_below_v1(
    keys: Keys, answer: Answer, server: FakeServer, score: ScoreOf
) -> None:
    server.trial = {"body": answer}
    server.replies({"body": answer})
    assert (await score(dict(keys))).value == pytest.approx(0.880797, abs=1e-6)


@pytest.mark.asyncio
@pytest.mark.parametrize("backend", ["http"])
@pytest.mark.parametrize(
    ("tag", "text"),
    [
        ("<extra_0>", "1+1?\none<extra_0>two<extra_0>"),
        (" ки\n", "1+1?\none ки\ntwo ки"),
        ("\n", "1+1?\none\ntwo\n"),
    ],
)
async def test_the_tag_stands_behind_each_step_and_the_text_ends_with_it(
    tag: str, text: str, server: FakeServer, score: ScoreOf
) -> None:
    server.replies({"body": {"embedding": [0.0]}})
    await score({"step_tag": tag}, transcript=Transcript("1+1?", (Step("one", "draft"),)), candidate="two")
    assert server.asked[0].body["text"] == text


@pytest.mark.asyncio
@pytest.mark.parametrize("backend", ["http"])
async def test_the_newest_step_has_the_last_row(server: FakeServer, score: ScoreOf) -> None:
    server.trial = {"body": pooled([[0.5, 0.5]])}
    server.replies({"body": pooled([[0.9, 0.1], [0.3, 0.7]])})
    history = Transcript("1+1?", (Step("one", "draft"),))
    assert (await score(dict(STEPS), transcript=history)).value == 0.7


@pytest.mark.asyncio
@pytest.mark.parametrize("backend", ["http"])
@pytest.mark.parametrize(
    ("scores", "answer"), [("vllm-classify", classified(0.25, 0.75)), ("pooling", pooled([0.25, 0.75]))]
)
async def test_a_server_that_gives_probabilities_for_raw_logits_is_refused_before_any_work(
    scores: str, answer: Answer, server: FakeServer, table: Callable[..., AnyModelTable]
) -> None:
    server.trial = {"body": answer}
    with pytest.raises(BackendError, match=r"to requests for raw logits .* and for probabilities alike"):
        async with open_scorer("prm", table("prm", scores=scores), None):
            pass


@pytest.mark.asyncio
@pytest.mark.parametrize("backend", ["http"])
async def test_raw_logits_that_happen_to_be_probabilities_are_right_if_the_server_can_tell_them_apart(
    server: FakeServer, table: Callable[..., AnyModelTable]
) -> None:
    def heeding(asked: Asked) -> dict[str, Any]:
        return {"body": classified(0.56) if asked.body["use_activation"] else classified(0.25)}

    server.trial = heeding
    async with open_scorer("prm", table("prm", scores="vllm-classify"), None):
        assert [asked.body["use_activation"] for asked in server.trials] == [False, True]


REFUSED: list[tuple[Keys, Answer, int, str]] = [
    (
        {"scores": "vllm-classify"},
        {"error": {"message": "At least one of text, input_ids, image, video, or audio should be provided"}},
        400,
        'set models.prm.scores = "classify"',
    ),
    (
        IDS,
        {"message": "return_token_logprobs is only supported for CausalLM models"},
        400,
        'set models.prm.scores = "classify"',
    ),
    ({}, {"message": "Please add `--is-embedding` when launching the server"}, 400, '"score" or "label-tokens"'),
    ({"scores": "pooling"}, {"detail": "Not Found"}, 404, 'for sglang set models.prm.scores = "classify"'),
    ({}, {"detail": "Not Found"}, 404, 'set models.prm.scores = "embeddings". vLLM has none'),
    ({"scores": "embeddings"}, {"detail": "Not Found"}, 404, 'to "vllm-classify" or "pooling"'),
    (IDS, {"detail": "Not Found"}, 404, 'set models.prm.scores = "label-tokens"'),
    ({}, {"error": {"message": "'loc': 'body.input'"}}, 400, 'set models.prm.scores = "vllm-classify"'),
    (STEPS, {"message": "Try switching … via --pooler-config.task token_classify."}, 400, "leave models.prm.step_tag"),
    (
        {"scores": "pooling"},
        {"message": "Unsupported task: 'classify' Supported tasks: ['token_classify']"},
        400,
        "set models.prm.step_tag to the tag",
    ),
    ({"scores": "embeddings"}, embedded(*[0.5] * 6), 200, 'set scores = "token-embeddings"'),
    (TOKENS, embedded(0.5), 200, 'set models.prm.scores = "embeddings"'),
]


@pytest.mark.asyncio
@pytest.mark.parametrize("backend", ["http"])
@pytest.mark.parametrize(("keys", "answer", "status", "told"), REFUSED)
async def test_a_wrong_dialect_is_refused_with_the_one_that_fits_where_the_answer_tells(
    keys: Keys, answer: Answer, status: int, told: str, server: FakeServer, table: Callable[..., AnyModelTable]
) -> None:
    server.trial = {"body": answer, "status": status}
    with pytest.raises(BackendError) as refused:
        async with open_scorer("prm", table("prm", **keys), None):
            pass
    assert told in str(refused.value)


@pytest.mark.asyncio
@pytest.mark.parametrize("backend", ["http"])
@pytest.mark.parametrize(("keys", "told"), [(TEXTS, "one score for a step"), (IDS, "2 numbers; a router of 2 targets")])
async def test_a_router_of_several_targets_needs_raw_logits(
    keys: Keys, told: str, server: FakeServer, table: Callable[..., AnyModelTable]
) -> None:
    server.trial = {"body": labelled(0.5, 0.5)}
    with pytest.raises((BackendError, ConfigError), match=told):
        async with open_scorer("router", table("router", **keys), None, targets=2):
            pass
