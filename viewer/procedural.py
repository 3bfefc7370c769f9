"""The procedural scenes as something to look at, also those that move."""

from __future__ import annotations

import functools
import math
from collections import OrderedDict

import torch
from torch import Tensor

from neural_fields.rendering.seen import MODES
from neural_fields.rendering.volume import Box
from neural_fields.scenes import catalog
from neural_fields.scenes.render import Renderer
from neural_fields.scenes.shade import shade, to_srgb
from neural_fields.scenes.trace import trace
from neural_fields.viewer.shown import Look, Rays, Start

_MOMENTS = 120  # that a moving scene is shown at
_MOMENT_CELLS = 32  # per side of the grid of one of them: built within a frame
_THUMBNAIL_PX = 96
_FOV = math.radians(32)
_FROM = (0.52, -0.72, 0.46)  # direction of the first view


class ShownScene:
    """A procedural scene; nobody but the render service's thread asks for pixels.

    Raises:
        InputError: there is none of that name.
    """

    kind = "scene"
    modes: tuple[str, ...] = MODES

    def __init__(self, name: str) -> None:
        self._name = name
        self.moves = catalog.moves(name)
        self.work = ("scene", name)
        self._moments: OrderedDict[int, Renderer] = OrderedDict()

    @functools.cached_property
    def box(self) -> Box:
        """Around all that is there at any time."""
        times = torch.linspace(0, 1, 17).tolist() if self.moves else [0.0]
        bounds = [catalog.build(self._name, time).bounds() for time in times]
        low = torch.tensor([[*low] for low, _ in bounds]).amin(0).tolist()
        high = torch.tensor([[*high] for _, high in bounds]).amax(0).tolist()
        return (low[0], low[1], low[2]), (high[0], high[1], high[2])

    @property
    def start(self) -> Start:
        """From above the front."""
        low, high = (torch.tensor(corner) for corner in self.box)
        middle = (low + high) / 2
        away = 0.55 * float((high - low).norm()) / math.sin(_FOV / 2)
        toward = torch.nn.functional.normalize(torch.tensor(_FROM), dim=0)
        x, y, z = (middle + away * toward).tolist()
        at = middle.tolist()
        return Start((x, y, z), (at[0], at[1], at[2]), (0.0, 0.0, 1.0), _FOV)

    @torch.no_grad()
    def pixels(self, rays: Rays, look: Look) -> Tensor:
        """See `Shown.pixels`; one ray per pixel."""
        moment = self._moment(look.time)
        origins, directions = rays.origins.t().contiguous(), rays.directions.t().contiguous()
        # A fifth of a pixel, at the distance where things are, is near enough.
        away = float((origins[:, 0] - torch.tensor(self.box).mean(0)).norm())
        near = min(2e-3, max(5e-5, 0.2 * away * float(rays.pixel_widths[0])))
        hits = trace(moment.grid, origins, directions, box=look.box, arrived=near)
        found = (hits.part >= 0).nonzero()[:, 0]
        if look.mode == "depth":
            return hits.distance
        if look.mode == "opacity":
            return (hits.part >= 0).float()
        background = look.background or (1.0, 1.0, 1.0)
        normal = look.mode == "normal"
        result = torch.tensor((1.0, 1.0, 1.0) if normal else background).repeat(len(hits.part), 1)
        if len(found):
            d = directions[:, found]
            at = origins[:, found] + hits.distance[found] * d
            shaded = shade(moment.grid, moment.look, at, d, hits.part[found])
            seen = shaded.normal / 2 + 0.5 if normal else to_srgb(shaded.color)
            result[found] = seen.t()
        return result

    def _moment(self, time: float) -> Renderer:
        """The scene at a time, made ready; the last ones are kept."""
        number = round(min(1.0, max(0.0, time)) * _MOMENTS) if self.moves else 0
        moment = self._moments.pop(number, None)
        if moment is None:
            scene = catalog.build(self._name, number / _MOMENTS)
            moment = Renderer(scene, _MOMENT_CELLS) if self.moves else Renderer(scene)
        self._moments[number] = moment
        if len(self._moments) > _MOMENTS + 1:
            self._moments.popitem(last=False)
        return moment


@functools.cache
def thumbnail(name: str) -> Tensor:
    """A small picture of a scene: uint8 [h, w, 3]."""
    from neural_fields.scenes.cameras import focal_length, poses

    renderer = Renderer(catalog.build(name), _MOMENT_CELLS)
    pose = poses(1, 0, test=False)[0]
    rgba = renderer.view(pose, focal_length(_THUMBNAIL_PX), _THUMBNAIL_PX, _THUMBNAIL_PX).rgba
    return ((rgba[..., :3] + 1 - rgba[..., 3:]).clamp(0, 1) * 255).round().byte()
