"""What weights lose in blocks of 8 bits with a scale in half precision."""

from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file

from arbiter.training.gguf_blocks import BlockLosses, losses_in, losses_of

TINY, HUGE = 3.7e-6, 9e6  # divided by 127: below half of the smallest, and above the largest number of half precision


def block(value: float) -> torch.Tensor:
    return torch.full((1, 32), value)


@pytest.mark.parametrize(
    ("value", "zero", "infinite"),
    [(0.0, 0, 0), (TINY, 1, 0), (-TINY, 1, 0), (4e-6, 0, 0), (1.0, 0, 0), (8e6, 0, 0), (HUGE, 0, 1), (-HUGE, 0, 1)],
)
def test_a_block_is_lost_if_its_largest_value_has_no_scale(value: float, zero: int, infinite: int) -> None:
    assert losses_of(block(value)) == BlockLosses(1, zero, infinite)


def test_one_larger_value_keeps_a_block_and_loses_no_other_block() -> None:
    weight = torch.cat([block(TINY), block(TINY)])
    weight[0, 5] = 0.1
    assert losses_of(weight) == BlockLosses(2, 1, 0)


@pytest.mark.parametrize("weight", [torch.full((64,), TINY), torch.full((2, 33), TINY), torch.ones(2, 32).int()])
def test_what_is_not_stored_in_blocks_loses_nothing(weight: torch.Tensor) -> None:
    assert losses_of(weight) == BlockLosses()


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_the_losses_of_all_files_are_added(dtype: torch.dtype, tmp_path: Path) -> None:

    for number, value in enumerate((TINY, 1.0)):
        save_file({"a": torch.cat([block(value)] * 3).to(dtype)}, tmp_path / f"{number}.safetensors")
    assert losses_in(tmp_path) == BlockLosses(6, 3, 0)
