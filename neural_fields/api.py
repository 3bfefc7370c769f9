"""The functions behind `neural_fields.<name>`."""

from __future__ import annotations

import copy
import os
from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch import Tensor

from neural_fields.codec.decoder import CodedVideo
from neural_fields.codec.evaluate import downscale_of, evaluate_coded
from neural_fields.data.dataset import Dataset, load_dataset
from neural_fields.data.kind import data_kind
from neural_fields.data.mesh import Mesh, load_mesh
from neural_fields.data.picture import Picture, load_picture
from neural_fields.data.video import Video, load_video
from neural_fields.errors import InputError
from neural_fields.exporters import MeshReport, export_mesh
from neural_fields.exporters.frame import Frame
from neural_fields.exporters.mesh_file import checked_output
from neural_fields.fields import (
    AnyVideo,
    DynamicField,
    ImageConfig,
    ImageField,
    RadianceConfig,
    RadianceField,
    SdfConfig,
    SdfField,
    read_field_file,
)
from neural_fields.fields.load import Field, build_field, load, save
from neural_fields.ops import device_of
from neural_fields.rendering.cameras import Cameras
from neural_fields.rendering.seen import seen_by_camera
from neural_fields.rendering.volume import Mode
from neural_fields.spectra.choice import Choice, Search, Signal, Tunable, choose
from neural_fields.spectra.moving import CourseSignal, FramesSignal, Tempo
from neural_fields.spectra.search import SEEDS
from neural_fields.spectra.signals import signal_of
from neural_fields.training.evaluate import evaluate as evaluate_field
from neural_fields.training.evaluate import evaluate_image
from neural_fields.training.evaluate_sdf import evaluate_sdf
from neural_fields.training.evaluate_video import evaluate_video
from neural_fields.training.motion import estimate_motion
from neural_fields.training.presets import (
    image_setup,
    motion_cells,
    radiance_setup,
    sdf_setup,
    video_setup,
    with_choices,
)
from neural_fields.training.run import device_of_field
from neural_fields.training.tcnn import Chosen, FieldChoice, chosen_field

__all__ = ["evaluate", "export", "fresh", "load", "render", "save"]


def render(
    field: RadianceField | SdfField,
    cameras: Cameras,
    index: int = 0,
    *,
    mode: Mode = "rgb",
    background: tuple[float, float, float] = (1.0, 1.0, 1.0),
) -> Tensor:
    """Render one camera's picture.

    Args:
        field: a radiance field, or an SDF, whose surface is grey and lit from the camera.
        cameras: at least one camera.
        index: which of them.
        mode: `rgb` over `background`; `depth` in world units, 0 where nothing is seen; `normal`
            mapped from [-1, 1] to [0, 1]; `opacity`.
        background: sRGB in [0, 1].

    Returns:
        float32 [h, w, 3], or [h, w] for depth and opacity.

    Raises:
        InputError: the mode is unknown.

    Example:
        >>> from neural_fields.architectures.hash import Hash
        >>> from neural_fields.fields import RadianceConfig
        >>> field = RadianceField(RadianceConfig(architecture=Hash(log2_table_size=12)))
        >>> cameras = Cameras.orbit((0, 0, 0), 4, elevation_deg=20, n=1, width=8, height=6)
        >>> render(field, cameras, mode="depth").shape
        torch.Size([6, 8])
    """
    return seen_by_camera(field, cameras, index, mode=mode, background=torch.tensor(background))


def evaluate(
    path: str | os.PathLike[str],
    data: str | os.PathLike[str] | Dataset | Picture | Mesh | Video,
    split: str = "test",
    device: str = "auto",
) -> dict[str, Any]:
    """Score a `.nf` or `.nfv` file against what it was fitted to, by the protocol stored in it.

    Args:
        path: the file.
        data: of a radiance field the data set, of an image field the picture, of an SDF the mesh,
            of a video field the video.
        split: which of a data set's images.
        device: `cpu`, `cuda`, `cuda:1` and so on, or `auto`: a GPU where one can be used.

    Returns:
        `psnr, ssim, n_views, seconds, protocol, views`; of an SDF `iou, chamfer,
        normal_error_deg, f_score, n_points, seconds, protocol`; of a video `psnr, ms_ssim, bpp,
        n_views, seconds, protocol, views`.

    Raises:
        InputError: file or data are at fault.

    Example:
        >>> evaluate("lego.nf", "lego")["psnr"]  # doctest: +SKIP
    """
    if str(path).endswith(".nfv"):
        return _evaluate_coded(path, data)
    content = read_field_file(path)
    field = build_field(content, path)
    field = field.to(device_of_field(device, field))
    truth = load_what(field, content.protocol, data, split, path)
    if isinstance(field, ImageField):
        assert isinstance(truth, Picture)
        return evaluate_image(field, truth)
    if isinstance(field, SdfField):
        assert isinstance(truth, Mesh)
        return evaluate_sdf(field, truth)
    if isinstance(field, AnyVideo):
        assert isinstance(truth, Video)
        return evaluate_video(field, truth, os.path.getsize(path))
    assert isinstance(truth, Dataset)
    return evaluate_field(field, truth)


def _evaluate_coded(path: str | os.PathLike[str], data: object) -> dict[str, Any]:
    """Of a `.nfv` file; frames are compared at its size, to which the video's are averaged."""
    with CodedVideo(os.fspath(path)) as coded:
        if isinstance(data, str | os.PathLike):
            data = load_video(data, downscale_of(coded))
        if not isinstance(data, Video):
            raise InputError(
                f"{path}: holds a video; it needs the video, got {type(data).__name__}."
            )
        return evaluate_coded(coded, data)


def load_what(
    field: Field,
    protocol: dict[str, Any],
    data: str | os.PathLike[str] | Dataset | Picture | Mesh | Video,
    split: str,
    path: str | os.PathLike[str],
) -> Dataset | Picture | Mesh | Video:
    """What a field was fitted to, by the protocol of its file `path`; loaded data as they are.

    Raises:
        InputError: the data are of another kind, or at fault.
    """
    wanted, loaded = _NEEDS[field.kind]
    if isinstance(data, Dataset | Picture | Mesh | Video):
        if type(data) is not loaded:
            got = type(data).__name__.lower()
            raise InputError(
                f"{path}: is of kind {field.kind}; it needs the {wanted}, got a {got}."
            )
        return data
    if isinstance(field, ImageField):
        return load_picture(data, protocol.get("downscale", 1))
    if isinstance(field, SdfField):
        return load_mesh(data)
    if isinstance(field, AnyVideo):
        return load_video(data, protocol.get("downscale", 1))
    return load_for(protocol, data, split, field)


_NEEDS: dict[str, tuple[str, type[Dataset | Picture | Mesh | Video]]] = {
    "dynamic": ("data set", Dataset),
    "radiance": ("data set", Dataset),
    "image": ("picture", Picture),
    "sdf": ("mesh", Mesh),
    "surface": ("data set", Dataset),
    "video": ("video", Video),
    "frames": ("video", Video),
}


def export(
    field: Field | str | os.PathLike[str],
    path: str | os.PathLike[str],
    *,
    resolution: int = 256,
    threshold: float | None = None,
    frame: Frame = "input",
    min_volume: float | None = None,
    time: float | None = None,
    scene: Mapping[str, Any] | None = None,
    on_block: Callable[[int, int], None] | None = None,
) -> MeshReport:
    """Write the surface of a signed distance field or a radiance field as a triangle mesh.

    Args:
        field: the field, or its `.nf` file.
        path: PLY, OBJ, GLB, STL or OFF by its name.
        resolution: cells along the longest side of the field's box.
        threshold: distance, or density per world length, of the surface; None: 0, or the density
            that docs/meshes.md describes.
        frame: `input`, or `field` for the field's own, where a loader moved the input.
        min_volume: parts of less than this share of the largest part's volume are left out; None:
            0 for distances, a thousandth for densities.
        time: of a field that moves, in [0, 1].
        scene: of the field's file, which has it already where `field` is one.
        on_block: called with (parts done, parts in all).

    Returns:
        What was written, and how good it is.

    Raises:
        InputError: the field has no surface there, or a file, an option or a missing package is at
            fault.

    Example:
        >>> export("shape.nf", "shape.ply", resolution=512).watertight  # doctest: +SKIP
        True
    """
    if isinstance(field, str | os.PathLike):
        checked_output(path)  # before the work of opening a field
        content = read_field_file(field)
        scene = content.scene if scene is None else scene
        field = build_field(content, field)
    if device_of(field).type != "cpu":  # meshes are made there
        field = copy.deepcopy(field).cpu()
    if time is not None and not isinstance(field, DynamicField):
        raise InputError(f"--time: does not apply to a field of kind {field.kind}.")
    if isinstance(field, DynamicField) and not field.is_moment:
        if time is None:
            raise InputError("export: the field moves; say with --time which moment, such as 0.5.")
        field = field.at(time)
    return export_mesh(
        field,
        path,
        resolution=resolution,
        threshold=threshold,
        frame=frame,
        scene=scene,
        on_block=on_block,
        min_volume=min_volume,
    )


def fresh(
    signal: str | os.PathLike[str] | Picture | Mesh | Dataset | Video,
    field: FieldChoice = "siren",
    *,
    preset: str = "default",
    modulate: str = "none",
    downscale: int = 1,
    parameter: str | None = None,
    search: Search = "quick",
    n_bins: int | None = None,
    n_seeds: int = SEEDS,
    both_quadrants: bool = False,
    candidates: tuple[float, ...] | None = None,
    on_progress: Callable[[int], None] | None = None,
) -> Choice:
    """Choose an architecture's frequencies for a signal before it is fitted (FreSh).

    Args:
        signal: a picture, a video, a mesh, or a folder of posed photographs; by path or loaded.
        field: as for `nf.fit`.
        preset: as for `nf.fit`.
        modulate: as for `nf.fit`.
        downscale: box-average pictures by this factor.
        parameter: its path in the configuration, or `tempo` of a video; None: the architecture's
            first.
        search: `quick`, or `all` candidates at all samples.
        n_bins: cycles per side that are looked at; None: the parameter's.
        n_seeds: starts per candidate.
        both_quadrants: also count waves whose components have opposite signs.
        candidates: ascending; None: the parameter's.
        on_progress: called with the number of untrained fields measured so far.

    Returns:
        What was chosen and why; see docs/frequencies.md.

    Raises:
        InputError: the signal or an option is at fault, or the architecture has no such parameter.

    Example:
        >>> fresh("photo.png", "siren").value  # doctest: +SKIP
        120.0
    """
    data = _loaded(signal, downscale) if isinstance(signal, str | os.PathLike) else signal
    if isinstance(data, Video):
        found, tuned = _moving(data, chosen_field(field), preset, modulate, parameter)
    else:
        found, tuned = _resting(data, chosen_field(field), preset, modulate)
    return choose(
        found,
        tuned,
        parameter=parameter,
        search=search,
        n_bins=n_bins,
        n_seeds=n_seeds,
        both_quadrants=both_quadrants,
        candidates=candidates,
        on_progress=on_progress,
    )


def _moving(
    data: Video, field: Chosen, preset: str, modulate: str, parameter: str | None
) -> tuple[Signal, Tunable]:
    """What is measured of a video, and what is tuned: the architecture, or how fast time runs."""
    cells = motion_cells(data)
    motion = None if cells is None else estimate_motion(data.frames, *cells)
    config = with_choices(video_setup(data, field, preset, motion)[0], "float32", modulate, 32)
    if parameter == "tempo":
        return CourseSignal(data, config, motion), Tempo(config.tempo)
    return FramesSignal(data, config, motion), config.architecture


def _resting(
    data: Picture | Mesh | Dataset, field: Chosen, preset: str, modulate: str
) -> tuple[Signal, Tunable]:
    """What is measured, and the architecture of the field that would be fitted to it."""
    n_cameras = 0
    config: RadianceConfig | SdfConfig | ImageConfig
    if isinstance(data, Dataset):
        config, n_cameras = radiance_setup(data, field, preset)[0], len(data)
    elif isinstance(data, Mesh):
        config = sdf_setup(data, field, preset)[0]
    else:
        config = image_setup(data, field, preset)[0]
    config = with_choices(config, "float32", modulate, 32, n_cameras)
    return signal_of(data, config), config.architecture


def _loaded(path: str | os.PathLike[str], downscale: int) -> Picture | Mesh | Dataset | Video:
    kind = data_kind(path)
    if kind == "nerf":
        return load_dataset(path, "train", downscale)
    if kind == "sdf":
        return load_mesh(path)
    return load_video(path, downscale) if kind == "video" else load_picture(path, downscale)


def load_for(
    protocol: dict[str, Any], data: str | os.PathLike[str], split: str, field: RadianceField
) -> Dataset:
    """A split of a data set, read as the field's protocol says and in the field's box."""
    try:
        background, downscale = protocol["background"], protocol["downscale"]
    except KeyError as error:
        raise InputError(f"protocol: the field's file lacks {error}; fit it again.") from error
    masks = protocol.get("masks", "use")
    if background == "black" and protocol.get("alpha") == "none" and "backdrop" not in protocol:
        background = "auto"  # nobody named it
    return load_dataset(data, split, downscale, background, field.config.box, masks)
