"""Fitting a video field to a video."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from neural_fields.data.video import Video
from neural_fields.fields import VideoConfig, VideoField
from neural_fields.fields.image import MIDDLE
from neural_fields.training.values import ValueStep, ValueTrainer


@dataclass(frozen=True)
class VideoOptions:
    """How a video field is trained.

    Attributes:
        batch_pixels: per step, whole rows.
        batch_frames: that they are of.
        learning_rate: of networks, at the start.
        grid_rate: of grids, at the start.
        motion_rate: of displacements, at the start, pixels.
        matrix_rate: as in `ImageOptions`.
        modulation_share: learning rate of a modulation's grid as a share of the networks'.
        final_rate: all at the end, as a share of the start's; exponential between.
        l2: weight decay of the networks, added to the gradient.
        coarse_until: share of the run that sees frames of half the size, four times as many of
            them; 1e-9 for none.
    """

    batch_pixels: int = 1 << 18
    batch_frames: int = 2
    learning_rate: float = 5e-3
    grid_rate: float = 2e-2
    motion_rate: float = 2e-2
    matrix_rate: float = 0.0
    modulation_share: float = 1.0
    final_rate: float = 0.02
    l2: float = 1e-7
    coarse_until: float = 0.4

    ANY_NUMBER = frozenset({"matrix_rate"})


class VideoTrainer(ValueTrainer[VideoField]):
    """One run of a video field."""

    def __init__(
        self,
        config: VideoConfig,
        data: Video,
        options: VideoOptions,
        seed: int = 0,
        motion: Tensor | None = None,
        device: torch.device | str = "cpu",
    ) -> None:
        """`motion`: displacements that the field starts from, of its configuration's shape."""
        field = VideoField(config, seed)
        if field.motion is not None and motion is not None:
            with torch.no_grad():
                field.motion.copy_(motion)
        share = options.motion_rate / options.learning_rate
        super().__init__(field, options, seed, apart={"motion": share}, device=device)
        self.data, self.options = data.to(self.device), options
        frames = self.data.frames
        self._coarse = halved(frames) if min(frames.shape[1:3]) >= 64 else None
        self._times: list[float] = []  # of the frames of a step, which have as many pixels each
        self._progress = 0.0

    def step(self, progress: float) -> ValueStep:
        """See `ValueTrainer.step`."""
        self._progress = progress
        return super().step(progress)

    def _draw(self, seed: int) -> tuple[Tensor, Tensor]:
        """Positions and times [n, 3] of rows of some frames, and their pixels [n, 3]."""
        generator = torch.Generator().manual_seed(seed)
        frames, size = self.data.frames, 1.0
        if self._coarse is not None and self._progress < self.options.coarse_until:
            frames, size = self._coarse, 2.0
        n_frames, height, width = frames.shape[:3]
        count = min(self.options.batch_frames, n_frames)
        chosen = torch.randperm(n_frames, generator=generator)[:count].tolist()
        n_rows = min(height, max(1, self.options.batch_pixels // (count * width)))
        first = torch.randint(height - n_rows + 1, (count,), generator=generator).tolist()
        parts, pixels, device = [], [], self.device
        self._times = [self.field.time_of(index) for index in chosen]
        for index, row in zip(chosen, first, strict=True):
            y = size * (torch.arange(row, row + n_rows, dtype=torch.float32, device=device) + 0.5)
            x = size * (torch.arange(width, dtype=torch.float32, device=device) + 0.5)
            time = torch.full((n_rows * width,), self.field.time_of(index), device=device)
            parts.append(torch.stack([x.repeat(n_rows), y.repeat_interleave(width), time], 1))
            pixels.append(frames[index, row : row + n_rows].reshape(-1, 3))
        return torch.cat(parts), torch.cat(pixels).float() / 255

    def _shown(self, positions: Tensor, target: Tensor) -> tuple[Tensor, Tensor]:
        return self.field.to_cube(positions), target - MIDDLE

    def _loss(self, positions: Tensor, target: Tensor) -> tuple[Tensor, Tensor]:
        """The mean squared error."""
        parts = positions[:, :2].contiguous().chunk(len(self._times))
        pairs = zip(self._times, parts, strict=True)
        values = torch.cat([self.field.at(time).value(part) for time, part in pairs])
        loss = (values - target).square().mean()
        return loss, loss.detach()

    def averaged_field(self) -> VideoField:
        """A copy of the field with the averaged weights."""
        field = VideoField(self.field.config, seed=None).to(self.device)
        self.state.average_into(field)
        return field


def halved(frames: Tensor) -> Tensor:
    """Frames uint8 [n, height, width, 3] averaged over blocks of 2 x 2; remainders are cropped.

    Example:
        >>> halved(torch.full((1, 3, 4, 3), 7, dtype=torch.uint8)).shape
        torch.Size([1, 1, 2, 3])
    """
    _, height, width, _ = frames.shape
    even = frames[:, : height // 2 * 2, : width // 2 * 2]
    upper = even[:, ::2, ::2].to(torch.int16) + even[:, ::2, 1::2]
    lower = even[:, 1::2, ::2].to(torch.int16) + even[:, 1::2, 1::2]
    return ((upper + lower + 2) // 4).to(torch.uint8)
