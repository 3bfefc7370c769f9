"""Adam in plain torch."""

from __future__ import annotations

import math

import torch
from torch import Tensor


def adam_step(
    params: Tensor,
    grads: Tensor,
    first: Tensor,
    second: Tensor,
    *,
    step: int,
    rate: float,
    beta1: float = 0.9,
    beta2: float = 0.99,
    eps: float = 1e-15,
    l2: float = 0.0,
    skip_zero: bool = False,
    clear: bool = False,
    touched: Tensor | None = None,
) -> None:
    """The step of `neural_fields.ops.adam_step`, number by number.

    Kingma and Ba 2015, algorithm 1, in the order of the text before section 2.1.

    Example:
        >>> w, moments = torch.ones(2), torch.zeros(2, 2)
        >>> adam_step(w, torch.tensor([3.0, 0.0]), *moments, step=1, rate=0.5)
        >>> w
        tensor([0.5000, 1.0000])
    """
    flat = [tensor.view(-1) for tensor in (params, grads, first, second)]
    p, g, m, v = flat
    scale = math.sqrt(1 - beta2**step) / (1 - beta1**step)
    for i in range(p.numel()):
        if touched is not None and touched[i // 16] == 0:
            continue
        if not (skip_zero and g[i] == 0):
            gradient = g[i] + l2 * p[i]
            m[i] = beta1 * m[i] + (1 - beta1) * gradient
            v[i] = beta2 * v[i] + (1 - beta2) * gradient**2
            p[i] -= rate * scale * m[i] / (torch.sqrt(v[i]) + eps)
        if clear:
            g[i] = 0
    if touched is not None:
        touched.zero_()
