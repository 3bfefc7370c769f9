"""Fitting an image field to a picture."""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from neural_fields.data.picture import Picture
from neural_fields.fields import ImageConfig, ImageField
from neural_fields.fields.image import MIDDLE, to_curve
from neural_fields.fields.quantize import quantized
from neural_fields.training.state import TrainState, grid_shares, stream_seed


@dataclass(frozen=True)
class ImageOptions:
    """How an image field is trained.

    Attributes:
        batch_pixels: random pixels per step.
        learning_rate: of networks, at the start.
        grid_rate: of grids, at the start.
        modulation_share: learning rate of a modulation's grid as a share of the networks'.
        final_rate: all at the end, as a share of the start's; exponential between.
        l2: weight decay of the networks, added to the gradient.
    """

    batch_pixels: int = 1 << 16
    learning_rate: float = 1e-2
    grid_rate: float = 1e-2
    modulation_share: float = 10.0
    final_rate: float = 0.02
    l2: float = 1e-6


@dataclass(frozen=True)
class ImageStep:
    """What one step did: mean squared error (of what is fitted) and pixels."""

    loss: float
    n_samples: int

    @property
    def mse(self) -> float:
        """The loss is the mean squared error."""
        return self.loss

    @property
    def n_rays(self) -> int:
        """Pixels, under the name that all reports share."""
        return self.n_samples


class ImageTrainer:
    """One run. Every random choice is a function of (seed, step), so it can stop and go on."""

    def __init__(
        self, config: ImageConfig, data: Picture, options: ImageOptions, seed: int = 0
    ) -> None:
        self.data, self.options, self.seed = data, options, seed
        self.field = ImageField(config, seed)
        self.state = TrainState(
            self.field,
            shares={
                **grid_shares(self.field.trunk, options.grid_rate / options.learning_rate),
                "modulation.grid": options.modulation_share,
            },
            l2=options.l2,
        )
        self.step_number = 0
        self.n_samples = 0  # over the whole run

    def step(self, progress: float) -> ImageStep:
        """One update of all parameters; `progress` in [0, 1] sets the learning rate."""
        positions, target = self._draw()
        self.state.start(
            self.field.trunk,
            self.seed,
            self.step_number,
            lambda _: (self.field.to_cube(positions), target - MIDDLE),
        )
        with quantized(self.field, self.field.config.weight_bits):
            loss = (self.field.encoded(positions) - target).square().mean()
            value = float(loss.detach())
            if math.isfinite(value):
                self.state.backward(loss)
        self.step_number += 1
        n = positions.shape[0]
        if math.isfinite(value):
            options = self.options
            self.state.step(options.learning_rate * options.final_rate**progress, self.step_number)
            self.n_samples += n
        return ImageStep(value, n)

    def _draw(self) -> tuple[Tensor, Tensor]:
        """Positions [n, 2] of random pixels and what is fitted there [n, channels]."""
        generator = torch.Generator().manual_seed(stream_seed(self.seed, self.step_number))
        height, width = self.data.pixels.shape[:2]
        n = self.options.batch_pixels
        # In the picture's order: neighbours share lines of memory, here and in the grids.
        index = torch.randint(height * width, (n,), generator=generator).sort().values
        column, row = index % width, index // width
        positions = torch.stack([column, row], 1).float() + 0.5
        target = self.data.at(index)
        return positions, target if self.data.color_space == "srgb" else to_curve(target)

    def check_finite(self) -> None:
        """Raise TrainingError naming the first parameter that holds NaN or infinity."""
        self.state.check_finite(self.step_number)

    def averaged_field(self) -> ImageField:
        """A copy of the field with the averaged weights."""
        field = ImageField(self.field.config, seed=None)
        self.state.average_into(field)
        return field

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
