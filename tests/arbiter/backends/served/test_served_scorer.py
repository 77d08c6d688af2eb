"""The score from a classifier's numbers."""

from __future__ import annotations

import math
from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from arbiter.backends.opening import open_scorer
from arbiter.backends.served.scorer import probability
from arbiter.protocols.errors import BackendError
from arbiter.protocols.model_traits import ScoresBlocks
from arbiter.protocols.ports import Score, ScoreRequest
from arbiter.protocols.records import Usage

if TYPE_CHECKING:
    from conftest import FakeServer

    from arbiter.config.model_tables import AnyModelTable

ScoreOf = Callable[..., Awaitable[Score]]
Scored = Callable[..., dict[str, Any]]

LOGITS = st.floats(allow_nan=False, allow_infinity=False)
SENSIBLE = st.floats(-50, 50)


@pytest.mark.asyncio
@pytest.mark.parametrize(
    ("logits", "value"), [([0.0], 0.5), ([2.0], 0.880797), ([-2.0], 0.119203), ([1.0, 3.0], 0.880797), ([3, 3], 0.5)]
)
@pytest.mark.slow
async def test_one_number_is_a_value_and_two_are_classes_of_which_the_second_is_asked_for(
    logits: list[float], value: float, server: FakeServer, score: ScoreOf, scored: Scored
) -> None:
    server.replies(scored(*logits))
    assert (await score()).value == pytest.approx(value, abs=1e-6)


@pytest.mark.asyncio
async def test_a_block_is_one_request_with_a_text_for_each_candidate(
    server: FakeServer, table: Callable[..., AnyModelTable], scoring: Callable[..., ScoreRequest], backend: str
) -> None:
    one, other = {"embedding": [0.0], "index": 0}, {"embedding": [2.0], "index": 1}
    apart = [{**each, "meta_info": {"prompt_tokens": tokens}} for each, tokens in ((one, 9), (other, 12))]
    whole = {"data": [other, one], "usage": {"prompt_tokens": 21}}
    server.replies({"body": {"http": apart, "openai": whole}[backend]})
    async with open_scorer("prm", table("prm"), None) as scorer:
        assert isinstance(scorer, ScoresBlocks)
        assert scorer.scores_blocks
        found = await scorer.score_block((scoring(), scoring(candidate="another step")))
    assert [score.value for score in found] == pytest.approx([0.5, 0.880797], abs=1e-6)
    assert sum(score.usage.prompt_tokens for score in found) == 21
    [asked] = server.asked
    texts = asked.body[{"http": "text", "openai": "input"}[backend]]
    assert texts == ["1+1?\na step\n\n", "1+1?\nanother step\n\n"]


@pytest.mark.asyncio
async def test_a_block_with_too_few_numbers_is_no_score(
    server: FakeServer, table: Callable[..., AnyModelTable], scoring: Callable[..., ScoreRequest], backend: str
) -> None:
    one = {"embedding": [0.0]}
    server.replies({"body": {"http": [one], "openai": {"data": [one]}}[backend]})
    async with open_scorer("prm", table("prm"), None) as scorer:
        assert isinstance(scorer, ScoresBlocks)
        with pytest.raises(BackendError, match="answered without a score"):
            await scorer.score_block((scoring(), scoring(candidate="another step")))


@pytest.mark.asyncio
async def test_a_block_with_a_text_that_may_fill_the_context_is_no_score(
    server: FakeServer, table: Callable[..., AnyModelTable], scoring: Callable[..., ScoreRequest], backend: str
) -> None:
    one, other = ({"embedding": [0.0], "index": index, "meta_info": {"prompt_tokens": 940}} for index in (0, 1))
    whole = {"data": [one, other], "usage": {"prompt_tokens": 1880}}
    server.replies({"body": {"http": [one, other], "openai": whole}[backend]})
    async with open_scorer("prm", table("prm"), None) as scorer:
        assert isinstance(scorer, ScoresBlocks)
        with pytest.raises(BackendError, match="as many as its context holds"):
            await scorer.score_block((scoring(), scoring()))


@pytest.mark.asyncio
async def test_a_router_of_two_targets_is_read_in_pairs(
    server: FakeServer, table: Callable[..., AnyModelTable], scored: Scored, scoring: Callable[..., ScoreRequest]
) -> None:
    server.trial = scored(0.0, 0.0, 0.0, 0.0)
    server.replies(scored(1.0, 3.0, 3.0, 1.0))
    async with open_scorer("router", table("router"), None, targets=2) as router:
        found = await router.score(scoring(score_kind="router"))
    assert found.estimates == pytest.approx((0.880797, 0.119203), abs=1e-6)
    assert found.value == found.estimates[0]


@pytest.mark.asyncio
@pytest.mark.parametrize("logits", [(0.0,), (0.0, 0.0), (0.0, 0.0, 0.0)])
async def test_a_router_of_two_targets_that_answers_with_other_numbers_is_refused_before_any_work(
    logits: tuple[float, ...], server: FakeServer, table: Callable[..., AnyModelTable], scored: Scored
) -> None:
    server.trial = scored(*logits)
    with pytest.raises(BackendError, match=rf"{len(logits)} numbers; a router of 2 targets has 4"):
        async with open_scorer("router", table("router"), None, targets=2):
            pass


@pytest.mark.asyncio
async def test_four_numbers_are_no_score_of_a_router_of_one_target(
    server: FakeServer, table: Callable[..., AnyModelTable], scored: Scored
) -> None:
    server.trial = scored(0.0, 0.0, 0.0, 0.0)
    with pytest.raises(BackendError, match="4 numbers; a scorer has one"):
        async with open_scorer("router", table("router"), None):
            pass


@pytest.mark.asyncio
async def test_the_tokens_read_for_a_score_are_the_servers_own(
    server: FakeServer, score: ScoreOf, scored: Scored, backend: str
) -> None:
    server.replies(scored(0.0))
    cached = {"http": 4, "openai": 0}[backend]  # /v1/embeddings reports none
    assert (await score()).usage == Usage(9, 0, cached)


@pytest.mark.asyncio
async def test_a_score_may_come_in_a_list_of_one_and_without_figures(
    server: FakeServer, score: ScoreOf, backend: str
) -> None:
    one = {"embedding": [0.0]}
    server.replies({"body": {"http": [one], "openai": {"data": [one]}}[backend]})
    assert await score() == Score(value=0.5, usage=Usage())


@given(st.lists(LOGITS, min_size=1, max_size=2))
def test_a_score_lies_between_0_and_1(logits: list[float | None]) -> None:
    assert 0 <= probability(logits, "here") <= 1


@given(LOGITS, LOGITS)
def test_a_greater_value_is_no_lower_score(one: float, other: float) -> None:
    lower, higher = sorted((one, other))
    assert probability([lower], "here") <= probability([higher], "here")


@given(SENSIBLE, SENSIBLE, SENSIBLE)
def test_a_greater_number_of_the_second_class_is_no_lower_score_and_of_the_first_no_higher(
    fixed: float, one: float, other: float
) -> None:
    lower, higher = sorted((one, other))
    assert probability([fixed, lower], "here") <= probability([fixed, higher], "here")
    assert probability([lower, fixed], "here") >= probability([higher, fixed], "here")


@given(SENSIBLE, SENSIBLE)
def test_two_classes_score_as_their_difference_does(negative: float, positive: float) -> None:
    assert probability([negative, positive], "here") == probability([positive - negative], "here")


@given(LOGITS)
def test_a_value_and_its_opposite_are_one_together(logit: float) -> None:
    assert probability([logit], "here") + probability([-logit], "here") == pytest.approx(1)


@given(st.lists(st.floats(-1e4, 1e4), min_size=1, max_size=2))
def test_a_score_is_that_of_torch(logits: list[float | None]) -> None:
    torch: Any = pytest.importorskip("torch")
    numbers = torch.tensor(logits, dtype=torch.float64)
    expected = torch.sigmoid(numbers) if len(logits) == 1 else torch.softmax(numbers, 0)
    assert probability(logits, "here") == pytest.approx(float(expected[-1]), abs=1e-6)


@given(st.lists(LOGITS | st.none() | st.sampled_from([math.nan, math.inf, -math.inf]), max_size=5))
def test_what_is_not_one_or_two_numbers_is_refused_with_its_place(logits: list[float | None]) -> None:
    finite = all(logit is not None and math.isfinite(logit) for logit in logits)
    if finite and len(logits) in (1, 2):
        assert 0 <= probability(logits, "here") <= 1
        return
    with pytest.raises(BackendError, match=r"^here answered with "):
        probability(logits, "here")
