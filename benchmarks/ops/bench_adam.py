"""Adam over the table of the 8 x 4 grid: all numbers, and the fifth that a step touches."""

from __future__ import annotations

from collections.abc import Iterator

import torch

from neural_fields import _core
from neural_fields.benchmarks.case import Case, Sizes
from neural_fields.ops import HashGridSpec, huge_pages_empty

_BLOCK = 16  # numbers that share a mark
_TOUCHED = 0.2


def cases(sizes: Sizes) -> Iterator[Case]:
    """Items are all numbers of the table in both rows; PyTorch visits all of them in both."""
    n = HashGridSpec(log2_table_size=sizes.log2_table_size).n_entries * 4
    params, grads, first, second = (huge_pages_empty((n,)).zero_() for _ in range(4))
    grads.normal_()
    marks = (torch.rand((n + _BLOCK - 1) // _BLOCK) < _TOUCHED).to(torch.uint8)
    touched = marks.clone()
    parameter = params.clone()
    parameter.grad = grads.clone()
    optimizer = torch.optim.Adam([parameter], 1e-2, (0.9, 0.99), 1e-15, fused=True)

    def dense() -> None:
        _core.adam(params, grads, first, second, 1e-2, 0.9, 0.99, 1e-15, 0.0, 9, True, False)

    def sparse() -> None:
        touched.copy_(marks)
        _core.adam(
            params, grads, first, second, 1e-2, 0.9, 0.99, 1e-15, 0.0, 9, True, False, touched
        )  # fmt: skip

    for variant, ours, share in (("", dense, 1.0), (":sparse", sparse, _TOUCHED)):
        yield Case(
            f"adam.forward.f32{variant}",
            n,
            "M numbers/s",
            ours=ours,
            eager=optimizer.step,
            # Four arrays are read, three written.
            limit=sizes.streaming(n, 4 * 7 * share),
        )
