"""The functions behind `neural_fields.<name>`."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch import Tensor

from neural_fields.data.dataset import Dataset, load_dataset
from neural_fields.data.mesh import Mesh, load_mesh
from neural_fields.data.picture import Picture, load_picture
from neural_fields.errors import InputError
from neural_fields.exporters import MeshReport, export_mesh
from neural_fields.exporters.frame import Frame
from neural_fields.exporters.mesh_file import checked_output
from neural_fields.fields import ImageField, RadianceField, SdfField, read_field_file
from neural_fields.fields.load import Field, build_field, load, save
from neural_fields.rendering.cameras import Cameras
from neural_fields.rendering.surface import render_surface
from neural_fields.rendering.volume import Mode, Rendered, normals, over, render_view
from neural_fields.training.evaluate import evaluate as evaluate_field
from neural_fields.training.evaluate import evaluate_image
from neural_fields.training.evaluate_sdf import evaluate_sdf

__all__ = ["evaluate", "export", "load", "render", "save"]


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
    if isinstance(field, SdfField):
        out, normal = render_surface(field, cameras, index)
    else:
        out, normal = render_view(field, cameras, index), None
    if mode == "rgb":
        return over(out, torch.tensor(background))
    if mode == "opacity":
        return out.opacity
    if mode == "depth":
        return torch.where(out.opacity > 0.5, out.depth / out.opacity.clamp(min=1e-6), 0.0)
    if mode == "normal":
        if isinstance(field, RadianceField):
            origins, directions = cameras.image_rays(index)
            flat = Rendered(out.color.view(-1, 3), out.opacity.view(-1), out.depth.view(-1))
            normal = normals(field, origins, directions, flat).view(*out.opacity.shape, 3)
        assert normal is not None
        seen = (normal != 0).any(dim=2, keepdim=True)
        return torch.where(seen, normal / 2 + 0.5, 1.0)
    raise InputError(f"mode: needs rgb, depth, normal or opacity, got {mode!r}.")


def evaluate(
    path: str | os.PathLike[str],
    data: str | os.PathLike[str] | Dataset | Picture | Mesh,
    split: str = "test",
) -> dict[str, Any]:
    """Score a `.nf` file against what it was fitted to, by the protocol stored in the file.

    Args:
        path: the file.
        data: of a radiance field the data set, of an image field the picture, of an SDF the mesh.
        split: which of a data set's images.

    Returns:
        `psnr, ssim, n_views, seconds, protocol, views`; of an SDF `iou, chamfer,
        normal_error_deg, f_score, n_points, seconds, protocol`.

    Raises:
        InputError: file or data are at fault.

    Example:
        >>> evaluate("lego.nf", "lego")["psnr"]  # doctest: +SKIP
    """
    content = read_field_file(path)
    field = build_field(content, path)
    wanted, loaded = _NEEDS[field.kind]
    if isinstance(data, Dataset | Picture | Mesh) and not isinstance(data, loaded):
        got = type(data).__name__.lower()
        raise InputError(f"{path}: is of kind {field.kind}; it needs the {wanted}, got a {got}.")
    if isinstance(field, ImageField):
        if not isinstance(data, Picture):
            data = load_picture(_path(data), content.protocol.get("downscale", 1))
        return evaluate_image(field, data)
    if isinstance(field, SdfField):
        return evaluate_sdf(field, data if isinstance(data, Mesh) else load_mesh(_path(data)))
    if not isinstance(data, Dataset):
        data = load_for(content.protocol, _path(data), split, field)
    return evaluate_field(field, data)


_NEEDS: dict[str, tuple[str, type[Any]]] = {
    "radiance": ("data set", Dataset),
    "image": ("picture", Picture),
    "sdf": ("mesh", Mesh),
}


def _path(data: object) -> str | os.PathLike[str]:
    assert isinstance(data, str | os.PathLike)
    return data


def export(
    field: Field | str | os.PathLike[str],
    path: str | os.PathLike[str],
    *,
    resolution: int = 256,
    threshold: float | None = None,
    frame: Frame = "input",
    min_volume: float | None = None,
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


def load_for(
    protocol: dict[str, Any], data: str | os.PathLike[str], split: str, field: RadianceField
) -> Dataset:
    """A split of a data set, read as the field's protocol says and in the field's box."""
    try:
        background, downscale = protocol["background"], protocol["downscale"]
    except KeyError as error:
        raise InputError(f"protocol: the field's file lacks {error}; fit it again.") from error
    return load_dataset(data, split, downscale, background, aabb=field.config.box)
