"""From a teacher to its student's configuration and options."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import torch

from neural_fields import architectures
from neural_fields.architectures import Target
from neural_fields.distill.options import DistillOptions, Method
from neural_fields.errors import InputError
from neural_fields.fields import ImageConfig, RadianceConfig, RadianceField, SdfConfig
from neural_fields.rendering.cameras import Cameras
from neural_fields.training.image import ImageOptions
from neural_fields.training.presets import of_rates, pixels_along, sized_for, with_choices
from neural_fields.training.sdf import SdfOptions
from neural_fields.training.tcnn import Chosen

PAPER_STEPS = 30000
_DEFAULT_CAMERAS = 60
_STEP_PX = 0.5  # sampling step, in pixels of the scene's cameras, that shows all they see
_FINEST_SHAPE = 256  # vertices a side that grids of shapes resolve, as of a fine mesh


def radiance_student(
    teacher: RadianceConfig,
    cameras: Cameras,
    to: Chosen,
    *,
    preset: str = "default",
    method: Method = "pvd",
    precision: str = "float32",
    modulate: str = "none",
    bits: int = 32,
    steps: int | None = None,
) -> tuple[RadianceConfig, DistillOptions]:
    """A student in the teacher's box, with its steps and occupancy grid, and how it learns.

    `steps`, where the budget is in steps, keep the stages of the preset `paper` where they are.

    Raises:
        InputError: a name is unknown, or the architecture cannot be had that way.
    """
    scale = 1 << (teacher.sampling.n_cascades - 1)
    finest = pixels_along(torch.tensor(teacher.box), cameras)
    size = "pvd" if preset == "paper" else preset
    if preset == "paper" and not (isinstance(to, str) and _has_paper(to)):
        known = ", ".join(filter(_has_paper, architectures.names()))
        raise InputError(f"--preset paper: needs --to one of {known}, got {to}.")
    sized, rates = sized_for(to, size, Target("radiance", 3, finest, scale))
    config = RadianceConfig(
        box=teacher.box,
        architecture=sized,
        head=sized.color_head(size),
        sampling=teacher.sampling,
    )
    if preset == "paper":
        return with_choices(config, precision, modulate, bits, len(cameras)), _published(
            sized.name, method, steps or PAPER_STEPS
        )
    options = DistillOptions(
        batch_samples=max(1 << 12, rates.batch // 4),  # hardly any noise
        **of_rates(rates, rates.taught),
    )
    fine_step = _STEP_PX * 2 / finest / teacher.sampling.step
    options = replace(options, fine_step=min(max(1.0, fine_step), options.coarse_step))
    if method == "pvd-al":
        options = replace(options, hard_cameras=True, hard_rays=True, hard_points=True)
    return with_choices(config, precision, modulate, bits, len(cameras)), options


def _has_paper(name: str) -> bool:
    return "pvd" in architectures.get(name).presets


def _published(student: str, method: Method, steps: int) -> DistillOptions:
    """The numbers of PVD's code, with stages that end at its steps.

    Deviations: rates fall exponentially, not by a cosine; weight decay is 1e-6 instead of 0.01,
    added to the gradient and not of grids; a student's VM has no L1 term; a step's rays come from
    all cameras of an epoch.
    """
    rate = 1e-3 if student == "mlp" else 1e-2
    network = min(rate, 1e-3) if student == "vm" else rate
    options = DistillOptions(
        batch_samples=0,
        start="paper",
        learning_rate=network,
        grid_rate=rate,
        final_rate=7e-5 / rate,
        features_until=min(1.0, 2000 / steps),
        points_until=min(1.0, 5000 / steps),
        features=0.002,
        density=0.002,
        color=0.002,
        feature_life=138 / steps,
        pool_share=1503 / steps,
        n_epochs=max(1, steps // 312),
        stop=0.0,
        coarse_step=1.0,
        poses="shell",
    )
    if method == "pvd-al":
        hard = replace(options, hard_cameras=True, hard_rays=True, hard_points=True)
        return replace(hard, features_until=0.0, points_until=0.0)
    return options


def sdf_student(
    teacher: SdfConfig,
    to: Chosen,
    *,
    preset: str = "default",
    precision: str = "float32",
    modulate: str = "none",
    bits: int = 32,
) -> tuple[SdfConfig, SdfOptions]:
    """The same of a signed distance field."""
    sized, rates = sized_for(to, preset, Target("sdf", 3, _FINEST_SHAPE))
    config = SdfConfig(box=teacher.box, architecture=sized)
    # Every point of the pool is led to the teacher's surface: as many as hold its details.
    options = SdfOptions(batch_points=rates.batch, pool=1 << 18, **of_rates(rates))
    return with_choices(config, precision, modulate, bits), options


def image_student(
    teacher: ImageConfig,
    to: Chosen,
    *,
    preset: str = "default",
    precision: str = "float32",
    modulate: str = "none",
    bits: int = 32,
) -> tuple[ImageConfig, ImageOptions]:
    """The same of a picture."""
    target = Target("image", 2, max(teacher.width, teacher.height))
    sized, rates = sized_for(to, preset, target)
    config = replace(teacher, architecture=sized, modulate=None, weight_bits=32)
    options = ImageOptions(batch_pixels=rates.batch, **of_rates(rates))
    return with_choices(config, precision, modulate, bits), options


def scene_cameras(scene: dict[str, Any], field: RadianceField) -> Cameras:
    """The cameras of a field's file; of one that has none, a few circles around its box."""
    if scene.get("cameras"):
        return Cameras.from_json(scene["cameras"], "scene")
    low, high = torch.tensor(field.config.box, dtype=torch.float64)
    radius = float((high - low).norm()) * 1.25
    rings = [
        Cameras.orbit(field.center, radius, elevation, _DEFAULT_CAMERAS // 3, width=200, height=200)
        for elevation in (-15.0, 15.0, 45.0)
    ]
    return Cameras.joined(rings)
