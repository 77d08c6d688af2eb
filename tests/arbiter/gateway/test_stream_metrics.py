"""The times of streamed answers are those of programs that measure servers, and so is the goodput."""

from collections.abc import Awaitable, Callable, Mapping
from typing import Any

import httpx2
import pytest
from hypothesis import given
from hypothesis import strategies as st
from prometheus_client.parser import text_string_to_metric_families

from arbiter.actors.ring_setup import Models
from arbiter.backends.scripted import ScriptedGenerator
from arbiter.config.config import parse
from arbiter.gateway.app import Gateway
from arbiter.gateway.inprocess_client import BASE, open_http_client
from arbiter.library.arbiter import Arbiter
from arbiter.log.stream_times import StreamTimes
from arbiter.protocols.errors import BackendError
from arbiter.protocols.ports import Generation, GenerationRequest, Generator, ModelHandle
from arbiter.protocols.records import Usage
from arbiter.structured.thoughts import AnswerDivider

InVirtualTime = Callable[[Callable[[], Awaitable[None]]], None]

TEXTS = ("<think>\nforty and two", "</think>\n\nIt is", "42.")
"""The steps of an answer. Each takes a second, and has four tokens."""


def written(request: GenerationRequest) -> Generation:
    if request.transcript.question == "break" and request.step == 1:
        raise BackendError("the model fell over")
    return Generation(TEXTS[request.step], "end" if request.step == 2 else "separator", Usage(10, 4))


def measured(
    in_virtual_time: InVirtualTime, *questions: str, stream: bool = True, slo: Mapping[str, float] | None = None
) -> dict[str, float]:
    """The metrics after answers to ``questions``, by their names and labels."""
    model = ModelHandle[Generator](ScriptedGenerator(written, 1.0), 10)
    tables: dict[str, Any] = {"models": {}, "run_type": "target", "serve": {"reasoning": "separate", "slo": slo or {}}}
    arbiter = Arbiter(parse(tables, "test"), models=Models(draft=None, target=model))
    gateway = Gateway(arbiter)
    found: dict[str, float] = {}

    async def ask() -> None:
        async with arbiter, open_http_client(gateway.app, httpx2) as client:
            for question in questions:
                body = {"model": "arbiter", "messages": [{"role": "user", "content": question}], "stream": stream}
                await client.post(f"{BASE}/v1/chat/completions", json=body)
            text = (await client.get(f"{BASE}/metrics")).text
        for family in text_string_to_metric_families(text):
            found.update(
                {f"{sample.name}/{sample.labels.get('outcome', '')}": sample.value for sample in family.samples}
            )

    in_virtual_time(ask)
    return found


def seconds(metrics: dict[str, float], name: str) -> float:
    """The sum of a histogram, which must have one observation."""
    assert metrics[f"arbiter_{name}_seconds_count/"] == 1
    return metrics[f"arbiter_{name}_seconds_sum/"]


def test_the_first_token_counts_thoughts_and_the_first_output_token_does_not(in_virtual_time: InVirtualTime) -> None:
    metrics = measured(in_virtual_time, "q")
    assert (seconds(metrics, "first_chunk"), seconds(metrics, "first_output")) == (1.0, 2.0)


def test_the_time_between_tokens_is_that_after_the_first_token(in_virtual_time: InVirtualTime) -> None:
    metrics = measured(in_virtual_time, "q")
    assert seconds(metrics, "stream") == 3.0
    assert seconds(metrics, "inter_token") == pytest.approx((3.0 - 1.0) / (3 * 4 - 1))


def test_an_answer_that_is_not_streamed_has_no_times(in_virtual_time: InVirtualTime) -> None:
    metrics = measured(in_virtual_time, "q", stream=False, slo={"latency": 1.0})
    names = ("first_chunk", "first_output", "inter_token", "stream")
    assert not any(f"arbiter_{name}_seconds_count/" in metrics for name in names)
    assert "arbiter_slo_answers_total/met" not in metrics


@pytest.mark.parametrize(
    ("slo", "is_met"),
    [
        ({"first_token": 1.0}, True),
        ({"first_token": 0.9}, False),
        ({"first_output_token": 2.0, "latency": 3.0}, True),
        ({"first_output_token": 1.9, "latency": 3.0}, False),
        ({"inter_token": 0.2}, True),
        ({"inter_token": 0.1}, False),
        ({"latency": 2.9}, False),
    ],
)
def test_an_answer_meets_the_slo_if_it_keeps_each_bound(
    in_virtual_time: InVirtualTime, slo: dict[str, float], is_met: bool
) -> None:
    metrics = measured(in_virtual_time, "q", slo=slo)
    assert metrics.get("arbiter_slo_answers_total/met", 0) == is_met
    assert metrics.get("arbiter_slo_answers_total/missed", 0) == (not is_met)


def test_a_failed_answer_misses_the_slo(in_virtual_time: InVirtualTime) -> None:
    metrics = measured(in_virtual_time, "q", "break", slo={"latency": 100.0})
    assert metrics["arbiter_slo_answers_total/met"] == metrics["arbiter_slo_answers_total/missed"] == 1


def test_without_an_slo_nothing_is_counted_as_good(in_virtual_time: InVirtualTime) -> None:
    assert not any(name.startswith("arbiter_slo_answers") for name in measured(in_virtual_time, "q"))


@given(st.lists(st.text("ab<think>/\n ", max_size=12), max_size=8), st.booleans())
def test_the_times_of_an_answer_are_in_their_order(texts: list[str], in_thought: bool) -> None:
    times = StreamTimes(AnswerDivider(in_thought))
    for now, text in enumerate(texts):
        times.add(text, float(now))
    times.add("", float(len(texts)), has_ended=True)
    assert times.first is not None
    assert times.first_output is None or times.first <= times.first_output
    assert times.last is None or times.first <= times.last < len(texts)
    between = times.between_tokens(5)
    assert between is None or between >= 0
    assert times.between_tokens(1) is None
