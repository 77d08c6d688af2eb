"""The networks of heads on the draft: how they are fitted, and how they are stored."""

# pyright: reportUnknownMemberType=false, reportUnknownVariableType=false, reportUnknownArgumentType=false
# (torch is typed in part)

from collections.abc import Generator, Sequence
from contextlib import contextmanager
from pathlib import Path

import msgspec
import torch
from safetensors import SafetensorError
from safetensors.torch import save_file
from torch import Tensor
from torch.nn import Dropout, Linear, Module
from torch.nn import functional as F  # noqa: N812 - torch's own name

from arbiter.backends.head_model import METADATA, WEIGHTS, HeadMetadata, Shape
from arbiter.protocols.errors import RunError
from arbiter.training.complete_files import together

HIDDEN = 32
DECAY = 0.001  # of the squared weights of a linear head, whose features are standardised
UPDATES, RATE, MLP_DECAY, DROPOUT = 300, 3e-3, 0.1, 0.2  # of a head with a hidden layer


class Learned(msgspec.Struct, frozen=True):
    """Rows to learn from: features (rows, features), labels (rows, targets) with NaN where unknown, weights (rows,).

    ``problems`` names the problem of each row.
    """

    features: Tensor
    labels: Tensor
    weights: Tensor
    problems: Sequence[str]

    def at(self, chosen: Tensor) -> "Learned":
        """Return the rows where ``chosen`` is True."""
        problems = [problem for problem, is_chosen in zip(self.problems, chosen.tolist(), strict=True) if is_chosen]
        return Learned(self.features[chosen], self.labels[chosen], self.weights[chosen], problems)


class HeadNetwork(Module):
    """Standardised features, then one linear layer, or a hidden layer of 32 rectified units before it."""

    def __init__(self, shape: Shape, features: Tensor, outputs: int) -> None:
        super().__init__()
        self.mean = features.mean(0)
        self.scale = features.std(0, correction=0) + 1e-4
        width = features.shape[1]
        self.first = Linear(width, HIDDEN, dtype=torch.float64) if shape == "hidden layer" else None
        self.last = Linear(HIDDEN if self.first else width, outputs, dtype=torch.float64)
        self.dropout = Dropout(DROPOUT)

    def forward(self, features: Tensor) -> Tensor:
        """Return the logits: (rows, features) to (rows, outputs)."""
        values = (features - self.mean) / self.scale
        if self.first is not None:
            values = self.dropout(F.relu(self.first(self.dropout(values))))
        return self.last(values)

    @torch.no_grad()
    def logits(self, features: Tensor) -> Tensor:
        """Return the logits without gradients."""
        return self(features)

    @torch.no_grad()
    def divide(self, temperatures: Sequence[float]) -> None:
        """Divide each output by its temperature."""
        scale = torch.tensor(temperatures, dtype=torch.float64)
        self.last.weight.div_(scale[:, None])
        self.last.bias.div_(scale)

    def tensors(self) -> dict[str, Tensor]:
        """Return the weights as float32, by their names in the file."""
        found = {"mean": self.mean, "scale": self.scale}
        for name, layer in (("first", self.first), ("last", self.last)):
            if layer is not None:
                found |= {f"{name}.weight": layer.weight.detach(), f"{name}.bias": layer.bias.detach()}
        return {name: tensor.float().contiguous() for name, tensor in found.items()}


@contextmanager
def one_thread() -> Generator[None]:
    """Have torch compute in one thread: for networks this small, several wait for each other."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(before)


def fitted(shape: Shape, rows: Learned, seed: int) -> HeadNetwork:
    """Return a network of ``shape``, fitted to ``rows`` and in evaluation mode. ``seed`` decides all randomness."""
    torch.manual_seed(seed)
    network = HeadNetwork(shape, rows.features, rows.labels.shape[1])
    if network.first is None:
        _minimise(network, rows)
    else:
        optimiser = torch.optim.AdamW(network.parameters(), lr=RATE, weight_decay=MLP_DECAY)
        for _ in range(UPDATES):
            optimiser.zero_grad()
            _loss(network, rows).backward()
            optimiser.step()
    return network.eval()


def _minimise(network: HeadNetwork, rows: Learned) -> None:
    """Fit a linear network, whose loss has one minimum."""
    torch.nn.init.zeros_(network.last.weight)
    torch.nn.init.zeros_(network.last.bias)
    optimiser = torch.optim.LBFGS(network.last.parameters(), max_iter=200, line_search_fn="strong_wolfe")

    def closure() -> float:
        optimiser.zero_grad()
        loss = _loss(network, rows) + DECAY * network.last.weight.square().sum()
        loss.backward()
        return float(loss.detach())

    optimiser.step(closure)


def _loss(network: HeadNetwork, rows: Learned) -> Tensor:
    """Return the weighted cross-entropy, over the known labels."""
    known = ~rows.labels.isnan()
    weights = rows.weights[:, None].expand_as(rows.labels)
    return F.binary_cross_entropy_with_logits(network(rows.features)[known], rows.labels[known], weight=weights[known])


def save_head(network: HeadNetwork, metadata: HeadMetadata, out: Path) -> None:
    """Write a head into the folder ``out``. Raises ``RunError`` if that fails."""
    try:
        with together(out, METADATA) as folder:
            save_file(network.tensors(), folder / WEIGHTS)
            (folder / METADATA).write_bytes(msgspec.json.format(msgspec.json.encode(metadata), indent=2) + b"\n")
    except (OSError, SafetensorError) as error:
        raise RunError(f"cannot write the head into {out}: {error}") from error
