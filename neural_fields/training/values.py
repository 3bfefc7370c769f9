"""What trainers share whose field is fitted to values at positions: pictures, videos, shapes."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping
from contextlib import AbstractContextManager
from dataclasses import dataclass
from types import MappingProxyType
from typing import Generic, Protocol, TypeVar

import torch
from torch import Tensor

from neural_fields.fields import ImageField, SdfField, VideoField
from neural_fields.fields.quantize import quantized
from neural_fields.training.ledger import Ledger, Sums
from neural_fields.training.state import TrainState, grid_shares, stream_seed


class ValueOptions(Protocol):
    """The training options that all of them have."""

    @property
    def learning_rate(self) -> float:
        """Of networks, at the start."""
        ...

    @property
    def grid_rate(self) -> float:
        """Of grids, at the start."""
        ...

    @property
    def modulation_share(self) -> float:
        """Learning rate of a modulation's grid as a share of the networks'."""
        ...

    @property
    def final_rate(self) -> float:
        """All at the end, as a share of the start's; exponential between."""
        ...

    @property
    def matrix_rate(self) -> float:
        """Of the matrices of networks, at the start; 0: Adam moves them."""
        ...

    @property
    def l2(self) -> float:
        """Weight decay of the networks, added to the gradient."""
        ...


@dataclass(frozen=True)
class ValueStep:
    """What one step did: mean loss, mean squared error of what is fitted, positions."""

    loss: float
    mse: float
    n_samples: int

    @property
    def n_rays(self) -> int:
        """Positions, under the name that all reports share."""
        return self.n_samples


AnyField = TypeVar("AnyField", ImageField, SdfField, VideoField)


class ValueTrainer(ABC, Generic[AnyField]):
    """One run. Every random choice is a function of (seed, step), so it can stop and go on."""

    def __init__(
        self,
        field: AnyField,
        training: ValueOptions,
        seed: int,
        *,
        sparse: bool = True,
        apart: Mapping[str, float] = MappingProxyType({}),
        device: torch.device | str = "cpu",
    ) -> None:
        """The field is moved to `device`; `sparse` and more shares, `apart`: see `TrainState`."""
        self.device = torch.device(device)
        self.field: AnyField = field.to(self.device)
        self.seed, self._training = seed, training
        self.state = TrainState(
            field,
            shares={
                **grid_shares(field.trunk, training.grid_rate / training.learning_rate),
                "modulation.grid": training.modulation_share,
                **apart,
            },
            l2=training.l2,
            matrix_share=training.matrix_rate / training.learning_rate,
            sparse=sparse,
        )
        self.step_number = 0
        self.n_samples = 0  # over the whole run
        self._ledger = Ledger(self.device)

    def step(self, progress: float) -> ValueStep:
        """One update of all parameters; `progress` in [0, 1] sets the learning rate.

        Nothing is updated where the loss is not finite, but on a GPU, where that is seen a few
        steps later. There reports are of the steps that are known by now, 0 positions where it is
        none.
        """
        training = self._training
        positions, target = self._draw(stream_seed(self.seed, self.step_number))
        self.state.start(
            self.field.trunk, self.seed, self.step_number, lambda _: self._shown(positions, target)
        )
        with self._as_kept():
            loss, mse = self._loss(positions, target)
            sound = self.device.type != "cpu" or bool(loss.isfinite())
            if sound:
                self.state.backward(loss)
        self.step_number += 1
        if sound:
            rate = training.learning_rate * training.final_rate**progress
            self.state.step(rate, self.step_number)
            self.n_samples += len(target)
        used = torch.full((2,), len(target), dtype=torch.int64, device=self.device)
        return self._report(self._ledger.add(loss.detach(), mse, used))

    def _report(self, known: Sums | None) -> ValueStep:
        if known is None:
            return ValueStep(self._ledger.loss, 0.0, 0)
        return ValueStep(known.loss, known.mse, known.n_samples)

    def settle(self) -> float:
        """Wait for a GPU and take note of all steps; the loss of the last ones."""
        self._ledger.settle()
        return self._ledger.loss

    def _as_kept(self) -> AbstractContextManager[None]:
        """The field with its weights as a file will keep them inside; outside as they were."""
        return quantized(self.field, self.field.config.weight_bits)

    @abstractmethod
    def _draw(self, seed: int) -> tuple[Tensor, Tensor]:
        """Positions [n, d] and what is fitted there, [n] or [n, channels]."""

    @abstractmethod
    def _shown(self, positions: Tensor, target: Tensor) -> tuple[Tensor, Tensor]:
        """The same as the trunk has them, [n, d] in the cube and [n, n_output]."""

    @abstractmethod
    def _loss(self, positions: Tensor, target: Tensor) -> tuple[Tensor, Tensor]:
        """The loss, and the mean squared error [] of what is fitted."""

    def check_finite(self) -> None:
        """Raise TrainingError naming the first parameter that holds NaN or infinity."""
        self.state.check_finite(self.step_number)

    @abstractmethod
    def averaged_field(self) -> AnyField:
        """A copy of the field with the averaged weights."""

    def checkpoint_tensors(self) -> dict[str, Tensor]:
        """What a checkpoint needs besides the averaged field."""
        return self.state.checkpoint_tensors()

    def checkpoint_state(self) -> dict[str, int]:
        """The numbers that go with `checkpoint_tensors`."""
        return {"step": self.step_number, "n_samples": self.n_samples}

    def restore(self, tensors: dict[str, Tensor], state: dict[str, int]) -> None:
        """Go on from a checkpoint of the same configuration."""
        self.state.restore(tensors)
        self.step_number, self.n_samples = state["step"], state["n_samples"]
