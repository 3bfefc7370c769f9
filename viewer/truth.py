"""What a field was fitted to, beside what it shows: photographs of a scene, or a picture."""

from __future__ import annotations

import torch
from torch import Tensor

from neural_fields.data.dataset import Dataset
from neural_fields.data.picture import Picture
from neural_fields.fields import RadianceField
from neural_fields.fields.image import to_curve
from neural_fields.rendering.seen import mean_depth
from neural_fields.rendering.volume import Box, over, render_rays
from neural_fields.viewer.report_figures import ERROR_RAMP, colored

ERROR_SCALE = 0.2  # mean absolute difference that the last colour stands for
_UNKNOWN = 0.55  # grey of what a photograph does not show
_FAR = 1e3  # units, of what rays see that meet nothing
_SAME = 0.03  # units, of a surface and what the photograph's ray meets


def error_colors(difference: Tensor, known: Tensor) -> Tensor:
    """Colours [n, 3] of mean absolute differences [n] as in the report, grey where not known."""
    return torch.where(known[:, None], colored(difference / ERROR_SCALE, ERROR_RAMP), _UNKNOWN)


class Photographs:
    """The photographs of a scene."""

    def __init__(self, data: Dataset) -> None:
        self._data = data
        background = data.background
        self._background = torch.zeros(3) if background is None else background

    def nearest(self, position: Tensor) -> int:
        """The number of the photograph that was taken nearest to a place [3]."""
        places = self._data.cameras.camera_to_world[:, :3, 3]
        return int((places - position).norm(dim=1).argmin())

    @torch.no_grad()
    def errors(
        self,
        field: RadianceField,
        origins: Tensor,
        directions: Tensor,
        pixel_widths: Tensor,
        box: Box | None,
    ) -> Tensor:
        """How far what rays see is from the nearest photograph of it, as colours [n, 3].

        What a ray sees is looked up in the photograph, grey where that does not show it: outside of
        its frame, or behind something else, as the field's own depths say.
        """
        out = render_rays(field, origins, directions, pixel_widths, box)
        solid = out.opacity > 0.5
        depth = torch.where(solid, mean_depth(out), _FAR * field.unit)
        points = origins + depth[:, None] * directions
        index = self.nearest(origins[0])
        pixels, known = self._places(index, points)
        known = known & ~self._hidden(field, index, points, box)
        truth = torch.zeros_like(points)
        truth[known] = self._colors(index, pixels[known])
        difference = (over(out, self._background) - truth).abs().mean(1)
        return error_colors(difference, known)

    def _places(self, index: int, points: Tensor) -> tuple[Tensor, Tensor]:
        """Rows and columns [n, 2] of points in a photograph, and whether they are in it."""
        cameras = self._data.cameras
        at, depth = cameras.project(index, points)
        ij = at.floor().flip(1)
        size = ij.new_tensor([cameras.height, cameras.width])
        inside = (depth > 0) & ((ij >= 0) & (ij < size)).all(1)
        if self._data.masks is not None:
            row, column = ij[inside].long().unbind(1)
            inside[inside.clone()] = self._data.masks[index, row, column]
        return ij, inside

    def _hidden(self, field: RadianceField, index: int, points: Tensor, box: Box | None) -> Tensor:
        """Whether something stands between the photograph's camera and points."""
        eye = self._data.cameras.camera_to_world[index, :3, 3].expand_as(points)
        away = points - eye
        distance = away.norm(dim=1)
        widths = self._data.cameras.pixel_widths(torch.full((len(points),), index))
        seen = render_rays(field, eye, away / distance[:, None], widths, box)
        met: Tensor = (seen.opacity > 0.5) & (mean_depth(seen) < distance - _SAME * field.unit)
        return met

    def _colors(self, index: int, ij: Tensor) -> Tensor:
        color, alpha = self._data.pixels(torch.full((len(ij),), index), ij.long())
        return color + (1 - alpha)[:, None] * self._background


def picture_errors(picture: Picture, values: Tensor, positions: Tensor) -> Tensor:
    """How far values [n, channels] are from a picture's at positions [n, 2] in pixels: colours."""
    height, width = picture.pixels.shape[:2]
    column = positions[:, 0].floor().long().clamp(0, width - 1)
    row = positions[:, 1].floor().long().clamp(0, height - 1)
    truth = picture.at(row * width + column)
    if picture.color_space == "linear":
        values, truth = to_curve(values), to_curve(truth)
    difference = (values - truth).abs().mean(1)
    return error_colors(difference, torch.ones_like(difference, dtype=torch.bool))
