"""Occupancy grids."""

import pytest
import torch

from neural_fields import ops
from neural_fields.ops import reference
from neural_fields.ops.reference.occupancy import cell_index, cell_of, half_side

SPECS = [ops.OccupancySpec(4, 1), ops.OccupancySpec(12, 3), ops.OccupancySpec(16, 2)]


def each_spec(function):
    return pytest.mark.parametrize("spec", SPECS, ids=str)(function)


def random_values(spec, seed=0):
    values = torch.rand(spec.n_cells, generator=torch.Generator().manual_seed(seed)) * 0.02
    values[::7] = -1.0
    return values


# ---- update --------------------------------------------------------------------------------------


def test_a_cell_without_density_decays_below_the_threshold_in_14_updates():
    spec = ops.OccupancySpec(4)
    values, cell = torch.full((64,), 0.02), torch.tensor([5])
    seen = []
    for _ in range(14):
        ops.occupancy_update(values, cell, torch.zeros(1), spec)
        seen.append(values[5].item())
    assert seen[:2] == pytest.approx([0.019, 0.01805])
    assert seen[12] > 0.01 > seen[13] == pytest.approx(0.00975, abs=1e-5)
    assert (values[:5] == torch.tensor(0.02)).all()


def test_excluded_cells_stay_excluded():
    spec = ops.OccupancySpec(4)
    values = torch.full((64,), -1.0)
    ops.occupancy_update(values, torch.arange(64), torch.full((64,), 9.0), spec)
    assert (values == -1).all()
    assert (ops.occupancy_words(values, spec) == 0).all()


@each_spec
def test_update_equals_the_reference(spec):
    cells = torch.randperm(spec.n_cells, generator=torch.Generator().manual_seed(1))[:200]
    fresh = torch.rand(len(cells)) * 0.03
    fresh[0] = float("nan")
    actual, expected = random_values(spec), random_values(spec)
    ops.occupancy_update(actual, cells, fresh, spec, decay=0.9)
    reference.occupancy_update(expected, cells, fresh.nan_to_num(0.0), spec, decay=0.9)
    torch.testing.assert_close(actual, expected)


def test_update_is_seen_by_autograd():
    values = torch.zeros(64)
    before = values._version
    ops.occupancy_update(values, torch.tensor([0]), torch.ones(1), ops.OccupancySpec(4))
    assert values._version > before


# ---- bits ----------------------------------------------------------------------------------------


@each_spec
@pytest.mark.parametrize("threshold", [0.01, 1.0])
def test_words_equal_the_reference(spec, threshold):
    values = random_values(spec)
    values[torch.rand(spec.n_cells, generator=torch.Generator().manual_seed(2)) < 0.8] = 0.0
    actual = ops.occupancy_words(values, spec, threshold=threshold)
    assert torch.equal(actual, reference.occupancy_words(values, spec, threshold=threshold))


def test_threshold_is_at_most_the_mean_of_the_innermost_cascade():
    spec = ops.OccupancySpec(4, n_cascades=2)
    values = torch.zeros(128)
    values[:4] = torch.tensor([-1.0, 0.032, 0.032, 0.0])  # mean of max(value, 0): 0.001
    values[64:67] = torch.tensor([0.0009, 0.0011, 5.0])
    occupied = ops.occupied_cells(ops.occupancy_words(values, spec))
    assert 64 not in occupied.tolist()
    assert {1, 2, 65, 66} <= set(occupied.tolist())
    values[:64] = 1.0
    values[65] = 0.0099
    occupied = ops.occupied_cells(ops.occupancy_words(values, spec))
    assert 65 not in occupied.tolist()
    assert 66 in occupied.tolist()


def test_outer_cascades_hold_what_inner_ones_do():
    spec = ops.OccupancySpec(8, n_cascades=3)
    values = torch.zeros(spec.n_cells)
    cell = torch.tensor([300])
    values[cell] = 1.0
    (center,) = ops.occupancy_centers(cell, spec)
    occupied = ops.occupied_cells(ops.occupancy_words(values, spec))
    cascades = torch.arange(3)
    expected = cell_of(spec, cascades, center.double().expand(3, 3))
    assert expected[0] == 300
    assert torch.equal(occupied, expected)


def test_words_do_not_depend_on_the_number_of_threads(restored_core):
    spec = ops.OccupancySpec(32, n_cascades=3)
    values, cells = random_values(spec), torch.arange(spec.n_cells)
    results = []
    for n_threads in (1, 2, 3):
        restored_core.set_num_threads(n_threads)
        updated = values.clone()
        ops.occupancy_update(updated, cells, values.flip(0), spec)
        points = ops.occupancy_points(cells, spec, seed=3)
        results.append((updated, points, ops.occupancy_words(updated, spec)))
    for result in results[1:]:
        assert all(torch.equal(a, b) for a, b in zip(result, results[0], strict=True))


def test_cells_are_listed():
    words = torch.tensor([0, -1, 1 << 62, -(1 << 63)])
    assert ops.occupied_cells(words).tolist() == [*range(64, 128), 190, 255]
    assert ops.occupied_cells(torch.zeros(0, dtype=torch.int64)).shape == (0,)


# ---- points --------------------------------------------------------------------------------------


@each_spec
def test_centers_and_points_lie_in_their_cells(spec):
    cells = torch.arange(spec.n_cells)
    cascade = cells // spec.resolution**3
    centers = ops.occupancy_centers(cells, spec)
    assert torch.equal(cell_of(spec, cascade, centers.double()), cells)
    points = ops.occupancy_points(cells, spec, seed=1, stream=2)
    half = half_side(spec, cascade)[:, None] / spec.resolution
    assert ((points - centers).abs() <= half * (1 + 1e-5)).all()
    spread = (points - centers) / half
    assert spread.mean().abs() < 0.2
    assert spread.std() > 0.4


def test_order_of_the_cells():
    spec = ops.OccupancySpec(8, n_cascades=2)
    coordinates = torch.tensor([[1, 0, 0], [0, 1, 0], [0, 0, 1], [4, 0, 0], [0, 4, 0], [0, 0, 4]])
    index = cell_index(spec, torch.zeros(6, dtype=torch.int64), coordinates)
    assert index.tolist() == [1, 4, 16, 64, 128, 256]
    centers = ops.occupancy_centers(index + 512, spec)
    torch.testing.assert_close(centers, (coordinates + 0.5) / 4 - 1)


def test_points_are_named_by_seed_stream_and_cell():
    spec = ops.OccupancySpec(8)
    cells = torch.randperm(spec.n_cells, generator=torch.Generator().manual_seed(0))
    points = ops.occupancy_points(cells, spec, seed=1, stream=2)
    assert torch.equal(ops.occupancy_points(cells[5:9], spec, seed=1, stream=2), points[5:9])
    for seed, stream in ((2, 2), (1, 3), (2, 1), (2**64 - 1, 2**64 - 1)):
        others = ops.occupancy_points(cells, spec, seed=seed, stream=stream)
        assert (others != points).float().mean() > 0.99
    assert ops.occupancy_points(cells[:0], spec).shape == (0, 3)


# ---- wrong inputs --------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("options", "error", "message"),
    [
        ((6,), ValueError, "a multiple of 4 from 4 to 512, got 6"),
        ((516,), ValueError, "a multiple of 4 from 4 to 512, got 516"),
        ((8.0,), TypeError, r"resolution needs an integer, got 8\.0"),
        ((8, 0), ValueError, "n_cascades needs 1 to 8, got 0"),
        ((8, 9), ValueError, "n_cascades needs 1 to 8, got 9"),
    ],
)
def test_wrong_specs_are_refused(options, error, message):
    with pytest.raises(error, match=message):
        ops.OccupancySpec(*options)


def test_wrong_tensors_are_refused():
    spec, one = ops.OccupancySpec(4), torch.ones(1)
    with pytest.raises(IndexError, match="cells: needs indices from 0 and below 64, got 64"):
        ops.occupancy_points(torch.tensor([64]), spec)
    with pytest.raises(IndexError, match="got -1"):
        ops.occupancy_update(torch.zeros(64), torch.tensor([-1]), one, spec)
    with pytest.raises(TypeError, match="cells: needs int64"):
        ops.occupancy_points(torch.zeros(1), spec)
    with pytest.raises(ValueError, match=r"values: needs shape \[64\], got \[63\]"):
        ops.occupancy_update(torch.zeros(63), torch.tensor([0]), one, spec)
    with pytest.raises(ValueError, match="values: needs contiguous"):
        ops.occupancy_update(torch.zeros(128)[::2], torch.tensor([0]), one, spec)
    with pytest.raises(TypeError, match="values: needs float32, got float64"):
        ops.occupancy_words(torch.zeros(64).double(), spec)


# ---- devices -------------------------------------------------------------------------------------


@each_spec
def test_devices_have_the_same_points_values_and_words(spec, device):
    cells = torch.arange(spec.n_cells)[::3].contiguous()
    points = ops.occupancy_points(cells.to(device), spec, seed=3, stream=5)
    assert torch.equal(points.cpu(), ops.occupancy_points(cells, spec, seed=3, stream=5))
    fresh = torch.rand(len(cells), generator=torch.Generator().manual_seed(1)) * 0.03
    values = random_values(spec)
    there = values.to(device)
    ops.occupancy_update(values, cells, fresh, spec, decay=0.9)
    ops.occupancy_update(there, cells.to(device), fresh.to(device), spec, decay=0.9)
    assert torch.equal(there.cpu(), values)
    for threshold in (0.01, 1.0):
        words = ops.occupancy_words(there, spec, threshold=threshold)
        assert torch.equal(words.cpu(), ops.occupancy_words(values, spec, threshold=threshold))
    assert torch.equal(
        ops.occupancy_centers(cells.to(device), spec).cpu(), ops.occupancy_centers(cells, spec)
    )
