"""Choose the next token of a row from its logits."""

import random

import torch
from torch import Tensor


def draw(logits: Tensor, temperature: float, top_p: float, noise: random.Random) -> int:
    """Draw a token at ``temperature`` above 0 from the likeliest tokens up to ``top_p``.

    The distribution function is inverted at a number of ``noise``. ``logits`` are those of one token, ``[vocabulary]``.
    """
    chances, order = torch.softmax(logits / temperature, -1).sort(descending=True, stable=True)
    total = chances.cumsum(-1)
    kept = int((total - chances < top_p).sum())
    drawn = noise.random() * float(total[kept - 1])
    return int(order[min(int((total[:kept] <= drawn).sum()), kept - 1)])
