"""The functions behind `neural_fields.<name>`."""

from __future__ import annotations

import os
from typing import Any

import torch
from torch import Tensor

from neural_fields.data.dataset import Dataset, load_dataset
from neural_fields.data.picture import Picture, load_picture
from neural_fields.errors import InputError
from neural_fields.fields import ImageField, RadianceField, read_field_file
from neural_fields.fields.load import build_field, load, save
from neural_fields.rendering.cameras import Cameras
from neural_fields.rendering.volume import Mode, Rendered, normals, over, render_view
from neural_fields.training.evaluate import evaluate as evaluate_field
from neural_fields.training.evaluate import evaluate_image

__all__ = ["evaluate", "load", "render", "save"]


def render(
    field: RadianceField,
    cameras: Cameras,
    index: int = 0,
    *,
    mode: Mode = "rgb",
    background: tuple[float, float, float] = (1.0, 1.0, 1.0),
) -> Tensor:
    """Render one camera's picture.

    Args:
        field: a radiance field.
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
    out = render_view(field, cameras, index)
    if mode == "rgb":
        return over(out, torch.tensor(background))
    if mode == "opacity":
        return out.opacity
    if mode == "depth":
        return torch.where(out.opacity > 0.5, out.depth / out.opacity.clamp(min=1e-6), 0.0)
    if mode == "normal":
        origins, directions = cameras.image_rays(index)
        flat = Rendered(out.color.view(-1, 3), out.opacity.view(-1), out.depth.view(-1))
        direction = normals(field, origins, directions, flat)
        seen = (direction != 0).any(dim=1, keepdim=True)
        return torch.where(seen, direction / 2 + 0.5, 1.0).view(*out.opacity.shape, 3)
    raise InputError(f"mode: needs rgb, depth, normal or opacity, got {mode!r}.")


def evaluate(
    path: str | os.PathLike[str],
    data: str | os.PathLike[str] | Dataset | Picture,
    split: str = "test",
) -> dict[str, Any]:
    """Score a `.nf` file against what it was fitted to, by the protocol stored in the file.

    Args:
        path: the file.
        data: of a radiance field the data set, of an image field the picture.
        split: which of a data set's images.

    Returns:
        `psnr, ssim, n_views, seconds, protocol, views`.

    Raises:
        InputError: file or data are at fault.

    Example:
        >>> evaluate("lego.nf", "lego")["psnr"]  # doctest: +SKIP
    """
    content = read_field_file(path)
    field = build_field(content, path)
    if isinstance(field, ImageField):
        if isinstance(data, Dataset):
            raise InputError(f"{path}: is an image field; it needs the picture, got a data set.")
        if not isinstance(data, Picture):
            data = load_picture(data, content.protocol.get("downscale", 1))
        return evaluate_image(field, data)
    if isinstance(data, Picture):
        raise InputError(f"{path}: is a radiance field; it needs the data set, got a picture.")
    if not isinstance(data, Dataset):
        data = load_for(content.protocol, data, split, field)
    return evaluate_field(field, data)


def load_for(
    protocol: dict[str, Any], data: str | os.PathLike[str], split: str, field: RadianceField
) -> Dataset:
    """A split of a data set, read as the field's protocol says and in the field's box."""
    try:
        background, downscale = protocol["background"], protocol["downscale"]
    except KeyError as error:
        raise InputError(f"protocol: the field's file lacks {error}; fit it again.") from error
    return load_dataset(data, split, downscale, background, aabb=field.config.box)
