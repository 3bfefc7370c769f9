"""What rays see of a scene or a shape, in every mode."""

from __future__ import annotations

import torch
from torch import Tensor

from neural_fields.errors import InputError
from neural_fields.fields import RadianceField, SdfField
from neural_fields.ops import device_of
from neural_fields.rendering.cameras import Cameras
from neural_fields.rendering.moments import seen_from
from neural_fields.rendering.surface import surface_rays
from neural_fields.rendering.volume import Box, Mode, Rendered, normals, over, render_rays

MODES: tuple[Mode, ...] = ("rgb", "depth", "normal", "opacity")


@torch.no_grad()
def seen_by_rays(
    field: RadianceField | SdfField,
    origins: Tensor,
    directions: Tensor,
    pixel_widths: Tensor,
    *,
    mode: Mode = "rgb",
    background: Tensor,
    box: Box | None = None,
) -> Tensor:
    """What rays see of a field.

    Args:
        field: a radiance field, or an SDF, whose surface is grey and lit from where it is seen.
        origins: float32 [n, 3], world.
        directions: float32 [n, 3], unit length.
        pixel_widths: float32 [n], of the rays' pixels at unit distance.
        mode: `rgb` over `background`; `depth` in world units, 0 where nothing is seen; `normal`
            mapped from [-1, 1] to [0, 1]; `opacity`.
        background: sRGB in [0, 1], [3].
        box: lowest and highest corner, world; what lies outside is cut off. None: the field's own.

    Returns:
        float32 [n, 3], or [n] for depth and opacity, on the device of the rays; not
        differentiable.

    Raises:
        InputError: the mode is unknown.
    """
    if mode not in MODES:
        raise InputError(f"mode: needs rgb, depth, normal or opacity, got {mode!r}.")
    normal: Tensor | None = None
    if isinstance(field, SdfField):
        out, normal = surface_rays(field, origins, directions, box)
    else:
        out = render_rays(field, origins, directions, pixel_widths, box)
        if mode == "normal":
            normal = normals(field, origins, directions, out)
    if mode == "rgb":
        return over(out, background)
    if mode == "opacity":
        return out.opacity
    if mode == "depth":
        return mean_depth(out)
    assert normal is not None
    seen = (normal != 0).any(dim=1, keepdim=True)
    return torch.where(seen, normal / 2 + 0.5, 1.0)


def mean_depth(rendered: Rendered) -> Tensor:
    """Distance to what is seen, 0 where that is less than half opaque."""
    opacity, depth = rendered.opacity, rendered.depth
    return torch.where(opacity > 0.5, depth / opacity.clamp(min=1e-6), 0.0)


def seen_by_camera(
    field: RadianceField | SdfField,
    cameras: Cameras,
    index: int = 0,
    *,
    mode: Mode = "rgb",
    background: Tensor,
) -> Tensor:
    """One camera's picture: as of `seen_by_rays`, [h, w, 3] or [h, w]."""
    field, back = seen_from(field, cameras, index), cameras.focal.device
    cameras = cameras.to(device_of(field))
    origins, directions = cameras.image_rays(index)
    widths = cameras.pixel_widths(torch.full((origins.shape[0],), index, device=origins.device))
    under = background.to(origins.device)
    seen = seen_by_rays(field, origins, directions, widths, mode=mode, background=under).to(back)
    return seen.view(cameras.height, cameras.width, *seen.shape[1:])


def to_bytes(picture: Tensor, mode: str) -> Tensor:
    """uint8 [h, w, 3] of any mode; depth is scaled per picture, near is bright.

    Example:
        >>> to_bytes(torch.tensor([[0.0, 2.0, 4.0]]), "depth")[0, :, 0].tolist()
        [0, 255, 38]
    """
    if mode == "depth":
        seen = picture > 0
        if bool(seen.any()):
            near, far = picture[seen].min(), picture[seen].max()
            scaled = 1 - 0.85 * (picture - near) / (far - near).clamp(min=1e-6)
            picture = torch.where(seen, scaled, 0.0)
    if picture.dim() == 2:
        picture = picture[..., None].expand(-1, -1, 3)
    return (picture.clamp(0, 1) * 255).round().to(torch.uint8)
