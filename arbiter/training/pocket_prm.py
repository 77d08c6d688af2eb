"""Build a judge from a language model: it compares each token with the model's own prediction of it.

A language model that does a step well predicts each digit at the position before it. To judge a step, it also has to
compare each digit with its prediction, and to keep the worst comparison until the step ends. Two additional layers do
this. Their weights are set directly: trained only from scores at the ends of steps, the comparison (a product of values
read at different positions) did not form within the training time.

The layers below are copied without the few directions of the residual stream that they use least. These scratch
directions carry the values of the additional layers. Nothing else may write to them, so the copied layers are not
trained further.
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

INTERMEDIATE = 352  # of the target's 384, to keep the four models under 8 MB

_SAMPLE = 100  # solutions for measuring how the writer uses its directions
_MARK = 0.3  # size of an embedding's mark in a scratch direction: small against the embedding's length (1.5)
_EVIDENCE = 0.05  # scratch units per unit of a digit's logit
_EXPECTED = 6.0  # threshold of a digit's logit above the digits' mean: right ones have at least 10, others at most 3
_LOOK_BACK = 12.0
_ATTEND = 20.0
_STEEP = 4.0
_REWARD, _PENALTY = 2.5, 6.0


class _Scratch:
    """Orthonormal directions of the residual stream. Each has one meaning."""

    def __init__(self, directions: Tensor) -> None:
        self.one = directions[0]  # constant: the same in every token
        self.starts = directions[1]  # the token after which the solution begins
        self.begun = directions[2]  # the solution has begun before this token
        self.slip = directions[3]  # this token is a digit that was not expected
        self.worst = directions[4]  # the worst slip so far
        self.digit = directions[5:15]  # which digit this token is
        self.evidence = directions[15:25]  # how strongly each digit was expected here
        self.rest = torch.eye(directions.shape[1]) - directions.T @ directions

    SIZE = 25


@torch.no_grad()
def judge(
    base: Path, text: EncodedText, seed: int, weights: world.Weights = world.KIND_WEIGHTS
) -> LlamaForSequenceClassification:
    """Return a value head over the language model ``base``, with two additional layers that compare and gather.

    Problems with the frequencies ``weights`` of the kinds show how ``base`` uses its directions; they should be those
    of its training. Only the new layers, the final norm and the head can be trained afterwards.
    """
    torch.manual_seed(seed)
    writer = LlamaForCausalLM.from_pretrained(base, dtype=torch.float32, trust_remote_code=False, use_safetensors=True)
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
    """Return the token that opens a solution: "Solution" in the prompt."""
    return text.ids(world.PROMPT.format(question=""))[-2]


def _states(backbone: Any, reader: torch.nn.Module, samples: Iterable[Sequence[int]]) -> Tensor:  # noqa: ANN401
    """Return the input of ``reader``, a part of ``backbone``, for each token: shape (tokens, hidden)."""
    found: list[Tensor] = []

    def keep(_: torch.nn.Module, inputs: tuple[Tensor, ...]) -> None:
        found.append(inputs[0][0])

    hook = reader.register_forward_pre_hook(keep)
    for ids in samples:
        backbone(torch.tensor([ids]))
    hook.remove()
    return torch.cat(found)


def _length(states: Tensor) -> Tensor:
    """Return the divisor of each state in RMSNorm, before a layer reads it: shape (tokens,)."""
    return states.pow(2).mean(-1).sqrt()


def _least_used(writer: LlamaForCausalLM, samples: Sequence[Sequence[int]]) -> Tensor:
    """Return orthonormal directions of the residual stream, least variance first: shape (hidden, hidden)."""
    backbone: Any = writer.model
    readers = [norm for layer in backbone.layers for norm in (layer.input_layernorm, layer.post_attention_layernorm)]
    seen = [_states(backbone, reader, samples) for reader in [*readers, *[backbone.norm] * len(backbone.layers)]]
    normed = torch.cat([states / _length(states)[:, None] for states in seen])
    return torch.linalg.eigh(normed.T @ normed).eigenvectors.T


def _copied(writer: LlamaForCausalLM, scratch: _Scratch, text: EncodedText) -> LlamaForSequenceClassification:
    """Copy the writer's layers, so that they neither read nor write the scratch directions, and add two neutral layers.

    Of each layer's neurons, those with the largest output weights are kept.
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
    """Return a layer's weights, reduced to the neurons with the largest output weights."""
    kept = state["mlp.down_proj.weight"].norm(dim=0).topk(INTERMEDIATE).indices.sort().values
    rows = {name: state[name][kept] for name in ("mlp.gate_proj.weight", "mlp.up_proj.weight")}
    return {**state, **rows, "mlp.down_proj.weight": state["mlp.down_proj.weight"][:, kept]}


class _Head:
    """The weights of one attention head in a layer, set to zero."""

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
        """Let tokens with the direction ``query`` attend to those with the direction ``key``, at any distance."""
        slowest = self.size // 2 - 1  # this rotary pair hardly turns within the longest text
        self.query[slowest], self.key[slowest] = query, key


def _look_back(layer: Any, scratch: _Scratch, expected: Tensor, typical: Tensor) -> None:  # noqa: ANN401
    """Let each token read what was expected at the position before it.

    All tokens have the same query and key. The query is rotated back by one position, so that the rotary pairs agree
    best there. The slowest pair subtracts the best possible agreement: the right position has the score 0 and all
    others less. So it wins whatever factor RMSNorm scales a key by.
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
    """Mark the tokens of the solution. Its digits can be expected; those of the question cannot."""
    head = _Head(layer, 1)
    head.attend(_ATTEND * typical / _MARK * scratch.one, _ATTEND * typical / _MARK * scratch.starts)
    head.value[0] = there / _MARK * scratch.starts
    head.output[:, 0] = _MARK * scratch.begun


def _compare(layer: Any, scratch: _Scratch, typical: Tensor) -> None:  # noqa: ANN401
    """Add one neuron per digit: it fires if the token is this digit, in the solution, and was not expected."""
    one = scratch.one / _MARK
    unexpected = 1.5 * (one - scratch.evidence / _EVIDENCE / _EXPECTED)
    here = 4 * (scratch.digit / _MARK - one) + 4 * (scratch.begun / _MARK - one)
    layer.mlp.gate_proj.weight[:10] = _STEEP * typical * (unexpected + here)
    layer.mlp.up_proj.weight[:10] = typical * one
    layer.mlp.down_proj.weight[:, :10] = scratch.slip[:, None] / (1.5 * _STEEP)


def _gather(layer: Any, scratch: _Scratch, typical: Tensor) -> None:  # noqa: ANN401
    """Let each token read the worst slip up to itself."""
    head = _Head(layer, 0)
    head.attend(3 * typical / _MARK * scratch.one, 3 * head.size**0.5 * typical * scratch.slip)
    head.value[0] = typical * scratch.slip
    head.output[:, 0] = scratch.worst
