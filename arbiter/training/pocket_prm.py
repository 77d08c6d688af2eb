"""A verifier built from a language model: the writer's own expectation of each token, held against the token.

A language model that does a step well expects each of its digits, one place before the digit. What it lacks to
judge a step is a place to compare the two, and one to remember the worst comparison until the step ends. Both
are set by hand here, in two layers on top of the writer's: learned from scores at the ends of steps alone, the
comparison (a product of two things read at different places) did not form in the time that training has.

The layers below stay as they are, less the few directions of the residual stream that they use least. Those are
the scratch paper, and nothing else may write there: so the copied layers are not trained further.
"""

# pyright: reportUnknownMemberType=false, reportUnknownVariableType=false, reportUnknownArgumentType=false
# (transformers and torch are typed in part)

import copy
import itertools
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from transformers import LlamaForCausalLM, LlamaForSequenceClassification

from arbiter.pocket import world
from arbiter.training.tokenizer import EncodedText

INTERMEDIATE = 352  # of the target's 384: so that the four models stay under 8 MB

_SAMPLE = 100  # solutions from which is read how the writer uses its directions
_MARK = 0.3  # of what an embedding says in a scratch direction: small beside the embedding's own length (1.5)
_EVIDENCE = 0.05  # scratch units for one unit of a digit's logit
_EXPECTED = 6.0  # a digit's logit above the digits' mean: right ones have 10 and more, others 3 and less
_LOOK_BACK = 12.0
_ATTEND = 20.0
_STEEP = 4.0
_REWARD, _PENALTY = 2.5, 6.0


class _Scratch:
    """Directions of the residual stream, orthonormal, each with its one meaning."""

    def __init__(self, directions: Tensor) -> None:
        self.one = directions[0]  # the same in every token
        self.starts = directions[1]  # the token after which the solution begins
        self.begun = directions[2]  # it has begun
        self.slip = directions[3]  # this token is a digit that was not expected
        self.worst = directions[4]  # the worst slip up to here
        self.digit = directions[5:15]  # which digit this token is
        self.evidence = directions[15:25]  # how much each digit was expected here
        self.rest = torch.eye(directions.shape[1]) - directions.T @ directions

    SIZE = 25


@torch.no_grad()
def judge(
    base: Path, text: EncodedText, seed: int, weights: world.Weights = world.KIND_WEIGHTS
) -> LlamaForSequenceClassification:
    """A value head over the language model ``base`` with two layers more on top, made to compare and to gather.

    How ``base`` uses its directions is read from problems with ``weights`` of the kinds, which should be those that it
    was taught. Only the new layers and the head are left to be trained.
    """
    torch.manual_seed(seed)
    writer = LlamaForCausalLM.from_pretrained(base, dtype=torch.float32)
    samples = _solutions(text, seed, weights)
    scratch = _Scratch(_least_used(writer, samples)[: _Scratch.SIZE])
    model = _copied(writer, scratch, text)
    backbone: Any = model.model
    compares, gathers = backbone.layers[-2:]
    below = _states(backbone, compares.input_layernorm, samples)
    typical = _length(below).median()
    opening = torch.cat([torch.tensor(ids) for ids in samples]) == _opening(text)
    old: Any = writer.model
    expected = old.embed_tokens.weight[text.digits] * old.norm.weight
    _look_back(compares, scratch, expected - expected.mean(0), typical)
    _remember_the_opening(compares, scratch, typical, _length(below)[opening].mean())
    _compare(compares, scratch, typical)
    _gather(gathers, scratch, typical)
    last = _length(_states(backbone, backbone.norm, samples)).median()
    model.score.weight[0] = last * (_REWARD / _MARK * scratch.one - _PENALTY * scratch.worst)
    model.requires_grad_(requires_grad=False)
    for part in (compares, gathers, backbone.norm, model.score):
        part.requires_grad_(requires_grad=True)
    return model


def _solutions(text: EncodedText, seed: int, weights: world.Weights) -> list[list[int]]:
    problems = itertools.islice(world.problems(seed, "train", weights), _SAMPLE)
    return [
        text.ids(world.PROMPT.format(question=problem.question) + world.SEPARATOR.join(problem.steps))
        for problem in problems
    ]


def _opening(text: EncodedText) -> int:
    """The token that opens a solution: "Solution" of the prompt."""
    return text.ids(world.PROMPT.format(question=""))[-2]


def _states(backbone: Any, reader: torch.nn.Module, samples: Iterable[Sequence[int]]) -> Tensor:  # noqa: ANN401
    """What ``reader``, a part of ``backbone``, is given for each token: shape (tokens, hidden)."""
    found: list[Tensor] = []

    def keep(_: torch.nn.Module, inputs: tuple[Tensor, ...]) -> None:
        found.append(inputs[0][0])

    hook = reader.register_forward_pre_hook(keep)
    for ids in samples:
        backbone(torch.tensor([ids]))
    hook.remove()
    return torch.cat(found)


def _length(states: Tensor) -> Tensor:
    """By what each state is divided before a layer reads it (RMSNorm): shape (tokens,)."""
    return states.pow(2).mean(-1).sqrt()


def _least_used(writer: LlamaForCausalLM, samples: Sequence[Sequence[int]]) -> Tensor:
    """Orthonormal directions of the residual stream, that of least variance first: shape (hidden, hidden)."""
    backbone: Any = writer.model
    readers = [norm for layer in backbone.layers for norm in (layer.input_layernorm, layer.post_attention_layernorm)]
    seen = [_states(backbone, reader, samples) for reader in [*readers, *[backbone.norm] * len(backbone.layers)]]
    normed = torch.cat([states / _length(states)[:, None] for states in seen])
    return torch.linalg.eigh(normed.T @ normed).eigenvectors.T


def _copied(writer: LlamaForCausalLM, scratch: _Scratch, text: EncodedText) -> LlamaForSequenceClassification:
    """The writer's layers, which neither read nor write the scratch directions, under two that do nothing yet.

    Of each layer's neurons, those whose output weights are largest are kept.
    """
    config = copy.deepcopy(writer.config)
    config.num_hidden_layers, config.intermediate_size, config.num_labels = (
        config.num_hidden_layers + 2,
        INTERMEDIATE,
        1,
    )
    model = LlamaForSequenceClassification(config)
    old: Any = writer.model
    new: Any = model.model
    embedding = new.embed_tokens.weight
    embedding.copy_(old.embed_tokens.weight @ scratch.rest + _MARK * scratch.one)
    embedding[text.digits] += _MARK * scratch.digit
    embedding[_opening(text)] += _MARK * scratch.starts
    for source, layer in zip(old.layers, new.layers, strict=False):
        layer.load_state_dict(_narrowed(source.state_dict()))
        attention, mlp = layer.self_attn, layer.mlp
        for norm, readers in (
            (layer.input_layernorm.weight, (attention.q_proj, attention.k_proj, attention.v_proj)),
            (layer.post_attention_layernorm.weight, (mlp.gate_proj, mlp.up_proj)),
        ):
            for reader in readers:
                reader.weight.copy_((reader.weight * norm) @ scratch.rest / norm)
        for sender in (attention.o_proj, mlp.down_proj):
            sender.weight.copy_(scratch.rest @ sender.weight)
    for layer in new.layers[-2:]:
        layer.self_attn.o_proj.weight.normal_(std=0.001)
        layer.mlp.down_proj.weight.normal_(std=0.001)
    return model


def _narrowed(state: dict[str, Tensor]) -> dict[str, Tensor]:
    """A layer's weights with the neurons of largest output weight."""
    kept = state["mlp.down_proj.weight"].norm(dim=0).topk(INTERMEDIATE).indices.sort().values
    rows = {name: state[name][kept] for name in ("mlp.gate_proj.weight", "mlp.up_proj.weight")}
    return {**state, **rows, "mlp.down_proj.weight": state["mlp.down_proj.weight"][:, kept]}


class _Head:
    """One attention head's part of a layer's weights, emptied."""

    def __init__(self, layer: Any, index: int) -> None:  # noqa: ANN401 - transformers' own class
        attention = layer.self_attn
        rows = slice(index * attention.head_dim, (index + 1) * attention.head_dim)
        self.size: int = attention.head_dim
        self.query, self.key, self.value = (
            projection.weight[rows] for projection in (attention.q_proj, attention.k_proj, attention.v_proj)
        )
        self.output = attention.o_proj.weight[:, rows]
        for part in (self.query, self.key, self.value, self.output):
            part.zero_()

    def attend(self, query: Tensor, key: Tensor) -> None:
        """Let tokens that have ``query`` look at those that have ``key``, however far away."""
        slowest = self.size // 2 - 1  # of the rotary pairs: it hardly turns within the longest text
        self.query[slowest], self.key[slowest] = query, key


def _look_back(layer: Any, scratch: _Scratch, expected: Tensor, typical: Tensor) -> None:  # noqa: ANN401
    """Each token reads what was expected one place before it.

    All tokens have the same query and key, and the query is turned back by one place, so that the rotary pairs
    agree best there. The slowest pair takes away what they agree at best: the right place has 0 and all others
    less, and so it wins by whatever factor RMSNorm scales a key.
    """
    head, pairs = _Head(layer, 0), 8
    turn = 10000.0 ** (-2 * torch.arange(pairs) / head.size)
    query, key = torch.zeros(head.size), torch.zeros(head.size)
    half = head.size // 2
    query[:pairs], query[half : half + pairs], query[half - 1] = turn.cos(), -turn.sin(), -float(pairs)
    key[:pairs], key[half - 1] = 1.0, 1.0
    same = _LOOK_BACK * typical / _MARK * scratch.one
    head.query.copy_(torch.outer(query, same))
    head.key.copy_(torch.outer(key, same))
    head.value[:10] = expected @ scratch.rest
    head.output[:, :10] = _EVIDENCE * scratch.evidence.T


def _remember_the_opening(layer: Any, scratch: _Scratch, typical: Tensor, there: Tensor) -> None:  # noqa: ANN401
    """Tell the solution, whose digits can be expected, from the question, whose digits cannot."""
    head = _Head(layer, 1)
    head.attend(_ATTEND * typical / _MARK * scratch.one, _ATTEND * typical / _MARK * scratch.starts)
    head.value[0] = there / _MARK * scratch.starts
    head.output[:, 0] = _MARK * scratch.begun


def _compare(layer: Any, scratch: _Scratch, typical: Tensor) -> None:  # noqa: ANN401
    """A neuron a digit: it fires where the token is this digit, the solution has begun, and it was not expected."""
    one = scratch.one / _MARK
    unexpected = 1.5 * (one - scratch.evidence / _EVIDENCE / _EXPECTED)
    here = 4 * (scratch.digit / _MARK - one) + 4 * (scratch.begun / _MARK - one)
    layer.mlp.gate_proj.weight[:10] = _STEEP * typical * (unexpected + here)
    layer.mlp.up_proj.weight[:10] = typical * one
    layer.mlp.down_proj.weight[:, :10] = scratch.slip[:, None] / (1.5 * _STEEP)


def _gather(layer: Any, scratch: _Scratch, typical: Tensor) -> None:  # noqa: ANN401
    """Each token reads the worst slip up to it."""
    head = _Head(layer, 0)
    head.attend(3 * typical / _MARK * scratch.one, 3 * head.size**0.5 * typical * scratch.slip)
    head.value[0] = typical * scratch.slip
    head.output[:, 0] = scratch.worst
