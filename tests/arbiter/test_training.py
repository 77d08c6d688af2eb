"""The recipe's parts: what is learned from a solution or a row, and that learning happens."""

# pyright: reportUnknownMemberType=false, reportUnknownVariableType=false
# (transformers and torch are typed in part)

import itertools
import random
from pathlib import Path

import pytest
import torch

from arbiter.backends.prompts import PromptTemplate
from arbiter.pocket import world
from arbiter.rows import Row
from arbiter.training.judge import judge
from arbiter.training.language import encoded, llama_config, step_accuracy, train_language_model
from arbiter.training.loop import IGNORED, Labelled, Settings, collated, windows
from arbiter.training.pocket import MODELS, STAGES
from arbiter.training.scoring import (
    auroc,
    balanced,
    router_row,
    slipped,
    solution_row,
    train_prm,
    train_router,
)
from arbiter.training.tokenizer import Text
from protocols.records import Step, Transcript

QUICK = Settings(updates=20, batch=4, learning_rate=1e-3)


@pytest.fixture(scope="module")
def text() -> Text:
    return Text.load(MODELS / "draft")


@pytest.fixture(scope="module")
def problem() -> world.PocketProblem:
    return next(world.problems(5, "train"))


def test_only_the_solution_is_learned_and_it_ends(text: Text, problem: world.PocketProblem) -> None:
    row = encoded(text, problem)
    learned = [label for label in row.labels if label != IGNORED]
    assert text.tokenizer.decode(learned) == world.SEPARATOR.join(problem.steps) + "<|end|>"
    assert learned == row.ids[-len(learned) :]


def test_the_ends_of_steps_are_labelled_with_the_worlds_verdicts(text: Text, problem: world.PocketProblem) -> None:
    written = [*problem.steps[:1], "1+1: 1+1=3: 3.", *problem.steps[2:]]
    row = solution_row(text, problem, written)
    labels = [label for label in row.labels if label != IGNORED]
    assert labels == [int(right) for right in problem.right_steps(written)]
    assert text.tokenizer.decode(row.ids).count(world.SEPARATOR) == len(written)


@pytest.mark.parametrize("seed", range(5))
def test_a_slip_is_one_digit_of_one_step(problem: world.PocketProblem, seed: int) -> None:
    found = slipped(problem, random.Random(seed))
    pairs = [(mine, right) for mine, right in zip(found, problem.steps, strict=True) if mine != right]
    assert len(pairs) == 1
    changed = [(a, b) for a, b in zip(*pairs[0], strict=True) if a != b]
    assert len(changed) == 1
    assert "".join(changed[0]).isdigit()


def test_a_judge_tells_slips_before_it_has_learned_anything(text: Text) -> None:
    rng, drawn = random.Random(1), list(itertools.islice(world.problems(9, "train"), 40))
    rows = [solution_row(text, found, steps) for found in drawn for steps in (found.steps, slipped(found, rng))]
    model = judge(MODELS / "target", text, seed=1)
    scores: dict[int, list[float]] = {0: [], 1: []}
    with torch.inference_mode():
        for row in rows:
            values = model.score(model.model(torch.tensor([row.ids])).last_hidden_state)[0, :, 0]
            for value, label in zip(values.tolist(), row.labels, strict=True):
                if label != IGNORED:
                    scores[label].append(value)
    assert auroc(scores[1], scores[0]) > 0.85


def test_a_judge_learns_in_its_two_new_layers_and_its_head_alone(text: Text) -> None:
    model = judge(MODELS / "target", text, seed=1)
    learning = {name for name, weight in model.named_parameters() if weight.requires_grad}
    old = [f"model.layers.{index}." for index in range(4)]
    assert learning
    assert not [name for name in learning if name.startswith(("model.embed_tokens", *old))]


@pytest.mark.parametrize(("target_score", "label"), [(0.9, 1), (0.2, 0), (0.1, 0)])
def test_the_router_learns_the_sign_of_the_advantage_from_the_text_it_will_read(
    text: Text, target_score: float, label: int
) -> None:
    history = (Step("2+2: 2+2=4: 4.", "target"),)
    row = Row("1", "Compute (2+2)+3.", 1, history, "4+3: 4+3=7: 7.", 0.2, ("x",), (target_score,))
    read = PromptTemplate(world.PROMPT, annotate=True).render_candidate(
        Transcript(row.question, history), row.draft, "draft", world.SEPARATOR
    )
    found = router_row(text, row)
    assert text.tokenizer.decode(found.ids) == read
    assert (found.labels[-1], set(found.labels[:-1])) == (label, {IGNORED})


def test_the_majority_is_downsampled_to_the_minority() -> None:
    rows = [Labelled([index], [int(index < 3)]) for index in range(20)]
    kept = balanced(rows, seed=1)
    assert sorted(row.labels[0] for row in kept) == [0, 0, 0, 1, 1, 1]
    assert {row.ids[0] for row in kept if row.labels[0]} == {0, 1, 2}


@pytest.mark.parametrize(
    ("positive", "negative", "expected"),
    [([2.0, 3.0], [0.0, 1.0], 1.0), ([0.0], [1.0], 0.0), ([1.0], [1.0], 0.5), ([0.0, 2.0], [1.0], 0.5)],
)
def test_auroc_is_the_chance_that_a_positive_outranks_a_negative(
    positive: list[float], negative: list[float], expected: float
) -> None:
    assert auroc(positive, negative) == expected


def test_a_batch_is_padded_on_the_right_and_its_padding_is_not_learned() -> None:
    batch = collated([Labelled([5, 6], [5, 6]), Labelled([7], [7])], pad=1)
    assert batch["input_ids"].tolist() == [[5, 6], [7, 1]]
    assert batch["attention_mask"].tolist() == [[1, 1], [1, 0]]
    assert batch["labels"].tolist() == [[5, 6], [7, IGNORED]]


def test_windows_hold_every_row_once() -> None:
    rows = [Labelled([1] * length, []) for length in (3, 1, 2, 5, 4)]
    found = windows(rows, 2, random.Random(0))
    assert sorted(len(row.ids) for window in found for row in window) == [1, 2, 3, 4, 5]


def test_a_language_model_learns_and_the_same_seed_learns_the_same(text: Text) -> None:
    problems = list(itertools.islice(world.problems(9, "train"), 8))
    weights: list[torch.Tensor] = []
    for _ in range(2):
        model = train_language_model(llama_config(text, 32, 1, 32), text, QUICK, seed=3)
        weights.append(model.lm_head.weight.detach().clone())
        assert step_accuracy(model, text, problems)["solved"] == 0.0
    assert torch.equal(*weights)


def test_the_prm_learns_from_solutions_and_the_router_starts_from_the_prm(text: Text, tmp_path: Path) -> None:
    drawn = list(enumerate(itertools.islice(world.problems(9, "train"), 40)))
    written = [[step.replace("=", "=9", 1) if index % 2 else step for step in found.steps] for index, found in drawn]
    rows = [solution_row(text, found, steps) for (_, found), steps in zip(drawn, written, strict=True)]
    prm = judge(MODELS / "target", text, seed=3)
    before = prm.score.weight.detach().clone()
    train_prm(prm, text, rows, QUICK, seed=3)
    assert not torch.equal(before, prm.score.weight)
    prm.save_pretrained(tmp_path / "prm")
    labels = [Labelled(row.ids, [IGNORED] * (len(row.ids) - 1) + [index % 2]) for index, row in enumerate(rows)]
    router = train_router(tmp_path / "prm", text, labels, QUICK, seed=3)
    assert (prm.config.num_labels, router.config.num_labels) == (1, 2)


def test_the_stages_stand_in_the_order_in_which_they_need_each_other() -> None:
    assert list(STAGES) == ["tokenizer", "draft", "target", "prm", "router"]
