"""What `benchmarks/device.py` measures: cases, the work that they cannot do without, and rows."""

from __future__ import annotations

import functools
import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from types import ModuleType

import torch
from torch import Tensor

from neural_fields.ops._library import native

Arm = Callable[[], object]
SECTOR_BYTES = 32  # what a GPU's caches and memory move at least


@dataclass(frozen=True)
class Sizes:
    """How much work the cases do.

    Attributes:
        n_points: of operations that compute with every point, and of those that look things up.
        n_streamed: of operations that only move numbers: more than a GPU's caches hold.
        log2_table_size: of hash grids.
        plane_sides: vertices per axis of VM, of CP and of K-planes.
        voxel_side: vertices per axis of voxels.
        cells: of the occupancy grid per axis; 256 is more than a field has, and than caches hold.
        batches: samples of a step, and the side of the pictures that its rays are from.
        march_copies: how often the rays of the last batch are marched.
        scene: views and their side, of the scene that a trainer fits.
        picture: side of the view that is rendered.
        train_steps: before a step of the trainer is measured, and a view is rendered.
        train_samples: of a trainer's step; 0: as many as the field's preset has.
        copied: numbers that are copied to measure the memory.
        matrix: rows and columns of the products that measure the arithmetic.
        lego_seconds: that Lego is fitted for.
        turn_seconds: that an arm is repeated for at a time.
        rounds: how often each arm gets its turn; None: as often as pays (see `compare`).
    """

    n_points: int = 1 << 20
    n_streamed: int = 1 << 22
    log2_table_size: int = 19
    plane_sides: tuple[int, int, int] = (300, 500, 512)
    voxel_side: int = 128
    cells: int = 256
    batches: tuple[tuple[int, int], ...] = ((1 << 16, 64), (1 << 18, 128))
    march_copies: int = 16
    scene: tuple[int, int] = (24, 200)
    picture: int = 800
    train_steps: int = 512
    train_samples: int = 0
    copied: int = 1 << 28
    matrix: int = 8192
    lego_seconds: tuple[float, ...] = (5.0, 15.0, 60.0)
    turn_seconds: float = 0.02
    rounds: int | None = None


REHEARSAL = Sizes(
    n_points=257,
    n_streamed=640,
    log2_table_size=10,
    plane_sides=(12, 12, 12),
    voxel_side=6,
    cells=8,
    batches=((512, 24),),
    march_copies=1,
    scene=(3, 24),
    picture=16,
    train_steps=17,
    train_samples=1024,
    copied=1 << 12,
    matrix=32,
    lego_seconds=(0.2,),
    turn_seconds=0.0,
    rounds=1,
)


@dataclass(frozen=True)
class Place:
    """Where and with how much work cases are measured."""

    device: torch.device
    sizes: Sizes

    @functools.cached_property
    def module(self) -> ModuleType:
        """The native module of the device."""
        return native("benchmark", self.empty(0))

    @property
    def is_gpu(self) -> bool:
        """Whether figures mean anything."""
        return self.device.type == "cuda"

    def rand(self, *shape: int) -> Tensor:
        """Uniform in [0, 1)."""
        return torch.rand(shape, device=self.device)

    def randn(self, *shape: int) -> Tensor:
        """Normal."""
        return torch.randn(shape, device=self.device)

    def empty(self, *shape: int) -> Tensor:
        """Of no particular content."""
        return torch.empty(shape, device=self.device)


@dataclass(frozen=True)
class Work:
    """What an operation cannot do without.

    Attributes:
        n_bytes: that have to be read and written.
        formula: how they are counted.
        flops: additions and multiplications of matrix products.
    """

    n_bytes: float
    formula: str
    flops: float = 0.0

    def __add__(self, other: Work) -> Work:
        formula = f"{self.formula} + {other.formula}"
        return Work(self.n_bytes + other.n_bytes, formula, self.flops + other.flops)


def moved(n: int, flops: float = 0.0, **parts: float) -> Work:
    """The bytes of n things by what they are made of, in bytes each; `flops` of one.

    Example:
        >>> moved(10, positions=12, features=128)
        Work(n_bytes=1400, formula='10 x (12 positions + 128 features)', flops=0.0)
    """
    named = " + ".join(
        f"{size:.4g} {name.replace('_', ' ')}" for name, size in parts.items() if size
    )
    return Work(n * sum(parts.values()), f"{n} x ({named})", n * flops)


def spanned(length: int, unit: int) -> int:
    """Bytes of the sectors that a run of bytes touches, on the average over where it begins.

    It is a whole number of units long and begins at any of them.

    Example:
        >>> spanned(224, unit=112), spanned(128, unit=64)
        (240, 128)
    """
    return length + SECTOR_BYTES - math.gcd(unit, SECTOR_BYTES)


@dataclass(frozen=True)
class Case:
    """One row: what is measured, and beside what.

    Attributes:
        name: `<op>.<forward|backward|second>`, or `step`, `train`, `render`; variants of a row have
            `:` and what differs behind the name.
        items: points, samples, numbers, cells or pixels of one call.
        unit: which of these.
        ours: the native arm.
        eager: arms of plain PyTorch, by what they are made of; the fastest one counts.
        tcnn: tiny-cuda-nn, where it is installed and computes the same.
        work: what it cannot do without; None where neither memory nor matrix products decide.
        note: what is unlike between the arms.
        turns: how much longer than others a turn of its arms lasts.
    """

    name: str
    items: int
    unit: str
    ours: Arm
    eager: Mapping[str, Arm] = field(default_factory=dict)
    tcnn: Arm | None = None
    work: Work | None = None
    note: str = ""
    turns: float = 1.0


Cases = Callable[[Place], Iterator[Case]]


def in_turn(*arms: Arm) -> Arm:
    """One after the other."""

    def all_of_them() -> None:
        for arm in arms:
            arm()

    return all_of_them


def backward_arm(
    function: Callable[..., Tensor], inputs: Sequence[Tensor], grad_output: Tensor
) -> Arm:
    """The gradients of all of a function's inputs by autograd.

    Its values are computed in the first call, which is never timed.
    """

    @functools.cache
    def graph() -> tuple[Tensor, list[Tensor]]:
        leaves = [tensor.clone().requires_grad_() for tensor in inputs]
        return function(*leaves), leaves

    return lambda: torch.autograd.grad(*graph(), grad_output, retain_graph=True)


def second_arm(
    function: Callable[..., Tensor],
    inputs: Sequence[Tensor],
    grad_output: Tensor,
    tangents: Tensor,
) -> Arm:
    """Derivatives of the gradient of the first input, by the output's gradient and all inputs.

    The gradient is computed in the first call, which is never timed.
    """

    @functools.cache
    def graph() -> tuple[Tensor, list[Tensor]]:
        leaves = [tensor.clone().requires_grad_() for tensor in inputs]
        grad = grad_output.clone().requires_grad_()
        (slope,) = torch.autograd.grad(function(*leaves), leaves[0], grad, create_graph=True)
        return slope, [grad, *leaves]

    return lambda: torch.autograd.grad(*graph(), tangents, retain_graph=True, allow_unused=True)
