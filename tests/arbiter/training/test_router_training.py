"""A router is trained, saved and read the same way everywhere; an interrupted training resumes where it ended."""

# pyright: reportUnknownMemberType=false, reportUnknownVariableType=false, reportUnknownArgumentType=false
# (transformers and torch are typed in part)

import os
import signal
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import anyio
import msgspec
import pytest
import torch
from safetensors.torch import load_file
from transformers import AutoModelForSequenceClassification, AutoTokenizer

from arbiter.actors.supervision import services
from arbiter.backends.in_process.model_loading import open_model
from arbiter.backends.in_process.scoring import InProcessScorer
from arbiter.backends.prompts import PromptTemplate
from arbiter.data.training_rows import TrainingRow
from arbiter.pocket import world
from arbiter.protocols.errors import ArbiterError, BackendError, ConfigError, DataError
from arbiter.protocols.ports import ScoreRequest
from arbiter.protocols.records import Transcript
from arbiter.training.inference import predict
from arbiter.training.metadata import read_metadata
from arbiter.training.router_training import RouterSettings, train_router

pytestmark = pytest.mark.slow

TEMPLATE = PromptTemplate(world.PROMPT, annotate=True)


@pytest.fixture
def settings(prm: Path) -> RouterSettings:
    return RouterSettings(base=str(prm), prompt=world.PROMPT, epochs=2, batch=8, learning_rate=1e-3)


def plain(folder: Path, row: TrainingRow) -> float:
    """Return ŷ, computed with transformers alone."""
    tokenizer: Any = AutoTokenizer.from_pretrained(folder)
    model: Any = AutoModelForSequenceClassification.from_pretrained(folder, dtype=torch.float32)
    text = TEMPLATE.render_candidate(Transcript(row.question, row.history), row.draft, "draft", world.SEPARATOR)
    with torch.inference_mode():
        return torch.softmax(model(**tokenizer(text, return_tensors="pt")).logits[0], -1)[1].item()


def scored(folder: Path, rows: Sequence[TrainingRow]) -> list[float]:
    """Return ŷ as the ring's scorer computes it."""
    scorer = InProcessScorer(open_model(str(folder), "scorer"), TEMPLATE, 8)

    async def ask() -> list[float]:
        async with services() as service:
            await service.start(scorer.engine.worker.run)
            return [(await scorer.score(request)).value for request in requests]

    requests = [
        ScoreRequest(
            problem=row.problem,
            step=row.step,
            score_kind="router",
            transcript=Transcript(row.question, row.history),
            candidate=row.draft,
            author="draft",
            separator=world.SEPARATOR,
        )
        for row in rows
    ]
    return anyio.run(ask)


@pytest.mark.parametrize("labels", ["binary", "ordinal"])
def test_a_router_says_the_same_through_transformers_predict_and_the_ring(
    settings: RouterSettings, rows: list[TrainingRow], tmp_path: Path, labels: Any
) -> None:
    metadata = train_router(msgspec.structs.replace(settings, labels=labels), rows, tmp_path / "router")
    found = [values[0] for values in predict(str(tmp_path / "router"), rows[:6])]
    assert found == pytest.approx([plain(tmp_path / "router", row) for row in rows[:6]], abs=1e-5)
    assert found == pytest.approx(scored(tmp_path / "router", rows[:6]), abs=1e-5)
    assert read_metadata(tmp_path / "router") == metadata
    assert set(metadata.figures) == {"validation_loss", "auroc", "spearman"}


def test_what_is_left_is_a_checkpoint_and_its_recipe(
    settings: RouterSettings, rows: list[TrainingRow], tmp_path: Path
) -> None:
    train_router(settings, rows, tmp_path)
    names = {path.name for path in tmp_path.iterdir()}
    assert names >= {"model.safetensors", "config.json", "tokenizer.json", "arbiter.json"}
    assert not [name for name in names if name.endswith((".pt", ".pth", ".bin")) or name == "checkpoints"]
    config = msgspec.json.decode((tmp_path / "config.json").read_bytes())
    assert config["architectures"] == ["LlamaForSequenceClassification"]
    assert config["id2label"] == {"0": "not better", "1": "better"}
    assert config["pad_token_id"] == 1


@pytest.mark.parametrize(("labels", "count"), [("4-class", 4), ("10-class", 10)])
def test_more_classes_give_the_probability_of_those_above_0(
    settings: RouterSettings, rows: list[TrainingRow], tmp_path: Path, labels: Any, count: int
) -> None:
    metadata = train_router(msgspec.structs.replace(settings, labels=labels), rows, tmp_path)
    assert len(metadata.edges) == count - 1
    assert load_file(tmp_path / "model.safetensors")["score.weight"].shape[0] == count
    assert all(0 <= values[0] <= 1 for values in predict(str(tmp_path), rows))


def test_several_targets_have_a_pair_of_classes_each(
    settings: RouterSettings, rows: list[TrainingRow], tmp_path: Path
) -> None:
    several = [
        msgspec.structs.replace(
            row, targets=("a", "b"), target_scores=(*row.target_scores, 0.5), target_names=("big", "huge")
        )
        for row in rows
    ]
    metadata = train_router(settings, several, tmp_path)
    assert metadata.targets == ("big", "huge")
    assert load_file(tmp_path / "model.safetensors")["score.weight"].shape[0] == 4
    assert {len(values) for values in predict(str(tmp_path), several[:3])} == {2}


@pytest.mark.nightly
def test_an_interrupted_training_comes_to_the_same_weights(
    settings: RouterSettings, rows: list[TrainingRow], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    train_router(settings, rows, tmp_path / "whole")
    answers = iter([1])

    def figures(*_: Any) -> dict[str, float | None]:  # a person loses patience while the first figures are computed
        if next(answers, None):
            os.kill(os.getpid(), signal.SIGINT)
        return {}

    monkeypatch.setattr("arbiter.training.router_training._figures", figures)
    with pytest.raises(KeyboardInterrupt):
        train_router(settings, rows, tmp_path / "cut")
    assert (tmp_path / "cut" / "checkpoints").is_dir()
    train_router(settings, rows, tmp_path / "cut", resume=True)
    whole, cut = (load_file(tmp_path / name / "model.safetensors") for name in ("whole", "cut"))
    assert all(torch.equal(whole[name], cut[name]) for name in whole)


def test_another_training_is_not_resumed(settings: RouterSettings, rows: list[TrainingRow], tmp_path: Path) -> None:
    checkpoints = tmp_path / "checkpoints"
    checkpoints.mkdir()
    done = train_router(settings, rows, tmp_path / "other")
    plan = msgspec.structs.replace(done, temperature=(), figures={}, seed=7)
    (checkpoints / "plan.json").write_bytes(msgspec.json.encode(plan))
    with pytest.raises(ConfigError, match="seed was 7"):
        train_router(settings, rows, tmp_path, resume=True)


def test_accumulated_micro_batches_learn_as_much(
    settings: RouterSettings, rows: list[TrainingRow], tmp_path: Path
) -> None:
    metadata = train_router(msgspec.structs.replace(settings, micro_batch=3), rows, tmp_path)
    whole = train_router(settings, rows, tmp_path / "whole")
    assert metadata.updates == whole.updates


def test_adapters_are_merged_into_the_weights(
    settings: RouterSettings, rows: list[TrainingRow], tmp_path: Path
) -> None:
    train_router(msgspec.structs.replace(settings, lora=2, learning_rate=1e-2), rows, tmp_path)
    weights = load_file(tmp_path / "model.safetensors")
    before = load_file(Path(settings.base) / "model.safetensors")
    assert set(weights) == set(before)
    changed = {name for name in before if name != "score.weight" and not torch.equal(weights[name], before[name])}
    assert "model.layers.0.self_attn.q_proj.weight" in changed
    assert "model.embed_tokens.weight" not in changed
    assert predict(str(tmp_path), rows[:1])[0][0] == pytest.approx(plain(tmp_path, rows[0]), abs=1e-5)


def test_a_qwen2_router_has_a_bias_of_zeros_for_engines_that_have_one(
    settings: RouterSettings, rows: list[TrainingRow], base: Callable[..., Path], tmp_path: Path
) -> None:
    train_router(msgspec.structs.replace(settings, base=str(base(family="qwen2"))), rows, tmp_path)
    assert load_file(tmp_path / "model.safetensors")["score.bias"].tolist() == [0.0, 0.0]
    assert predict(str(tmp_path), rows[:1])[0][0] == pytest.approx(plain(tmp_path, rows[0]), abs=1e-5)


def test_temperature_changes_no_order_and_is_in_the_weights(
    settings: RouterSettings, rows: list[TrainingRow], tmp_path: Path
) -> None:
    raw = train_router(msgspec.structs.replace(settings, temperature_scaling=False), rows, tmp_path / "raw")
    scaled = train_router(settings, rows, tmp_path / "scaled")
    assert raw.temperature == (1.0,)
    one, other = (load_file(tmp_path / name / "model.safetensors")["score.weight"] for name in ("raw", "scaled"))
    assert torch.allclose(one / scaled.temperature[0], other, rtol=1e-5)
    assert (scaled.figures["validation_loss"] or 0) <= (raw.figures["validation_loss"] or 0)
    assert scaled.figures["auroc"] == raw.figures["auroc"]


def all_of(split: Any) -> Callable[[list[TrainingRow]], list[TrainingRow]]:
    return lambda rows: [msgspec.structs.replace(row, split=split) for row in rows]


def only(better: bool) -> Callable[[list[TrainingRow]], list[TrainingRow]]:
    return lambda rows: [row for row in rows if (row.advantage > 0) is better]


def four(rows: list[TrainingRow]) -> list[TrainingRow]:
    return rows[4:8]


def of_another(rows: list[TrainingRow]) -> list[TrainingRow]:
    return [msgspec.structs.replace(row, target_names=("b",)) for row in rows]


@pytest.mark.parametrize(
    ("changes", "change_rows", "kind", "text"),
    [
        ({}, all_of("test"), DataError, "none of the .* rows is in the split 'train'"),
        ({}, only(better=True), DataError, r"\(Δ > 0\) in all of the"),
        ({}, only(better=False), DataError, r"\(Δ > 0\) in none of the"),
        ({"labels": "10-class"}, four, DataError, "--labels 10-class needs 5 rows"),
        ({"base": "nowhere/to-be-found"}, list, BackendError, "cannot load --base 'nowhere/to-be-found'"),
        ({"batch": 0}, list, ConfigError, "--batch 0"),
        ({"warmup": 2.0}, list, ConfigError, "--warmup 2"),
        ({"max_length": 3}, list, DataError, "no row of the split 'train' is short enough"),
        ({"precision": "float16"}, list, ConfigError, "needs a GPU"),
        ({"learning_rate": 1e38}, list, BackendError, "is not finite"),
        ({"targets": ("a",)}, of_another, DataError, "'b'"),
    ],
)  # fmt: skip
@pytest.mark.usefixtures("offline")
def test_what_cannot_be_trained_is_told_in_a_line(
    settings: RouterSettings,
    rows: list[TrainingRow],
    tmp_path: Path,
    changes: dict[str, Any],
    change_rows: Callable[[list[TrainingRow]], list[TrainingRow]],
    kind: type[ArbiterError],
    text: str,
) -> None:
    with pytest.raises(kind, match=text) as caught:
        train_router(msgspec.structs.replace(settings, **changes), change_rows(rows), tmp_path / "router")
    assert "\n" not in str(caught.value)


def test_a_folder_that_is_there_is_not_written_over(
    settings: RouterSettings, rows: list[TrainingRow], tmp_path: Path
) -> None:
    (tmp_path / "mine").write_text("…")
    with pytest.raises(ConfigError, match="already exists"):
        train_router(settings, rows, tmp_path)


def test_without_a_validation_split_there_are_no_figures(
    settings: RouterSettings, rows: list[TrainingRow], tmp_path: Path
) -> None:
    metadata = train_router(settings, all_of("train")(rows), tmp_path)
    assert (metadata.figures, metadata.temperature) == ({}, (1.0,))
