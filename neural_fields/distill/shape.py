"""A shape field as something to be fitted."""

from __future__ import annotations

import torch
from torch import Tensor

from neural_fields.errors import InputError
from neural_fields.fields import Samples, SdfField
from neural_fields.ops import device_of, vector

_STEPS = 8  # of Newton's method from anywhere to the surface
_CLOSE = 1e-3  # units: points farther from it did not arrive
_CHUNK = 1 << 17


class FieldShape:
    """A signed distance field as a shape to be fitted: its zero set, and its values.

    Example:
        >>> from neural_fields.fields import SdfConfig
        >>> FieldShape(SdfField(SdfConfig())).signed(torch.zeros(4, 3)).shape
        torch.Size([4])
    """

    sign = "the teacher"

    def __init__(self, field: SdfField) -> None:
        self._field = field

    def surface(self, n: int, generator: torch.Generator) -> Tensor:
        """Points float64 [n, 3] of the zero set: random ones, led there along the gradient.

        Not uniform: more where the surface bends outward.

        Raises:
            InputError: hardly any arrives.
        """
        low, high = torch.tensor(self._field.config.box)
        found: list[Tensor] = []
        count = 0
        for _ in range(8):
            points = low + torch.rand(n, 3, generator=generator) * (high - low)
            there = points.to(device_of(self._field))
            parts = [self._led(part) for part in torch.split(there, _CHUNK)]
            found.append(torch.cat(parts).cpu())
            count += len(found[-1])
            if count >= n:
                break
        else:
            raise InputError(
                f"the teacher: has hardly any surface inside its box: {count} of {8 * n} points "
                "arrived at one."
            )
        return torch.cat(found)[:n].double()

    def _led(self, points: Tensor) -> Tensor:
        low, high = (vector(corner, points) for corner in self._field.config.box)
        for _ in range(_STEPS):
            points = points.detach().requires_grad_()
            distance = self._field.distance(Samples(points))
            (slope,) = torch.autograd.grad(distance.sum(), points)
            square = slope.square().sum(1, keepdim=True).clamp(min=0.25)
            points = (points - distance[:, None] * slope / square).detach()
            points = torch.minimum(torch.maximum(points, low), high)
        with torch.no_grad():
            distance = self._field.distance(Samples(points))
        inside = ((points > low) & (points < high)).all(1)
        return points[inside & (distance.abs() < _CLOSE * self._field.unit)]

    @torch.no_grad()
    def signed(self, positions: Tensor) -> Tensor:
        """The teacher's distances."""
        parts = torch.split(positions.float().to(device_of(self._field)), _CHUNK)
        found = torch.cat([self._field.distance(Samples(part)) for part in parts])
        return found.to(positions.device)
