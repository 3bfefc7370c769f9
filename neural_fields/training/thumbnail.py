"""The small picture that a file shows of its field."""

from __future__ import annotations

import torch
from torch import Tensor

from neural_fields.fields import AnyVideo, ImageField, RadianceField, SdfField
from neural_fields.rendering.cameras import Cameras
from neural_fields.rendering.image import render_image
from neural_fields.rendering.orbits import around
from neural_fields.rendering.surface import render_surface
from neural_fields.rendering.video import render_frame
from neural_fields.rendering.volume import over, render_view

SIDE = 128


def of_scene(field: RadianceField, cameras: Cameras, background: Tensor | None) -> Tensor:
    """uint8 [h, w, 3]: the first camera's view over a colour (None: black)."""
    factor = max(1, -(-max(cameras.width, cameras.height) // SIDE))
    background = torch.zeros(3) if background is None else background
    return _bytes(over(render_view(field, cameras[0:1].downscaled(factor)), background))


def of_shape(field: SdfField) -> Tensor:
    """uint8 [128, 128, 3]: the shape over white, from a little above."""
    rendered, _ = render_surface(field, around(field, 1, size=SIDE))
    return _bytes(over(rendered, torch.ones(3)))


def of_image(field: ImageField) -> Tensor:
    """uint8 [h, w, 3]: the picture over white."""
    longest = max(field.config.width, field.config.height)
    width, height = (
        max(1, round(side * min(1.0, SIDE / longest)))
        for side in (field.config.width, field.config.height)
    )
    values = render_image(field, width, height).clamp(0, 1)
    if field.config.has_alpha:
        values = values[..., :-1] + (1 - values[..., -1:])
    return _bytes(values.expand(-1, -1, 3) if values.shape[2] == 1 else values)


def of_video(field: AnyVideo) -> Tensor:
    """uint8 [h, w, 3]: the frame in the middle."""
    longest = max(field.config.width, field.config.height)
    width, height = (
        max(1, round(side * min(1.0, SIDE / longest)))
        for side in (field.config.width, field.config.height)
    )
    return _bytes(render_frame(field, 0.5, width, height))


def _bytes(picture: Tensor) -> Tensor:
    return (picture.clamp(0, 1) * 255).round().to(torch.uint8)
