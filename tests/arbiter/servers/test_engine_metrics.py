"""The metrics of engines, read from excerpts of real ones."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from arbiter.servers.engine_metrics import EngineMetrics, figures

SGLANG = """\
# HELP sglang:num_running_reqs The number of running requests.
# TYPE sglang:num_running_reqs gauge
sglang:num_running_reqs{engine_type="unified",model_name="pocket-draft",moe_ep_rank="0",pp_rank="0",tp_rank="0"} 4.0
# HELP sglang:num_queue_reqs The number of requests in the waiting queue.
# TYPE sglang:num_queue_reqs gauge
sglang:num_queue_reqs{engine_type="unified",model_name="pocket-draft",moe_ep_rank="0",pp_rank="0",tp_rank="0"} 0.0
# HELP sglang:prompt_tokens_total Number of prefill tokens processed.
# TYPE sglang:prompt_tokens_total counter
sglang:prompt_tokens_total{engine_type="unified",is_streaming="false",model_name="pocket-draft"} 281.0
# HELP sglang:generation_tokens_total Number of generation tokens processed.
# TYPE sglang:generation_tokens_total counter
sglang:generation_tokens_total{engine_type="unified",is_streaming="false",model_name="pocket-draft"} 112.0
# HELP sglang:cached_tokens_total Number of cached prompt tokens by source (device/host/storage).
# TYPE sglang:cached_tokens_total counter
sglang:cached_tokens_total{cache_source="device",engine_type="unified",model_name="pocket-draft"} 225.0
"""

VLLM = """\
# HELP vllm:num_requests_running Number of requests in model execution batches.
# TYPE vllm:num_requests_running gauge
vllm:num_requests_running{engine="0",model_name="pocket-target"} 7.0
vllm:num_requests_running{engine="1",model_name="pocket-target"} 5.0
# TYPE vllm:num_requests_waiting gauge
vllm:num_requests_waiting{engine="0",model_name="pocket-target"} 1.0
vllm:num_requests_waiting{engine="1",model_name="pocket-target"} 0.0
# TYPE vllm:prefix_cache_queries_total counter
vllm:prefix_cache_queries_total{engine="0",model_name="pocket-target"} 400.0
vllm:prefix_cache_queries_created{engine="0",model_name="pocket-target"} 1.7638224e+09
vllm:prefix_cache_hits_total{engine="0",model_name="pocket-target"} 1e2
vllm:prompt_tokens_total{engine="0",model_name="pocket-target"} 420.0
vllm:generation_tokens_total{engine="0",model_name="pocket-target"} 90.0
"""


def test_what_sglang_says_is_read() -> None:
    assert figures("sglang", SGLANG) == EngineMetrics(4, 0, read=281, written=112, looked_up=281, cached=225)


def test_the_hit_rate_is_of_what_was_looked_up() -> None:
    assert figures("vllm", VLLM).hit_rate == 0.25


def test_data_parallel_parts_are_added() -> None:
    found = figures("vllm", VLLM)
    assert (found.running, found.queued) == (12, 1)


def test_ranks_that_share_a_model_count_once() -> None:
    again = SGLANG.replace('tp_rank="0"', 'tp_rank="1"')
    assert figures("sglang", SGLANG + again).running == 4


def test_sglangs_data_parallel_parts_are_added_as_well() -> None:
    parts = [SGLANG.replace('tp_rank="0"', f'tp_rank="0",dp_rank="{rank}"') for rank in (0, 1)]
    assert figures("sglang", "".join(parts)).running == 8


@pytest.mark.parametrize("text", ["", "<html>", "sglang:num_running_reqs", "sglang:num_running_reqs{} NaN"])
def test_what_is_not_said_is_not_known(text: str) -> None:
    found = figures("sglang", text)
    assert (found, found.hit_rate) == (EngineMetrics(), None)


def test_an_engine_that_is_silent_has_no_figures() -> None:
    assert figures("llama.cpp", SGLANG) == EngineMetrics()


@given(st.text())
def test_no_text_is_too_strange(text: str) -> None:
    assert figures("vllm", text) == EngineMetrics()


@given(
    st.lists(st.integers(0, 10**12), min_size=1),
    st.text(st.characters(exclude_characters='"\\', exclude_categories=["C", "Z"])),
)
def test_a_metric_is_the_sum_over_its_labels(values: list[int], label: str) -> None:
    lines = [f'vllm:generation_tokens_total{{engine="{n}",name="{label}"}} {value}' for n, value in enumerate(values)]
    assert figures("vllm", "\n".join(lines)).written == sum(values)
