"""Fitting an image field to a picture."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from neural_fields.data.picture import Picture
from neural_fields.fields import ImageConfig, ImageField
from neural_fields.fields.image import MIDDLE, to_curve
from neural_fields.ops import generator
from neural_fields.training.values import ValueTrainer


@dataclass(frozen=True)
class ImageOptions:
    """How an image field is trained.

    Attributes:
        batch_pixels: random pixels per step.
        learning_rate: of networks, at the start.
        grid_rate: of grids, at the start.
        matrix_rate: of the matrices of networks, at the start, root mean square of an
            orthogonal step (`Muon`); 0: Adam moves them, at `learning_rate`.
        modulation_share: learning rate of a modulation's grid as a share of the networks'.
        final_rate: all at the end, as a share of the start's; exponential between.
        l2: weight decay of the networks, added to the gradient.
    """

    batch_pixels: int = 1 << 16
    learning_rate: float = 1e-2
    grid_rate: float = 1e-2
    matrix_rate: float = 0.0
    modulation_share: float = 10.0
    final_rate: float = 0.02
    l2: float = 1e-6

    ANY_NUMBER = frozenset({"matrix_rate"})


class ImageTrainer(ValueTrainer[ImageField]):
    """One run of an image field, from a picture or from a field that stands for one."""

    def __init__(
        self,
        config: ImageConfig,
        data: Picture | ImageField,
        options: ImageOptions,
        seed: int = 0,
        device: torch.device | str = "cpu",
    ) -> None:
        super().__init__(ImageField(config, seed), options, seed, device=device)
        self.data, self.options = data.to(self.device), options

    def _draw(self, seed: int) -> tuple[Tensor, Tensor]:
        """Positions [n, 2] of random pixels and what is fitted there [n, channels]."""
        draw = generator(self.device, seed)
        height, width = self.field.config.height, self.field.config.width
        n = self.options.batch_pixels
        # In the picture's order: neighbours share lines of memory, here and in the grids.
        index = torch.randint(height * width, (n,), generator=draw, device=self.device)
        index = index.sort().values
        column, row = index % width, index // width
        positions = torch.stack([column, row], 1).float() + 0.5
        if isinstance(self.data, ImageField):
            with torch.no_grad():
                return positions, self.data.encoded(positions)
        target = self.data.at(index)
        return positions, target if self.data.color_space == "srgb" else to_curve(target)

    def _shown(self, positions: Tensor, target: Tensor) -> tuple[Tensor, Tensor]:
        return self.field.to_cube(positions), target - MIDDLE

    def _loss(self, positions: Tensor, target: Tensor) -> tuple[Tensor, Tensor]:
        """The mean squared error."""
        loss = (self.field.encoded(positions) - target).square().mean()
        return loss, loss.detach()

    def averaged_field(self) -> ImageField:
        """A copy of the field with the averaged weights."""
        field = ImageField(self.field.config, seed=None).to(self.device)
        self.state.average_into(field)
        return field
