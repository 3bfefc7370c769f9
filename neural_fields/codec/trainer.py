"""Fitting a video field for a bitstream: error and rate together."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import torch
from torch import Tensor

from neural_fields.architectures.pyramid import PyramidTrunk
from neural_fields.codec.parts import Part, Rules, parts_of
from neural_fields.codec.rate import RateModel, RateModels
from neural_fields.data.video import Video
from neural_fields.fields import VideoConfig
from neural_fields.fields.video import Moment
from neural_fields.ops import MlpSpec
from neural_fields.training.state import stream_seed
from neural_fields.training.video import VideoOptions, VideoTrainer

_STREAM = 7  # of random numbers besides those of the drawn rows


@dataclass(frozen=True)
class CodecOptions(VideoOptions):
    """How a field is trained for a bitstream.

    Attributes:
        price: of a bit per pixel, as mean squared error of values in [0, 1].
        noisy_until: share of the run in which noise stands for rounding.
    """

    price: float = 1e-2
    noisy_until: float = 0.93


class CodecTrainer(VideoTrainer):
    """One run: mean squared error plus `price` times estimated bits per pixel."""

    options: CodecOptions

    def __init__(
        self,
        config: VideoConfig,
        data: Video,
        options: CodecOptions,
        rules: Rules,
        seed: int = 0,
        motion: Tensor | None = None,
    ) -> None:
        super().__init__(config, data, options, seed, motion)
        assert isinstance(self.field.trunk, PyramidTrunk)
        self._trunk = self.field.trunk
        self.rules, self.price = rules, options.price
        with torch.no_grad():
            for table in self._trunk.tables:
                table.mul_(0.01)  # of steps: nearly all are rounded to 0 at first
        self._rates = RateModels(len(self._trunk.tables) + 2)
        self.bits_per_pixel = 0.0  # as estimated in the last step

    def _loss(self, positions: Tensor, target: Tensor) -> tuple[Tensor, Tensor]:
        times, counts = torch.unique_consecutive(positions[:, 2], return_counts=True)
        looks = _Looks(self, stream_seed(self.seed, self.step_number * 2 + _STREAM))
        values = []
        for time, part in zip(times.tolist(), torch.split(positions, counts.tolist()), strict=True):
            trunk = self._trunk.frame(time, looks)
            moment = Moment(self.field, time, trunk)
            values.append(moment.value(part[:, :2].contiguous()))
        error = (torch.cat(values) - target).square().mean()
        bits = looks.bits() / len(times) + self._bits_of_others()
        rate = bits / self.data.frames[..., 0].numel()
        self.bits_per_pixel = float(rate.detach())
        weights = self._rates.weights
        self._rates.learn(torch.autograd.grad(rate, weights, retain_graph=True, allow_unused=True))
        return error + self.price * rate, error.detach()

    def _others(self) -> list[Part]:
        """All but the grids."""
        return [part for part in parts_of(self.field, self.rules) if not part.nested]

    def _bits_of_others(self) -> Tensor:
        """Of displacements and modulation, whose moments follow the one before."""
        total = torch.zeros(())
        moving = [part for part in self._others() if len(part.view) > 1]
        for place, part in enumerate(moving, start=len(self._trunk.tables)):
            numbers = part.numbers()
            changes = torch.cat([numbers[:1], numbers[1:] - numbers[:-1]])
            if numbers.shape[1] > 1:  # a picture that moves as a whole changes alike everywhere
                sloped = changes[:, :, 1:] - changes[:, :, :-1]
                changes = torch.cat([changes[:, :, :1], sloped], 2)
            total = total + self._rates[place](changes, torch.zeros_like(changes[0]))
        return total

    @contextmanager
    def _as_kept(self) -> Iterator[None]:
        """With displacements, modulation and network rounded; grids are as they are seen."""
        others = self._others()
        raw = [part.view.detach().clone() for part in others]
        with torch.no_grad():
            for part in others:
                part.view.copy_(part.values(part.numbers()))
        try:
            yield
        finally:
            with torch.no_grad():
                for part, value in zip(others, raw, strict=True):
                    part.view.copy_(value)

    @property
    def network(self) -> MlpSpec:
        """The field's."""
        return self._trunk.mlp.spec

    def rate_model(self, number: int) -> RateModel:
        """That of a level."""
        return self._rates[number]

    @property
    def noisy(self) -> bool:
        """Whether noise stands for rounding."""
        return self._progress < self.options.noisy_until


class _Looks:
    """What a step sees of the grids, quantised, and the bits that it takes."""

    def __init__(self, trainer: CodecTrainer, seed: int) -> None:
        self._trainer = trainer
        self._generator = torch.Generator().manual_seed(seed)
        self._kept: dict[tuple[int, int], Tensor] = {}
        self._bits = torch.zeros(())
        self._of: dict[tuple[int, int], Tensor] = {}

    def __call__(self, number: int, first: int, seen: Tensor) -> Tensor:
        """The features of moments [k, height, width, channels] of a level."""
        key = (number, first)
        if key not in self._kept or len(self._kept[key]) != len(seen):
            self._kept[key], self._of[key] = self._looked(number, first, seen)
        self._bits = self._bits + self._of[key]
        return self._kept[key]

    def bits(self) -> Tensor:
        """Of all grids in all moments, added up over the frames that were seen."""
        return self._bits

    def _looked(self, number: int, first: int, seen: Tensor) -> tuple[Tensor, Tensor]:
        trainer = self._trainer
        quantiser = trainer.rules.quantiser
        numbers = (
            quantiser.noisy(seen, self._generator) if trainer.noisy else quantiser.numbers(seen)
        )
        moments = trainer._trunk.level(number)
        if len(moments) == 1:
            return quantiser.features(numbers), trainer.rate_model(number)(numbers)
        before = moments[first - 1] if first > 0 else torch.zeros_like(moments[0])
        earlier = quantiser.numbers(before.detach())
        bits = trainer.rate_model(number)(numbers, earlier)
        return quantiser.features(numbers), bits * (len(moments) / len(seen))
