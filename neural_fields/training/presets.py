"""From data to a configuration: sizes that follow the pictures, and named presets."""

from __future__ import annotations

import math
from dataclasses import fields, replace
from typing import Any, TypeVar, get_args

import torch
from torch import Tensor

from neural_fields import architectures
from neural_fields.architectures import Architecture, NetworkOptions, Target
from neural_fields.architectures.hash import Hash
from neural_fields.architectures.mlp import Mlp
from neural_fields.data.dataset import Dataset
from neural_fields.data.mesh import Mesh
from neural_fields.data.picture import Picture
from neural_fields.data.video import Video
from neural_fields.decoders import Modulate
from neural_fields.decoders.frames import FrameNetwork
from neural_fields.errors import InputError, unknown_value
from neural_fields.fields import (
    DynamicConfig,
    DynamicField,
    FramesConfig,
    ImageConfig,
    ImageField,
    RadianceConfig,
    RadianceField,
    Sampling,
    SdfConfig,
    SdfField,
    SurfaceConfig,
    SurfaceField,
    VideoConfig,
    VideoField,
)
from neural_fields.ops import Precision
from neural_fields.rendering.cameras import Cameras
from neural_fields.training.frames import FramesOptions
from neural_fields.training.image import ImageOptions
from neural_fields.training.nerf import NerfOptions
from neural_fields.training.sdf import SdfOptions
from neural_fields.training.surface import SurfaceOptions, first_radius
from neural_fields.training.tcnn import Chosen, TcnnConfig
from neural_fields.training.video import VideoOptions

_MAX_PARAMS = 1 << 30  # of which training holds five copies
_MARGIN = 0.05  # of a mesh's longest side, between it and the box of its field
_STEP = 2 * math.sqrt(3) / 1024
_NEARLY_ALL = 0.98  # of a video's displacements, inside the margin
_MOMENTS = 30  # of a video's modulation, as published
_ENLARGED, _LOWEST = 5, 9  # by a field of frames' first block; rows of its grids, about
# Moments of the grids are eighths of the frames. `paper`: channels of the representation runs.
_FRAMES_PRESETS = {
    "default": FrameNetwork(moments=(1, 4), channels=48, narrowest=32),
    "paper": FrameNetwork(moments=(1, 2, 4, 8)),
}
MODULATIONS = {
    "xy": Modulate("xy", (32, 32)),
    "xyz": Modulate("xyz", (16, 16, 16)),
    "direction": Modulate("direction", (10, 5)),
    "direction-trunk": Modulate("direction-trunk", (10, 5)),
    "camera": Modulate("camera", (2,)),  # as many as the data have
    "time": Modulate("time", (5,), normalize=False),
}


def radiance_setup(
    data: Dataset, field: Chosen = "hash", preset: str = "default"
) -> tuple[RadianceConfig, NerfOptions]:
    """The configuration and training options for a data set.

    `default` is sized for a minute on two cores, with steps of twice instant-ngp's; the other
    presets are the architecture's own (see docs/architectures.md), with instant-ngp's steps and
    batch.

    Raises:
        InputError: the architecture's or the preset's name is unknown.
    """
    return _of_photographs(data, field, preset, 3)


def _of_photographs(
    data: Dataset, field: Chosen, preset: str, n_dims: int
) -> tuple[RadianceConfig, NerfOptions]:
    """See `radiance_setup`; of four dimensions the last is time."""
    target = Target("radiance", n_dims, pixels_along(data.aabb, data.cameras), data.aabb_scale)
    sized, rates = sized_for(field, preset, target)
    low, high = data.aabb.tolist()
    config = RadianceConfig(
        box=((low[0], low[1], low[2]), (high[0], high[1], high[2])),
        architecture=sized,
        head=sized.color_head(preset),
        sampling=_sampling(data, 2.0 if preset == "default" else 1.0),
    )
    options = NerfOptions(batch_samples=rates.batch, **of_rates(rates))
    return config, options


def dynamic_setup(
    data: Dataset, field: Chosen = "hash", preset: str = "default"
) -> tuple[DynamicConfig, NerfOptions]:
    """The same for a data set whose photographs have times.

    The preset `nerf` of mlp has T-NeRF's motion network, too.

    Raises:
        InputError: as of `radiance_setup`, or there are no times, or all are the same.
    """
    times = data.cameras.times
    if times is None or float(times.max() - times.min()) == 0:
        found = "there is no `time`" if times is None else f"all are {float(times[0]):g}"
        raise InputError(
            f"fit dynamic: needs photographs of different times, but {found}; give every frame a "
            "`time` in [0, 1], or fit what rests: nf fit nerf."
        )
    config, options = _of_photographs(data, field, preset, 4)
    parts = {each.name: getattr(config, each.name) for each in fields(config)}
    if preset == "nerf":
        parts["motion"] = Mlp(4, (64, 64, 64, 64), skip=2)
    elif config.architecture.sees_time:
        parts["motion"] = None
    # As many cells for all spans of time as what rests has.
    parts["sampling"] = replace(config.sampling, resolution=config.sampling.resolution // 2)
    # What moves is found late: cells are not emptied before. One number for a whole layer, learnt
    # as fast as networks are, can empty them all at once.
    return DynamicConfig(**parts), replace(options, grid_from=0.2, modulation_share=0.05)


def surface_setup(
    data: Dataset, field: Chosen = "hash", preset: str = "default"
) -> tuple[SurfaceConfig, SurfaceOptions]:
    """The same for a surface that photographs show.

    Raises:
        InputError: as of `radiance_setup`.
    """
    config, _ = _of_photographs(data, field, preset, 3)
    architecture = config.architecture
    parts = {each.name: getattr(config, each.name) for each in fields(config)}
    low, high = data.aabb
    parts["radius"] = first_radius(data, float((high - low).max()) / 2, (low + high) / 2)
    if isinstance(field, TcnnConfig) and field.learning_rate:
        rates = architectures.Rates(field.learning_rate, field.learning_rate, final=0.03)
    else:
        rates = architecture.rates("sdf", preset)
    # Twice the rates of shapes: Chamfer 0.00116 for 0.00125 after a minute, normals alike.
    grids = 2.0 if isinstance(architecture, Hash) else 1.0
    chosen = of_rates(rates._replace(final=SurfaceOptions.final_rate), grids)
    batch = min(SurfaceOptions.batch_samples, 4 * rates.batch)
    return SurfaceConfig(**parts), SurfaceOptions(batch_samples=batch, **chosen)


def image_setup(
    data: Picture, field: Chosen = "hash", preset: str = "default"
) -> tuple[ImageConfig, ImageOptions]:
    """The configuration and training options for a picture.

    Raises:
        InputError: the architecture's or the preset's name is unknown.
    """
    height, width, channels = data.pixels.shape
    sized, rates = sized_for(field, preset, Target("image", 2, max(height, width)))
    config = ImageConfig(
        width=width,
        height=height,
        channels=channels,
        color_space="srgb" if data.color_space == "srgb" else "linear",
        bits=data.bits,
        architecture=sized,
    )
    return config, ImageOptions(batch_pixels=rates.batch, **of_rates(rates))


def video_setup(
    data: Video, field: Chosen = "pyramid", preset: str = "default", motion: Tensor | None = None
) -> tuple[VideoConfig, VideoOptions]:
    """The configuration and training options for a video whose displacements are known.

    `motion` [moments, y, x, 2] in pixels, or None where nothing is to move.

    Raises:
        InputError: the architecture's or the preset's name is unknown.
    """
    n_frames, height, width = data.frames.shape[:3]
    sides, margin = None, (0, 0)
    if motion is not None:
        moments, high, wide = motion.shape[:3]
        sides = (wide, high, moments)
        far = motion.abs().reshape(-1, 2).quantile(_NEARLY_ALL, dim=0).ceil().int().tolist()
        margin = (min(far[0], width // 2), min(far[1], height // 2))
    covered = (width + 2 * margin[0], height + 2 * margin[1], n_frames)
    target = Target("video", 3, max(covered[:2]), sides=covered)
    sized, rates = sized_for(field, preset, target)
    config = VideoConfig(width, height, n_frames, sized, sides, margin=margin)
    return config, VideoOptions(batch_pixels=rates.batch, **of_rates(rates))


def frames_setup(
    data: Video, preset: str = "default", modulate: str | None = None, bits: int = 32
) -> tuple[FramesConfig, FramesOptions]:
    """The same for a field of frames; `modulate` is `time`, which None means too, or `none`.

    Raises:
        InputError: the preset's name or the modulation is unknown.
    """
    n_frames, height, width = data.frames.shape[:3]
    if preset not in _FRAMES_PRESETS:
        raise InputError(unknown_value("--preset", preset, [*_FRAMES_PRESETS]))
    if modulate not in (None, "none", "time"):
        raise InputError(unknown_value("--modulate", modulate, ["none", "time"]))
    doublings = max(0, round(math.log2(height / _ENLARGED / _LOWEST)))
    strides = (_ENLARGED, *(2 for _ in range(doublings)))
    scale = math.prod(strides)
    start = (math.ceil(height / scale), math.ceil(width / scale))
    moments = max(1, min(_MOMENTS, n_frames))
    chosen = None if modulate == "none" else Modulate("time", (moments,))
    sizes = _FRAMES_PRESETS[preset]
    grids = tuple(max(1, n_frames * share // 8) for share in sizes.moments)
    architecture = replace(sizes, start=start, strides=strides, moments=grids)
    config = FramesConfig(width, height, n_frames, architecture, chosen, bits)
    return config, FramesOptions()


def motion_cells(data: Video) -> tuple[tuple[int, int], int] | None:
    """Vertices along x and y, and of time, of the displacements that suit a video; None: too short.

    About 20 along the longer side, and one per two frames.
    """
    n_frames, height, width = data.frames.shape[:3]
    if n_frames < 2:
        return None
    cell = max(width, height) / 20
    cells = (max(2, round(width / cell)), max(2, round(height / cell)))
    return cells, max(2, (n_frames + 1) // 2)


def sdf_setup(
    data: Mesh, field: Chosen = "hash", preset: str = "default"
) -> tuple[SdfConfig, SdfOptions]:
    """The configuration and training options for a mesh.

    Raises:
        InputError: the architecture's or the preset's name is unknown.
    """
    low, high = data.box
    margin = _MARGIN * float((high - low).max())
    corners = (low - margin).tolist(), (high + margin).tolist()
    sized, rates = sized_for(field, preset, Target("sdf", 3, _resolved(data)))
    box = tuple((x, y, z) for x, y, z in corners)
    config = SdfConfig(box=(box[0], box[1]), architecture=sized)
    return config, SdfOptions(batch_points=rates.batch, **of_rates(rates))


Config = TypeVar("Config", bound=RadianceConfig | ImageConfig | SdfConfig | VideoConfig)
_FIELDS: dict[type[Any], type[Any]] = {
    DynamicConfig: DynamicField,
    SurfaceConfig: SurfaceField,
    RadianceConfig: RadianceField,
    ImageConfig: ImageField,
    SdfConfig: SdfField,
    VideoConfig: VideoField,
}


def with_choices(
    config: Config, precision: str, modulate: str | None, bits: int, n_cameras: int = 0
) -> Config:
    """The configuration with a precision, a modulation (`none` or its coordinates) and weights.

    With no modulation named, scenes that move have one by time, if their trunk can and does not see
    time itself, where it gains nothing; so have videos whose channels can be modulated one by one.

    Raises:
        InputError: a name is unknown, or the architecture cannot be had that way.
    """
    if precision not in get_args(Precision):
        raise InputError(unknown_value("--precision", precision, get_args(Precision)))
    if modulate is None:
        modulate = "time" if _gains_by_time(config) else "none"
    if modulate not in ("none", *MODULATIONS):
        raise InputError(unknown_value("--modulate", modulate, ["none", *MODULATIONS]))
    chosen = None if modulate == "none" else MODULATIONS[modulate]
    if chosen is not None and chosen.coordinates == "camera":
        chosen = replace(chosen, resolution=(max(2, n_cameras),))
    if chosen is not None and isinstance(config, VideoConfig) and modulate == "time":
        chosen = replace(chosen, resolution=(max(2, min(_MOMENTS, config.n_frames)),))
    field = _FIELDS[type(config)]
    try:
        choices = {"precision": precision, "modulate": chosen, "weight_bits": bits}
        config = replace(config, **choices)  # type: ignore[arg-type]
        with torch.device("meta"):
            n_params = field(config, seed=None).n_params
    except InputError:
        raise
    except ValueError as error:  # of an operation, which knows what goes with what
        raise InputError(f"--field {config.architecture.name}: {error}") from error
    if n_params > _MAX_PARAMS:
        raise InputError(
            f"--field {config.architecture.name}: needs at most 2^30 parameters, got {n_params}; "
            "choose smaller sizes."
        )
    return config


def _gains_by_time(config: RadianceConfig | ImageConfig | SdfConfig | VideoConfig) -> bool:
    if isinstance(config, VideoConfig):
        with torch.device("meta"):
            return config.architecture.trunk(3, 3, NetworkOptions()).hidden_channels > 0
    if not isinstance(config, DynamicConfig) or config.motion is None:
        return False
    with torch.device("meta"):
        return config.architecture.trunk(3, 1, NetworkOptions()).n_modulated > 0


def of_rates(rates: architectures.Rates, factor: float = 1.0) -> dict[str, Any]:
    """The learning rates as all training options name them."""
    return {
        "learning_rate": factor * rates.network,
        "grid_rate": factor * rates.grid,
        "matrix_rate": rates.matrices,
        "final_rate": rates.final,
    }


def sized_for(
    field: Chosen, preset: str, target: Target
) -> tuple[Architecture, architectures.Rates]:
    """The sizes and the rates for what is to be fitted."""
    if isinstance(field, TcnnConfig | Architecture):
        if preset != "default":
            raise InputError(f"--preset {preset}: {field.name} has its own sizes; leave one out.")
        if isinstance(field, Architecture):
            return field, field.rates(target.kind)
        rates = field.architecture.rates(target.kind)._replace(matrices=0.0)  # as all is Adam's
        rate = field.learning_rate
        return field.architecture, rates._replace(network=rate, grid=rate) if rate else rates
    owner = architectures.get(field)
    known = ["default", *owner.presets]
    if preset not in known:
        raise InputError(unknown_value(f"--field {field} --preset", preset, known))
    return owner.sized(target, preset), owner.rates(target.kind, preset)


def _resolved(data: Mesh) -> int:
    """Typical edges along the cube's side."""
    corners = data.vertices[data.faces]
    edge = float((corners - corners.roll(1, 1)).norm(dim=2).median())
    return round(min(1024.0, max(64.0, float((data.box[1] - data.box[0]).max()) / edge)))


def pixels_along(box: Tensor, cameras: Cameras) -> int:
    """Pixels along the longest side of a box [2, 3] at the distance of its centre."""
    distance = (cameras.camera_to_world[:, :3, 3] - box.mean(0)).norm(dim=1)
    footprint = float((distance / cameras.focal.max(1).values).median())
    return max(1, round(float((box[1] - box[0]).max()) / max(footprint, 1e-9)))


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
