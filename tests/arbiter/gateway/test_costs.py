"""What answers cost, what the target alone would have cost, and the shadows that measure it."""

from typing import Any

import anyio
import msgspec
import pytest
from prometheus_client.parser import text_string_to_metric_families

from arbiter.config.config import parse
from arbiter.gateway.app import Gateway
from arbiter.library.arbiter import Arbiter
from arbiter.log.run import Run
from arbiter.protocols.errors import ConfigError
from arbiter.protocols.ports import Generation, GenerationRequest
from arbiter.protocols.records import Usage

pytestmark = pytest.mark.asyncio

SMALL = {"prompt": 1.0, "completion": 2.0}
LARGE = {"prompt": 10.0, "cached": 1.0, "completion": 40.0}
FREE = {"prompt": 0.0, "completion": 0.0}
MILLION = 1_000_000
QUESTION, STEP = 100, 10  # tokens
ANSWER = 3 * (QUESTION + 2 * STEP) + (70 * 1.0 + 30 * 10.0) + 40 * STEP
"""Three drafts, and the target's second step, which has 70 of 100 prompt tokens in its cache; times a million."""

ALONE = QUESTION * 10.0 + 3 * STEP * 40.0
"""The target alone: the question, and three steps."""


def tables(**prices: Any) -> dict[str, Any]:
    """Tables of three models, which the scripted models replace."""
    given = {"draft": SMALL, "target": LARGE, "router": FREE, **prices}
    return {
        name: {"model": name, "prompt": "{question}", **({"price": price} if price else {})}
        for name, price in given.items()
    }


def priced(**serve: Any) -> dict[str, Any]:
    """The keys of a configuration with prices."""
    return {"models": tables(), "serve": serve}


def written(request: GenerationRequest) -> Generation:
    """A step of ten tokens; the third is the last. The target has read 70 of 100 tokens before, but not the first."""
    cached = 70 if request.author == "target" and request.step else 0
    ending = "end" if request.step == 2 else "separator"
    return Generation(f"{request.author} {request.step}", ending, Usage(QUESTION, STEP, cached))


async def metrics(served: Any) -> dict[tuple[str, ...], float]:
    """The samples of the endpoint's metrics: the name, followed by the values of the labels."""
    text = (await served.client.get("http://arbiter/metrics")).text
    families = text_string_to_metric_families(text)
    return {(one.name, *one.labels.values()): one.value for family in families for one in family.samples}


async def live(served: Any) -> Any:
    return (await served.client.get("http://arbiter/live")).json()


async def test_an_answer_says_what_it_cost_and_what_the_target_alone_would_have_cost(endpoint: Any) -> None:
    async with endpoint(written, config=priced()) as served:
        whole = (await served.chat()).json()["arbiter"]["cost"]
        streamed = (await served.chat_events())[-2]["arbiter"]["cost"]
        text = (await served.post("completions", prompt="q")).json()["choices"][0]["arbiter"]["cost"]
        response = (await served.post("responses", input="q")).json()["arbiter"]["cost"]
    assert whole == streamed == text == response
    assert whole["total"] == pytest.approx(ANSWER / MILLION)
    assert whole["target_alone_estimated"] == pytest.approx(ALONE / MILLION)


async def test_the_cost_of_several_answers_is_their_sum(endpoint: Any) -> None:
    async with endpoint(written, config=priced()) as served:
        answer = (await served.chat(n=2)).json()
    assert answer["arbiter"]["cost"]["total"] == pytest.approx(2 * ANSWER / MILLION)
    assert [choice["arbiter"]["cost"]["total"] for choice in answer["choices"]] == pytest.approx([ANSWER / MILLION] * 2)


@pytest.mark.parametrize("models", [{}, tables(router=None), tables(draft=None, target=None, router=None)])
async def test_without_all_prices_no_cost_is_reported(endpoint: Any, models: Any) -> None:
    async with endpoint(written, config={"models": models}) as served:
        answer = (await served.chat()).json()
    assert "cost" not in answer["arbiter"]


async def test_the_totals_are_those_of_the_answers_and_of_clients_that_left(endpoint: Any, until: Any) -> None:
    def seconds(request: Any) -> float:
        return 60.0 if request.step and request.transcript.question == "slow" else 0.0

    async with endpoint(written, seconds=seconds, config=priced()) as served:
        assert (await live(served))["cost"] is None
        for _ in range(2):
            await served.chat()
        with anyio.move_on_after(0.3):
            await served.chat("slow")
        await until(lambda: served.gateway.open == 0)
        found, page = await metrics(served), (await live(served))["cost"]
    total = (2 * ANSWER + QUESTION + 2 * STEP) / MILLION  # of the slow one, the draft's first step is paid for
    assert found["arbiter_cost_total", "draft"] + found["arbiter_cost_total", "target"] == pytest.approx(total)
    alone = (2 * ALONE + QUESTION * 10.0 + STEP * 40.0) / MILLION
    assert found["arbiter_target_alone_estimated_cost_total",] == pytest.approx(alone)
    assert found["arbiter_cost_ratio_estimated",] == pytest.approx(total / alone)
    assert ("arbiter_cost_ratio_measured",) not in found
    assert page == {
        "total": pytest.approx(total),
        "target_alone_estimated": pytest.approx(alone),
        "ratio_estimated": pytest.approx(total / alone),
        "ratio_measured": None,
        "shadows": 0,
    }


def shorter(request: GenerationRequest) -> Generation:
    """As ``written``, but the target alone needs only two steps."""
    made = written(request)
    alone = request.author == "target" and all(step.author == "target" for step in request.transcript.steps)
    return msgspec.structs.replace(made, stop_reason="end") if alone and request.step == 1 else made


async def test_a_shadow_measures_what_the_target_alone_costs_beside_the_estimate(
    endpoint: Any, until: Any, tmp_path: Any
) -> None:
    async with endpoint(shorter, config=priced(shadow=1.0), out=tmp_path) as served:
        answer = (await served.chat(metadata={"of": "mine"})).json()
        await until(lambda: shadows(served).sums.measured == 1)
        found, page = await metrics(served), await live(served)
    assert answer["arbiter"]["cost"]["target_alone_estimated"] == pytest.approx(ALONE / MILLION)
    measured = (QUESTION * 10.0 + 2 * STEP * 40.0) / MILLION
    assert found["arbiter_shadow_cost_total", "answers"] == pytest.approx(ANSWER / MILLION)
    assert found["arbiter_shadow_cost_total", "estimated"] == pytest.approx(ALONE / MILLION)
    assert found["arbiter_shadow_cost_total", "target_alone"] == pytest.approx(measured)
    read_again = (70 * 1.0 + 30 * 10.0) / MILLION
    assert found["arbiter_shadow_cost_total", "spent"] == pytest.approx(measured + read_again)
    assert found["arbiter_cost_ratio_measured",] == pytest.approx(ANSWER / MILLION / measured)
    assert page["cost"]["ratio_measured"] == pytest.approx(ANSWER / MILLION / measured)
    assert found["arbiter_cost_total", "target"] == pytest.approx((70 + 300 + 400) / MILLION)
    assert (found["arbiter_problems_started_total",], page["totals"]["ended"]) == (1, 1)
    problems = {problem.key[0]: problem.task for problem in Run.open(tmp_path).problems()}
    (shadow,) = (task for name, task in problems.items() if name.startswith("shadow-"))
    assert (shadow.policy["type"], shadow.tags) == ("target", {"of": "mine", "shadow_of": answer["arbiter"]["id"]})


@pytest.mark.parametrize(("share", "model"), [(0.0, "arbiter"), (1.0, "arbiter:target")])
async def test_no_shadow_follows_without_a_share_or_the_target_itself(endpoint: Any, share: float, model: str) -> None:
    async with endpoint(written, config=priced(shadow=share)) as served:
        await served.chat(model=model)
        assert served.gateway.arbiter.running == 0
        assert shadows(served).sums.skipped == 0


async def test_the_share_of_the_questions_that_get_a_shadow_is_the_configured_one(endpoint: Any, until: Any) -> None:
    async with endpoint(written, config=priced(shadow=0.25)) as served:
        for number in range(200):
            await served.chat(f"{number}")
            await until(lambda: served.gateway.arbiter.running == 0)
        assert 20 <= shadows(served).sums.measured <= 85


def slow_alone(request: Any) -> float:
    """The first step of the target is slow: that of a shadow."""
    return 60.0 if getattr(request, "author", "") == "target" and request.step == 0 else 0.0


async def test_a_shadow_delays_no_answer_and_is_cancelled_where_clients_need_the_ring(
    endpoint: Any, until: Any
) -> None:
    config = {**priced(shadow=1.0), "limits": {"problems": 1}}
    async with endpoint(written, seconds=slow_alone, config=config) as served:
        for number in range(3):
            with anyio.fail_after(20):
                assert (await served.chat()).status_code == 200
            assert served.gateway.arbiter.running == 1
            assert shadows(served).sums.displaced == number
        await until(lambda: served.models.running == 1)


async def test_a_shadow_that_fails_fails_no_answer(endpoint: Any, until: Any) -> None:
    def write(request: GenerationRequest) -> Generation:
        if request.author == "target" and request.step == 0:
            raise OSError("no")
        return written(request)

    async with endpoint(write, config=priced(shadow=1.0)) as served:
        assert (await served.chat()).status_code == 200
        await until(lambda: shadows(served).sums.failed == 1)
        assert "arbiter_cost_ratio_measured" not in (await served.client.get("http://arbiter/metrics")).text


async def test_shadows_are_cancelled_when_the_endpoint_closes(endpoint: Any) -> None:
    with anyio.fail_after(30):
        async with endpoint(written, seconds=slow_alone, config=priced(shadow=1.0)) as served:
            await served.chat()
            assert served.gateway.arbiter.running == 1
    assert served.models.running == 0
    assert (served.gateway.arbiter.running, shadows(served).sums.displaced) == (0, 1)


async def test_shadows_without_prices_are_a_configuration_error() -> None:
    for models, what in (({}, "no models"), (tables(router=None), r"models\.router")):
        config = parse({"models": models, "serve": {"shadow": 0.02}}, "test")
        with pytest.raises(ConfigError, match=rf"serve\.shadow needs the prices of all models.*{what}"):
            Gateway(Arbiter(config))


@pytest.mark.parametrize("share", [-0.1, 1.1, float("nan"), "all", True])
async def test_a_share_out_of_range_is_refused_by_its_key(share: Any) -> None:
    with pytest.raises(ConfigError, match=r"serve\.shadow: "):
        parse({"models": {}, "serve": {"shadow": share}}, "test")


def shadows(served: Any) -> Any:
    """The shadows of an endpoint, whose state no answer shows."""
    return served.gateway.costs.shadows
