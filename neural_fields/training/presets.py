"""From data to a configuration: sizes that follow the pictures, and named presets."""

from __future__ import annotations

import math
from dataclasses import replace

import torch

from neural_fields.data.dataset import Dataset
from neural_fields.encodings import HashConfig
from neural_fields.errors import InputError
from neural_fields.fields import RadianceConfig, Sampling
from neural_fields.training.nerf import NerfOptions

PRESETS = ("default", "ngp", "ngp16")
_STEP = 2 * math.sqrt(3) / 1024


def radiance_setup(data: Dataset, preset: str = "default") -> tuple[RadianceConfig, NerfOptions]:
    """The configuration and training options for a data set.

    `default` is sized for a minute on two cores: a table of 2^18 entries per level, the finest
    level near the photographs' pixel footprint, steps of twice instant-ngp's. `ngp` and `ngp16`
    are instant-ngp's configurations with 8 x 4 and 16 x 2 features, tables of 2^19 and a finest
    resolution of 2048 per aabb_scale.

    Raises:
        InputError: the preset's name is unknown.
    """
    if preset not in PRESETS:
        raise InputError(f"--preset: needs one of {', '.join(PRESETS)}, got {preset!r}.")
    low, high = data.aabb.tolist()
    box = ((low[0], low[1], low[2]), (high[0], high[1], high[2]))
    sampling = _sampling(data, 1.0 if preset != "default" else 2.0)
    if preset == "default":
        encoding = HashConfig(log2_table_size=18, finest_resolution=_finest(data))
        return RadianceConfig(box=box, encoding=encoding, sampling=sampling), NerfOptions()
    encoding = HashConfig(finest_resolution=2048 * data.aabb_scale)
    if preset == "ngp16":
        encoding = replace(encoding, n_levels=16, n_features=2)
    options = NerfOptions(batch_samples=1 << 18, learning_rate=1e-2)
    return RadianceConfig(box=box, encoding=encoding, sampling=sampling), options


def _finest(data: Dataset) -> int:
    """About two vertices per pixel at the box's centre: a power of two in 512 .. 8192."""
    center = data.aabb.mean(0)
    distance = (data.cameras.camera_to_world[:, :3, 3] - center).norm(dim=1)
    footprint = float((distance / data.cameras.focal.max(1).values).median())
    side = float((data.aabb[1] - data.aabb[0]).max())
    wanted = 2.5 * side / max(footprint, 1e-9)
    return int(2 ** min(13, max(9, round(math.log2(max(wanted, 1.0))))))


def _sampling(data: Dataset, coarser: float) -> Sampling:
    """Instant-ngp's steps, `coarser` times as long; cascades over aabb_scale."""
    scale = data.aabb_scale
    step = _STEP * coarser / scale
    return Sampling(
        step=step,
        cone=0.0 if scale == 1 else 1 / 256,
        max_step=step if scale == 1 else max(step, _STEP * 128),
        near_world=_near(data),
        n_cascades=1 + int(math.log2(scale)),
    )


def _near(data: Dataset) -> float:
    """A hundredth of the box where cameras stand inside it, so that nothing grows on a lens."""
    positions = data.cameras.camera_to_world[:, :3, 3]
    inside = ((positions > data.aabb[0]) & (positions < data.aabb[1])).all(1)
    side = float((data.aabb[1] - data.aabb[0]).max())
    return 0.01 * side if bool(torch.any(inside)) else 0.0
