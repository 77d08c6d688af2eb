"""Training of the pocket PRM and router: sequence classifiers read at the last token of a step.

Both read the text that the ring's scorers read (``PromptTemplate.render_candidate``). The PRM learns from all
steps of a solution in one pass; the router from one row a step, since its candidate may not be in its history.
"""

# pyright: reportUnknownMemberType=false, reportUnknownVariableType=false, reportUnknownArgumentType=false
# (transformers and torch are typed in part)

import copy
import itertools
import random
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import torch
from torch.nn import functional
from transformers import LlamaForCausalLM, LlamaForSequenceClassification, PreTrainedModel

from arbiter.backends.prompts import PromptTemplate
from arbiter.pocket import world
from arbiter.runs import Row
from arbiter.training.loop import IGNORED, Batch, Labelled, Settings, collated, fit, windows
from arbiter.training.tokenizer import Text
from protocols.records import Transcript

_LOOK_BACK_PAIRS = 4  # of the rotary pairs, the fastest: they tell neighbours apart
_LOOK_BACK_SHARPNESS = 6.0

PRM_INTERMEDIATE = 352  # of the target's 384: so that the four models stay under 8 MB


def solution_row(text: Text, problem: world.PocketProblem, steps: Sequence[str]) -> Labelled:
    """A solution as a model wrote it: at the last token of each step, whether all is right up to there."""
    ids = text.ids(world.PROMPT.format(question=problem.question))
    labels = [IGNORED] * len(ids)
    for step, right in zip(steps, problem.right_steps(steps), strict=True):
        written = text.ids(step + world.SEPARATOR)
        ids += written
        labels += [IGNORED] * (len(written) - 1) + [int(right)]
    return Labelled(ids, labels)


def slipped_row(text: Text, problem: world.PocketProblem, rng: random.Random, rate: float) -> Labelled:
    """A right solution in which each digit is another one with the chance ``rate``; each token is labelled for itself.

    Telling replaced tokens teaches to check a place from hundreds of places a solution (as ELECTRA does, Clark
    et al. 2020), where the end of a step tells only that something was wrong somewhere.
    """
    ids = text.ids(world.PROMPT.format(question=problem.question))
    labels = [IGNORED] * len(ids)
    for token in text.ids(world.SEPARATOR.join(problem.steps)):
        slips = token in text.digits and rng.random() < rate
        ids.append(rng.choice([digit for digit in text.digits if digit != token]) if slips else token)
        labels.append(int(not slips))
    return Labelled(ids, labels)


def router_row(text: Text, row: Row) -> Labelled:
    """A step for the router, as it reads it: history annotated, the draft's candidate last, y = 1[Δ > 0] there."""
    template = PromptTemplate(world.PROMPT, annotate=True)
    context = Transcript(question=row.question, steps=row.history)
    ids = text.ids(template.render_candidate(context, row.draft, "draft", world.SEPARATOR))
    return Labelled(ids, [IGNORED] * (len(ids) - 1) + [int(row.advantage > 0)])


def balanced(rows: Sequence[Labelled], seed: int) -> list[Labelled]:
    """As many rows of each class as the rarer one has: the majority is downsampled."""
    classes: dict[int, list[Labelled]] = {0: [], 1: []}
    for row in rows:
        classes[row.labels[-1]].append(row)
    rng, size = random.Random(seed), min(len(found) for found in classes.values())
    kept = [row for found in classes.values() for row in rng.sample(found, size)]
    rng.shuffle(kept)
    return kept


def train_prm(
    model: LlamaForSequenceClassification, text: Text, rows: Sequence[Labelled], settings: Settings, seed: int
) -> None:
    """Teach a value head in place: the sigmoid of its one logit is h(x, z). One row in twenty is held out."""
    torch.manual_seed(seed)
    held_out = rows[: len(rows) // 20]
    batches = _batches(text, rows[len(held_out) :], settings.batch, seed)
    fit(model, batches, _value_loss, settings, lambda: _evaluated(model, text, held_out))


def grown(base: Path, text: Text, intermediate: int, seed: int) -> LlamaForSequenceClassification:
    """A value head over the language model ``base`` with two layers more on top, made to compare and to gather.

    A language model's prediction of a token is there after its last layer, one place before the token. Only a
    layer above can compare the two, and only one above that can gather the comparisons: a verifier as deep as
    the writer has to learn arithmetic anew. So the first new layer starts by looking one place back
    (``_look_back``), and the second changes nothing yet. To keep the weights small, each layer keeps the
    ``intermediate`` neurons whose output weights are largest.
    """
    torch.manual_seed(seed)
    language = LlamaForCausalLM.from_pretrained(base, dtype=torch.float32)
    config = copy.deepcopy(language.config)
    config.num_hidden_layers, config.intermediate_size, config.num_labels = (
        language.config.num_hidden_layers + 2,
        intermediate,
        1,
    )
    model = LlamaForSequenceClassification(config)
    old: Any = language.model
    new: Any = model.model
    with torch.no_grad():
        new.embed_tokens.load_state_dict(old.embed_tokens.state_dict())
        new.norm.load_state_dict(old.norm.state_dict())
        for source, layer in zip(old.layers, new.layers, strict=False):
            layer.load_state_dict(_narrowed(source.state_dict(), intermediate))
        _look_back(new.layers[-2], _last_states(old, text, seed))
        new.layers[-1].self_attn.o_proj.weight.zero_()
        new.layers[-1].mlp.down_proj.weight.zero_()
    return model


def _last_states(backbone: Any, text: Text, seed: int) -> torch.Tensor:  # noqa: ANN401 - transformers' own class
    """What the last layer leaves for each token of some solutions, before the norm: shape (tokens, hidden)."""
    states: list[torch.Tensor] = []

    def keep(_: torch.nn.Module, inputs: tuple[torch.Tensor, ...]) -> None:
        states.append(inputs[0][0])

    hook = backbone.norm.register_forward_pre_hook(keep)
    for problem in itertools.islice(world.problems(seed, "train"), 50):
        written = world.PROMPT.format(question=problem.question) + world.SEPARATOR.join(problem.steps)
        backbone(torch.tensor([text.ids(written)]))
    hook.remove()
    return torch.cat(states)


def _look_back(layer: Any, states: torch.Tensor) -> None:  # noqa: ANN401 - transformers' own class
    """Start a layer so that each token reads what the layers below left one place before it.

    Queries and keys are the same vector for all tokens (the direction of ``states`` that is most nearly
    constant), so that only the rotary positions tell them apart; the queries are turned back by one place.
    What is read is added in another orientation, so that it does not cover what is there.
    """
    hidden, size = states.shape[-1], layer.self_attn.head_dim
    scale = states.pow(2).mean(-1, keepdim=True).sqrt()
    normed = states / scale
    constant = torch.linalg.lstsq(normed, torch.ones(len(normed), 1)).solution[:, 0]
    frequencies = 10000.0 ** (-2 * torch.arange(_LOOK_BACK_PAIRS) / size)
    query, key = torch.zeros(size), torch.zeros(size)
    query[:_LOOK_BACK_PAIRS] = _LOOK_BACK_SHARPNESS * frequencies.cos()
    query[size // 2 : size // 2 + _LOOK_BACK_PAIRS] = -_LOOK_BACK_SHARPNESS * frequencies.sin()
    key[:_LOOK_BACK_PAIRS] = _LOOK_BACK_SHARPNESS
    heads = hidden // size
    layer.self_attn.q_proj.weight.copy_(torch.outer(query.repeat(heads), constant))
    layer.self_attn.k_proj.weight.copy_(torch.outer(key.repeat(heads), constant))
    layer.self_attn.v_proj.weight.copy_(torch.eye(hidden))
    orientation = torch.linalg.qr(torch.randn(hidden, hidden)).Q
    layer.self_attn.o_proj.weight.copy_(orientation * scale.mean())


def _narrowed(state: dict[str, torch.Tensor], intermediate: int) -> dict[str, torch.Tensor]:
    """A layer's weights with the ``intermediate`` neurons of largest output weight."""
    kept = state["mlp.down_proj.weight"].norm(dim=0).topk(intermediate).indices.sort().values
    rows = {name: state[name][kept] for name in ("mlp.gate_proj.weight", "mlp.up_proj.weight")}
    return {**state, **rows, "mlp.down_proj.weight": state["mlp.down_proj.weight"][:, kept]}


def train_router(
    prm: Path,
    text: Text,
    rows: Sequence[Labelled],
    settings: Settings,
    seed: int,
) -> LlamaForSequenceClassification:
    """Two classes, starting from the PRM: class 1 ("the target writes a better step") from its negated value head."""
    torch.manual_seed(seed)
    reward = LlamaForSequenceClassification.from_pretrained(prm, dtype=torch.float32)
    model = LlamaForSequenceClassification.from_pretrained(
        prm, num_labels=2, dtype=torch.float32, ignore_mismatched_sizes=True
    )
    with torch.no_grad():
        model.score.weight.copy_(torch.cat([reward.score.weight, -reward.score.weight]) / 2)
    held_out = rows[: len(rows) // 20]
    batches = _batches(text, rows[len(held_out) :], settings.batch, seed)
    fit(model, batches, _class_loss, settings, lambda: _evaluated(model, text, held_out))
    return model


def _batches(text: Text, rows: Sequence[Labelled], size: int, seed: int) -> Iterator[Batch]:
    """Endless epochs, each in an order of its own."""
    rng = random.Random(seed)
    while True:
        order = rng.sample(rows, len(rows))  # so that rows of equal length meet others each time
        yield from (collated(window, text.pad) for window in windows(order, size, rng))


def _labelled_logits(model: PreTrainedModel, batch: Batch) -> tuple[torch.Tensor, torch.Tensor]:
    """The logits at all labelled tokens, and their labels."""
    backbone: Any = model.model
    head: Any = model.score
    hidden = backbone(input_ids=batch["input_ids"], attention_mask=batch["attention_mask"]).last_hidden_state
    labelled = batch["labels"] != IGNORED
    return head(hidden[labelled]), batch["labels"][labelled]


def _value_loss(model: PreTrainedModel, batch: Batch) -> torch.Tensor:
    """Cross-entropy, the rarer class weighted up to the other one: wrong ones are few."""
    logits, labels = _labelled_logits(model, batch)
    right = labels.float().mean().clamp(0.01, 0.99)
    weight = torch.where(labels == 1, 0.5 / right, 0.5 / (1 - right))
    return functional.binary_cross_entropy_with_logits(logits[:, 0], labels.float(), weight)


def _class_loss(model: PreTrainedModel, batch: Batch) -> torch.Tensor:
    logits, labels = _labelled_logits(model, batch)
    return functional.cross_entropy(logits, labels)


def _evaluated(model: PreTrainedModel, text: Text, rows: Sequence[Labelled]) -> dict[str, float]:
    """Accuracy by class, and the chance that a positive step scores above a negative one (AUROC)."""
    scores: list[float] = []
    labels: list[int] = []
    for start in range(0, len(rows), 64):
        logits, found = _labelled_logits(model, collated(rows[start : start + 64], text.pad))
        value = logits[:, 0] if logits.shape[-1] == 1 else logits[:, 1] - logits[:, 0]
        scores += value.tolist()
        labels += found.tolist()
    positive = [score for score, label in zip(scores, labels, strict=True) if label]
    negative = [score for score, label in zip(scores, labels, strict=True) if not label]
    return {
        "right_1": round(sum(score > 0 for score in positive) / len(positive), 3),
        "right_0": round(sum(score <= 0 for score in negative) / len(negative), 3),
        "auroc": round(auroc(positive, negative), 3),
    }


def auroc(positive: Sequence[float], negative: Sequence[float]) -> float:
    """The probability that a random positive outranks a random negative, ties counted half (Mann-Whitney)."""
    ranked = sorted([(score, 1) for score in positive] + [(score, 0) for score in negative])
    total, index = 0.0, 0
    while index < len(ranked):
        end = index
        while end < len(ranked) and ranked[end][0] == ranked[index][0]:
            end += 1
        mean_rank = (index + 1 + end) / 2
        total += mean_rank * sum(label for _, label in ranked[index:end])
        index = end
    pairs = len(positive) * len(negative)
    return (total - len(positive) * (len(positive) + 1) / 2) / pairs if pairs else float("nan")
