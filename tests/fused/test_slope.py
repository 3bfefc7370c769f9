"""`trunk_slope` is what its operations are one by one, second derivatives included."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor

from neural_fields.ops import (
    HashGridSpec,
    MlpSpec,
    SlopeSpec,
    SparseGradient,
    hash_grid,
    mlp,
    trunk_features,
    trunk_slope,
)

GRIDS = {
    "linear": HashGridSpec(log2_table_size=10, finest_resolution=128),
    "smoothstep": HashGridSpec(log2_table_size=10, interpolation="smoothstep"),
    "pairs": HashGridSpec(n_levels=8, n_features=2, log2_table_size=10),
}
NETWORKS: dict[str, dict[str, Any]] = {
    "relu": {"widths": (64, 16)},
    "softplus": {"widths": (64, 64, 16), "hidden": "softplus", "beta": 10.0, "biases": True},
    "sigmoid": {"widths": (48, 32), "hidden": "sigmoid"},
    "none": {"widths": (16,)},
}


def _spec(grid: str, network: str) -> SlopeSpec:
    options = dict(NETWORKS[network])
    widths = (GRIDS[grid].n_output, *options.pop("widths"))
    return SlopeSpec(GRIDS[grid], MlpSpec(widths, **options))


def _parameters(spec: SlopeSpec) -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(3)
    table = torch.randn(spec.grid.n_entries, spec.grid.n_features, generator=generator)
    params = 0.3 * torch.randn(spec.network.n_params, generator=generator)
    return (0.3 * table).requires_grad_(), params.requires_grad_()


def _sparse(table: Tensor) -> SparseGradient:
    touched = torch.zeros((table.numel() + 15) // 16, dtype=torch.uint8)
    return SparseGradient(torch.zeros(table.numel()), touched)


def _one_by_one(
    positions: Tensor, table: Tensor, params: Tensor, spec: SlopeSpec, n_levels: int
) -> tuple[Tensor, Tensor]:
    positions = positions.clone().requires_grad_()
    encoded = hash_grid(positions, table, spec.grid)
    used = torch.arange(spec.grid.n_output) < n_levels * spec.grid.n_features
    features = mlp(encoded * used, params, spec.network)
    (slope,) = torch.autograd.grad(features[:, 0].sum(), positions, create_graph=True)
    return features, slope


@pytest.mark.parametrize("network", NETWORKS)
@pytest.mark.parametrize("grid", GRIDS)
@pytest.mark.parametrize(("n", "n_levels"), [(0, 8), (1, 8), (97, 8), (2500, 5)])
def test_equals_its_operations(grid: str, network: str, n: int, n_levels: int) -> None:
    spec = _spec(grid, network)
    table, params = _parameters(spec)
    generator = torch.Generator().manual_seed(n)
    positions = torch.rand(n, 3, generator=generator)
    weights = torch.randn(n, spec.network.n_output, generator=generator)

    def loss(features: Tensor, slope: Tensor) -> Tensor:
        return (features * weights).sum() + (slope.square().sum(1) + 0.1).sqrt().sum()

    expected = _one_by_one(positions, table, params, spec, n_levels)
    sparse = _sparse(table)
    found = trunk_slope(positions, table, params, spec, sparse, n_levels)
    scale = 1 + max((float(part.detach().abs().max()) for part in expected if n), default=0.0)
    for one, other in zip(found, expected, strict=True):
        torch.testing.assert_close(one, other, rtol=1e-4, atol=1e-5 * scale)
    of_table, of_params = torch.autograd.grad(loss(*expected), [table, params])
    (by_params,) = torch.autograd.grad(loss(*found), [params])
    for one, other in ((by_params, of_params), (sparse.values.view_as(table), of_table)):
        size = 1e-6 + float(other.abs().max())
        torch.testing.assert_close(one / size, other / size, rtol=1e-3, atol=2e-5)
    touched = sparse.values.view(-1, 16).ne(0).any(1) if n else sparse.touched.bool()
    assert not bool((touched & ~sparse.touched.bool()).any())
    torch.testing.assert_close(
        trunk_features(positions, table, params, spec, n_levels), found[0].detach()
    )


def test_results_do_not_depend_on_the_number_of_threads() -> None:
    from neural_fields import _core

    spec = _spec("linear", "relu")
    table, params = _parameters(spec)
    positions = torch.rand(3000, 3, generator=torch.Generator().manual_seed(1))
    results = []
    before = _core.num_threads()
    try:
        for n_threads in (1, 2, 5):
            _core.set_num_threads(n_threads)
            sparse = _sparse(table)
            features, slope = trunk_slope(positions, table, params, spec, sparse)
            loss = features.square().sum() + slope.abs().sum()
            results.append((*torch.autograd.grad(loss, [params]), sparse.values))
    finally:
        _core.set_num_threads(before)
    for other in results[1:]:
        for one, two in zip(results[0], other, strict=True):
            assert torch.equal(one, two)


def test_what_does_not_fit_is_refused() -> None:
    grid = GRIDS["linear"]
    for network, word in (
        (MlpSpec((32, 64, 3)), "multiples of 16"),
        (MlpSpec((16, 64, 16)), "width of the encoding"),
        (MlpSpec((32, 64, 16), precision="bf16"), "float32"),
        (MlpSpec((32, 64, 16), hidden="sine"), "one by one"),
        (MlpSpec((32, 64, 16), output="sigmoid"), "output activation"),
    ):
        with pytest.raises(ValueError, match=word):
            SlopeSpec(grid, network)
    spec = _spec("linear", "relu")
    table, params = _parameters(spec)
    with pytest.raises(ValueError, match="n_levels"):
        trunk_features(torch.rand(4, 3), table, params, spec, 9)
