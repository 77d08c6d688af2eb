"""Models of other families have the outputs that they have in transformers alone."""

# pyright: reportUnknownMemberType=false, reportUnknownVariableType=false, reportUnknownArgumentType=false
# (transformers and torch are typed in part)

import random
from collections.abc import Callable, Iterator, Sequence
from contextlib import nullcontext
from functools import partial
from typing import Any

import pytest
import torch
import transformers
from torch import Tensor
from transformers import PreTrainedTokenizerFast

from arbiter.backends.in_process.decoding import InProcessGenerator
from arbiter.backends.in_process.model_loading import Loaded
from arbiter.backends.in_process.padded_batches import PaddedModel
from arbiter.backends.in_process.sequence_model import Chunk, SequenceModel
from arbiter.backends.in_process.transformers_model import CacheModel, SlotModel, WholeTextModel, wrap
from arbiter.backends.prompts import PromptTemplate
from arbiter.backends.token_texts import TransformersTokenTexts
from arbiter.protocols.errors import BackendError
from arbiter.protocols.ports import GenerationRequest

CONTEXT = 160
QUESTIONS = ("Compute 1+1.", "Compute (12+34)*5.", "Start with 7. Add 11.", "2", "Bob has 55 shells. Ann has 3.")
TEMPLATE = PromptTemplate("Problem: {question}\nSolution:\n")
Size = dict[str, Any]

SMALL: Size = {
    "hidden_size": 32,
    "intermediate_size": 48,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "max_position_embeddings": CONTEXT,
    "initializer_range": 0.3,
}
GROUPED: Size = {**SMALL, "num_key_value_heads": 2, "head_dim": 8}
GPT: Size = {"n_embd": 32, "n_layer": 2, "n_head": 4, "n_positions": CONTEXT, "initializer_range": 0.3}
BLOOM: Size = {"hidden_size": 32, "n_layer": 2, "n_head": 4, "initializer_range": 0.3}
GPT_NEO: Size = {
    "hidden_size": 32,
    "num_layers": 2,
    "num_heads": 4,
    "attention_types": [[["global", "local"], 1]],
    "max_position_embeddings": CONTEXT,
    "initializer_range": 0.3,
}
MAMBA: Size = {"hidden_size": 32, "num_hidden_layers": 2, "state_size": 8, "initializer_range": 0.3}
SLOTTED: dict[str, Size] = {
    "Mistral": {**GROUPED, "sliding_window": None},
    "Gemma": GROUPED,
    "GPTNeoX": SMALL,
    "GPT2": GPT,
}
PADDED: dict[str, Size] = {
    "Mistral": {**GROUPED, "sliding_window": 12},
    "Bloom": BLOOM,
    "GPTNeo": {**GPT_NEO, "window_size": 8},
    "Gemma2": {**GROUPED, "sliding_window": 12},
}
CACHED: dict[str, Size] = {"Mamba": MAMBA}


@pytest.fixture(autouse=True)
def inference() -> Iterator[None]:
    with torch.inference_mode():
        yield


@pytest.fixture
def made(tokenizer: PreTrainedTokenizerFast) -> Callable[..., Any]:
    """Return a model of a family with random weights, whose end is no token of the pocket tokenizer's texts."""

    def build(family: str, kind: str, size: Size, **fields: Any) -> Any:
        torch.manual_seed(3)
        plain = {"pad_token_id": 1, "bos_token_id": None, "eos_token_id": 0, "vocab_size": len(tokenizer)}
        config = getattr(transformers, f"{family}Config")(**plain, **size, **fields)
        return getattr(transformers, f"AutoModelFor{kind}").from_config(config).eval()

    return build


def read(model: SequenceModel, *chunks: Chunk) -> Tensor:
    """Read chunks as the engine does, which reserves slots first."""
    if model.slots is not None:
        longest = max(chunk.start + len(chunk.ids) for chunk in chunks)
        model.slots.reserve(max(chunk.slot for chunk in chunks) + 1, longest)
    return model.outputs(model.read(chunks))


def a_text(draw: random.Random, length: int) -> list[int]:
    return draw.choices(range(5, 300), k=length)


def steps(model: Any, tokenizer: PreTrainedTokenizerFast, requests: Sequence[GenerationRequest]) -> list[str]:
    """Return the steps of transformers' own greedy ``generate``."""
    written: list[str] = []
    for request in requests:
        prompt = tokenizer(TEMPLATE.render(request.transcript, request.separator), return_tensors="pt")
        out = model.generate(
            prompt["input_ids"],
            attention_mask=prompt["attention_mask"],
            max_new_tokens=request.max_tokens,
            do_sample=False,
        )
        text = tokenizer.decode(out[0, prompt["input_ids"].shape[1] :], skip_special_tokens=True)
        written.append(str(text).partition(request.separator)[0])
    return written


@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize("family", SLOTTED)
@pytest.mark.slow
def test_a_model_that_attends_to_its_whole_context_reads_any_chunks_into_slots(
    made: Callable[..., Any], in_mixed_passes: Callable[..., None], family: str, seed: int
) -> None:
    theirs, draw = made(family, "CausalLM", SLOTTED[family]), random.Random(seed)
    model = wrap(theirs, CONTEXT)
    assert isinstance(model, SlotModel)
    texts = {slot: a_text(draw, draw.randint(3, 60)) for slot in draw.sample(range(7), draw.randint(2, 5))}
    expected = {slot: theirs(torch.tensor([ids])).logits[0] for slot, ids in texts.items()}

    def check(chunk: Chunk, found: Tensor) -> None:
        end = chunk.start + len(chunk.ids)
        assert torch.allclose(found, expected[chunk.slot][end - chunk.shown : end], rtol=0, atol=1e-3)

    in_mixed_passes(partial(read, model), texts, draw, check)


def test_a_slot_that_was_moved_or_cut_continues_its_text(made: Callable[..., Any]) -> None:
    theirs, draw = made("Mistral", "CausalLM", SLOTTED["Mistral"]), random.Random(1)
    model = wrap(theirs, CONTEXT)
    first, last, other = a_text(draw, 30), a_text(draw, 40), a_text(draw, 9)
    read(model, Chunk(0, 0, first, 1), Chunk(3, 0, last[:25], 1))
    model.move(3, 1, 25)
    found = read(model, Chunk(1, 25, last[25:26], 1), Chunk(0, 20, other, 1))
    expected = [theirs(torch.tensor([ids])).logits[0, -1] for ids in (last[:26], [*first[:20], *other])]
    assert torch.allclose(found, torch.stack(expected), rtol=0, atol=1e-3)


@pytest.mark.parametrize(
    ("family", "size", "kind"),
    [(family, size, SlotModel) for family, size in SLOTTED.items()]
    + [(family, size, PaddedModel) for family, size in PADDED.items()]
    + [(family, size, CacheModel) for family, size in CACHED.items()],
)
@pytest.mark.slow
def test_greedy_steps_are_those_of_transformers(
    made: Callable[..., Any],
    tokenizer: PreTrainedTokenizerFast,
    generation: Callable[..., GenerationRequest],
    served: Callable[..., list[Any]],
    family: str,
    size: Size,
    kind: type,
) -> None:
    theirs = made(family, "CausalLM", size)
    model = wrap(theirs, CONTEXT)
    assert type(model) is kind
    requests = [
        generation(question, max_tokens=4 + 3 * place, separator="###") for place, question in enumerate(QUESTIONS)
    ]
    loaded = Loaded("tiny", model, TransformersTokenTexts(tokenizer), frozenset({0}), 0, 10**6, nullcontext())
    generator = InProcessGenerator(loaded, TEMPLATE, 3)
    found = served(generator.generate, generator.engine.worker, requests)
    assert [made.text for made in found] == steps(theirs, tokenizer, requests)
    assert len({made.text for made in found}) == len(requests)


def test_texts_that_begin_together_are_read_together_and_leave_when_they_end(made: Callable[..., Any]) -> None:
    theirs, draw = made("Mistral", "CausalLM", PADDED["Mistral"]), random.Random(4)
    model, passes = wrap(theirs, CONTEXT), list[int]()

    def note(_: object, __: object, given: dict[str, Any]) -> None:
        passes.append(len(given["input_ids"]))

    theirs.register_forward_pre_hook(note, with_kwargs=True)
    texts = {slot: a_text(draw, length) for slot, length in enumerate((20, 5, 33))}
    read(model, *(Chunk(slot, 0, ids, 1) for slot, ids in texts.items()))
    grown = {slot: [*ids, *a_text(draw, 1)] for slot, ids in texts.items()}
    read(model, *(Chunk(slot, len(ids) - 1, ids[-1:], 1) for slot, ids in grown.items()))
    model.move(2, 0, 34)  # the text of slot 0 has ended, and the last one moves there
    begun = a_text(draw, 9)
    last = {0: [*grown[2], 7], 1: [*grown[1], 8]}
    found = read(model, *(Chunk(slot, len(ids) - 1, ids[-1:], 1) for slot, ids in last.items()), Chunk(2, 0, begun, 1))
    assert passes == [3, 3, 2, 1]
    expected = [theirs(input_ids=torch.tensor([ids])).logits[0, -1] for ids in (last[0], last[1], begun)]
    assert torch.allclose(found, torch.stack(expected), rtol=0, atol=1e-3)


def test_a_model_that_takes_no_cache_is_refused(made: Callable[..., Any]) -> None:
    size = {"hidden_size": 32, "num_hidden_layers": 2, "attention_hidden_size": 32, "context_length": CONTEXT}
    with pytest.raises(BackendError, match="RwkvForCausalLM cannot write steps in process"):
        wrap(made("Rwkv", "CausalLM", size), CONTEXT)


@pytest.mark.parametrize(
    ("family", "size", "kind"),
    [
        ("Bert", SMALL, WholeTextModel),
        ("Roberta", {**SMALL, "max_position_embeddings": CONTEXT + 2}, WholeTextModel),
        ("Mistral", {**GROUPED, "sliding_window": 12}, WholeTextModel),
        ("Mistral", {**GROUPED, "sliding_window": None}, SlotModel),
        ("GPT2", GPT, SlotModel),
        ("Bloom", BLOOM, WholeTextModel),
    ],
)
def test_a_classifier_has_the_logits_of_each_text_alone(
    made: Callable[..., Any], family: str, size: Size, kind: type
) -> None:
    theirs, draw = made(family, "SequenceClassification", size, num_labels=3), random.Random(2)
    model = wrap(theirs, CONTEXT)
    assert type(model) is kind
    texts = [a_text(draw, length) for length in (9, 1, 30, 17)]
    found = read(model, *(Chunk(slot, 0, ids, 1) for slot, ids in enumerate(texts)))
    expected = torch.cat([theirs(torch.tensor([ids])).logits for ids in texts])
    assert expected.std(0).min() > 1e-3
    assert torch.allclose(found, expected, rtol=0, atol=1e-4)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_half_precision_is_no_reason_against_slots(made: Callable[..., Any], dtype: torch.dtype) -> None:
    for family, size in SLOTTED.items():
        model = wrap(made(family, "CausalLM", size).to(dtype), CONTEXT)
        assert isinstance(model, SlotModel)
        assert (model.slots.layers.dtype, model.slots.bytes) == (dtype, 0)


def test_outputs_are_in_single_precision(made: Callable[..., Any]) -> None:
    for family, size in (("GPT2", GPT), ("Mamba", MAMBA)):
        model = wrap(made(family, "CausalLM", size).to(torch.bfloat16), CONTEXT)
        assert read(model, Chunk(0, 0, [5, 6, 7], 2)).dtype == torch.float32
