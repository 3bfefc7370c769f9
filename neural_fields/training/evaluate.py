"""Scoring a field against photographs."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from neural_fields.data.dataset import Dataset
from neural_fields.data.picture import Picture
from neural_fields.errors import InputError
from neural_fields.fields import ImageField, RadianceField
from neural_fields.rendering.image import render_image
from neural_fields.rendering.volume import Rendered, over, render_view
from neural_fields.training.metrics import Scores, bands, psnr, ssim


def evaluate_image(field: ImageField, data: Picture) -> dict[str, Any]:
    """PSNR and SSIM of an image field.

    Args:
        field: the field.
        data: the picture, read by the field's protocol.

    Returns:
        The keys of `evaluate`, with one view. Values are those of the file (linear for floats),
        alpha premultiplied and scored as a channel, clamped to [0, 1] and not rounded.

    Raises:
        InputError: the picture is of another size or has other channels than the field.
    """
    height, width, channels = data.pixels.shape
    config = field.config
    if (width, height, channels) != (config.width, config.height, config.channels):
        raise InputError(
            f"--data {data.name}: needs the picture that was fitted, "
            f"{config.width}x{config.height} with {config.channels} channels, got {width}x{height} "
            f"with {channels}."
        )
    began = time.perf_counter()
    scores = Scores()
    for rows in bands(height, width):  # so that large pictures fit memory
        n = rows.stop - rows.start
        picture = render_image(field, width, n, (0.0, float(rows.start), float(width), float(n)))
        scores.add(picture.clamp_(0, 1), data.values(data.pixels[rows]).clamp_(0, 1))
    view = {"name": data.name, "psnr": scores.psnr, "ssim": scores.ssim}
    return {
        "psnr": scores.psnr,
        "ssim": scores.ssim,
        "n_views": 1,
        "seconds": time.perf_counter() - began,
        "protocol": dict(data.protocol),
        "views": [view],
    }


def evaluate(
    field: RadianceField,
    data: Dataset,
    on_view: Callable[[int, Tensor, Tensor, Rendered], None] | None = None,
) -> dict[str, Any]:
    """PSNR and SSIM of every view of a split, and their means.

    Args:
        field: the field.
        data: the split, loaded by the field's protocol.
        on_view: called with (index, picture [h, w, 3], truth [h, w, 3], rendering).

    Returns:
        `psnr, ssim, n_views, seconds, protocol, views: [{name, psnr, ssim}]`. Pictures are
        composited over the protocol's background (black where it is random), clamped to [0, 1]
        and not rounded. Masked pixels of the photographs are copied from the truth.
    """
    background = data.background if data.background is not None else torch.zeros(3)
    views: list[dict[str, Any]] = []
    began = time.perf_counter()
    for index in range(len(data)):
        rendered = render_view(field, data.cameras, index)
        picture = over(rendered, background)
        color, alpha = data.image(index)
        truth = color + (1 - alpha)[..., None] * background
        if data.masks is not None:
            picture = torch.where(data.masks[index][..., None], picture, truth)
        views.append(
            {"name": data.names[index], "psnr": psnr(picture, truth), "ssim": ssim(picture, truth)}
        )
        if on_view is not None:
            on_view(index, picture, truth, rendered)
    n = len(views)
    return {
        "psnr": sum(view["psnr"] for view in views) / n,
        "ssim": sum(view["ssim"] for view in views) / n,
        "n_views": n,
        "seconds": time.perf_counter() - began,
        "protocol": {**data.protocol, "eval_split": data.split},
        "views": views,
    }
