"""What a GPU can do at most, measured now: bytes through its memory, and matrix products."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch

from neural_fields.benchmarks.device_case import Arm, Place
from neural_fields.benchmarks.device_timing import Clock, compare

_TURNS = 3.0


@dataclass(frozen=True)
class Ceilings:
    """Rates per second.

    Attributes:
        copy_bytes: of a copy within the memory, read and written, the best of all rounds.
        elementwise_bytes: the same of a product with a constant.
        float32_flops: of matrix products, the median.
        tf32_flops: the same with factors rounded to 10 bits of fraction.
        half_flops: the same of half-precision matrices.
    """

    copy_bytes: float
    elementwise_bytes: float
    float32_flops: float
    tf32_flops: float
    half_flops: float

    @property
    def memory_bytes(self) -> float:
        """What rows are held against."""
        return max(self.copy_bytes, self.elementwise_bytes)


def ceilings(place: Place, clock: Clock) -> Ceilings:
    """Measure, by what PyTorch has."""
    products = [_products(place, clock, *kind) for kind in _KINDS]
    return Ceilings(*_streams(place, clock), *products)


def _streams(place: Place, clock: Clock) -> tuple[float, float]:
    source = place.rand(place.sizes.copied)
    target = torch.empty_like(source)
    arms: dict[str, Arm] = {
        "copy": lambda: target.copy_(source),
        "elementwise": lambda: torch.mul(source, 1.5, out=target),
    }
    n_bytes = 2 * source.numel() * source.element_size()
    timings = compare(clock, arms, **_turns(place))
    return n_bytes / min(timings["copy"].seconds), n_bytes / min(timings["elementwise"].seconds)


_KINDS = (
    (torch.float32, "highest"),
    (torch.float32, "high"),
    (torch.float16, "highest"),
)


def _products(place: Place, clock: Clock, dtype: torch.dtype, precision: str) -> float:
    n = place.sizes.matrix
    a, b = (place.randn(n, n).to(dtype) for _ in range(2))
    out = torch.empty_like(a)
    with _matrix_precision(precision):
        arms: dict[str, Arm] = {"product": lambda: torch.mm(a, b, out=out)}
        timing = compare(clock, arms, **_turns(place))["product"]
    return 2 * n**3 / timing.median


def _turns(place: Place) -> dict[str, Any]:
    return {"min_seconds": _TURNS * place.sizes.turn_seconds, "rounds": place.sizes.rounds}


@contextmanager
def _matrix_precision(name: str) -> Iterator[None]:
    before = torch.get_float32_matmul_precision()
    torch.set_float32_matmul_precision(name)
    try:
        yield
    finally:
        torch.set_float32_matmul_precision(before)
