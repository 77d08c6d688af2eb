"""The parts of ``benchmarks/gpu.py``."""

import math
from functools import partial
from typing import Any

import anyio
import pytest
import torch

from arbiter.simulation.speeds import MODELS, speed_of
from tests.test_benchmarks import load

pytestmark = pytest.mark.slow

CPU = torch.device("cpu")


def tiny() -> Any:
    return load("random_models").random_pair("tiny", CPU, torch.float32, CPU)


@pytest.mark.parametrize("name", ["Llama-3.1-8B", "Qwen2.5-Math-1.5B", "Qwen2.5-Math-7B"])
def test_a_shape_has_the_size_of_the_model_that_the_simulator_knows(name: str) -> None:
    shape, known = load("random_models").SHAPES[name], MODELS[name.rpartition("-")[2]]
    assert sum(map(math.prod, shape.weights().values())) == pytest.approx(known.parameters, rel=0.003)
    assert (shape.num_hidden_layers, shape.num_key_value_heads, shape.head_dim) == (
        known.layers,
        known.heads,
        known.head,
    )


def test_the_text_of_tokens_has_the_same_tokens_and_separators_have_none() -> None:
    texts = load("random_models").NumberTexts()
    assert texts.decode([12, 7, 993]) == "12 7 993 "
    assert texts.encode("12 7 #993 ##") == [12, 7, 993]


@pytest.mark.parametrize("steps", [1, 5])
@pytest.mark.parametrize("acceptance", [0.5, 0.7, 0.9])
def test_a_script_accepts_the_share_of_all_steps(acceptance: float, steps: int) -> None:
    script = load("scripted_ring").Script(10, steps, 512)
    scores = [script.score(str(problem), step) for problem in range(10) for step in range(steps)]
    assert sum(score <= acceptance for score in scores) == round(acceptance * 10 * steps)


def test_steps_have_the_lengths_of_the_script_and_no_token_that_the_other_model_lacks() -> None:
    ring, pair = load("scripted_ring"), tiny()
    script = ring.Script(4, 3, pair.vocabulary)
    for variant, acceptance in ((ring.PLAIN, None), (ring.PLAIN, 0.5), (ring.VERIFIED, 0.5)):
        outcome = anyio.run(ring.solve, pair, script, variant, 4, acceptance)
        for problem, text in outcome.transcripts.items():
            steps = [list(map(int, step.split())) for step in text.split("#")]
            assert [len(step) for step in steps] == [script.tokens(problem, step) for step in range(3)]
            assert max(map(max, steps)) < pair.vocabulary


def test_a_verified_escalation_keeps_half_of_the_draft_and_the_target_writes_the_rest() -> None:
    ring, pair = load("scripted_ring"), tiny()
    script = ring.Script(4, 1, pair.vocabulary)
    drafts, written = (anyio.run(ring.solve, pair, script, ring.VERIFIED, 4, accepted) for accepted in (1.0, 0.0))
    assert (drafts.accepted, written.accepted) == (1, 0)
    for problem, draft in drafts.transcripts.items():
        half = script.tokens(problem, 0) // 2
        assert draft.split()[:half] == written.transcripts[problem].split()[:half]
        assert draft != written.transcripts[problem]


def test_a_device_is_compared_with_the_cpu() -> None:
    checks = anyio.run(load("gpu").check, torch.device("cpu", 0), 1)
    assert checks.gpu == 0
    assert checks.passed


def test_transcripts_that_differ_fail_the_checks() -> None:
    gpu = load("gpu")
    assert load("scripted_ring").differing({"1": "a", "2": "b"}, {"1": "a", "2": "c"}) == 1
    assert not gpu.Checks(8, {"gathering": 1}, None).passed
    assert not gpu.Checks(8, {"gathering": 0}, 2).passed
    assert gpu.Checks(8, {"gathering": 0}, 0).passed


def test_rows_that_do_not_fit_into_the_budget_are_named() -> None:
    gpu = load("gpu")
    target, cells, left_out = anyio.run(gpu.measure, tiny(), (1, 2), 1, gpu.Budget(0.0))
    assert (target, cells) == ({}, [])
    assert len(left_out) == 2 * (1 + len(gpu.CELLS))
    assert left_out[:3] == [
        "target alone, 1 in flight",
        "target alone, 2 in flight",
        "plain, acceptance 0.7, 1 in flight",
    ]
    found = gpu.Found("GPU", "2026-11-30", "2", "command", "tiny", gpu.Checks(8, {}, None), [], target, cells, left_out)
    text = gpu.render(found)
    assert "; all together, acceptance 0.9, 2 in flight" in text
    assert "skipped, because there is no GPU" in text


def test_a_measurement_fits_if_the_longest_before_it_would() -> None:
    budget = load("gpu").Budget(100.0)
    assert budget.fits(1)
    budget.spent(1, 10.0)
    budget.spent(16, 1000.0)
    budget.spent(16, 5.0)
    assert [budget.fits(count) for count in (1, 16, 64)] == [True, False, False]


def test_speeds_are_fitted_in_the_terms_of_the_simulator() -> None:
    fitted = partial(load("model_speeds").fitted, read=0.0496)
    terms = fitted({1: 0.0101, 16: 0.02, 64: 0.0164})
    assert (terms.step, terms.sequence) == (pytest.approx(0.01), pytest.approx(0.0001))
    assert terms.prefill == pytest.approx(20_000)
    assert fitted({1: 0.01, 64: 0.009}).sequence == 0


def test_speeds_are_compared_where_the_simulator_knows_model_and_gpu() -> None:
    speeds = load("model_speeds")
    known, expected = speeds.simulated_terms("Llama-3.1-8B", "NVIDIA H100 80GB HBM3"), speed_of("8B", "H100")
    assert (known.step, known.sequence, known.prefill) == (expected.step, expected.sequence, expected.prefill)
    assert speeds.simulated_terms("Llama-3.2-1B", "NVIDIA H200") is None
    assert speeds.simulated_terms("Llama-3.1-8B", "CPU") is None
    row = speeds.ModelSpeed("m", dict.fromkeys(speeds.BATCHES, 9.0), 0.1, speeds.Terms(0.03, 0.0, 10.0), known)
    assert f"| 30.00 ({0.03 / known.step:.2f}) |" in speeds.speed_table([row])[-1]
