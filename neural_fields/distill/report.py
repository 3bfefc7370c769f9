"""How good a student is: against its teacher always, against the data where they are given."""

from __future__ import annotations

import time
from typing import Any, NamedTuple

import torch
from torch import Tensor

from neural_fields.data.dataset import Dataset
from neural_fields.data.mesh import Mesh
from neural_fields.data.picture import Picture
from neural_fields.distill.cameras import like
from neural_fields.fields import ImageField, RadianceField, SdfField
from neural_fields.fields.load import Field
from neural_fields.rendering.cameras import Cameras
from neural_fields.rendering.image import render_image
from neural_fields.rendering.orbits import around
from neural_fields.rendering.surface import render_surface
from neural_fields.rendering.volume import Rendered, over, render_view
from neural_fields.training.evaluate import evaluate, evaluate_image
from neural_fields.training.evaluate_sdf import distances_at, evaluate_sdf
from neural_fields.training.metrics import WINDOW, psnr, ssim
from neural_fields.training.state import stream_seed

VIEWS = 6
LARGEST = 200  # pixels along a side of the views that are compared
CONTRAST = 5.0  # of the picture of differences
_POINTS = 1 << 20
_STREAM = -7  # of the cameras that are compared from: none of those that were learnt from


class Comparison(NamedTuple):
    """A report.

    `figures` are plain data for JSON; `picture` [h, w, 3] in [0, 1] shows teacher, student, and
    their difference `CONTRAST` times as strong, side by side.
    """

    figures: dict[str, Any]
    picture: Tensor


def compare(
    teacher: Field,
    student: Field,
    *,
    cameras: Cameras | None = None,
    background: Tensor | None = None,
    data: Dataset | Picture | Mesh | None = None,
) -> Comparison:
    """Compare a student with its teacher, two fields of one kind.

    Args:
        teacher: what was learnt from.
        student: what learnt.
        cameras: the scene's, of radiance fields; views are drawn between them.
        background: float32 [3] under radiance fields; None: black.
        data: what the teacher was fitted to (of a data set the split to score), or None.

    Returns:
        `psnr_student_vs_teacher` and `ssim_student_vs_teacher`, of shapes
        `iou_student_vs_teacher` and `distance_error`, of radiance fields `depth_error` (units) and
        `pixels_per_s`; with data `psnr_teacher`, `psnr_student` and the like. A figure that means
        nothing for the kind is None.
    """
    figures: dict[str, Any] = {"psnr_teacher": None, "psnr_student": None}
    if isinstance(teacher, RadianceField) and isinstance(student, RadianceField):
        assert cameras is not None
        under = torch.zeros(3) if background is None else background
        found, picture = _scenes(teacher, student, cameras, under)
    elif isinstance(teacher, SdfField) and isinstance(student, SdfField):
        found, picture = _shapes(teacher, student)
    elif isinstance(teacher, ImageField) and isinstance(student, ImageField):
        found, picture = _pictures(teacher, student)
    else:
        raise TypeError("compare: needs two fields of one kind.")
    figures |= found
    for name, field in (("teacher", teacher), ("student", student)):
        if data is not None:
            figures |= {f"{key}_{name}": value for key, value in _scores(field, data).items()}
    return Comparison(figures, picture)


def _scores(field: Field, data: Dataset | Picture | Mesh) -> dict[str, float]:
    if isinstance(field, RadianceField):
        assert isinstance(data, Dataset)
        scores = evaluate(field, data)
    elif isinstance(field, SdfField):
        assert isinstance(data, Mesh)
        scores = evaluate_sdf(field, data)
        return {key: scores[key] for key in ("iou", "chamfer", "normal_error_deg", "f_score")}
    else:
        assert isinstance(data, Picture)
        assert isinstance(field, ImageField)
        scores = evaluate_image(field, data)
    return {key: scores[key] for key in ("psnr", "ssim")}


def _scenes(
    teacher: RadianceField, student: RadianceField, cameras: Cameras, background: Tensor
) -> tuple[dict[str, Any], Tensor]:
    generator = torch.Generator().manual_seed(stream_seed(0, _STREAM))
    views = like(cameras, teacher.center, VIEWS, generator)
    views = views.downscaled(max(1, -(-max(views.width, views.height) // LARGEST)))
    pictures: list[tuple[Tensor, Tensor]] = []
    depths, seconds = [], {"teacher": 0.0, "student": 0.0}
    for index in range(VIEWS):
        seen: list[Rendered] = []
        for name, field in (("teacher", teacher), ("student", student)):
            began = time.perf_counter()
            seen.append(render_view(field, views, index))
            seconds[name] += time.perf_counter() - began
        pictures.append((over(seen[0], background), over(seen[1], background)))
        solid = (seen[0].opacity > 0.5) & (seen[1].opacity > 0.5)
        first, second = (view.depth[solid] / view.opacity[solid] for view in seen)
        depths.append((first - second).abs() / teacher.unit)
    depth = torch.cat(depths)
    n_pixels = VIEWS * views.width * views.height
    figures = {
        **_likeness(pictures),
        "n_views": VIEWS,
        "depth_error": float(depth.mean()) if depth.numel() else None,
        "pixels_per_s": _speed(seconds, n_pixels),
    }
    return figures, side_by_side(*pictures[0])


def _speed(seconds: dict[str, float], n_pixels: int) -> dict[str, float]:
    return {name: n_pixels / took for name, took in seconds.items()}


@torch.no_grad()
def _shapes(teacher: SdfField, student: SdfField) -> tuple[dict[str, Any], Tensor]:
    generator = torch.Generator().manual_seed(stream_seed(0, _STREAM))
    low, high = torch.tensor(teacher.config.box)
    points = low + torch.rand(_POINTS, 3, generator=generator) * (high - low)
    values = [distances_at(field, points) for field in (teacher, student)]
    inside, other = (value < 0 for value in values)
    both = int((inside | other).sum())
    pictures = []
    cameras = around(teacher, 1, size=LARGEST)
    seconds = {}
    for name, field in (("teacher", teacher), ("student", student)):
        began = time.perf_counter()
        pictures.append(over(render_surface(field, cameras)[0], torch.ones(3)))
        seconds[name] = time.perf_counter() - began
    figures = {
        **_likeness([(pictures[0], pictures[1])]),
        "pixels_per_s": _speed(seconds, LARGEST * LARGEST),
        "iou_student_vs_teacher": int((inside & other).sum()) / both if both else None,
        "distance_error": float((values[0] - values[1]).abs().mean()) / teacher.unit,
    }
    return figures, side_by_side(*pictures)


def _pictures(teacher: ImageField, student: ImageField) -> tuple[dict[str, Any], Tensor]:
    pictures, seconds = [], {}
    for name, field in (("teacher", teacher), ("student", student)):
        began = time.perf_counter()
        pictures.append(render_image(field).clamp(0, 1))
        seconds[name] = time.perf_counter() - began
    figures: dict[str, Any] = {
        **_likeness([(pictures[0], pictures[1])]),
        "pixels_per_s": _speed(seconds, pictures[0].shape[0] * pictures[0].shape[1]),
    }
    factor = max(1, max(teacher.config.width, teacher.config.height) // LARGEST)
    small = [picture[::factor, ::factor] for picture in pictures]
    if teacher.config.has_alpha:
        small = [(picture[..., :-1] + (1 - picture[..., -1:])).clamp(max=1) for picture in small]
    return figures, side_by_side(*(picture.expand(-1, -1, 3) for picture in small))


def _likeness(pictures: list[tuple[Tensor, Tensor]]) -> dict[str, float | None]:
    """Means over pairs (teacher's, student's); SSIM needs as many pixels as its window has."""
    n = len(pictures)
    is_large = min(pictures[0][0].shape[:2]) >= WINDOW
    return {
        "psnr_student_vs_teacher": sum(psnr(b, a) for a, b in pictures) / n,
        "ssim_student_vs_teacher": sum(ssim(b, a) for a, b in pictures) / n if is_large else None,
    }


def side_by_side(first: Tensor, second: Tensor) -> Tensor:
    """Two pictures [h, w, 3], and their difference over black.

    Example:
        >>> side_by_side(torch.zeros(2, 3, 3), torch.ones(2, 3, 3)).shape
        torch.Size([2, 9, 3])
    """
    difference = ((first - second).abs() * CONTRAST).clamp(max=1)
    return torch.cat([first, second, difference], 1)
