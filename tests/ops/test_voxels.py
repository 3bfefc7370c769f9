"""Dense voxels."""

import math

import pytest
import tolerances
import torch

from neural_fields import ops
from neural_fields.ops import VoxelsSpec, reference

from .suite import Case, OpSuite, derivatives
from .test_tensor_planes import points

DIRECTIONS = torch.nn.functional.normalize(
    torch.randn(5000, 3, generator=torch.Generator().manual_seed(4), dtype=torch.float64), dim=1
)


def make_case(name, spec, directions=False):
    def inputs(n, generator):
        grid = torch.rand(spec.n_vertices, spec.n_channels, generator=generator) * 2 - 1
        return [points(spec.resolution, n, generator), grid]

    def directions_of(x):
        return DIRECTIONS[: x.shape[0]].to(x.device, x.dtype) if directions else None

    return Case(
        name=name,
        function=lambda x, g: ops.voxels(x, g, spec, directions_of(x)),
        reference=lambda x, g: reference.voxels(x, g, spec, directions_of(x)),
        inputs=inputs,
        arguments=("positions", "grid"),
        tolerance=tolerances.LATTICE_FLOAT32,
        twice=(0, 1),
    )


class TestVoxels(OpSuite):
    name = "voxels"
    cases = (
        make_case("2d", VoxelsSpec((5, 7), 3, 0, "smoothstep")),
        make_case("3d-linear", VoxelsSpec((9, 8, 7), 29)),
        make_case("3d", VoxelsSpec((4, 5, 3), 16, 0, "smoothstep")),
        make_case("4d", VoxelsSpec((3, 2, 4, 3), 5, 0, "smoothstep")),
        make_case("harmonics-1", VoxelsSpec((4, 3, 5), 4, 1, "smoothstep"), True),
        make_case("harmonics-4", VoxelsSpec((4, 3), 13, 4, "smoothstep"), True),
        make_case("harmonics-9", VoxelsSpec((4, 3, 5), 28, 9, "smoothstep"), True),
        make_case("harmonics-16", VoxelsSpec((3, 3, 2), 49, 16, "smoothstep"), True),
        make_case("no-directions", VoxelsSpec((4, 3, 5), 13, 4, "smoothstep")),
    )

    def registered(self, case):
        spec = VoxelsSpec((3, 4, 2), 13, 4)
        x, grid, grad = torch.rand(5, 3), torch.rand(spec.n_vertices, 13), torch.ones(5, 4)
        directions = DIRECTIONS[:5].float()
        variables = [tensor.clone().requires_grad_() for tensor in (grad, x, grid)]
        yield "voxels", (*variables[1:], directions, *spec.arguments)
        yield "voxels", (*variables[1:], None, *spec.arguments)
        yield "voxels_backward_grid", (*variables[:2], directions, *spec.arguments)
        yield "voxels_backward_positions", (*variables, directions, *spec.arguments)
        for needs_grid in (True, False):
            arguments = (x, grad, x, grid, directions, needs_grid, *spec.arguments)
            yield "voxels_backward_backward", arguments


# ---- layout --------------------------------------------------------------------------------------


def test_published_sizes():
    spec = VoxelsSpec((128, 128, 128), 28, 9)  # PVD's tensors
    assert spec.n_vertices * spec.n_channels == 58_720_256
    assert spec.n_output == 4


def test_x_is_the_fastest_axis(any_isa):
    spec = VoxelsSpec((3, 4, 5), 2)
    grid = torch.randn(spec.n_vertices, 2)
    axes = [torch.linspace(0, 1, r) for r in reversed(spec.resolution)]
    vertices = torch.cartesian_prod(*axes).flip(1)  # x varies first
    torch.testing.assert_close(ops.voxels(vertices, grid, spec), grid, rtol=0, atol=2e-6)


def test_colors_are_sums_of_harmonics():
    spec = VoxelsSpec((2, 2, 2), 13, 4)
    grid = torch.zeros(8, 13)
    grid[:, 0] = 5.0
    grid[:, 1 + 4 * 2 + 2] = 2.0  # blue, along z
    x, up = torch.rand(2, 3), torch.tensor([[0.0, 0.0, 1.0], [0.0, 0.0, -1.0]])
    values = ops.voxels(x, grid, spec, up)
    y10 = 0.4886025119
    expected = torch.tensor([[5.0, 0, 0, 2 * y10], [5.0, 0, 0, -2 * y10]])
    torch.testing.assert_close(values, expected)
    without = ops.voxels(x, grid, spec)
    torch.testing.assert_close(without, torch.tensor([[5.0, 0, 0, 0]]).expand(2, 4))


def test_directions_have_no_gradient():
    spec = VoxelsSpec((3, 3, 3), 4, 1)
    directions = DIRECTIONS[:7].float().requires_grad_()
    x = torch.rand(7, 3, requires_grad=True)
    ops.voxels(x, torch.rand(27, 4), spec, directions).sum().backward()
    assert directions.grad is None
    assert x.grad is not None


# ---- interpolation -------------------------------------------------------------------------------


@pytest.mark.parametrize("interpolation", ["linear", "smoothstep"])
def test_weights_sum_to_one(interpolation):
    spec = VoxelsSpec((4, 5, 3, 2), 1, 0, interpolation)
    grid = torch.zeros(spec.n_vertices, 1, dtype=torch.float64, requires_grad=True)
    x = torch.rand(200, 4, dtype=torch.float64)
    (weights,) = torch.autograd.grad(ops.voxels(x, grid, spec).sum(), grid)
    assert weights.sum().item() == pytest.approx(200)
    assert (weights >= 0).all()


def test_a_linear_grid_gives_a_linear_function():
    spec = VoxelsSpec((4, 7, 5), 1)
    axes = [torch.linspace(0, 1, r, dtype=torch.float64) for r in reversed(spec.resolution)]
    vertices = torch.cartesian_prod(*axes).flip(1)
    slope = torch.tensor([2.0, -3.0, 0.5], dtype=torch.float64)
    x = torch.rand(500, 3, dtype=torch.float64, requires_grad=True)
    values = ops.voxels(x, (vertices @ slope + 1)[:, None], spec)
    torch.testing.assert_close(values[:, 0], (x @ slope + 1).detach())
    values.sum().backward()
    torch.testing.assert_close(x.grad, slope.expand(500, 3))


def test_positions_outside_are_clamped_without_gradient(any_isa):
    spec = VoxelsSpec((4, 5), 17)
    grid = torch.rand(20, 17)
    outside = torch.tensor([[-0.001, 0.3], [1.001, 0.3], [-1e30, 0.3], [1e30, 0.3]])
    inside = torch.tensor([[0.0, 0.3], [1.0, 0.3], [0.0, 0.3], [1.0, 0.3]])
    assert torch.equal(ops.voxels(outside, grid, spec), ops.voxels(inside, grid, spec))
    outside.requires_grad_()
    ops.voxels(outside, grid, spec).sum().backward()
    assert (outside.grad[:, 0] == 0).all()
    assert (outside.grad[:, 1] != 0).all()


def test_not_finite_positions_stay_within_the_grid(any_isa):
    spec = VoxelsSpec((4, 5), 3)
    grid = torch.rand(20, 3)
    strange = torch.tensor([[math.nan] * 2, [math.inf] * 2, [-math.inf] * 2])
    plain = torch.tensor([[0.0] * 2, [1.0] * 2, [0.0] * 2])
    results = [
        derivatives(lambda x, g: ops.voxels(x, g, spec), [x, grid]) for x in (strange, plain)
    ]
    assert torch.equal(results[0][0], results[1][0])
    assert torch.equal(results[0][2], results[1][2])
    assert (results[0][1] == 0).all()


def test_gradients_of_many_points(restored_core):
    """More points than one task takes, most of them in a few layers."""
    spec = VoxelsSpec((20, 30, 40), 5)
    generator = torch.Generator().manual_seed(3)
    x = torch.rand(140_000, 3, generator=generator)
    x[:100_000, 2] = x[:100_000, 2] * 0.05 + 0.5
    grid = torch.rand(spec.n_vertices, 5, generator=generator)
    x64, grid64 = x.double(), grid.double()
    expected = derivatives(lambda g: reference.voxels(x64, g, spec), [grid64])[1]
    grads = []
    for n_threads in (1, 2, 5):
        restored_core.set_num_threads(n_threads)
        grads.append(derivatives(lambda g: ops.voxels(x, g, spec), [grid])[1])
    scale = expected.abs().max().item()
    torch.testing.assert_close(grads[0].double(), expected, rtol=0, atol=1e-4 * scale)
    assert torch.equal(grads[0], grads[1])
    assert torch.equal(grads[0], grads[2])


# ---- specifications ------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("arguments", "error", "message"),
    [
        (((4,), 2), ValueError, "resolution needs 2, 3 or 4 axes, got 1"),
        (((4, 1), 2), ValueError, "resolution needs 2 to .* per axis, got 1"),
        (((4, 4.0), 2), TypeError, r"resolution needs an integer, got 4\.0"),
        (((4, 4), 0), ValueError, "n_channels needs 1 to 256, got 0"),
        (((4, 4), 28, 5), ValueError, "n_harmonics needs 0, 1, 4, 9 or 16, got 5"),
        (((4, 4), 27, 9), ValueError, "n_channels needs 1 .* = 28, got 27"),
        (((4, 4), 2, 0, "cubic"), ValueError, "needs linear or smoothstep, got 'cubic'"),
    ],
)
def test_wrong_specs_are_refused(arguments, error, message):
    with pytest.raises(error, match=message):
        VoxelsSpec(*arguments)


def test_wrong_directions_are_refused():
    spec = VoxelsSpec((4, 4), 4, 1)
    x, grid = torch.rand(5, 2), torch.rand(16, 4)
    with pytest.raises(ValueError, match=r"^voxels: directions needs shape \[5, 3\], got \[4, 3\]"):
        ops.voxels(x, grid, spec, torch.rand(4, 3))
    with pytest.raises(TypeError, match=r"^voxels: directions needs torch\.float32 like the first"):
        ops.voxels(x, grid, spec, torch.rand(5, 3, dtype=torch.float64))
