"""Converted checkpoints, and a language model that scores by labels, behind real sglang servers."""

# pyright: reportUnknownMemberType=false, reportUnknownVariableType=false, reportUnknownArgumentType=false
# (transformers and torch are typed in part)

import math
from pathlib import Path
from typing import Any, Literal

import msgspec
import pytest
import torch
from safetensors.torch import load_file, save_file
from transformers import AutoModelForCausalLM, AutoModelForTokenClassification, AutoTokenizer, Qwen2Config
from transformers.models.qwen2 import modeling_qwen2

from arbiter.training.convert import convert
from tests.servers.asking import Model, scored
from tests.servers.engines import POCKET, SGLANG

ENGINE = msgspec.structs.replace(SGLANG, models=("draft", "prm", "router"))
pytestmark = pytest.mark.servers

QUESTION = "Compute 3 + 4 * 2."
STEPS = ["4 * 2 = 8", "4 * 2 = 9", "3 + 8 = 11", "The answer is 11."]


def published(folder: Path, kind: Literal["value", "classes"]) -> Path:
    """Store a small model in the format of Skywork's PRM or of the published router, with random weights and bias."""
    tokenizer: Any = AutoTokenizer.from_pretrained(POCKET / "prm")
    sizes: dict[str, Any] = {
        "hidden_size": 64,
        "intermediate_size": 128,
        "num_hidden_layers": 2,
        "max_position_embeddings": 1024,
    }
    heads: dict[str, Any] = {
        "num_attention_heads": 2,
        "num_key_value_heads": 2,
        "initializer_range": 0.2,
        "num_labels": 2,
    }
    tokens: dict[str, Any] = {
        "vocab_size": len(tokenizer),
        "pad_token_id": tokenizer.pad_token_id,
        "bos_token_id": None,
    }
    torch.manual_seed(3)
    build: Any = modeling_qwen2.Qwen2ForTokenClassification
    build(Qwen2Config(**sizes, **heads, **tokens, eos_token_id=tokenizer.eos_token_id)).save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    weights = load_file(folder / "model.safetensors")
    head = weights.pop("score.weight")
    del weights["score.bias"]
    if kind == "classes":
        weights |= {"score.weight": head, "score.bias": torch.tensor([0.5, -0.25])}
    else:
        weights = {f"pretrained_model.{name}": each for name, each in weights.items()}
        weights |= {"v_head.summary.weight": head[1:] - head[:1], "v_head.summary.bias": torch.tensor([-0.75])}
        config = msgspec.json.decode((folder / "config.json").read_bytes())
        (folder / "config.json").write_bytes(msgspec.json.encode({**config, "architectures": ["Qwen2ForPrmModel"]}))
    save_file(weights, folder / "model.safetensors", metadata={"format": "pt"})
    return folder


@pytest.fixture(scope="module")
def router(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return published(tmp_path_factory.mktemp("router"), "classes")


@pytest.fixture(scope="module")
def checkpoints(router: Path, interpreter: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """The pocket draft, the value head as a Qwen2ForRewardModel, and the converted router."""
    assert interpreter.is_file()
    folder = tmp_path_factory.mktemp("converted")
    convert(str(published(tmp_path_factory.mktemp("skywork"), "value")), folder / "prm", "reward")
    convert(str(router), folder / "router")
    return {"draft": POCKET / "draft", "prm": folder / "prm", "router": folder / "router"}


@torch.inference_mode()
def expected(router: Path, text: str) -> float:
    """Return P(class 1) at the last token, by the published router."""
    tokenizer: Any = AutoTokenizer.from_pretrained(router)
    model: Any = AutoModelForTokenClassification.from_pretrained(router, dtype=torch.float32)
    logits = model.eval()(torch.tensor([tokenizer(text)["input_ids"]])).logits[0, -1]
    return float(torch.softmax(logits, -1)[1])


@pytest.mark.asyncio
@pytest.mark.parametrize("role", ["prm", "router"])
@pytest.mark.parametrize("scores", ["classify", "embeddings"])
async def test_a_converted_model_scores_as_the_published_one(
    role: Literal["prm", "router"], scores: str, models: dict[str, Model], router: Path
) -> None:
    async with models[role].scoring(role, scores=scores) as scorer:
        there = [(await scorer.score(scored(QUESTION, step, score_kind=role))).value for step in STEPS]
    assert there == pytest.approx([expected(router, f"{QUESTION}{step}\n\n") for step in STEPS], abs=1e-4)


@torch.inference_mode()
def likelihoods(text: str) -> list[float]:
    """Return the log-probabilities of the next token, by the pocket draft."""
    tokenizer: Any = AutoTokenizer.from_pretrained(POCKET / "draft")
    model: Any = AutoModelForCausalLM.from_pretrained(POCKET / "draft", dtype=torch.float32)
    logits = model.eval()(torch.tensor([tokenizer(text)["input_ids"]])).logits[0, -1]
    return torch.log_softmax(logits.double(), -1).tolist()


def labels() -> list[int]:
    """Return two tokens that are likely after each step and after the text of the start check, with unique texts."""
    tokenizer: Any = AutoTokenizer.from_pretrained(POCKET / "draft")
    bare = [tokenizer.decode(token).strip() for token in range(len(tokenizer))]
    common = set(range(len(tokenizer))) - set(tokenizer.all_special_ids)
    for text in ("Compute 1+1.2", *(QUESTION + step for step in STEPS)):
        found = likelihoods(f"{text}\n\n")
        common &= set(sorted(range(len(found)), key=lambda token: -found[token])[:18])
    return [token for token in sorted(common) if bare[token] and bare.count(bare[token]) == 1][:2]


@pytest.mark.asyncio
async def test_labels_of_a_language_model_have_the_score_that_they_have_in_process(models: dict[str, Model]) -> None:
    tokenizer: Any = AutoTokenizer.from_pretrained(POCKET / "draft")
    good, bad = labels()
    labelled = {"score": [good, bad], "label-tokens": [tokenizer.decode(good), tokenizer.decode(bad)]}
    expectations = [likelihoods(f"{QUESTION}{step}\n\n") for step in STEPS]
    here = [1 / (1 + math.exp(each[bad] - each[good])) for each in expectations]
    for scores, named in labelled.items():
        async with models["draft"].scoring(scores=scores, labels=named) as scorer:
            there = [(await scorer.score(scored(QUESTION, step))).value for step in STEPS]
        assert there == pytest.approx(here, abs=1e-3)
