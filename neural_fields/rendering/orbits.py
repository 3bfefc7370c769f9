"""Turntables around a field, and the same views at another size."""

from __future__ import annotations

import math
from dataclasses import replace

import torch
from torch import Tensor

from neural_fields.fields import RadianceField, SdfField
from neural_fields.rendering.cameras import Cameras


def around(field: RadianceField | SdfField, n: int, size: int = 400) -> Cameras:
    """A turntable of `n` views of `size` pixels from a little above, z up, of the whole box."""
    low, high = torch.tensor(field.config.box, dtype=torch.float64)
    center, radius = (low + high) / 2, float((high - low).norm()) * 1.25
    return Cameras.orbit(center.tolist(), radius, 20.0, n, width=size, height=size)


def as_trained(field: RadianceField, training: Cameras, n: int) -> Cameras:
    """A turntable of `n` views at the training cameras' typical distance and height."""
    center = torch.tensor(field.center)
    up = upward(training)
    offset = training.camera_to_world[:, :3, 3] - center
    radius = float(offset.norm(dim=1).median())
    height = float(((offset @ up) / offset.norm(dim=1).clamp(min=1e-9)).median().clamp(-1, 1))
    return Cameras.orbit(
        field.center,
        radius,
        math.degrees(math.asin(height)),
        n,
        up=tuple(up.tolist()),
        focal=float(training.focal.median()),
        width=training.width,
        height=training.height,
    )


def upward(cameras: Cameras) -> Tensor:
    """The cameras' mean up direction [3], or the axis that it is within 30 degrees of."""
    up = torch.nn.functional.normalize(cameras.camera_to_world[:, :3, 1].mean(0), dim=0)
    axis = int(up.abs().argmax())
    if float(up[axis].abs()) > math.cos(math.radians(30)):
        up = torch.eye(3)[axis] * torch.sign(up[axis])
    return up


def resized(cameras: Cameras, width: int, height: int) -> Cameras:
    """The same views at another size: as much as fits of the longer side, centred."""
    scale = min(width / cameras.width, height / cameras.height)
    old = torch.tensor([cameras.width, cameras.height]) / 2
    new = torch.tensor([width, height]) / 2
    return replace(
        cameras,
        width=width,
        height=height,
        focal=cameras.focal * scale,
        principal=(cameras.principal - old) * scale + new,
    )
