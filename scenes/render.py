"""One picture of a scene: primary rays, then more of them where the picture has edges."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from neural_fields.scenes.grid import FINE, Grid, build_grid, pick
from neural_fields.scenes.model import Array, Scene
from neural_fields.scenes.shade import Look, make_look, shade, to_srgb
from neural_fields.scenes.trace import trace

# Points inside a pixel: a rotated square, then a lattice that fills its gaps.
_FIRST = ((0.375, 0.125), (0.875, 0.375), (0.625, 0.875), (0.125, 0.625))
_MORE = tuple(
    ((i + 0.5) / 3, (j + 0.5) / 3) for i in range(3) for j in range(3) if i != 1 or j != 1
)
_CHUNK = 1 << 19
_DEPTH_STEP = 0.02
_COLOR_STEP = 0.08  # sRGB difference between neighbours that counts as an edge


class View(NamedTuple):
    """What a camera sees.

    Attributes:
        rgba: [height, width, 4] sRGB, premultiplied by alpha, in [0, 1].
        depth: [height, width] distance along the centre ray; 0 where nothing.
        normal: [height, width, 3] world normal; 0 where nothing.
        ids: [height, width] part number; -1 where nothing.
    """

    rgba: Tensor
    depth: Tensor
    normal: Tensor
    ids: Tensor


class Renderer:
    """A scene made ready to be rendered; ``n_cells`` as of ``build_grid``.

    Example:
        >>> renderer = Renderer(scene)  # doctest: +SKIP
        >>> view = renderer.view(pose, focal=40.0, width=32, height=32)  # doctest: +SKIP
    """

    def __init__(self, scene: Scene, n_cells: int = FINE) -> None:
        self.scene = scene
        self.grid: Grid = build_grid(scene, n_cells)
        self.look: Look = make_look(scene.materials, scene.material_ids, scene.light)

    def view(self, camera_to_world: Array, focal: float, width: int, height: int) -> View:
        """Renders one view; ``camera_to_world`` [4, 4] has OpenGL axes, ``focal`` is in pixels."""
        return self.views([camera_to_world], focal, width, height)[0]

    @torch.no_grad()
    def views(self, poses: Sequence[Array], focal: float, width: int, height: int) -> list[View]:
        """Renders several views at once: their rays share the steps, which saves time."""
        camera = _Cameras(torch.tensor(np.stack(poses), dtype=torch.float32), focal, width, height)
        pixel = torch.arange(len(poses) * width * height)
        middle = torch.full((len(pixel),), 0.5)
        samples = self._sample(camera, pixel, middle, middle)
        edge = torch.nonzero(_edges(samples, len(poses), height, width))[:, 0]
        if len(edge):
            samples.rgba[:, edge] = self._supersample(camera, edge)
        shape = (len(poses), height, width)
        rgba = samples.rgba.t().reshape(*shape, 4)
        normal = samples.normal.t().reshape(*shape, 3)
        depth, ids = samples.depth.reshape(shape), samples.ids.reshape(shape)
        return [View(*planes) for planes in zip(rgba, depth, normal, ids, strict=True)]

    def _supersample(self, camera: _Cameras, edge: Tensor) -> Tensor:
        """Mean premultiplied colour [4, k] of pixels ``edge`` [k] over points inside them."""
        mean = self._mean(camera, edge, _FIRST)
        # Outlines and thin parts show most, so what is not fully covered gets further rays.
        outline = torch.nonzero(mean[3] < 1.0)[:, 0]
        if len(outline):
            more = self._mean(camera, pick(edge, outline), _MORE)
            weight = len(_FIRST) / (len(_FIRST) + len(_MORE))
            mean[:, outline] = torch.lerp(more, pick(mean, outline), weight)
        return mean

    def _mean(
        self, camera: _Cameras, pixel: Tensor, places: Sequence[tuple[float, float]]
    ) -> Tensor:
        """Mean premultiplied colour [4, k] of pixels [k] over the given points inside each."""
        u, v = torch.tensor(places).repeat_interleave(len(pixel), 0).t()
        rgba = self._sample(camera, pixel.repeat(len(places)), u, v).rgba
        return rgba.reshape(4, len(places), len(pixel)).mean(1)

    def _sample(self, camera: _Cameras, pixel: Tensor, u: Tensor, v: Tensor) -> _Samples:
        """What rays through the points u, v [n] in [0, 1] of pixels [n] see."""
        chunks = [
            self._sample_chunk(camera, *some)
            for some in zip(*(torch.split(x, _CHUNK) for x in (pixel, u, v)), strict=True)
        ]
        return _Samples(*(torch.cat(values, dim=-1) for values in zip(*chunks, strict=True)))

    def _sample_chunk(self, camera: _Cameras, pixel: Tensor, u: Tensor, v: Tensor) -> _Samples:
        origin, direction = camera.rays(pixel, u, v)
        hits = trace(self.grid, origin, direction, footprint=0.75 / camera.focal)
        rgba, normal = torch.zeros(4, len(pixel)), torch.zeros(3, len(pixel))
        found = torch.nonzero(hits.part >= 0)[:, 0]
        if len(found):
            d = pick(direction, found)
            points = pick(origin, found) + pick(hits.distance, found) * d
            shaded = shade(self.grid, self.look, points, d, pick(hits.part, found))
            rgba[:3, found] = to_srgb(shaded.color)
            rgba[3, found] = 1.0
            normal[:, found] = shaded.normal
        return _Samples(rgba, hits.distance, normal, hits.part, hits.grazed)


class _Samples(NamedTuple):
    """Rays' colour [4, n], depth [n], normal [3, n], part [n] and whether they graze one [n]."""

    rgba: Tensor
    depth: Tensor
    normal: Tensor
    ids: Tensor
    grazed: Tensor


class _Cameras(NamedTuple):
    poses: Tensor
    focal: float
    width: int
    height: int

    def rays(self, pixel: Tensor, u: Tensor, v: Tensor) -> tuple[Tensor, Tensor]:
        """Origins and unit directions [3, n] through the points u, v [n] of pixels [n].

        Pixels count through all views, row by row.
        """
        size = self.width * self.height
        view, rest = pixel // size, pixel % size
        x = (rest % self.width + u - self.width / 2) / self.focal
        y = (self.height / 2 - rest // self.width - v) / self.focal
        pose = pick(self.poses.permute(1, 2, 0).contiguous(), view)
        direction = pose[:3, 0] * x + pose[:3, 1] * y - pose[:3, 2]
        return pose[:3, 3], direction / direction.square().sum(0).sqrt()


def _edges(samples: _Samples, n_views: int, height: int, width: int) -> Tensor:
    """Pixels [n] that differ from a neighbour in depth or colour, or that a part grazes."""
    shape = (n_views, height, width)
    edge = samples.grazed.reshape(shape).clone()
    color, far = samples.rgba.reshape(4, *shape), samples.depth.reshape(shape)
    for axis, length in ((1, height), (2, width)):
        step = color.diff(dim=axis + 1).abs().amax(0) > _COLOR_STEP
        step |= (far.diff(dim=axis).abs() > _DEPTH_STEP) & _part_change(samples.ids, shape, axis)
        edge.narrow(axis, 1, length - 1).logical_or_(step)
        edge.narrow(axis, 0, length - 1).logical_or_(step)
    return edge.reshape(-1)


def _part_change(ids: Tensor, shape: tuple[int, int, int], axis: int) -> Tensor:
    return ids.reshape(shape).diff(dim=axis) != 0
