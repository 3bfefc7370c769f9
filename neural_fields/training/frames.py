"""Fitting a field of frames to a video."""

from __future__ import annotations

import math
from contextlib import AbstractContextManager
from dataclasses import dataclass

import torch
from torch import Tensor

from neural_fields.data.video import Video
from neural_fields.decoders.frames import Raw
from neural_fields.errors import InputError, unknown_value
from neural_fields.fields.frames import FramesConfig, FramesField
from neural_fields.fields.quantize import quantized
from neural_fields.training.ledger import Ledger, Sums
from neural_fields.training.state import TrainState, stream_seed
from neural_fields.training.values import ValueStep

_ABSOLUTE = 0.7  # of the published loss; the rest is that of structure


@dataclass(frozen=True)
class FramesOptions:
    """How a field of frames is trained, one frame a step.

    Attributes:
        learning_rate: of everything, at its highest.
        warm_up: share of the run in which it rises from a tenth, linearly; then half a cosine.
        loss: `published`, 0.7 of the mean absolute error and 0.3 of 1 - SSIM; or `squared`, the
            mean squared error.
        parts: weight of the loss of the independent and of the aggregated picture, beside that
            of the frame.
    """

    learning_rate: float = 5e-4
    warm_up: float = 0.2
    loss: str = "published"
    parts: float = 0.1

    def __post_init__(self) -> None:
        if self.loss not in ("published", "squared"):
            raise InputError(unknown_value("options: loss", self.loss, ["published", "squared"]))


class FramesTrainer:
    """One run. Every random choice is a function of (seed, step), so it can stop and go on.

    Deviation from the published run: Adam's decays are those of all trainers here, and the weights
    that evaluate are averages.
    """

    convolves = True  # torch's threads are at work, see `run_loop`

    def __init__(
        self,
        config: FramesConfig,
        data: Video,
        options: FramesOptions,
        seed: int = 0,
        device: torch.device | str = "cpu",
    ) -> None:
        self.device = torch.device(device)
        self.field = FramesField(config, seed).to(self.device)
        self.data, self.options, self.seed = data.to(self.device), options, seed
        self._ledger = Ledger(self.device)
        self.state = TrainState(self.field, shares={}, l2=0.0)
        self.step_number = 0
        self.n_samples = 0  # over the whole run
        n, (high, wide) = len(data), config.architecture.size
        # Independent pictures as they were when their frames were last shown.
        size = (n, 3, high, wide)
        self._pictures = torch.zeros(size, dtype=torch.uint8, device=self.device)
        self._known = torch.zeros(n, dtype=torch.bool)  # the host's, whatever the device

    def step(self, progress: float) -> ValueStep:
        """As of `ValueTrainer`."""
        index = self._drawn()
        with self._as_kept():
            loss, mse = self._loss(index)
            sound = self.device.type != "cpu" or bool(loss.isfinite())
            if sound:
                self._backward(loss)
        self.step_number += 1
        n_pixels = self.field.config.width * self.field.config.height
        if sound:
            self.state.step(self.options.learning_rate * self._share(progress), self.step_number)
            self.n_samples += n_pixels
        used = torch.full((2,), n_pixels, dtype=torch.int64, device=self.device)
        return self._report(self._ledger.add(loss.detach(), mse, used))

    def _report(self, known: Sums | None) -> ValueStep:
        if known is None:
            return ValueStep(self._ledger.loss, 0.0, 0)
        return ValueStep(known.loss, known.mse, known.n_samples)

    def settle(self) -> float:
        """As of `ValueTrainer`."""
        self._ledger.settle()
        return self._ledger.loss

    def _as_kept(self) -> AbstractContextManager[None]:
        """See `ValueTrainer`."""
        return quantized(self.field, self.field.config.weight_bits)

    def _backward(self, loss: Tensor) -> None:
        """Takes the gradients of a step's loss."""
        self.state.backward(loss)

    def _drawn(self) -> int:
        """The frame of this step: every epoch shows all of them once, in an order of its own."""
        epoch, place = divmod(self.step_number, len(self.data))
        generator = torch.Generator().manual_seed(stream_seed(self.seed, epoch))
        return int(torch.randperm(len(self.data), generator=generator)[place])

    def _share(self, progress: float) -> float:
        """Of the highest learning rate."""
        warm_up = self.options.warm_up
        if progress < warm_up:
            return 0.1 + 0.9 * progress / warm_up
        return 0.5 * (1 + math.cos(math.pi * (progress - warm_up) / max(1e-9, 1 - warm_up)))

    def _loss(self, index: int) -> tuple[Tensor, Tensor]:
        """The loss, and the frame's mean squared error []."""
        field = self.field
        raw = self._raw(index)
        with torch.no_grad():
            self._pictures[index] = (raw.independent * 255).round().to(torch.uint8)
            self._known[index] = True
        together, frame = field.blended(float(index), raw, self._picture)
        target = self.data.frames[index].permute(2, 0, 1).float() / 255
        pictures = field.cropped(torch.stack([frame, raw.independent, together]))
        if self.options.loss == "squared":
            losses = (pictures - target).square().mean((1, 2, 3))
        else:
            absolute = (pictures - target).abs().mean((1, 2, 3))
            losses = _ABSOLUTE * absolute + (1 - _ABSOLUTE) * (1 - _similarities(pictures, target))
        loss = losses[0] + self.options.parts * (losses[1] + losses[2])
        return loss, (pictures[0].detach() - target).square().mean()

    def _raw(self, index: int) -> Raw:
        """What the network makes of a frame."""
        return self.field.raw(float(index))

    def _picture(self, number: float) -> Tensor | None:
        """The independent picture of a frame as it was last made."""
        index = round(number)
        return self._pictures[index].float() / 255 if self._known[index] else None

    def check_finite(self) -> None:
        """Raise TrainingError naming the first parameter that holds NaN or infinity."""
        self.state.check_finite(self.step_number)

    def averaged_field(self) -> FramesField:
        """A copy of the field with the averaged weights."""
        field = FramesField(self.field.config, seed=None).to(self.device)
        self.state.average_into(field)
        return field

    def checkpoint_tensors(self) -> dict[str, Tensor]:
        """What a checkpoint needs besides the averaged field."""
        return {
            **self.state.checkpoint_tensors(),
            "checkpoint.pictures": self._pictures,
            "checkpoint.known": self._known,
        }

    def checkpoint_state(self) -> dict[str, int]:
        """The numbers that go with `checkpoint_tensors`."""
        return {"step": self.step_number, "n_samples": self.n_samples}

    def restore(self, tensors: dict[str, Tensor], state: dict[str, int]) -> None:
        """Go on from a checkpoint of the same configuration."""
        self.state.restore(tensors)
        self._pictures.copy_(tensors["checkpoint.pictures"])
        self._known.copy_(tensors["checkpoint.known"])
        self.step_number, self.n_samples = state["step"], state["n_samples"]


def _similarities(pictures: Tensor, target: Tensor) -> Tensor:
    """SSIM of each picture [n, 3, height, width] with the target, [n]."""
    from pytorch_msssim import ssim

    # Its own window would be copied to a GPU in every step, which waits.
    offset = torch.arange(-5, 6, dtype=pictures.dtype, device=pictures.device)
    window = torch.exp(-offset.square() / (2 * 1.5**2))
    window = (window / window.sum()).expand(3, 1, 1, -1)
    same = target.expand_as(pictures)
    found: Tensor = ssim(pictures, same, data_range=1.0, size_average=False, win=window)
    return found
