"""Loss and gradients of a batch of rays: by the fused path, or operation by operation."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, NamedTuple, Protocol

import torch
from torch import Tensor

from neural_fields.fields import DynamicField, RadianceField, Samples
from neural_fields.fields.radiance import LOG_DENSITY_MIN
from neural_fields.ops import (
    MarchScene,
    RadianceGradients,
    RadianceSamples,
    composite,
    radiance_sample,
    radiance_train,
)
from neural_fields.rendering.footprint import cone_variances
from neural_fields.training.state import TrainState

_DENSEST = 15.0  # log-density per unit, whose step hides what is behind many times over


@dataclass(frozen=True)
class Rays:
    """A batch of rays.

    Origins, unit directions [n, 3], camera_ids, pixel_widths at unit distance and jitter [n],
    target and background [n, 3]; times [n], or None.
    """

    origins: Tensor
    directions: Tensor
    camera_ids: Tensor
    pixel_widths: Tensor
    jitter: Tensor
    target: Tensor
    background: Tensor
    times: Tensor | None = None


class Outcome(NamedTuple):
    """What a batch gave: mean loss and squared error, rays used, their samples."""

    loss: float
    mse: float
    n_rays: int
    n_samples: int


class GradientStep(Protocol):
    """Leaves the gradients of a batch in the optimiser's buffers."""

    def __call__(self, rays: Rays, scene: MarchScene) -> Outcome:
        """Use as many rays as the buffers hold."""
        ...


def gradient_step(
    field: RadianceField, state: TrainState, batch_samples: int, huber: float
) -> GradientStep:
    """The fused path where the field has that form."""
    batch = PackedBatch(field, batch_samples * 3 // 2)
    if field.fused_spec() is not None:
        return _Fused(field, state, batch, huber)
    return _ByOps(field, state, batch, huber)


class PackedBatch:
    """Buffers for the packed samples of a step, which are overwritten by the next one's."""

    def __init__(self, field: RadianceField, capacity: int) -> None:
        self.field = field
        self.t_starts = torch.empty(capacity)
        self.t_ends = torch.empty(capacity)
        self.positions = torch.empty(capacity, 3)

    def march(
        self,
        origins: Tensor,
        directions: Tensor,
        jitter: Tensor,
        scene: MarchScene,
        times: Tensor | None = None,
    ) -> tuple[RadianceSamples, int]:
        """Samples in the field's occupied cells, and how many rays fit.

        Rays of a field that moves have times, and those of a span stand beside each other.
        """
        offsets = torch.empty(origins.shape[0] + 1, dtype=torch.int64)
        samples = RadianceSamples(offsets, self.t_starts, self.t_ends, self.positions)
        rays = (origins, directions, jitter)
        if times is None:
            n_used = radiance_sample(scene, self.field.occupancy, *rays, samples)
        else:
            n_used = self._march_spans(rays, times, scene, samples)
        return samples, n_used

    def _march_spans(
        self,
        rays: tuple[Tensor, Tensor, Tensor],
        times: Tensor,
        scene: MarchScene,
        samples: RadianceSamples,
    ) -> int:
        field = self.field
        assert isinstance(field, DynamicField)
        spans, counts = torch.unique_consecutive(field.span_of(times), return_counts=True)
        samples.offsets[0] = begin = at = 0
        for span, count in zip(spans.tolist(), counts.tolist(), strict=True):
            some = slice(begin, begin + count)
            offsets = torch.empty(count + 1, dtype=torch.int64)
            rest = RadianceSamples(offsets, *(buffer[at:] for buffer in samples[1:]))
            origins, directions, jitter = (part[some] for part in rays)
            words = field.occupancy[span]
            n_used = radiance_sample(scene, words, origins, directions, jitter, rest)
            samples.offsets[begin + 1 : begin + n_used + 1] = offsets[1 : n_used + 1] + at
            begin, at = begin + n_used, at + int(offsets[n_used])
            if n_used < count:
                break
        return begin


class _Fused:
    def __init__(
        self, field: RadianceField, state: TrainState, batch: PackedBatch, huber: float
    ) -> None:
        spec = field.fused_spec()
        assert spec is not None
        self._field, self._spec, self._batch, self._huber = field, spec, batch, huber
        table, trunk, head = state.adam.values()
        assert table.touched is not None
        self._gradients = RadianceGradients(
            table.grad.view(spec.grid.n_entries, -1), table.touched, trunk.grad, head.grad
        )
        self._features = torch.empty(batch.t_starts.numel(), spec.grid.n_output)

    @torch.no_grad()
    def __call__(self, rays: Rays, scene: MarchScene) -> Outcome:
        samples, n_used = self._batch.march(
            rays.origins, rays.directions, rays.jitter, scene, rays.times
        )
        n = rays.origins.shape[0]
        loss, color = torch.empty(n), torch.empty(n, 3)
        radiance_train(
            self._spec,
            self._field.fused_params(),
            samples,
            rays.origins,
            rays.directions,
            rays.target,
            rays.background,
            self._features,
            self._gradients,
            loss,
            color,
            unit=self._field.unit,
            stop=self._field.config.sampling.stop,
            huber=self._huber,
            n_loss_rays=max(n_used, 1),
        )
        used = slice(0, max(n_used, 1))
        error = float((color[used] - rays.target[used]).square().mean())
        return Outcome(float(loss[used].mean()), error, n_used, int(samples.offsets[n_used]))


class _ByOps:
    """The same by autograd, for architectures without a fused form."""

    def __init__(
        self, field: RadianceField, state: TrainState, batch: PackedBatch, huber: float
    ) -> None:
        self._field, self._state, self._batch, self._huber = field, state, batch, huber

    def __call__(self, rays: Rays, scene: MarchScene) -> Outcome:
        samples, n_used = self._batch.march(
            rays.origins, rays.directions, rays.jitter, scene, rays.times
        )
        n_used = max(n_used, 1)
        offsets = samples.offsets[: n_used + 1].clone()
        n_samples = int(offsets[-1])
        t_starts, t_ends = samples.t_starts[:n_samples], samples.t_ends[:n_samples]
        ray = torch.repeat_interleave(torch.arange(n_used), offsets.diff())
        directions, variances = rays.directions[ray], None
        if self._field.trunk.sees_variances:
            variances = cone_variances(t_starts, t_ends, directions, rays.pixel_widths[ray])
            variances /= (2 * self._field.unit) ** 2
        times = None if rays.times is None else rays.times[ray]
        cube = Samples(
            samples.positions[:n_samples], directions, variances, rays.camera_ids[ray], times
        )
        density, color = self._density_and_color(cube)
        seen = composite(
            offsets, t_starts, t_ends, density, color, stop=self._field.config.sampling.stop
        )
        picture = seen.color + (1 - seen.opacity)[:, None] * rays.background[:n_used]
        error = picture - rays.target[:n_used]
        loss = torch.nn.functional.huber_loss(picture, rays.target[:n_used], delta=self._huber) / (
            5 * self._huber
        )
        value = float(loss.detach())
        if loss.requires_grad and value == value:
            self._state.backward(loss)
        return Outcome(value, float(error.detach().square().mean()), n_used, n_samples)

    def _density_and_color(self, cube: Samples) -> tuple[Tensor, Tensor]:
        """Per world length [n], and sRGB [n, 3], at positions in the trunk's cube."""
        levels = self._field.evaluate_cube(cube, ("log_density", "color"))
        assert levels.log_density is not None
        assert levels.color is not None
        return density_of(levels.log_density) / self._field.unit, levels.color


def density_of(log_density: Tensor) -> Tensor:
    """Density [n] per unit of log-density [n] as the fused path has it (docs/ops/fused.md).

    No sample overflows, and none is too dense to get a gradient: what is opaque can clear up.
    """
    density: Tensor = _Density.apply(log_density)  # type: ignore[no-untyped-call]
    return density


class _Density(torch.autograd.Function):
    """See `density_of`."""

    @staticmethod
    def forward(ctx: Any, log_density: Tensor) -> Tensor:
        density = log_density.clamp(LOG_DENSITY_MIN, _DENSEST).exp()
        ctx.save_for_backward(density)
        return density

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> Tensor:
        density: Tensor = ctx.saved_tensors[0]
        return gradient * density
