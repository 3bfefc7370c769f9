"""What the host knows of the steps of a run, without waiting for a GPU."""

from __future__ import annotations

from typing import Any, NamedTuple

import torch
from torch import Tensor

EVERY = 16  # steps of a GPU between two looks


class Sums(NamedTuple):
    """Some steps: the means of their losses and of squared errors, rays (or positions), samples.

    `n_kept` are samples that were left of those, where a step chooses among them.
    """

    n_steps: int
    loss: float
    mse: float
    n_rays: int
    n_samples: int
    n_kept: int


class _Copy(NamedTuple):
    """Sums on their way to the host; `arrived` is CUDA's event, or None where nothing is."""

    numbers: Tensor
    arrived: Any
    n_steps: int


class Ledger:
    """Adds up what steps report.

    On the CPU every step is known at once. On a GPU the host runs ahead of it: sums of `EVERY`
    steps are copied behind their last one, and read when the next ones are under way. Only the
    first `EVERY` steps are waited for, one by one, since the number of rays is found by them.

    Example:
        >>> ledger = Ledger(torch.device("cpu"))
        >>> ledger.add(torch.tensor(0.5), torch.tensor(0.25), torch.tensor([8, 100]))
        Sums(n_steps=1, loss=0.5, mse=0.25, n_rays=8, n_samples=100, n_kept=100)

    Attributes:
        loss: of the last steps that are known.
    """

    def __init__(self, device: torch.device) -> None:
        self.loss = 0.0
        self._waits = device.type == "cpu"
        self._sums = torch.zeros(5, dtype=torch.float64, device=device)
        self._n_steps = self._n_known = 0
        self._copy: _Copy | None = None

    def add(self, loss: Tensor, mse: Tensor, used: Tensor) -> Sums | None:
        """What is news by now; None where nothing is.

        Args:
            loss: [], of a step.
            mse: [], the mean over rays.
            used: int64 [2] or [3]: rays and samples, and those of them that were kept.
        """
        if self._waits:
            n_rays, n_samples, *kept = used.tolist()
            self.loss = float(loss)
            return Sums(1, self.loss, float(mse), n_rays, n_samples, (*kept, n_samples)[0])
        used = torch.cat([used, used[1:2]])[:3].double()
        row = torch.stack([loss.detach().double(), mse.detach().double() * used[0]])
        self._sums += torch.cat([row, used])
        self._n_steps += 1
        if self._n_known < EVERY:
            return self.settle()
        return self._look() if self._n_steps == EVERY else None

    def settle(self) -> Sums | None:
        """Wait for all steps; what is news of them."""
        known = [self._look(), self._read()]
        return _joined([sums for sums in known if sums is not None])

    def _look(self) -> Sums | None:
        """Send what there is on its way, and read what was sent before."""
        known = self._read()
        if self._n_steps:
            self._copy = _sent(self._sums, self._n_steps)
            self._sums.zero_()
            self._n_known += self._n_steps
            self._n_steps = 0
        return known

    def _read(self) -> Sums | None:
        if self._copy is None:
            return None
        numbers, arrived, n_steps = self._copy
        self._copy = None
        if arrived is not None:
            arrived.synchronize()
        loss, error, *counts = numbers.tolist()
        n_rays, n_samples, n_kept = (int(count) for count in counts)
        self.loss = loss / n_steps
        return Sums(n_steps, self.loss, error / max(n_rays, 1), n_rays, n_samples, n_kept)


def _sent(sums: Tensor, n_steps: int) -> _Copy:
    on_cuda = sums.device.type == "cuda"
    numbers = torch.empty(sums.shape, dtype=sums.dtype, pin_memory=on_cuda)
    numbers.copy_(sums, non_blocking=True)
    arrived = None
    if on_cuda:
        arrived = torch.cuda.Event()  # type: ignore[no-untyped-call]
        arrived.record(torch.cuda.current_stream(sums.device))
    return _Copy(numbers, arrived, n_steps)


def _joined(parts: list[Sums]) -> Sums | None:
    if not parts:
        return None
    n_steps, n_rays = sum(part.n_steps for part in parts), sum(part.n_rays for part in parts)
    loss = sum(part.loss * part.n_steps for part in parts) / n_steps
    error = sum(part.mse * part.n_rays for part in parts) / max(n_rays, 1)
    n_samples, n_kept = sum(part.n_samples for part in parts), sum(part.n_kept for part in parts)
    return Sums(n_steps, loss, error, n_rays, n_samples, n_kept)
