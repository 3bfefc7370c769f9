"""How long to train, and the progress that schedules are functions of."""

from __future__ import annotations

import math
from dataclasses import dataclass

from neural_fields.errors import InputError


@dataclass(frozen=True)
class Budget:
    """A number of steps or of trained seconds; exactly one of the two.

    Example:
        >>> Budget(steps=200).progress(step=50, seconds=3.0)
        0.25
        >>> Budget(seconds=60.0).progress(step=50, seconds=90.0)
        1.0
    """

    steps: int | None = None
    seconds: float | None = None

    def __post_init__(self) -> None:
        if (self.steps is None) == (self.seconds is None):
            raise InputError("budget: needs either --steps or --seconds, not both.")
        if self.steps is not None and self.steps < 1:
            raise InputError(f"--steps: needs at least 1, got {self.steps}.")
        if self.seconds is not None and not (math.isfinite(self.seconds) and self.seconds > 0):
            raise InputError(f"--seconds: needs a positive number, got {self.seconds}.")

    def progress(self, step: int, seconds: float) -> float:
        """Share of the budget that is used, in [0, 1]."""
        if self.steps is not None:
            return min(step / self.steps, 1.0)
        assert self.seconds is not None
        return min(seconds / self.seconds, 1.0)
