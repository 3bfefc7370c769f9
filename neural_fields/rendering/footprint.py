"""What a sample along a ray stands for: a piece of the cone through its pixel."""

from __future__ import annotations

from torch import Tensor


def cone_variances(
    t_starts: Tensor, t_ends: Tensor, directions: Tensor, pixel_widths: Tensor
) -> Tensor:
    """Variances [n, 3] along the world's axes of positions in pieces of cones.

    Args:
        t_starts: [n], distances along the rays where pieces begin.
        t_ends: [n], where they end.
        directions: [n, 3], unit vectors.
        pixel_widths: [n], of the rays' pixels at unit distance; the cone's radius is 2 / sqrt(12)
            of that.

    Source: Barron et al., Mip-NeRF, 2021, equations 7, 8 and 16. Deviation: they are taken around
    the middle of the piece, which is its mean but for pieces as long as they are distant.

    Example:
        >>> import torch
        >>> t = torch.tensor([3.9]), torch.tensor([4.1])
        >>> z = torch.tensor([[0.0, 0.0, 1.0]])
        >>> cone_variances(*t, z, torch.tensor([0.01])).sqrt().mul(1e4).round()
        tensor([[116., 116., 577.]])
    """
    middle, half = (t_starts + t_ends) / 2, (t_ends - t_starts) / 2
    near = 3 * middle.square() + half.square()
    fourth = half**4
    along = half.square() / 3 - 4 / 15 * fourth * (12 * middle.square() - half.square()) / near**2
    across = middle.square() / 4 + 5 / 12 * half.square() - 4 / 15 * fourth / near
    across = across * pixel_widths.square() / 3
    squares = directions.square()
    return along[:, None] * squares + across[:, None] * (1 - squares)
