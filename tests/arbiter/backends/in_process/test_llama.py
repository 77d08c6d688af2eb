"""The forward pass of the Llama family has the logits of transformers, however a text is cut into chunks and slots."""

# pyright: reportUnknownMemberType=false, reportUnknownVariableType=false, reportUnknownArgumentType=false
# (transformers and torch are typed in part)

import random
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import msgspec
import pytest
import torch
from torch import Tensor
from transformers import (
    LlamaConfig,
    LlamaForCausalLM,
    LlamaForSequenceClassification,
    Qwen2Config,
    Qwen2ForCausalLM,
)

from arbiter.backends.in_process.checkpoint_files import llama_shape
from arbiter.backends.in_process.llama import LlamaModel
from arbiter.backends.in_process.sequence_model import Chunk

VOCABULARY, CONTEXT = 61, 96
DEVICES = ["cpu", "cuda"] if torch.cuda.is_available() else ["cpu"]
SMALL: dict[str, Any] = {
    "vocab_size": VOCABULARY,
    "hidden_size": 48,
    "intermediate_size": 80,
    "num_hidden_layers": 3,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "max_position_embeddings": CONTEXT,
    "initializer_range": 0.3,
    "bos_token_id": None,
    "eos_token_id": None,
    "pad_token_id": 0,
}
SCALED = {
    "rope_type": "llama3",
    "rope_theta": 500.0,
    "factor": 8.0,
    "low_freq_factor": 1.0,
    "high_freq_factor": 4.0,
    "original_max_position_embeddings": 32,
}


def _made(name: str) -> Any:
    """Return the model of transformers called ``name``, with random weights."""
    llama: Any = LlamaConfig
    torch.manual_seed(7)
    match name:
        case "grouped queries":
            return LlamaForCausalLM(llama(**SMALL))
        case "one key head, wide heads, tied":
            shape = {**SMALL, "num_key_value_heads": 1, "head_dim": 20, "tie_word_embeddings": True}
            return LlamaForCausalLM(llama(**shape))
        case "all key heads":
            return LlamaForCausalLM(llama(**{**SMALL, "num_key_value_heads": 4}))
        case "scaled positions":
            return LlamaForCausalLM(llama(**SMALL, rope_parameters=SCALED))
        case "biases":
            model = Qwen2ForCausalLM(Qwen2Config(**SMALL))
            for weight, values in model.named_parameters():
                if weight.endswith("bias"):
                    torch.nn.init.normal_(values)
            return model
        case _:
            return LlamaForSequenceClassification(llama(**SMALL, num_labels=3))


NAMES = (
    "grouped queries",
    "one key head, wide heads, tied",
    "all key heads",
    "scaled positions",
    "biases",
    "classifier",
)


class Pair:
    """A model of transformers and the model with its weights. ``bound`` is how far their outputs may differ."""

    def __init__(self, name: str, device: str, dtype: torch.dtype = torch.float32) -> None:
        torch.backends.cuda.matmul.allow_tf32 = False
        self.theirs: Any = _made(name).to(device, dtype).eval()
        config = msgspec.json.decode(self.theirs.config.to_json_string(use_diff=False))
        self.is_scorer = name == "classifier"
        config["architectures"] = [type(self.theirs).__name__]
        shape = llama_shape(config, "scorer" if self.is_scorer else "generator")
        assert shape is not None
        self.own = LlamaModel(shape, self.theirs.state_dict())
        self.bound = 1e-4

    def expected(self, ids: Sequence[int]) -> Tensor:
        """Return transformers' outputs for each token of a text."""
        text = torch.tensor([ids], device=self.theirs.device)
        head: Any = self.theirs.score if self.is_scorer else self.theirs.lm_head
        return head(self.theirs.model(text).last_hidden_state)[0].float()

    def read(self, *chunks: Chunk) -> Tensor:
        self.own.slots.reserve(
            max(chunk.slot for chunk in chunks) + 1, max(chunk.start + len(chunk.ids) for chunk in chunks)
        )
        return self.own.outputs(self.own.read(chunks))

    def agree(self, found: Tensor, expected: Tensor) -> None:
        assert found.dtype == torch.float32
        assert found.shape == expected.shape
        assert torch.allclose(found, expected, rtol=0, atol=self.bound)


@pytest.fixture(autouse=True)
def inference() -> Iterator[None]:
    with torch.inference_mode():
        yield


@pytest.fixture(params=DEVICES, scope="module")
def device(request: pytest.FixtureRequest) -> str:
    return request.param


@pytest.fixture(params=NAMES, scope="module")
def pair(request: pytest.FixtureRequest, device: str) -> Pair:
    return Pair(request.param, device)


@pytest.fixture(scope="module")
def one(device: str) -> Pair:
    return Pair("grouped queries", device)


def a_text(draw: random.Random, length: int) -> list[int]:
    return draw.choices(range(1, VOCABULARY), k=length)


@pytest.mark.parametrize("length", [1, 2, 40, CONTEXT])
def test_a_whole_text_has_the_outputs_of_transformers(pair: Pair, length: int) -> None:
    ids = a_text(random.Random(length), length)
    expected = pair.expected(ids)
    assert expected.std() > 0.1
    pair.agree(pair.read(Chunk(0, 0, ids, length)), expected)


@pytest.mark.parametrize("seed", range(4))
@pytest.mark.slow
def test_several_texts_in_any_chunks_have_the_outputs_of_each_text_alone(
    pair: Pair, in_mixed_passes: Callable[..., None], seed: int
) -> None:
    draw = random.Random(seed)
    texts = {slot: a_text(draw, draw.randint(3, 60)) for slot in draw.sample(range(7), draw.randint(2, 5))}
    expected = {slot: pair.expected(ids) for slot, ids in texts.items()}

    def check(chunk: Chunk, found: Tensor) -> None:
        end = chunk.start + len(chunk.ids)
        pair.agree(found, expected[chunk.slot][end - chunk.shown : end])

    in_mixed_passes(pair.read, texts, draw, check)


def test_a_pass_may_show_nothing(one: Pair) -> None:
    ids = a_text(random.Random(3), 20)
    assert one.read(Chunk(0, 0, ids[:9], 0)).shape == (0, VOCABULARY)
    assert one.read(Chunk(0, 9, ids[9:10], 0)).shape == (0, VOCABULARY)
    one.agree(one.read(Chunk(0, 10, ids[10:], 10)), one.expected(ids)[10:])


def test_a_slot_that_was_moved_continues_its_text(one: Pair) -> None:
    draw = random.Random(1)
    first, last = a_text(draw, 30), a_text(draw, 40)
    one.read(Chunk(0, 0, first[:20], 1), Chunk(3, 0, last[:25], 1))
    one.own.move(3, 1, 25)
    found = one.read(Chunk(1, 25, last[25:], 15), Chunk(0, 20, first[20:21], 1))
    one.agree(found[:15], one.expected(last)[25:])
    one.agree(found[15:], one.expected(first)[20:21])


def test_tokens_that_were_discarded_have_no_part_in_what_follows(one: Pair) -> None:
    draw = random.Random(2)
    begin, discarded, rest = a_text(draw, 20), a_text(draw, 30), a_text(draw, 15)
    other = a_text(draw, 12)
    one.read(Chunk(0, 0, [*begin, *discarded], 1), Chunk(1, 0, other[:10], 1))
    expected = one.expected([*begin, *rest])
    single = one.read(Chunk(0, 20, rest[:1], 1), Chunk(1, 10, other[10:11], 1))
    one.agree(single[:1], expected[20:21])
    one.agree(one.read(Chunk(0, 21, rest[1:], 14)), expected[21:])


def test_what_was_saved_from_one_slot_continues_in_another(one: Pair) -> None:
    ids = a_text(random.Random(4), 40)
    one.read(Chunk(2, 0, ids[:30], 1))
    one.own.slots.load(0, 0, one.own.slots.save(2, 0, 18))
    one.agree(one.read(Chunk(0, 18, ids[18:], 22)), one.expected(ids)[18:])


@pytest.mark.parametrize(("dtype", "bound"), [(torch.bfloat16, 0.1), (torch.float16, 0.02)])
@pytest.mark.parametrize("name", ["grouped queries", "biases", "classifier"])
def test_half_precision_differs_no_more_than_its_rounding(
    device: str, name: str, dtype: torch.dtype, bound: float
) -> None:
    """Against the outputs in single precision; transformers' own in half precision differ as much from them."""
    pair, exact = Pair(name, device, dtype), Pair(name, device)
    draw = random.Random(5)
    texts = [a_text(draw, 30), a_text(draw, 20)]
    for slot, ids in enumerate(texts):
        expected = exact.expected(ids)
        found = [pair.read(Chunk(slot, 0, ids[:-1], len(ids) - 1)), pair.read(Chunk(slot, len(ids) - 1, ids[-1:], 1))]
        error = (torch.cat(found) - expected).abs().mean() / expected.abs().mean()
        assert error.item() < bound
