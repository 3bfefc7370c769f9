"""Fitting a field of frames for a bitstream: error and rate together."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn

from neural_fields.codec.parts import Rules, parts_of
from neural_fields.codec.rate import RateModels
from neural_fields.data.video import Video
from neural_fields.decoders.frames import Raw
from neural_fields.fields import FramesConfig
from neural_fields.training.frames import FramesOptions, FramesTrainer
from neural_fields.training.state import stream_seed
from neural_fields.training.values import ValueStep

_STREAM = 1 << 32  # of random numbers besides those of the drawn frames
_LEVELS = 16  # that a parameter's range has on either side at first
_AT_REST = 0.25  # range of a parameter that begins at rest
_STEP_RATE = 2.0  # learning rate of the steps' logarithms as a share of the others'


@dataclass(frozen=True)
class FramesCodecOptions(FramesOptions):
    """How a field of frames is trained for a bitstream.

    Attributes:
        price: of a bit per pixel, as mean squared error of values in [0, 1].
        noisy_until: share of the run in which noise stands for rounding.
    """

    loss: str = "squared"
    price: float = 1e-2
    noisy_until: float = 0.93


class FramesCodecTrainer(FramesTrainer):
    """One run: the loss plus `price` times estimated bits per pixel.

    Every parameter is seen as whole numbers stand for it. With the rule `step` the step of each is
    learnt, its gradient that of straight-through rounding (Esser et al., Learned Step Size
    Quantization, 2020).
    """

    options: FramesCodecOptions

    def __init__(
        self,
        config: FramesConfig,
        data: Video,
        options: FramesCodecOptions,
        rules: Rules,
        seed: int = 0,
    ) -> None:
        super().__init__(config, data, options, seed)
        self._quantiser, self.price = rules.quantiser, options.price
        names = [name for name, _ in self.field.named_parameters()]
        self._names = names
        self._rates = RateModels(len(names))
        parts = parts_of(self.field, Rules(rules.quantiser))
        largest = [float((part.view.detach() - part.rest).abs().max()) for part in parts]
        steps = torch.tensor([(size or _AT_REST) / _LEVELS for size in largest])
        self._log_steps = nn.Parameter(steps.log())
        self._of_steps = torch.optim.Adam([self._log_steps])
        self._progress = 0.0
        self._weights: dict[str, Tensor] = {}
        self.bits_per_pixel = 0.0  # as estimated in the last step

    @property
    def rules(self) -> Rules:
        """Those of the field as it is."""
        if self._quantiser.rule != "step":
            return Rules(self._quantiser)
        return Rules(self._quantiser, scales=tuple(self._log_steps.exp().tolist()))

    def step(self, progress: float) -> ValueStep:
        """See `FramesTrainer.step`."""
        self._progress = progress
        return super().step(progress)

    def _backward(self, loss: Tensor) -> None:
        learnt = [self._log_steps] if self._quantiser.rule == "step" else []
        gradients = self.state.backward(loss, [*self._rates.weights, *learnt])
        self._rates.learn(gradients[: len(self._rates.weights)])
        if learnt:
            self._log_steps.grad = gradients[-1]
            share = _STEP_RATE * self.options.learning_rate * self._share(self._progress)
            self._of_steps.param_groups[0]["lr"] = share
            self._of_steps.step()

    def _loss(self, index: int) -> tuple[Tensor, Tensor]:
        rate = self._seen() / self.data.frames[..., 0].numel()
        error, mse = super()._loss(index)
        loss = error + self.price * rate
        self.bits_per_pixel = float(rate.detach())
        return loss, mse

    def _seen(self) -> Tensor:
        """Sets what the network has for weights in this step; the bits that they take."""
        noisy = self._progress < self.options.noisy_until
        seed = stream_seed(self.seed, _STREAM + self.step_number)
        generator = torch.Generator().manual_seed(seed) if noisy else None
        scales: tuple[Tensor, ...] = ()
        if self._quantiser.rule == "step":
            scales = self._log_steps.exp().unbind()
        parts = parts_of(self.field, Rules(self._quantiser, scales=scales))
        bits = torch.zeros(())
        for place, (name, part) in enumerate(zip(self._names, parts, strict=True)):
            numbers = part.numbers(generator)
            bits = bits + self._rates[place](numbers)
            self._weights[name] = part.back(part.values(numbers))
        return bits

    def _raw(self, index: int) -> Raw:
        weights = {name.removeprefix("decoder."): each for name, each in self._weights.items()}
        time = index / len(self.data)
        made: Raw = torch.func.functional_call(self.field.decoder, weights, (time,))
        return made
