import math

import pytest
import torch

from neural_fields.architectures.hash import Hash
from neural_fields.fields import RadianceConfig, RadianceField, Sampling
from neural_fields.rendering.occupancy import (
    OccupancyGrid,
    cell_centers,
    cell_sizes,
    cells_in_box,
)


def make_field(n_cascades=1, box=((-1.0, -1.0, -1.0), (1.0, 1.0, 1.0)), hidden=(16,)):
    sampling = Sampling(step=0.05, max_step=0.05, resolution=8, n_cascades=n_cascades)
    architecture = Hash(log2_table_size=8, base_resolution=4, finest_resolution=16, hidden=hidden)
    config = RadianceConfig(box, architecture=architecture, sampling=sampling)
    return RadianceField(config, seed=1)


@torch.no_grad()
def set_density(field, density):
    field.trunk.encoding.table.fill_(1)
    hidden = field.config.architecture.hidden[0]
    first, last = torch.zeros(hidden, 32), torch.zeros(16, hidden)
    first[0, 0], last[0, 0] = 1, math.log(density)
    field.trunk.mlp.params.copy_(torch.cat([first.flatten(), last.flatten()]))


def bits(field):
    words = field.occupancy
    return ((words[:, None] >> torch.arange(64)) & 1).bool().flatten()


@pytest.mark.parametrize("hidden", [(16,), (24,)], ids=["fused", "operations"])
def test_cells_become_free_and_occupied_again(hidden):
    field = make_field(hidden=hidden)
    grid = OccupancyGrid(field)
    assert bits(field).all()
    set_density(field, 1e-6)
    grid.update(1)
    assert not bits(field).any()
    set_density(field, 10.0)
    grid.update(2)
    assert bits(field).all()
    assert grid.values.min() == pytest.approx(10 * 0.05, rel=1e-4)
    set_density(field, 1e-6)
    grid.update(3, decay=0.5)
    assert grid.values.max() == pytest.approx(5 * 0.05, rel=1e-4)
    for index in range(4, 12):
        grid.update(index, decay=0.5)
    assert grid.values.max() == pytest.approx(5 * 0.05 / 2**8, rel=1e-3)


def test_excluded_cells_stay_excluded():
    field = make_field()
    set_density(field, 10.0)
    visible = torch.rand(512, generator=torch.Generator().manual_seed(1)) < 0.5
    grid = OccupancyGrid(field, visible)
    assert grid.n_candidates == int(visible.sum())
    for index in range(3):
        assert torch.equal(bits(field), visible)
        assert torch.equal(grid.values < 0, ~visible)
        grid.update(index)


def test_shares_cover_all_cells():
    field = make_field()
    set_density(field, 10.0)
    grid = OccupancyGrid(field)
    for index in range(5):
        before = int((grid.values > 0).sum())
        grid.update(index, share=5)
        assert int((grid.values > 0).sum()) - before in (102, 103)
    assert (grid.values > 0).all()


def test_updates_repeat():
    runs = []
    for seed in (1, 1, 2):
        field = make_field()
        with torch.no_grad():
            field.trunk.encoding.table.mul_(1e4)
        grid = OccupancyGrid(field, seed=seed)
        grid.update(3)
        runs.append(grid.values)
    assert torch.equal(runs[0], runs[1])
    assert not torch.equal(runs[0], runs[2])


def test_cells_of_nested_cubes():
    field = make_field(3, ((-4.0, -4.0, -1.0), (4.0, 4.0, 1.0)))
    centers, sizes = cell_centers(field), cell_sizes(field)
    assert sizes.unique().tolist() == [0.25, 0.5, 1.0]
    assert centers[:512].abs().max() == 1 - 0.125
    assert centers[1024:].abs().max() == 4 - 0.5
    inside = cells_in_box(field)
    assert inside[:512].all()
    assert torch.equal(inside, centers[:, 2].abs() <= 1 + sizes / 2)
