"""Where things of a video move: displacements that a video field starts from."""

from __future__ import annotations

from collections.abc import Iterator

import torch
import torch.nn.functional as functional
from torch import Tensor

_SIDE = 160  # pixels along the longer side of the pictures that are compared
_ROUNDS = ((15, 2, 0.01), (25, 0, 0.004))  # steps, blur in pixels, first rate
_SMOOTH = 2.0
_FLOOR = 1e-3  # of the robust error


def estimate_motion(frames: Tensor, cells: tuple[int, int], n_moments: int) -> Tensor:
    """Displacements that show every frame in the middle one.

    Every frame starts from its neighbour's displacement, nearer to the middle, and is moved to
    lower a robust difference with a penalty on bends. Frames that nothing explains better than
    rest, such as those behind a cut, rest.

    Args:
        frames: uint8 [n, height, width, 3], two or more.
        cells: vertices of the displacement's grid along x and y, at the ends of the picture.
        n_moments: vertices of time, the first at the first frame and the last at the last.

    Returns:
        float32 [n_moments, cells y, cells x, 2], pixels: what frame t has at p, the middle frame
        has near p + displacement(t, p).

    Example:
        >>> still = torch.randint(0, 256, (1, 32, 48, 3), dtype=torch.uint8).repeat(3, 1, 1, 1)
        >>> float(estimate_motion(still, (4, 3), 2).abs().max()) < 0.5
        True
    """
    n, height, width = frames.shape[:3]
    small = _small(frames)
    middle = n // 2
    found = torch.zeros(n, 2, cells[1], cells[0])
    for index, near, before in _order(n, middle):
        guess = found[near : near + 1].clone()
        if 0 <= before < n and near != middle:  # goes on as it went
            guess += 0.7 * (found[near] - found[before])
        found[index] = _fitted(small[middle : middle + 1], small[index : index + 1], guess)
    at = torch.linspace(0, n - 1, n_moments)
    lower = at.long().clamp(max=n - 2)
    moments = torch.lerp(found[lower], found[lower + 1], (at - lower).view(-1, 1, 1, 1))
    return moments.permute(0, 2, 3, 1) * torch.tensor([width / 2, height / 2])


def _order(n: int, middle: int) -> Iterator[tuple[int, int, int]]:
    """(frame, its neighbour nearer to the middle, the neighbour's), from the middle outwards."""
    for index in range(middle + 1, n):
        yield index, index - 1, index - 2
    for index in range(middle - 1, -1, -1):
        yield index, index + 1, index + 2


def _small(frames: Tensor) -> Tensor:
    """float32 [n, 3, h, w] in [0, 1], averages of blocks."""
    factor = max(1, round(max(frames.shape[1:3]) / _SIDE))
    factor = min(factor, *frames.shape[1:3])
    parts = [
        functional.avg_pool2d(frame.permute(2, 0, 1)[None].float() / 255, factor)
        for frame in frames
    ]
    return torch.cat(parts)


def _fitted(reference: Tensor, picture: Tensor, guess: Tensor) -> Tensor:
    """[2, cells y, cells x] in half pictures."""
    displacement = guess
    for n_steps, blur, rate in _ROUNDS:
        displacement = _descended(
            _blurred(reference, blur), _blurred(picture, blur), displacement, n_steps, rate
        )
    with torch.no_grad():
        rest = torch.zeros_like(displacement)
        moved, still = (
            float(_error(picture, _Warp(picture)(reference, each))) for each in (displacement, rest)
        )
    return (displacement if moved < still else rest)[0]


def _descended(
    reference: Tensor, picture: Tensor, displacement: Tensor, n_steps: int, rate: float
) -> Tensor:
    displacement = displacement.clone().requires_grad_()
    optimiser = torch.optim.Adam([displacement], lr=rate, betas=(0.9, 0.95))
    warp = _Warp(picture)
    for step in range(n_steps):
        optimiser.param_groups[0]["lr"] = rate * (1 - step / n_steps) + rate / 40
        bends = displacement.diff(dim=2).square().mean() + displacement.diff(dim=3).square().mean()
        loss = _error(picture, warp(reference, displacement)) + _SMOOTH * bends
        (displacement.grad,) = torch.autograd.grad(loss, displacement)
        optimiser.step()
    return displacement.detach()


def _error(picture: Tensor, warped: Tensor) -> Tensor:
    return ((warped - picture).square() + _FLOOR).sqrt().mean()


class _Warp:
    """What a displacement makes of a picture."""

    def __init__(self, like: Tensor) -> None:
        self._size = like.shape[2:]
        y, x = (((torch.arange(side) + 0.5) / side) * 2 - 1 for side in self._size)
        self._base = torch.stack(torch.meshgrid(x, y, indexing="xy"), -1)[None]

    def __call__(self, picture: Tensor, displacement: Tensor) -> Tensor:
        moved = functional.interpolate(
            displacement, size=self._size, mode="bilinear", align_corners=True
        )
        return functional.grid_sample(
            picture,
            self._base + moved.permute(0, 2, 3, 1),
            padding_mode="border",
            align_corners=False,
        )


def _blurred(picture: Tensor, radius: int) -> Tensor:
    if radius == 0 or min(picture.shape[2:]) <= radius:
        return picture
    padded = functional.pad(picture, (radius,) * 4, mode="replicate")
    return functional.avg_pool2d(padded, 2 * radius + 1, 1)
