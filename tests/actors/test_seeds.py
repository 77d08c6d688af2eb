"""Seeds and draws only depend on what is requested."""

import subprocess
import sys

from hypothesis import given
from hypothesis import strategies as st

from arbiter.actors.seeds import part_seed, sample_seed, step_seed, unit_draw

integers = st.integers(0, 2**63)


@given(integers, st.text(), integers, integers)
def test_a_seed_fits_a_signed_integer_of_32_bits(seed: int, problem: str, step: int, sample: int) -> None:
    assert 0 <= step_seed(seed, problem, step, "target", sample) < 2**31


@given(integers, st.integers(1, 2**31))
def test_a_samples_seed_fits_a_signed_integer_of_32_bits(seed: int, sample: int) -> None:
    assert 0 <= sample_seed(seed, sample) < 2**31


@given(integers)
def test_the_first_sample_has_the_seed_of_the_run(seed: int) -> None:
    assert sample_seed(seed, 0) == seed


def test_samples_have_seeds_of_their_own() -> None:
    assert len({sample_seed(seed, sample) for seed in range(10) for sample in range(100)}) == 1000


@given(integers, st.integers(1, 2**31))
def test_a_further_request_for_a_step_has_a_seed_of_its_own_of_32_bits(seed: int, part: int) -> None:
    assert 0 <= part_seed(seed, part) < 2**31
    assert part_seed(seed, part) != part_seed(seed, part + 1)
    assert part_seed(seed, 0) == seed


@given(integers, st.text(), integers)
def test_a_draw_lies_in_the_unit_interval(seed: int, problem: str, step: int) -> None:
    assert 0.0 <= unit_draw(seed, problem, step, "random") < 1.0


def test_a_seed_changes_with_each_of_its_arguments() -> None:
    seeds = {
        step_seed(0, "p", 0, "draft", 0),
        step_seed(1, "p", 0, "draft", 0),
        step_seed(0, "q", 0, "draft", 0),
        step_seed(0, "p", 1, "draft", 0),
        step_seed(0, "p", 0, "target", 0),
        step_seed(0, "p", 0, "draft", 1),
    }
    assert len(seeds) == 6


def test_a_draw_changes_with_each_of_its_arguments() -> None:
    draws = {
        unit_draw(0, "p", 0, "random"),
        unit_draw(1, "p", 0, "random"),
        unit_draw(0, "q", 0, "random"),
        unit_draw(0, "p", 1, "random"),
        unit_draw(0, "p", 0, "audit"),
    }
    assert len(draws) == 5


def test_seeds_and_draws_are_the_same_in_every_process() -> None:
    program = (
        'from arbiter.actors.seeds import *; print(step_seed(7, "p", 3, "draft", 1), unit_draw(7, "p", 3, "audit"))'
    )
    runs = [subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True) for _ in "ab"]
    expected = f"{step_seed(7, 'p', 3, 'draft', 1)} {unit_draw(7, 'p', 3, 'audit')}"
    assert [run.stdout.strip() for run in runs] == [expected, expected]


def test_draws_are_uniform_over_steps() -> None:
    tenths = [0] * 10
    for step in range(10_000):
        tenths[int(unit_draw(0, "p", step, "random") * 10)] += 1
    assert all(900 < count < 1100 for count in tenths)
