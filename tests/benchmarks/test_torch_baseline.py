"""The PyTorch baseline computes what the native fused step computes."""

import pytest
import torch

from neural_fields import _core
from neural_fields.benchmarks.torch_baseline import (
    Batch,
    Grid,
    RadianceBaseline,
    spherical_harmonics,
)
from neural_fields.ops import HashGridSpec, hash_grid
from neural_fields.ops import spherical_harmonics as native_harmonics

# Positions are rounded at 2^-24 of 60 cells; sums of up to 64 products through three layers.
TOLERANCE = 1e-4

SPECS = {
    "8x4": HashGridSpec(
        n_levels=8, n_features=4, log2_table_size=9, finest_resolution=64, base_resolution=4
    ),
    "16x2": HashGridSpec(
        n_levels=16, n_features=2, log2_table_size=9, finest_resolution=64, base_resolution=4
    ),
}


def make_batch(n_rays=23, seed=0):
    generator = torch.Generator().manual_seed(seed)
    counts = torch.randint(0, 12, (n_rays,), generator=generator)
    offsets = torch.cat((torch.zeros(1, dtype=torch.int64), counts.cumsum(0)))
    n = int(offsets[-1])
    t_starts = torch.rand(n, generator=generator)
    return Batch(
        offsets,
        t_starts,
        t_starts + 0.1 * torch.rand(n, generator=generator),
        torch.rand(n, 3, generator=generator),
        torch.nn.functional.normalize(torch.randn(n_rays, 3, generator=generator), dim=1),
        torch.rand(n_rays, 3, generator=generator),
        torch.rand(n_rays, 3, generator=generator),
        1.5,
    )


def make_params(spec, seed=1):
    generator = torch.Generator().manual_seed(seed)
    table = torch.randn(spec.n_entries, spec.n_features, generator=generator)
    density = 0.2 * torch.randn(spec.n_output * 64 + 64 * 16, generator=generator)
    color = 0.2 * torch.randn(32 * 64 + 64 * 64 + 64 * 3, generator=generator)
    return table, density, color


def native_step(spec, batch, table, density, color):
    """Loss, colours and the gradients of table, density and colour network."""
    shape = _core.RadianceShape(
        _core.HashGridShape(*spec.arguments),
        _core.MlpShape([spec.n_output, 64, 16], "relu", "none", 1.0, False),
        _core.MlpShape([32, 64, 64, 3], "relu", "sigmoid", 1.0, False),
    )
    grads = torch.zeros_like(table), torch.zeros_like(density), torch.zeros_like(color)
    touched = torch.zeros((table.numel() + 15) // 16, dtype=torch.uint8)
    losses, colors = torch.empty(batch.n_rays), torch.empty(batch.n_rays, 3)
    kept = _core.radiance_train(
        shape, table, density, color,
        torch.zeros(batch.n_rays, 3), batch.directions, batch.offsets,
        batch.t_starts, batch.t_ends, batch.positions.clone(),
        batch.target, batch.background,
        torch.empty(batch.n_samples, spec.n_output), grads[0], touched, grads[1], grads[2],
        losses, colors, batch.unit, 0.0, 0.1, batch.n_rays,
    )  # fmt: skip
    assert kept == batch.n_samples
    return losses.mean(), colors, grads


def close(got, wanted):
    return (got - wanted).abs().max() <= TOLERANCE * wanted.abs().max()


@pytest.mark.parametrize("name", SPECS)
def test_features_and_table_gradient(name):
    spec = SPECS[name]
    grid, table, positions = Grid(spec), make_params(spec)[0], torch.rand(70, 3)
    table.requires_grad_()
    features = hash_grid(positions, table, spec)
    grad_features = torch.randn_like(features)
    features.backward(grad_features)
    index, weight = grid.corners(positions)
    assert close(grid.lookup(table.detach(), index, weight), features.detach())
    grad = torch.zeros_like(table.grad)
    grid.add_gradient(grad, index, weight, grad_features)
    assert close(grad, table.grad)


def test_refuses_other_grids():
    with pytest.raises(ValueError, match="linear"):
        Grid(HashGridSpec(interpolation="smoothstep"))
    with pytest.raises(ValueError, match="as tiny-cuda-nn"):
        Grid(HashGridSpec(convention="torch-ngp"))
    with pytest.raises(ValueError, match="even number"):
        Grid(HashGridSpec(n_features=1))


def test_spherical_harmonics():
    directions = make_batch().directions
    assert close(spherical_harmonics(directions), native_harmonics(directions, 4))


@pytest.mark.parametrize("name", SPECS)
@pytest.mark.parametrize("piece_samples", [1, 40, 4096])
def test_step_equals_native(name, piece_samples):
    spec, batch = SPECS[name], make_batch()
    table, density, color = make_params(spec)
    loss, colors, grads = native_step(spec, batch, table, density, color)
    baseline = RadianceBaseline(spec, table, density, color, piece_samples=piece_samples)
    assert close(baseline.forward(batch), colors)
    assert close(baseline.backward(batch), loss)
    assert close(baseline.table.grad, grads[0])
    flat = [matrix.grad.view(-1) for matrix in baseline.matrices]
    assert close(torch.cat(flat[:2]), grads[1])
    assert close(torch.cat(flat[2:]), grads[2])


def test_opaque_samples():
    spec, batch = SPECS["8x4"], make_batch()
    table, density, color = make_params(spec)
    density[-16 * 64 : -15 * 64] = 8.0  # the log-density's row: thousands of units
    _, colors, _ = native_step(spec, batch, table, density, color)
    assert close(RadianceBaseline(spec, table, density, color).forward(batch), colors)


def test_learns():
    spec, batch = SPECS["8x4"], make_batch()
    baseline = RadianceBaseline(spec, *make_params(spec))
    losses = [baseline.step(batch).item() for _ in range(20)]
    assert losses[-1] < 0.7 * losses[0]
    assert not baseline.table.grad.any()
