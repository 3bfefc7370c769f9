"""Lens models: how a direction in the camera lands on the image plane, and back.

The axes here are those of the image: x right, y down, z forward. Image-plane coordinates are
`(pixel - principal) / focal`. The six coefficients are `k1 k2 k3 k4 p1 p2`, each a tensor that
broadcasts against the coordinates.

`perspective` is OpenCV's radial-tangential model with a radial polynomial of four terms, as
nerfstudio uses it (so k4 multiplies r^8; it is not the k4 of OpenCV's rational model). `fisheye`
is OpenCV's fisheye (Kannala-Brandt) model with k1..k4; p1 and p2 are not part of it.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

import torch
from torch import Tensor

LensModel = Literal["perspective", "fisheye"]

# Newton's method from the distorted point. Real lenses are exact in float32 after 4 steps; the
# loader refuses a lens that is not inverted everywhere in its image after this many.
N_NEWTON_STEPS = 6


def lens_project(
    x: Tensor, y: Tensor, z: Tensor, coefficients: Sequence[Tensor], model: LensModel
) -> tuple[Tensor, Tensor]:
    """Image-plane coordinates of camera-space points.

    Args:
        x: float [m], to the right.
        y: float [m], down.
        z: float [m], forward.
        coefficients: `k1 k2 k3 k4 p1 p2`, each broadcasting against x.
        model: `"perspective"` or `"fisheye"`.

    Returns:
        The two image-plane coordinates, float [m]. With `perspective` they mean nothing where
        z <= 0.

    Example:
        >>> zero, one = torch.zeros(1), torch.ones(1)
        >>> lens_project(one, zero, 2 * one, [zero] * 6, "perspective")
        (tensor([0.5000]), tensor([0.]))
    """
    if model == "fisheye":
        radius = torch.hypot(x, y)
        angle = torch.atan2(radius, z)
        distorted, _ = _fisheye_angle(angle, coefficients)
        # On the axis the ratio tends to 1 / z.
        scale = torch.where(radius > 1e-9 * z.abs(), distorted / radius, 1 / z)
        return x * scale, y * scale
    u, v, _, _, _ = _radial_tangential(x / z, y / z, coefficients)
    return u, v


def lens_unproject(
    u: Tensor, v: Tensor, coefficients: Sequence[Tensor], model: LensModel
) -> tuple[Tensor, Tensor, Tensor]:
    """Camera-space directions (not unit vectors) of image-plane coordinates.

    Args:
        u: float [m], to the right.
        v: float [m], down.
        coefficients: `k1 k2 k3 k4 p1 p2`, each broadcasting against u.
        model: `"perspective"` or `"fisheye"`.

    Returns:
        x, y and z, float [m]: `lens_project` of them gives u and v.

    Example:
        >>> zero = torch.zeros(1)
        >>> lens_unproject(zero + 0.5, zero, [zero] * 6, "perspective")
        (tensor([0.5000]), tensor([0.]), tensor([1.]))
    """
    if model == "fisheye":
        distorted = torch.hypot(u, v)
        angle = distorted
        for _ in range(N_NEWTON_STEPS):
            value, slope = _fisheye_angle(angle, coefficients)
            angle = angle - (value - distorted) / slope
        scale = torch.where(distorted > 1e-9, angle.sin() / distorted, 1.0)
        return u * scale, v * scale, angle.cos()
    x, y = u, v
    for _ in range(N_NEWTON_STEPS):
        x_image, y_image, xx, xy, yy = _radial_tangential(x, y, coefficients)
        x_error, y_error = x_image - u, y_image - v
        inverse = 1 / (xx * yy - xy * xy)
        x = x - (yy * x_error - xy * y_error) * inverse
        y = y - (xx * y_error - xy * x_error) * inverse
    return x, y, torch.ones_like(x)


def lens_inversion_error(
    u: Tensor, v: Tensor, coefficients: Sequence[Tensor], model: LensModel
) -> Tensor:
    """How far unprojecting and projecting again ends from where it started.

    Args:
        u: float [m], image-plane coordinate to the right.
        v: float [m], down.
        coefficients: `k1 k2 k3 k4 p1 p2`, each broadcasting against u.
        model: `"perspective"` or `"fisheye"`.

    Returns:
        float [m] in image-plane units; infinite where the model has folded over, so that
        two directions share one pixel and the one found is not the lens's.
    """
    x, y, z = lens_unproject(u, v, coefficients, model)
    u_again, v_again = lens_project(x, y, z, coefficients, model)
    if model == "fisheye":
        _, slope = _fisheye_angle(torch.atan2(torch.hypot(x, y), z), coefficients)
        unfolded = slope > 0
    else:
        _, _, xx, xy, yy = _radial_tangential(x, y, coefficients)
        unfolded = (xx * yy - xy * xy > 0) & (xx + yy > 0)
    error = torch.hypot(u_again - u, v_again - v).nan_to_num(nan=torch.inf)
    return torch.where(unfolded, error, torch.inf)


def _radial_tangential(
    x: Tensor, y: Tensor, coefficients: Sequence[Tensor]
) -> tuple[Tensor, Tensor, Tensor, Tensor, Tensor]:
    """The distorted point, and its (symmetric) Jacobian's entries xx, xy, yy."""
    k1, k2, k3, k4, p1, p2 = coefficients
    r = x * x + y * y
    radial = 1 + r * (k1 + r * (k2 + r * (k3 + r * k4)))
    slope = 2 * (k1 + r * (2 * k2 + r * (3 * k3 + 4 * r * k4)))
    tangential = 2 * (p1 * y + p2 * x)
    u = x * (radial + tangential) + p2 * r
    v = y * (radial + tangential) + p1 * r
    xx = radial + x * x * slope + tangential + 4 * p2 * x
    xy = x * y * slope + 2 * (p1 * x + p2 * y)
    yy = radial + y * y * slope + tangential + 4 * p1 * y
    return u, v, xx, xy, yy


def _fisheye_angle(angle: Tensor, coefficients: Sequence[Tensor]) -> tuple[Tensor, Tensor]:
    """The distorted angle and its derivative."""
    k1, k2, k3, k4 = coefficients[:4]
    s = angle * angle
    value = angle * (1 + s * (k1 + s * (k2 + s * (k3 + s * k4))))
    slope = 1 + s * (3 * k1 + s * (5 * k2 + s * (7 * k3 + s * 9 * k4)))
    return value, slope
