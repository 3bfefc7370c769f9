"""Fitting fields to data: `nf.fit.nerf`, `surface`, `dynamic`, `sdf`, `image` and `video`."""

from __future__ import annotations

from neural_fields.fit.common import default_seconds
from neural_fields.fit.photographs import dynamic, nerf, surface
from neural_fields.fit.pictures import image
from neural_fields.fit.shapes import sdf
from neural_fields.fit.videos import video
from neural_fields.training.loop import Control
from neural_fields.training.run import Progress, Run

__all__ = [
    "Control",
    "Progress",
    "Run",
    "default_seconds",
    "dynamic",
    "image",
    "nerf",
    "sdf",
    "surface",
    "video",
]
