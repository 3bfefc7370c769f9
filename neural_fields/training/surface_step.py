"""Loss and gradients of a batch of rays of a surface field."""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import Tensor

from neural_fields.encodings import HashEncoding
from neural_fields.fields import Samples, SurfaceField
from neural_fields.fields.surface import thickness_of
from neural_fields.ops import MarchScene, composite, trunk_features, trunk_slope
from neural_fields.training.radiance_step import (
    Outcome,
    PackedBatch,
    Rays,
    huber,
    kept_samples,
    of_rays,
    owners,
    shares,
)
from neural_fields.training.state import TrainState

_HIDDEN = 7.0  # optical thickness behind which nothing is seen
_FAINT = 1e-3  # weight below which a sample is left out
_GRAZING = -0.03  # rate of coming nearer that is assumed at least
_CLEAR = 0.01  # units that carved places keep from the surface
_DENSE_LEVELS = 4  # of a hash grid, that places away from the surface may move: hardly any collide
EDGE_EVERY = 4  # one ray in so many is one where photographs have an edge
_PAIRED = 4  # one sample in so many is compared with a neighbour
_BEND = 0.03  # radians between neighbours' normals, from which on creases cost no more than bends


@dataclass(frozen=True)
class Moment:
    """What the loss is at a step.

    Attributes:
        n_levels: of a hash grid that are used; None: all, or it is none.
        spacing: of differences that slopes are had from, in the cube; 0: by derivatives.
        reach: between neighbours whose normals are compared, in the cube.
        eikonal: weight of the mean of (|slope| - 1)^2.
        curvature: weight of how much normals differ, or, by differences, of the mean curvature
            times their spacing.
        carved: weight of surfaces where photographs show that there are none.
        huber: knee of the colours' loss.
    """

    n_levels: int | None
    spacing: float
    reach: float
    eikonal: float
    curvature: float
    carved: float
    huber: float


class Places(NamedTuple):
    """Random positions in the cube: anywhere, and where photographs show that nothing is."""

    anywhere: Tensor
    carved: Tensor


class _Near(NamedTuple):
    """distance [n] in units, features, slope [n, 3]; mean curvature [n] where it cost nothing."""

    distance: Tensor
    features: Tensor
    slope: Tensor
    bend: Tensor | None = None


class SurfaceStep:
    """Leaves the gradients of a batch in the optimiser's buffers.

    Rays are marched; where the present surface lets through is found without gradients; and only
    samples that weigh something are evaluated with their slopes.
    """

    def __init__(self, field: SurfaceField, state: TrainState, batch_samples: int) -> None:
        self._field, self._state = field, state
        self._batch = PackedBatch(field, batch_samples)
        self._spec = field.slope_spec()
        # How many samples are kept is not known to the host of a GPU: so many are looked at.
        self.room: int | None = None
        if field.occupancy.device.type != "cpu":
            self.room = self._batch.t_starts.numel()

    def __call__(self, rays: Rays, scene: MarchScene, places: Places, at: Moment) -> Outcome:
        """Use as many rays as the buffers hold."""
        samples, used = self._batch.march(rays.origins, rays.directions, rays.jitter, scene)
        n = self._batch.n_shown(used)
        ray, cube = owners(samples.offsets, n), samples.positions[:n]
        lengths = samples.t_ends[:n] - samples.t_starts[:n]
        weighs = self._weighs(cube, samples.offsets, ray, lengths, at)
        kept = kept_samples(weighs, samples.offsets, self.room)
        ray, cube = ray[kept.chosen], cube[kept.chosen].contiguous()
        t_starts, t_ends = samples.t_starts[kept.chosen], samples.t_ends[kept.chosen]
        near = self._near(cube, at, at.n_levels)
        loss = self._regular(cube, near, at, kept.exists) + self._away(places, at)
        density, color = self._seen(near, cube, rays, ray, t_ends - t_starts)
        stop = self._field.config.sampling.stop
        out = composite(kept.offsets, t_starts, t_ends, density, color, stop=stop)
        picture = out.color + (1 - out.opacity)[:, None] * rays.background
        share = shares(used, len(picture), kept.fits)
        loss = loss + (huber(picture, rays.target, at.huber) * share).sum()
        if loss.device.type != "cpu" or bool(loss.isfinite()):
            self._state.backward(loss)
        # Rays of edges are no fair sample of the pixels.
        fair = share * (torch.arange(len(share), device=share.device) % EDGE_EVERY != 0)
        error = (picture.detach() - rays.target).square().mean(1)
        mse = (error * fair).sum() / fair.sum().clamp(min=1e-9)
        return Outcome(loss.detach(), mse, torch.cat([used, kept.wanted]))

    @torch.no_grad()
    def _weighs(
        self, cube: Tensor, offsets: Tensor, ray: Tensor, lengths: Tensor, at: Moment
    ) -> Tensor:
        """Which samples weigh something: bool [n].

        How fast rays come nearer is taken from one sample to the next: light that grazes a surface
        goes on, and what it meets behind has to be there.
        """
        field = self._field
        steps = lengths / field.unit
        if self._spec is None:
            distance = self._encoded(cube, at.n_levels)[0]
        else:
            fused = field.trunk.fused()
            assert fused is not None
            parts = (fused.table, fused.params, self._spec, at.n_levels)
            distance = trunk_features(cube, *parts)[:, 0] + field.sphere(cube)[0]
        approach = torch.full_like(distance, -1.0)
        if len(distance) > 1:
            change = distance.diff() / steps[:-1]
            approach[:-1] = torch.where(ray.diff() == 0, change.clamp(-1, _GRAZING), -1.0)
        config = field.config
        thickness = thickness_of(config.density, distance, approach, steps, field.width).double()
        total = torch.cat([thickness.new_zeros(1), thickness.cumsum(0)])
        before = total[:-1] - total[offsets[:-1]][ray]
        weight = (-before).exp() * -torch.expm1(-thickness)
        return (before < _HIDDEN) & (weight > _FAINT) & of_rays(offsets, len(ray))

    def _encoded(self, cube: Tensor, n_levels: int | None) -> tuple[Tensor, Tensor]:
        """`SurfaceField.encoded` with some levels of a hash grid."""
        encoding = dict(self._field.trunk.named_children()).get("encoding")
        if not isinstance(encoding, HashEncoding):
            return self._field.encoded(Samples(cube))
        encoding.n_levels = n_levels
        try:
            return self._field.encoded(Samples(cube))
        finally:
            encoding.n_levels = None

    def _near(self, cube: Tensor, at: Moment, n_levels: int | None) -> _Near:
        if at.spacing > 0:
            return self._by_differences(cube, at.spacing, n_levels)
        if self._spec is not None:
            return self._fused(cube, n_levels)
        cube = cube.detach().requires_grad_()
        distance, features = self._encoded(cube, n_levels)
        (slope,) = torch.autograd.grad(distance.sum(), cube, create_graph=True)
        return _Near(distance, features, slope / 2)

    def _fused(self, cube: Tensor, n_levels: int | None) -> _Near:
        fused, field = self._field.trunk.fused(), self._field
        assert fused is not None
        assert self._spec is not None
        encoding = field.trunk.get_submodule("encoding")
        assert isinstance(encoding, HashEncoding)
        assert encoding.sparse_gradient is not None
        parts = (fused.table, fused.params, self._spec, encoding.sparse_gradient, n_levels)
        features, slope = trunk_slope(cube, *parts)
        first, outward = field.sphere(cube)
        distance = features[:, 0] + first
        return _Near(
            distance, torch.cat([distance[:, None], features[:, 1:]], 1), slope / 2 + outward
        )

    def _by_differences(self, cube: Tensor, spacing: float, n_levels: int | None) -> _Near:
        """Neuralangelo, Li et al. 2023, equations 3 and 5."""
        axes = torch.eye(3, device=cube.device)
        steps = spacing * torch.cat([axes, -axes])
        around = (cube[None] + steps[:, None]).clamp(0, 1).view(-1, 3)
        if self._spec is None:
            distance, features = self._encoded(cube, n_levels)
            beside = self._encoded(around, n_levels)[0].view(6, -1)
        else:
            near = self._fused(torch.cat([cube, around]), n_levels)
            distance, features = near.distance[: len(cube)], near.features[: len(cube)]
            beside = near.distance[len(cube) :].view(6, -1)
        slope = (beside[:3] - beside[3:]).t() / (4 * spacing)
        bend = (beside.sum(0) - 6 * distance) / (4 * spacing * spacing)
        return _Near(distance, features, slope, bend)

    def _regular(self, cube: Tensor, near: _Near, at: Moment, exists: Tensor | None) -> Tensor:
        """Slopes of length 1, and normals that neighbours share."""
        if len(cube) == 0:
            return near.distance.sum()
        loss: Tensor = at.eikonal * _stretch(near.slope, exists)
        if at.curvature == 0:
            return loss
        if near.bend is not None:
            bend = _mean(near.bend.abs(), exists)
            return torch.add(loss, bend, alpha=at.curvature * at.spacing)
        normal = torch.nn.functional.normalize(near.slope[::_PAIRED], dim=1)
        # The neighbour lies in the surface, beside the sample, in a direction of no meaning.
        axis = torch.arange(len(normal), device=normal.device) % 3
        spread = torch.roll(normal.detach(), 1, 0) + torch.eye(3, device=normal.device)[axis]
        tangent = torch.nn.functional.normalize(torch.cross(normal.detach(), spread, dim=1), dim=1)
        beside = (cube[::_PAIRED] + at.reach * tangent).clamp(0, 1)
        other = torch.nn.functional.normalize(self._near(beside, at, at.n_levels).slope, dim=1)
        differs = ((normal - other).square().sum(1) + _BEND**2).sqrt()
        paired = None if exists is None else exists[::_PAIRED]
        return torch.add(loss, _mean(differs, paired), alpha=at.curvature)

    def _away(self, places: Places, at: Moment) -> Tensor:
        """Slopes of length 1 anywhere, and no surface where photographs show none."""
        cube, few = torch.cat(places), at.n_levels
        if few is not None:
            few = min(few, _DENSE_LEVELS)
        near = self._near(cube, at, few)
        loss: Tensor = at.eikonal * _stretch(near.slope)
        n = len(places.carved)
        if n:
            too_near = (_CLEAR - near.distance[-n:]).clamp(min=0).mean()
            loss = torch.add(loss, too_near, alpha=at.carved)
        return loss

    def _seen(
        self, near: _Near, cube: Tensor, rays: Rays, ray: Tensor, lengths: Tensor
    ) -> tuple[Tensor, Tensor]:
        """Density per world length [n] and colour [n, 3] of samples."""
        field, directions = self._field, rays.directions[ray]
        approach = (near.slope * directions).sum(1)
        thickness = thickness_of(
            field.config.density, near.distance, approach, lengths / field.unit, field.width
        )
        samples = Samples(cube.detach(), directions, None, rays.camera_ids[ray])
        return thickness / lengths, field.colors(near.features, samples, near.slope)


def _stretch(slope: Tensor, exists: Tensor | None = None) -> Tensor:
    """How far slopes [n, 3] are from a length of 1."""
    return _mean((slope.norm(dim=1) - 1).square(), exists)


def _mean(values: Tensor, exists: Tensor | None) -> Tensor:
    """Of the values [n] that exist."""
    if exists is None:
        return values.mean()
    return torch.where(exists, values, 0.0).sum() / exists.sum().clamp(min=1)
