"""Multiresolution hash grid."""

import math

import pytest
import tolerances
import torch

from neural_fields import ops
from neural_fields.ops import reference
from neural_fields.ops.reference.hash_grid import level

from .suite import Case, OpSuite, derivatives

BORDER = 1e-3  # cells that points keep from the borders, where linear gradients jump


def points(spec, n, generator):
    """Positions in and around the unit cube whose cells are beyond rounding in every level."""
    candidates = torch.rand(2 * n + 64, spec.n_dims, generator=generator) * 1.2 - 0.1
    good = torch.ones(len(candidates), dtype=torch.bool)
    for geometry in spec.levels:
        t = (candidates.double().clamp(0, 1) * geometry.scale + 0.5) % 1
        good &= ((t > BORDER) & (t < 1 - BORDER)).all(1)
    assert good.sum() >= n
    return candidates[good][:n]


def make_case(name, **options):
    options = {"n_levels": 4, "log2_table_size": 8, "base_resolution": 4} | options
    spec = ops.HashGridSpec(**options)

    def inputs(n, generator):
        table = torch.rand(spec.n_entries, spec.n_features, generator=generator) * 2 - 1
        return [points(spec, n, generator), table]

    return Case(
        name=name,
        function=lambda x, t: ops.hash_grid(x, t, spec),
        reference=lambda x, t: reference.hash_grid(x, t, spec),
        inputs=inputs,
        arguments=("positions", "table"),
        tolerance=tolerances.HASH_GRID_FLOAT32,
        twice=(0, 1),
    )


class TestHashGrid(OpSuite):
    name = "hash_grid"
    cases = (
        make_case("2d", n_dims=2, n_features=1, interpolation="smoothstep"),
        make_case("3d", n_features=2, per_level_scale=1.5, interpolation="smoothstep"),
        make_case("3d-linear", n_features=4, finest_resolution=40),
        make_case("3d-wide", n_features=8, log2_table_size=6),
        make_case("4d", n_dims=4, n_features=2, n_levels=3, interpolation="smoothstep"),
        make_case("dense", n_features=2, grid_type="dense", n_levels=3),
        make_case("tiled", n_dims=2, n_features=4, grid_type="tiled", per_level_scale=1.7),
        make_case("one-vertex", n_features=1, base_resolution=1, n_levels=2),
        # dense, dense, hash: 5^3 and 8^3 entries, then the cap
        make_case(
            "torch-ngp",
            n_features=2,
            n_levels=3,
            log2_table_size=9,
            per_level_scale=1.7,
            interpolation="smoothstep",
            convention="torch-ngp",
        ),
        make_case("torch-ngp-2d", n_dims=2, n_features=4, convention="torch-ngp"),
    )

    def registered(self, case):
        spec = ops.HashGridSpec(n_levels=2, n_features=2, base_resolution=3)
        x, table = torch.rand(5, 3), torch.rand(spec.n_entries, 2)
        grad, arguments = torch.ones(5, 4), spec.arguments
        variables = [tensor.clone().requires_grad_() for tensor in (grad, x, table)]
        yield "hash_grid", (*variables[1:], *arguments)
        yield "hash_grid_backward_table", (*variables[:2], *arguments)
        yield "hash_grid_backward_positions", (*variables, *arguments)
        yield "hash_grid_backward_backward", (x, grad, x, table, True, *arguments)
        yield "hash_grid_backward_backward", (x, grad, x, table, False, *arguments)


# ---- geometry ------------------------------------------------------------------------------------

PUBLISHED = [
    (
        {"n_levels": 16, "n_features": 2, "finest_resolution": 2048},
        1.381913,
        [16, 23, 31, 43, 59, 81, 112, 154, 213, 295, 407, 562, 777, 1073, 1483, 2048],
        (5, 6_098_120, 12_196_240),
    ),
    (
        {"n_levels": 8, "n_features": 4, "finest_resolution": 2048},
        2.0,
        [16, 32, 64, 128, 256, 512, 1024, 2048],
        (3, 2_920_448, 11_681_792),
    ),
    (
        {"n_levels": 16, "n_features": 2, "finest_resolution": 512},
        1.259921,
        [16, 21, 26, 32, 41, 51, 64, 81, 102, 128, 162, 204, 256, 323, 407, 512],
        (7, 5_246_024, 10_492_048),
    ),
]


@pytest.mark.parametrize(("options", "growth", "resolutions", "counts"), PUBLISHED)
def test_published_configurations(options, growth, resolutions, counts):
    spec = ops.HashGridSpec(**options)
    n_dense, n_entries, n_params = counts
    assert spec.growth == pytest.approx(growth, abs=1e-6)
    assert [g.indexing for g in spec.levels] == ["dense"] * n_dense + ["hash"] * (
        spec.n_levels - n_dense
    )
    # Rounding to float32 may move the ceiling of a hashed level by one, without effect.
    found = [g.resolution for g in spec.levels]
    assert found[:n_dense] == resolutions[:n_dense]
    assert all(abs(a - b) <= 1 for a, b in zip(found, resolutions, strict=True))
    assert growth != 2.0 or found == resolutions
    assert spec.n_entries == n_entries
    assert spec.n_entries * spec.n_features == n_params


@pytest.mark.parametrize(("n_levels", "n_params"), [(14, 10_607_408), (16, 12_239_728)])
def test_published_configurations_of_torch_ngp(n_levels, n_params):
    options = {"n_levels": n_levels, "n_features": 2, "finest_resolution": 2048}
    spec = ops.HashGridSpec(**options, convention="torch-ngp")
    assert spec.n_entries * spec.n_features == n_params
    other = ops.HashGridSpec(**options)
    assert [g[:2] for g in spec.levels] == [g[:2] for g in other.levels]
    # 4913 entries, 17 per axis, rounded up to a multiple of 8
    assert (spec.levels[0].resolution, spec.levels[0].n_entries) == (16, 4920)
    # The level of 81 vertices is the first whose 82^3 = 551,368 are more than 2^19.
    n_dense = sum((g.resolution + 1) ** 3 <= 1 << 19 for g in spec.levels)
    expected = ["dense"] * n_dense + ["hash"] * (n_levels - n_dense)
    assert [g.indexing for g in spec.levels] == expected
    assert n_dense < n_levels


@pytest.mark.parametrize("case", [*TestHashGrid.cases, None], ids=lambda c: c.name if c else "8x4")
def test_geometry_equals_the_reference(case):
    spec = ops.HashGridSpec() if case is None else case.function.__closure__[0].cell_contents
    offset = 0
    for index, native in enumerate(spec.levels):
        geometry = level(spec, index)
        assert native[:3] == (geometry.scale, geometry.resolution, geometry.n_entries)
        assert native.offset == offset
        assert (native.indexing == "dense") == geometry.is_dense
        offset += geometry.n_entries
    assert spec.n_entries == offset


HASHES = [  # vertex, hash modulo 2^19, modulo 2^14
    ((1, 0, 0), 1, 1),
    ((0, 1, 0), 489905, 14769),
    ((0, 0, 1), 153493, 6037),
    ((1, 2, 3), 128476, 13788),
    ((100, 200, 300), 110768, 12464),
    ((2047, 2047, 2047), 285147, 6619),
    ((5, 7), 283602, None),
    ((1023, 511), 256944, None),
]


def entries_of(spec, position):
    """The weights of the entries that a single position reads, by entry."""
    table = torch.zeros(spec.n_entries, 1, dtype=torch.float64, requires_grad=True)
    x = torch.tensor([position], dtype=torch.float64)
    (weights,) = torch.autograd.grad(ops.hash_grid(x, table, spec).sum(), table)
    return {int(i): float(weights[i, 0]) for i in weights[:, 0].nonzero()[:, 0]}


@pytest.mark.parametrize(("vertex", "entry", "small_entry"), HASHES)
def test_golden_hashes(vertex, entry, small_entry):
    for log2_table_size, expected in ((19, entry), (14, small_entry)):
        spec = ops.HashGridSpec(
            n_dims=len(vertex),
            n_levels=1,
            n_features=1,
            log2_table_size=log2_table_size,
            base_resolution=4096,
        )
        # 0.6 of a cell above the vertex, whose weight is then the smallest of all.
        position = [(v + 0.6 - 0.5) / 4095 for v in vertex]
        weights = entries_of(spec, position)
        if expected is not None:
            assert weights[expected] == pytest.approx(0.4 ** len(vertex))


def test_golden_corner():
    spec = ops.HashGridSpec(n_levels=1, n_features=1, base_resolution=16)
    expected = {2948: 0.1875, 2949: 0.0625, 2948 + 256: 0.5625, 2949 + 256: 0.1875}
    assert entries_of(spec, [0.25, 0.5, 0.75]) == pytest.approx(expected)


def test_upper_edge_of_a_dense_level_wraps():
    spec = ops.HashGridSpec(n_dims=2, n_levels=1, n_features=1, base_resolution=4)
    # At x = 1 the cell starts at the last vertex, 3, and its upper corner is the next row's first.
    weights = entries_of(spec, [1.0, 0.5 / 3])
    assert weights == pytest.approx({4 + 3: 0.5, 4 + 4: 0.5})
    # The last corner runs past the 16 entries and wraps to the first ones.
    assert set(entries_of(spec, [1.0, 1.0])) == {15, 0, 3, 4}


def test_golden_corner_of_torch_ngp():
    spec = ops.HashGridSpec(n_levels=1, n_features=1, convention="torch-ngp")
    first = 4 + 8 * 17 + 11 * 17**2
    expected = {first: 0.1875, first + 1: 0.0625, first + 289: 0.5625, first + 290: 0.1875}
    assert entries_of(spec, [0.25, 0.5, 0.75]) == pytest.approx(expected)


def test_upper_edge_of_a_dense_level_of_torch_ngp_has_entries_of_its_own():
    spec = ops.HashGridSpec(
        n_dims=2, n_levels=1, n_features=1, base_resolution=4, convention="torch-ngp"
    )
    assert entries_of(spec, [1.0, 0.5 / 3]) == pytest.approx({5 + 3: 0.5, 5 + 4: 0.5})
    assert set(entries_of(spec, [1.0, 1.0])) == {18, 19, 23, 24}
    assert spec.n_entries == 32


# ---- invariants ----------------------------------------------------------------------------------


@pytest.mark.parametrize("interpolation", ["linear", "smoothstep"])
@pytest.mark.parametrize("grid_type", ["hash", "dense", "tiled"])
def test_constant_table_gives_a_constant(grid_type, interpolation):
    spec = ops.HashGridSpec(
        n_levels=3,
        n_features=2,
        log2_table_size=8,
        grid_type=grid_type,
        interpolation=interpolation,
    )
    table = torch.full((spec.n_entries, 2), 3.0)
    values, grad_x, grad_table = derivatives(
        lambda x, t: ops.hash_grid(x, t, spec), [torch.rand(500, 3), table]
    )
    torch.testing.assert_close(values, torch.full((500, 6), 3.0))
    assert grad_x.abs().max() < 3 * spec.levels[-1].scale * 1e-5
    assert grad_table.shape == table.shape


def test_corner_weights_sum_to_one():
    spec = ops.HashGridSpec(n_dims=4, n_levels=3, n_features=1, log2_table_size=10)
    table = torch.zeros(spec.n_entries, 1, dtype=torch.float64, requires_grad=True)
    x = torch.rand(200, 4, dtype=torch.float64)
    (weights,) = torch.autograd.grad(ops.hash_grid(x, table, spec).sum(), table)
    assert weights.sum().item() == pytest.approx(200 * 3)


def test_linear_table_on_a_dense_level_gives_a_linear_function():
    spec = ops.HashGridSpec(n_levels=1, n_features=1, base_resolution=16)
    index = torch.arange(16.0, dtype=torch.float64)
    z, y, x = torch.meshgrid(index, index, index, indexing="ij")
    table = (2 * x - 3 * y + 0.5 * z + 1).reshape(-1, 1)
    positions = torch.rand(500, 3, dtype=torch.float64) * (14.49 / 15)
    coefficients = torch.tensor([2.0, -3.0, 0.5], dtype=torch.float64)
    vertices = positions * 15 + 0.5
    positions.requires_grad_()
    values = ops.hash_grid(positions, table, spec)
    torch.testing.assert_close(values[:, 0], vertices @ coefficients + 1)
    values.sum().backward()
    torch.testing.assert_close(positions.grad, (15 * coefficients).expand(500, 3))


# ---- unusual positions ---------------------------------------------------------------------------


def test_positions_outside_are_clamped_without_gradient(any_isa):
    spec = ops.HashGridSpec(n_dims=2, n_levels=3, n_features=2, log2_table_size=8)
    table = torch.rand(spec.n_entries, 2)
    outside = torch.tensor([[-0.5, 0.3], [1.5, 0.3], [-1e30, 0.3], [1e30, 0.3]])
    inside = torch.tensor([[0.0, 0.3], [1.0, 0.3], [0.0, 0.3], [1.0, 0.3]])
    assert torch.equal(ops.hash_grid(outside, table, spec), ops.hash_grid(inside, table, spec))
    outside.requires_grad_()
    ops.hash_grid(outside, table, spec).sum().backward()
    assert (outside.grad[:, 0] == 0).all()
    assert (outside.grad[:, 1] != 0).all()


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_not_finite_positions_stay_within_the_table(dtype, any_isa):
    spec = ops.HashGridSpec(n_dims=2, n_levels=2, n_features=1, log2_table_size=6)
    table = torch.rand(spec.n_entries, 1, dtype=dtype)
    strange = torch.tensor([[math.nan] * 2, [math.inf] * 2, [-math.inf] * 2], dtype=dtype)
    plain = torch.tensor([[0.0] * 2, [1.0] * 2, [0.0] * 2], dtype=dtype)
    case = [lambda x, t: ops.hash_grid(x, t, spec), (0, 1)]
    values, grad_x, grad_table, *_ = derivatives(case[0], [strange, table], case[1])
    expected, _, expected_table, *_ = derivatives(case[0], [plain, table], case[1])
    assert torch.equal(values, expected)
    assert torch.equal(grad_table, expected_table)
    assert (grad_x == 0).all()


# ---- specifications ------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("options", "error", "message"),
    [
        ({"n_dims": 5}, ValueError, "n_dims needs 2, 3 or 4, got 5"),
        ({"n_dims": 3.0}, TypeError, r"n_dims needs an integer, got 3\.0"),
        ({"n_levels": 0}, ValueError, "n_levels needs 1 to 32, got 0"),
        ({"n_features": 3}, ValueError, "n_features needs 1, 2, 4 or 8, got 3"),
        ({"log2_table_size": 40}, ValueError, "log2_table_size needs 3 to 28, got 40"),
        ({"base_resolution": 0}, ValueError, "base_resolution needs 1 to 65535, got 0"),
        ({"per_level_scale": 0.5}, ValueError, r"per_level_scale needs .* at least 1, got 0\.5"),
        ({"per_level_scale": math.nan}, ValueError, "per_level_scale needs"),
        ({"n_levels": 32}, ValueError, r"finest resolution needs to stay below 2\^24"),
        ({"grid_type": "dense"}, ValueError, "use type hash"),
        ({"grid_type": "sparse"}, ValueError, "needs dense, hash or tiled, got 'sparse'"),
        ({"interpolation": "nearest"}, ValueError, "needs linear or smoothstep, got 'nearest'"),
        ({"finest_resolution": 8}, ValueError, "at least base_resolution 16, got 8"),
        ({"finest_resolution": 2048.0}, TypeError, "finest_resolution needs an integer"),
        ({"convention": "ngp"}, ValueError, "tiny-cuda-nn or torch-ngp, got 'ngp'"),
        ({"convention": "torch-ngp", "grid_type": "tiled"}, ValueError, "needs grid_type hash"),
        ({"n_levels": 1, "finest_resolution": 32}, ValueError, "of a single level needs"),
        ({"finest_resolution": 64, "per_level_scale": 2.0}, ValueError, "got both"),
    ],
)
def test_wrong_specs_are_refused(options, error, message):
    with pytest.raises(error, match=message):
        ops.HashGridSpec(**options)


def test_specs_are_plain_values():
    spec = ops.HashGridSpec(n_levels=4, finest_resolution=128)
    assert spec == ops.HashGridSpec(n_levels=4, finest_resolution=128)
    assert len({spec, ops.HashGridSpec(n_levels=4, finest_resolution=128)}) == 1
    assert spec.growth == pytest.approx(2.0)
    assert spec.n_output == 16


def test_a_sparse_gradient_is_the_dense_one(any_isa):
    spec = ops.HashGridSpec(n_dims=2, n_levels=4, n_features=2, finest_resolution=512)
    table = torch.randn(spec.n_entries, 2, requires_grad=True)
    positions = torch.rand(300, 2, requires_grad=True)
    weight = torch.randn(300, 8)
    sparse = ops.SparseGradient(
        torch.zeros(table.numel()), torch.zeros((table.numel() + 15) // 16, dtype=torch.uint8)
    )
    features = ops.hash_grid(positions, table, spec)
    dense, of_positions = torch.autograd.grad((features * weight).sum(), [table, positions])
    for times in (1, 2):  # it adds up
        seen = ops.hash_grid_sparse(positions, table, spec, sparse)
        assert torch.equal(seen, features)
        got = torch.autograd.grad((seen * weight).sum(), [table, positions], allow_unused=True)
        assert got[0] is None
        assert torch.equal(got[1], of_positions)
        torch.testing.assert_close(sparse.values.view(-1, 2), times * dense)
    blocks = torch.nn.functional.pad(dense.view(-1) != 0, (0, -table.numel() % 16)).view(-1, 16)
    assert torch.equal(sparse.touched.bool(), blocks.any(1))
    assert 0 < sparse.touched.sum() < len(sparse.touched)


@pytest.mark.parametrize(
    ("values", "touched", "error", "message"),
    [
        (torch.zeros(7), torch.zeros(1, dtype=torch.uint8), (RuntimeError, ValueError), "shape"),
        (None, torch.zeros(1, dtype=torch.uint8), ValueError, "touched"),
        (None, torch.zeros(4), TypeError, "touched"),
    ],
)
def test_wrong_sparse_gradients_are_refused(values, touched, error, message):
    spec = ops.HashGridSpec(n_dims=2, n_levels=1, n_features=2, base_resolution=4)
    table = torch.zeros(spec.n_entries, 2, requires_grad=True)
    values = torch.zeros(table.numel()) if values is None else values
    features = ops.hash_grid_sparse(
        torch.rand(3, 2), table, spec, ops.SparseGradient(values, touched)
    )
    with pytest.raises(error, match=message):
        features.sum().backward()
