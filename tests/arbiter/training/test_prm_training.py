"""A process reward model learns at the ends of steps, from all steps of a solution together."""

# pyright: reportUnknownMemberType=false, reportUnknownVariableType=false, reportUnknownArgumentType=false
# (transformers and torch are typed in part)

import itertools
from collections.abc import Callable
from pathlib import Path
from typing import Any

import msgspec
import pytest
import torch
from safetensors.torch import load_file
from transformers import AutoModelForSequenceClassification, PreTrainedTokenizerFast

from arbiter.backends.prompts import PromptTemplate
from arbiter.data.training_rows import TrainingRow
from arbiter.pocket import world
from arbiter.protocols.errors import ArbiterError, ConfigError, DataError
from arbiter.protocols.records import Transcript
from arbiter.training.batches import IGNORED
from arbiter.training.inference import predict
from arbiter.training.prm_training import PrmSettings, solution_row, train_prm
from arbiter.training.training_data import Solved

pytestmark = pytest.mark.slow

TEMPLATE = PromptTemplate(world.PROMPT)


@pytest.fixture(scope="module")
def solved() -> list[Solved]:
    found: list[Solved] = []
    for number, problem in enumerate(itertools.islice(world.problems(9, "train"), 16)):
        wrong = number % len(problem.steps)
        steps = tuple(
            step.replace("=", "=9", 1) if index == wrong else step for index, step in enumerate(problem.steps)
        )
        labels = tuple(float(index < wrong) for index in range(len(steps)))
        found.append(Solved(problem.question, steps, labels, "validation" if number % 4 == 0 else "train"))
    return found


@pytest.fixture
def settings(base: Callable[..., Path]) -> PrmSettings:
    return PrmSettings(base=str(base("ForCausalLM")), prompt=world.PROMPT, epochs=2, batch=4, learning_rate=1e-2)


def test_labels_stand_where_a_scorer_reads_each_step(tokenizer: PreTrainedTokenizerFast, solved: list[Solved]) -> None:
    row = solution_row(tokenizer, TEMPLATE, world.SEPARATOR, solved[2], 999)
    places = [place for place, label in enumerate(row.labels) if label != IGNORED]
    for count, place in enumerate(places, start=1):
        context = Transcript(solved[2].question)
        text = TEMPLATE.render(context, world.SEPARATOR) + "".join(
            step + world.SEPARATOR for step in solved[2].steps[:count]
        )
        assert row.ids[: place + 1] == tokenizer(text)["input_ids"]
    assert [row.labels[place] for place in places] == list(solved[2].labels)


def test_a_long_solution_loses_its_end(tokenizer: PreTrainedTokenizerFast, solved: list[Solved]) -> None:
    row = solution_row(tokenizer, TEMPLATE, world.SEPARATOR, solved[2], 60)
    assert len(row.ids) == len(row.labels) == 60


def test_a_value_head_is_trained_and_read_as_a_reward(
    settings: PrmSettings, solved: list[Solved], a_row: Callable[..., TrainingRow], tmp_path: Path
) -> None:
    metadata = train_prm(settings, solved, tmp_path)
    assert set(metadata.figures) == {"right_1", "right_0", "auroc"}
    assert load_file(tmp_path / "model.safetensors")["score.weight"].shape[0] == 1
    found = predict(str(tmp_path), [a_row()])
    model: Any = AutoModelForSequenceClassification.from_pretrained(tmp_path, dtype=torch.float32)
    assert model.config.num_labels == 1
    assert 0 <= found[0][0] <= 1


def test_only_the_last_layers_the_norm_and_the_head_are_trained(
    settings: PrmSettings, solved: list[Solved], base: Callable[..., Path], tmp_path: Path
) -> None:
    folder = base()
    train_prm(msgspec.structs.replace(settings, base=str(folder), layers=1), solved, tmp_path)
    before, after = (load_file(path / "model.safetensors") for path in (folder, tmp_path))
    changed = {name for name in before if not torch.equal(before[name], after[name])}
    assert {"score.weight", "model.norm.weight", "model.layers.1.mlp.up_proj.weight"} <= changed
    assert not [name for name in changed if name.startswith(("model.embed_tokens", "model.layers.0."))]


@pytest.mark.parametrize(
    ("changes", "change", "kind", "text"),
    [
        ({"layers": 3}, {}, ConfigError, "--layers 3: the base has 2"),
        ({"layers": 1, "lora": 2}, {}, ConfigError, "use only one of them"),
        ({}, {"split": "test"}, DataError, "none of the 16 solutions"),
        ({}, {"labels": (1.0,), "steps": ("1: 1.",)}, DataError, "all labels are 1"),
        ({"max_length": 2}, {}, DataError, "no step is short enough"),
    ],
)
def test_what_cannot_be_trained_is_told_in_a_line(
    settings: PrmSettings,
    solved: list[Solved],
    tmp_path: Path,
    changes: dict[str, Any],
    change: dict[str, Any],
    kind: type[ArbiterError],
    text: str,
) -> None:
    rows = [msgspec.structs.replace(row, **change) for row in solved]
    with pytest.raises(kind, match=text):
        train_prm(msgspec.structs.replace(settings, **changes), rows, tmp_path)
