"""Pictures of image fields, at any size and of any part."""

from __future__ import annotations

import math
from collections.abc import Callable

import torch
from torch import Tensor

from neural_fields.fields import ImageField, Samples
from neural_fields.ops import device_of

_CHUNK = 1 << 16  # positions at once, so that activations stay small
_ROWS = 1 << 18  # samples of whole rows at once
Crop = tuple[float, float, float, float]


@torch.no_grad()
def render_image(
    field: ImageField, width: int | None = None, height: int | None = None, crop: Crop | None = None
) -> Tensor:
    """Render a picture or a part of it.

    Args:
        field: an image field.
        width: of the result in pixels; the picture's own, or the crop's.
        height: the same.
        crop: left, top, width and height of the part, pixels of the picture; None = all of it.

    Returns:
        float32 [height, width, channels], not clamped, alpha premultiplied. Pixels larger than
        the picture's are means of as many samples as pixels they cover, at most 16 x 16.

    Example:
        >>> from neural_fields.fields import ImageConfig
        >>> from neural_fields.architectures.hash import Hash
        >>> field = ImageField(ImageConfig(64, 48, architecture=Hash(log2_table_size=12)))
        >>> render_image(field, 32, 24).shape
        torch.Size([24, 32, 3])
    """
    config = field.config
    whole = (0.0, 0.0, float(config.width), float(config.height))

    def lattice(x: Tensor, y: Tensor) -> Tensor:
        positions = torch.cartesian_prod(y, x).flip(1)
        positions = positions.to(device_of(field))
        values = [field.value(Samples(part)) for part in torch.split(positions, _CHUNK)]
        return torch.cat(values).view(len(y), len(x), -1).to(x.device)

    return sample_plane(lattice, config.channels, width, height, crop or whole)


def sample_plane(
    lattice: Callable[[Tensor, Tensor], Tensor],
    n_channels: int,
    width: int | None,
    height: int | None,
    part: Crop,
) -> Tensor:
    """A picture [height, width, n_channels] of what `lattice` has at columns and rows.

    `part` is left, top, width and height, of which a pixel is a mean over at most 16 x 16 samples,
    one per unit of length; width and height of the picture are the part's where they are None.
    """
    left, top, wide, high = part
    width, height = width or max(1, round(wide)), height or max(1, round(high))
    per_pixel = min(16, max(1, math.ceil(max(wide / width, high / height) - 1e-6)))
    x = left + (torch.arange(width * per_pixel) + 0.5) * (wide / (width * per_pixel))
    y = top + (torch.arange(height * per_pixel) + 0.5) * (high / (height * per_pixel))
    rows = max(1, _ROWS // (x.numel() * per_pixel))
    if per_pixel == 1 and rows >= height:
        return lattice(x, y)
    picture = torch.empty(height, width, n_channels)
    for first in range(0, height, rows):
        last = min(first + rows, height)
        ys = y[first * per_pixel : last * per_pixel]
        values = lattice(x, ys)
        blocks = values.view(last - first, per_pixel, width, per_pixel, -1)
        picture[first:last] = blocks.mean(dim=(1, 3))
    return picture
