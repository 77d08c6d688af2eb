"""The parts of the pocket recipe: the labels of a solution, and training on them."""

# pyright: reportUnknownMemberType=false, reportUnknownVariableType=false, reportUnknownArgumentType=false
# (transformers and torch are typed in part)

import itertools
import random

import pytest
import torch
from transformers import LlamaForSequenceClassification

from arbiter.backends.prompts import PromptTemplate
from arbiter.pocket import world
from arbiter.training.batches import IGNORED
from arbiter.training.metrics import auroc
from arbiter.training.pocket import MODELS, STAGES, slipped
from arbiter.training.pocket_lm import encoded, llama_config, step_accuracy, train_language_model
from arbiter.training.pocket_prm import judge
from arbiter.training.prm_training import solution_row
from arbiter.training.tokenizer import EncodedText
from arbiter.training.trainer import Settings
from arbiter.training.training_data import Solved

pytestmark = pytest.mark.slow

TAUGHT: world.Weights = {"+": 1.0, "-": 1.0, "*": 1.0}  # what the target was taught to do well
QUICK = Settings(updates=20, batch=4, learning_rate=1e-3)


@pytest.fixture(scope="module")
def text() -> EncodedText:
    return EncodedText.load(MODELS / "draft")


@pytest.fixture(scope="module")
def problem() -> world.PocketProblem:
    return next(world.problems(5, "train"))


@pytest.fixture(scope="module")
def untaught(text: EncodedText) -> LlamaForSequenceClassification:
    """Return an untrained judge over the target."""
    return judge(MODELS / "target", text, 1, TAUGHT)


def test_only_the_solution_is_learned_and_it_ends(text: EncodedText, problem: world.PocketProblem) -> None:
    row = encoded(text, problem)
    learned = [int(label) for label in row.labels if label != IGNORED]
    assert text.tokenizer.decode(learned) == world.SEPARATOR.join(problem.steps) + "<|end|>"
    assert learned == row.ids[-len(learned) :]


@pytest.mark.parametrize("seed", range(5))
def test_a_slip_is_one_digit_of_one_step(problem: world.PocketProblem, seed: int) -> None:
    found = slipped(problem, random.Random(seed))
    pairs = [(mine, right) for mine, right in zip(found, problem.steps, strict=True) if mine != right]
    assert len(pairs) == 1
    changed = [(a, b) for a, b in zip(*pairs[0], strict=True) if a != b]
    assert len(changed) == 1
    assert "".join(changed[0]).isdigit()


@pytest.mark.nightly
def test_a_judge_tells_slips_before_it_has_learned_anything(
    text: EncodedText, untaught: LlamaForSequenceClassification
) -> None:
    rng, drawn = random.Random(1), list(itertools.islice(world.problems(9, "train", TAUGHT), 40))
    template, model = PromptTemplate(world.PROMPT), untaught
    values: list[float] = []
    right: list[bool] = []
    for problem in drawn:
        for steps in (problem.steps, slipped(problem, rng)):
            solved = Solved(problem.question, tuple(steps), tuple(map(float, problem.right_steps(steps))))
            row = solution_row(text.tokenizer, template, world.SEPARATOR, solved, text.longest)
            with torch.inference_mode():
                found = model.score(model.model(torch.tensor([row.ids])).last_hidden_state)[0, :, 0].tolist()
            labelled = [(value, label) for value, label in zip(found, row.labels, strict=True) if label != IGNORED]
            values += [value for value, _ in labelled]
            right += [label > 0 for _, label in labelled]
    assert (auroc(values, right) or 0) > 0.85


@pytest.mark.nightly
def test_a_judge_learns_in_its_two_new_layers_and_its_head_alone(untaught: LlamaForSequenceClassification) -> None:
    learning = {name for name, weight in untaught.named_parameters() if weight.requires_grad}
    old = [f"model.layers.{index}." for index in range(4)]
    assert learning
    assert not [name for name in learning if name.startswith(("model.embed_tokens", *old))]


@pytest.mark.nightly
def test_a_language_model_learns_and_the_same_seed_learns_the_same(text: EncodedText) -> None:
    problems = list(itertools.islice(world.problems(9, "train"), 8))
    weights: list[torch.Tensor] = []
    for _ in range(2):
        model = train_language_model(llama_config(text, 32, 1, 32), text, QUICK, seed=3)
        weights.append(model.lm_head.weight.detach().clone())
        assert step_accuracy(model, text, problems)["solved"] == 0.0
    assert torch.equal(*weights)


def test_the_stages_stand_in_the_order_in_which_they_need_each_other() -> None:
    assert list(STAGES) == ["tokenizer", "draft", "target", "reader", "prm", "router"]
