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
    march_into,
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
    """What a batch gave: mean loss and squared error [], and int64 [2]: rays used, their samples.

    On the device of the field, where they may still be on their way.
    """

    loss: Tensor
    mse: Tensor
    used: Tensor


class GradientStep(Protocol):
    """Leaves the gradients of a batch in the optimiser's buffers."""

    def __call__(self, rays: Rays, scene: MarchScene) -> Outcome:
        """Use as many rays as the buffers hold."""
        ...


def gradient_step(
    field: RadianceField, state: TrainState, batch_samples: int, huber: float
) -> GradientStep:
    """The fused path where the field has that form."""
    batch = PackedBatch(field, batch_samples)
    if field.fused_spec() is not None:
        return _Fused(field, state, batch, huber)
    return _ByOps(field, state, batch, huber)


class PackedBatch:
    """Buffers for the packed samples of a step, which are overwritten by the next one's.

    On a GPU all of a buffer is computed with, whatever is in it: its length is known to the host,
    the number of samples is not. It is a little longer than the batch is steered to.
    """

    def __init__(self, field: RadianceField, batch_samples: int) -> None:
        self.field = field
        device = field.occupancy.device
        self._whole = device.type != "cpu"
        n = batch_samples * 9 // 8 if self._whole else batch_samples * 3 // 2
        # Plain numbers, since samples of nobody are evaluated too.
        self.t_starts, self.t_ends = torch.zeros(n, device=device), torch.ones(n, device=device)
        self.positions = torch.zeros(n, 3, device=device)

    def march(
        self,
        origins: Tensor,
        directions: Tensor,
        jitter: Tensor,
        scene: MarchScene,
        times: Tensor | None = None,
    ) -> tuple[RadianceSamples, Tensor]:
        """Samples in the field's occupied cells; int64 [2]: how many rays fit, their samples.

        Rays of a field that moves have times.
        """
        n = origins.shape[0]
        offsets = torch.empty(n + 1, dtype=torch.int64, device=origins.device)
        samples = RadianceSamples(offsets, self.t_starts, self.t_ends, self.positions)
        grids: Tensor | None = None
        if times is not None:
            assert isinstance(self.field, DynamicField)
            grids = self.field.span_of(times)
        words = self.field.occupancy
        return samples, march_into(scene, words, origins, directions, jitter, samples, grids)

    def n_shown(self, used: Tensor) -> int:
        """How many of the samples are computed with."""
        return self.t_starts.numel() if self._whole else int(used[1])


def owners(offsets: Tensor, n: int) -> Tensor:
    """The ray of each of n packed samples, int64 [n]; the last one has those of nobody, too.

    Example:
        >>> owners(torch.tensor([0, 2, 2, 3]), 4)
        tensor([0, 0, 2, 2])
    """
    rays = torch.arange(offsets.numel() - 1, device=offsets.device)
    counts = torch.cat([offsets[1:-1], offsets.new_full((1,), n)]) - offsets[:-1]
    return torch.repeat_interleave(rays, counts, output_size=n)


def of_rays(offsets: Tensor, n: int) -> Tensor:
    """Which of n packed samples belong to a ray: bool [n]."""
    return torch.arange(n, device=offsets.device) < offsets[-1]


class Kept(NamedTuple):
    """Chosen samples: which they are, and the offsets of rays [n_rays + 1] among them.

    On a GPU there is room for a number of them that the host knows: `exists` says which do, `fits`,
    bool [n_rays], which rays have all of theirs, and `wanted`, int64 [1], for how many there should
    be room.
    """

    chosen: Tensor
    offsets: Tensor
    exists: Tensor | None
    fits: Tensor
    wanted: Tensor


@torch.no_grad()
def kept_samples(keep: Tensor, offsets: Tensor, room: int | None) -> Kept:
    """The samples of a mask bool [n], in order; with `room`, as many of them as that.

    Example:
        >>> keep, offsets = torch.tensor([True, False, True]), torch.tensor([0, 2, 3])
        >>> kept_samples(keep, offsets, None).chosen, kept_samples(keep, offsets, 4).offsets
        (tensor([0, 2]), tensor([0, 1, 2]))
    """
    total = torch.cat([offsets.new_zeros(1), keep.cumsum(0)])
    offsets = total[offsets]
    if room is None:
        return Kept(keep.nonzero()[:, 0], offsets, None, offsets[1:] >= 0, total[-1:])
    count = torch.arange(1, room + 1, device=keep.device)
    chosen = torch.searchsorted(total[1:], count).clamp(max=len(keep) - 1)
    fits = offsets[1:] <= room
    return Kept(chosen, offsets.clamp(max=room), count <= total[-1], fits, total[-1:])


def shares(used: Tensor, n_rays: int, fits: Tensor | None = None) -> Tensor:
    """What rays count in a mean over those that were used and fit, float32 [n_rays]."""
    counts = torch.arange(n_rays, device=used.device) < used[0]
    counts = counts if fits is None else counts & fits
    return counts / counts.sum().clamp(min=1)


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
        samples, used = self._batch.march(
            rays.origins, rays.directions, rays.jitter, scene, rays.times
        )
        n, n_used = rays.origins.shape[0], max(int(used[0]), 1)
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
            n_loss_rays=n_used,
        )
        error = (color[:n_used] - rays.target[:n_used]).square().mean()
        return Outcome(loss[:n_used].mean(), error, used)


class _ByOps:
    """The same by autograd, for architectures without a fused form, and on a GPU."""

    def __init__(
        self, field: RadianceField, state: TrainState, batch: PackedBatch, huber: float
    ) -> None:
        self._field, self._state, self._batch, self._huber = field, state, batch, huber

    def __call__(self, rays: Rays, scene: MarchScene) -> Outcome:
        samples, used = self._batch.march(
            rays.origins, rays.directions, rays.jitter, scene, rays.times
        )
        n, offsets = self._batch.n_shown(used), samples.offsets
        t_starts, t_ends = samples.t_starts[:n], samples.t_ends[:n]
        ray = owners(offsets, n)
        directions, variances = rays.directions[ray], None
        if self._field.trunk.sees_variances:
            variances = cone_variances(t_starts, t_ends, directions, rays.pixel_widths[ray])
            variances /= (2 * self._field.unit) ** 2
        times = None if rays.times is None else rays.times[ray]
        cube = Samples(samples.positions[:n], directions, variances, rays.camera_ids[ray], times)
        density, color = self._density_and_color(cube)
        seen = composite(
            offsets, t_starts, t_ends, density, color, stop=self._field.config.sampling.stop
        )
        picture = seen.color + (1 - seen.opacity)[:, None] * rays.background
        share = shares(used, len(picture))
        loss = (huber(picture, rays.target, self._huber) * share).sum()
        error = ((picture.detach() - rays.target).square().mean(1) * share).sum()
        if loss.requires_grad and (loss.device.type != "cpu" or bool(loss.isfinite())):
            self._state.backward(loss)
        return Outcome(loss.detach(), error, used)

    def _density_and_color(self, cube: Samples) -> tuple[Tensor, Tensor]:
        """Per world length [n], and sRGB [n, 3], at positions in the trunk's cube."""
        levels = self._field.evaluate_cube(cube, ("log_density", "color"))
        assert levels.log_density is not None
        assert levels.color is not None
        return density_of(levels.log_density) / self._field.unit, levels.color


def huber(picture: Tensor, target: Tensor, knee: float) -> Tensor:
    """The loss of each ray [n] of colours [n, 3]: the mean of Huber(error) / 5, see `fused`."""
    loss = torch.nn.functional.huber_loss(picture, target, reduction="none", delta=knee)
    return loss.mean(1) / (5 * knee)


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
