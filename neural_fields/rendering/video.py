"""Frames of video fields, at any time, size and of any part."""

from __future__ import annotations

import torch
from torch import Tensor

from neural_fields.fields import AnyVideo
from neural_fields.ops import device_of
from neural_fields.rendering.image import Crop, sample_plane


@torch.no_grad()
def render_frame(
    field: AnyVideo,
    time: float,
    width: int | None = None,
    height: int | None = None,
    crop: Crop | None = None,
) -> Tensor:
    """Render one moment of a video.

    Args:
        field: a video field.
        time: in [0, 1]; frame i of n is at i / (n - 1).
        width: of the result in pixels; the video's own, or the crop's.
        height: the same.
        crop: left, top, width and height of the part, pixels of the video; None = all of it.

    Returns:
        float32 [height, width, 3], not clamped. Pixels larger than the video's are means of as many
        samples as pixels they cover, at most 16 x 16.

    Raises:
        InputError: the time is not in [0, 1].

    Example:
        >>> from neural_fields.architectures.pyramid import Pyramid
        >>> from neural_fields.fields import VideoConfig, VideoField
        >>> field = VideoField(VideoConfig(64, 36, 8, Pyramid(((32, 18, 4),), (4,))))
        >>> render_frame(field, 0.5, 32, 18).shape
        torch.Size([18, 32, 3])
    """
    config = field.config
    whole = (0.0, 0.0, float(config.width), float(config.height))
    moment, device = field.at(time), device_of(field)

    def lattice(x: Tensor, y: Tensor) -> Tensor:
        return moment.lattice(x.to(device), y.to(device)).to(x.device)

    return sample_plane(lattice, 3, width, height, crop or whole)
