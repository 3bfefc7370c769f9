"""Exponential moving average of parameters."""

from __future__ import annotations

import torch
from torch import Tensor

DECAY = 0.95  # per step
EVERY = 16  # steps between updates, since each sweeps the whole table


class Average:
    """The average of a parameter over the last few dozen steps, updated every `EVERY` steps.

    Deviation from instant-ngp, which updates it each step: the decay of the skipped steps is
    applied at once.
    """

    def __init__(self, parameter: Tensor) -> None:
        self.parameter = parameter.detach()
        self.value = self.parameter.clone()

    @torch.no_grad()
    def update(self, step: int) -> None:
        """Call after every step; `step` counts from 1."""
        if step % EVERY == 0:
            self.value.lerp_(self.parameter, 1 - DECAY**EVERY)
