"""A judge behind a real sglang: the probabilities of its levels rate as the token that it writes."""

import shutil
from pathlib import Path
from typing import Any

import msgspec
import pytest
import torch
from transformers import AutoTokenizer, LlamaConfig, LlamaForCausalLM

from arbiter.backends.opening import open_scorer
from arbiter.backends.served.judge import ServedJudge
from arbiter.backends.served.level_decisions import TOLERANCE
from tests.servers.asking import Gauges, Model, scored
from tests.servers.engines import POCKET, SGLANG

ENGINE = msgspec.structs.replace(SGLANG, models=("judge",))
pytestmark = [pytest.mark.servers, pytest.mark.asyncio]
CANDIDATES = [f"{left}+{right}={left + right}." for left in range(4) for right in range(4)]
_WIDTH = 64


@pytest.fixture(scope="module")
def checkpoints(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """Return a model with random weights that writes digits only: which ones depends on all that it reads."""
    folder = tmp_path_factory.mktemp("judge")
    reader: Any = AutoTokenizer  # typed in part
    tokenizer = reader.from_pretrained(POCKET / "draft")
    config = LlamaConfig(
        vocab_size=len(tokenizer),
        hidden_size=_WIDTH,
        intermediate_size=_WIDTH,
        num_hidden_layers=2,
        num_attention_heads=2,
        max_position_embeddings=4096,
        bos_token_id=None,
        eos_token_id=tokenizer.eos_token_id,
        pad_token_id=tokenizer.pad_token_id,
        tie_word_embeddings=False,
        initializer_range=0.3,
    )
    torch.manual_seed(7)
    maker: Any = LlamaForCausalLM
    model = maker(config)
    digits = [tokenizer.convert_tokens_to_ids(digit) for digit in "0123456789"]
    with torch.no_grad():
        drawn = model.lm_head.weight[digits].clone()
        model.lm_head.weight.zero_()
        model.model.embed_tokens.weight[:, 0] = 4.0  # a constant, by which all but the digits become unlikely
        model.lm_head.weight[:, 0] = -60.0
        model.lm_head.weight[digits] = drawn
        for layer in model.model.layers:
            layer.self_attn.q_proj.weight *= 2
            layer.self_attn.o_proj.weight *= 3
            for part in (layer.self_attn.o_proj, layer.mlp.down_proj):
                part.weight[0] = 0.0  # the constant stays one
    model.save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    shutil.copy(Path(__file__).parent / "question.jinja", folder / "chat_template.jinja")
    return {"judge": folder}


async def rated(judge: ServedJudge) -> list[float]:
    return [(await judge.score(scored("1+1?", candidate, score_kind="judge"))).value for candidate in CANDIDATES]


async def test_levels_rate_as_the_written_token_and_nothing_is_written(models: dict[str, Model]) -> None:
    model = models["judge"]
    table = model.seen("judge", prompt="levels", tokenizer=model.table["model"])
    async with open_scorer("judge", table, None) as judge:
        assert isinstance(judge, ServedJudge)
        assert judge.without_levels is None
        assert ENGINE.metrics is not None
        gauges = Gauges(model.url, ENGINE.metrics)
        before = await gauges.written()
        levels = await rated(judge)
        assert await gauges.written() == before
        judge.without_levels = "to compare"
        tokens = await rated(judge)
    assert levels == pytest.approx(tokens, abs=TOLERANCE)
    assert max(levels) - min(levels) > 2 * TOLERANCE


async def test_another_prompt_is_rated_by_a_token(models: dict[str, Model]) -> None:
    model = models["judge"]
    async with open_scorer("judge", model.seen("judge", prompt="judge"), None) as judge:
        assert isinstance(judge, ServedJudge)
        assert judge.without_levels is not None
        assert 0 <= (await judge.score(scored("1+1?", "2", score_kind="judge"))).value <= 1
