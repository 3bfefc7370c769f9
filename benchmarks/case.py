"""What a benchmark declares: one case per row of the table."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

import torch
from torch import Tensor

from neural_fields import _core
from neural_fields.benchmarks import limits

Arm = Callable[[], object]
Bar = Mapping[str, float | str]


@dataclass(frozen=True)
class Sizes:
    """How much work the cases do, and how long the limits are measured.

    Attributes:
        n_samples: samples of the stored batch and of every other list of points.
        log2_table_size: of the hash grids.
        image_size: side of the pictures that the batch is made from.
        limit_seconds: for each limit.
    """

    n_samples: int = 65536
    log2_table_size: int = 19
    image_size: int = 64
    limit_seconds: float = 0.5

    def flops(self) -> float:
        """Float32 operations per second."""
        return limits.flops(self.limit_seconds, _core.num_threads())

    def random_lines(self, n_bytes: int) -> float:
        """Random 64-byte lines per second from a table of that size."""
        return limits.random_lines(n_bytes, self.limit_seconds, _core.num_threads())

    def streaming(self, n_items: int, bytes_per_item: float) -> Callable[[], float]:
        """The limit of items that only have to be moved, from arrays of the same total size."""

        def limit() -> float:
            n_bytes = max(int(n_items * bytes_per_item) // 2, 1 << 16)
            rate = limits.stream_bytes(n_bytes, self.limit_seconds, _core.num_threads())
            return rate / bytes_per_item

        return limit


QUICK = Sizes(n_samples=2048, log2_table_size=12, image_size=24, limit_seconds=0.02)


@dataclass(frozen=True)
class Case:
    """One row: what is measured, and beside what.

    Attributes:
        name: `<op>.<forward|backward|second>.<f32>`, or `step`, `render`, `march.…`; variants of a
            row have `:` and what differs behind the name.
        items: samples, points, numbers or cells of one call.
        unit: what is counted, per second, in millions.
        ours: the native arm.
        eager: the plain PyTorch arm, where the operation has one.
        compiled: the same under `torch.compile`.
        limit: the most items per second that this machine allows, measured when asked.
        bar: the claim that the row belongs to and the figures that it states.
        peers: other engines, by the name of their column.
    """

    name: str
    items: int
    unit: str
    ours: Arm
    eager: Arm | None = None
    compiled: Arm | None = None
    limit: Callable[[], float] | None = None
    bar: Bar | None = None
    peers: Mapping[str, Arm] = field(default_factory=dict)


def gradient_arms(
    function: Callable[[Tensor], Tensor], inputs: Tensor, grad_output: Tensor
) -> tuple[Arm, Arm]:
    """The gradient of a function's only input: autograd's, and a compiled one."""
    leaf = inputs.clone().requires_grad_()
    output = function(leaf)

    def gradient(inputs: Tensor, grad_output: Tensor) -> object:
        return torch.func.vjp(function, inputs)[1](grad_output)

    compiled = torch.compile(gradient, fullgraph=True)
    return (
        lambda: torch.autograd.grad(output, leaf, grad_output, retain_graph=True),
        lambda: compiled(inputs, grad_output),
    )
