"""Measure how well estimates fit the outcomes, and find the temperature that calibrates them."""

# pyright: reportUnknownMemberType=false, reportUnknownVariableType=false, reportMissingTypeStubs=false
# pyright: reportUnknownArgumentType=false
# (scikit-learn and scipy are typed in part)

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from scipy.optimize import minimize_scalar
from scipy.stats import spearmanr
from sklearn.metrics import roc_auc_score
from torch import Tensor

from arbiter.training.inference import estimates

_LARGEST = 20.0  # the largest temperature; the smallest is its inverse


def auroc(estimated: Sequence[float], happened: Sequence[bool]) -> float | None:
    """Return the probability that a random positive outranks a random negative; ties count half (Mann-Whitney).

    None if there is only one class; NaN if an estimate is not finite.
    """
    if len(set(happened)) < 2:
        return None
    if not np.isfinite(estimated).all():
        return float("nan")
    return float(roc_auc_score(np.asarray(happened), np.asarray(estimated)))


def spearman(estimated: Sequence[float], deltas: Sequence[float]) -> float | None:
    """Return the rank correlation ρ between ŷ and Δ; None if one of them is constant."""
    if len(set(estimated)) < 2 or len(set(deltas)) < 2:
        return None
    found: Any = spearmanr(estimated, deltas)
    return float(found.statistic)


def log_loss(estimated: Tensor, happened: Tensor) -> float:
    """Return the mean negative log-likelihood of ``happened`` (0 or 1). Both have the shape (rows,)."""
    kept = estimated.double().clamp(1e-12, 1 - 1e-12)
    return float(torch.where(happened > 0, -kept.log(), -(1 - kept).log()).mean())


def best_temperature(logits: Tensor, happened: Tensor, classes: bool) -> float:
    """Return T > 0 that minimises the negative log-likelihood of ŷ from logits / T (Guo et al., 2017).

    ``logits`` are those of one head, of shape (rows, labels); ``happened`` is y, of shape (rows,). With two labels, T
    does not change the order of the rows by ŷ.
    """

    def error(logarithm: float) -> float:
        return log_loss(estimates(logits.double() / np.exp(logarithm), classes)[:, 0], happened)

    bound = float(np.log(_LARGEST))
    found: Any = minimize_scalar(error, bounds=(-bound, bound), method="bounded")
    return float(np.exp(found.x))
