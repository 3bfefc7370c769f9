"""Other engines that run on a CPU, where they are installed."""

from __future__ import annotations

import importlib
import warnings
from collections.abc import Callable
from typing import Any

from torch import Tensor

from neural_fields.ops import HashGridSpec


def drjit_hash_grid(
    spec: HashGridSpec, positions: Tensor, *, backward: bool
) -> dict[str, Callable[[], object]]:
    """Dr.Jit's hash grid of the same shape on its LLVM backend: nothing where it cannot run.

    Args:
        spec: the shape.
        positions: [n, 3].
        backward: also the gradient of all its parameters.
    """
    try:
        dr: Any = importlib.import_module("drjit")
        if not dr.has_backend(dr.JitBackend.LLVM):
            return {}
        llvm: Any = importlib.import_module("drjit.llvm.ad")
        nn: Any = importlib.import_module("drjit.nn")
    except ImportError:
        return {}
    grids: list[Any] = []  # made on the first call, which is never timed

    def make() -> Any:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            return nn.HashGridEncoding(
                llvm.Float,
                spec.n_dims,
                n_levels=spec.n_levels,
                n_features_per_level=spec.n_features,
                hashmap_size=1 << spec.log2_table_size,  # entries, whatever its text says
                base_resolution=spec.base_resolution,
                per_level_scale=spec.growth,
            )

    def arm() -> None:
        if not grids:
            points = llvm.ArrayXf(positions.t().contiguous().numpy())
            dr.eval(points)
            grids.extend((make(), points))
        grid, points = grids
        if not backward:
            dr.eval(grid(points))
            dr.sync_thread()
            return
        dr.enable_grad(grid.data)
        features = grid(points)
        dr.backward_from(dr.sum(dr.sum(features * features, axis=0)) * 0.5)
        gradient = dr.grad(grid.data)
        dr.eval(features, gradient)
        dr.sync_thread()
        dr.disable_grad(grid.data)

    return {"drjit": arm}
