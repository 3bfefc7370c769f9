"""Coordinate-aware modulation: its grids, and their application to features."""

import pytest
import tolerances
import torch

from neural_fields import ops
from neural_fields.ops import ModulationSpec, reference

from .suite import FINITE_DIFFERENCES, SIZES, Case, OpSuite, assert_near, derivatives

BORDER = 1e-3


def coordinates(spec, n, generator):
    """Coordinates in and around the unit cube, away from the borders of cells."""
    candidates = torch.rand(2 * n + 64, spec.n_dims, generator=generator) * 1.4 - 0.2
    wrap = torch.tensor(spec.wrap or (False,) * spec.n_dims)
    sizes = torch.tensor(spec.resolution)
    x = candidates.double()
    t = torch.where(wrap, (x % 1) * sizes, x.clamp(0, 1) * (sizes - 1)) % 1
    outside = ~wrap & ((x < -BORDER) | (x > 1 + BORDER))
    good = (outside | ((t > BORDER) & (t < 1 - BORDER))).all(1)
    return candidates[good][:n]


def make_case(name, spec):
    def inputs(n, generator):
        grid = torch.rand(spec.n_vertices, spec.n_channels, generator=generator) * 2 - 1
        return [coordinates(spec, n, generator), grid]

    return Case(
        name=name,
        function=lambda x, g: torch.cat(ops.modulation(x, g, spec), 1),
        reference=lambda x, g: torch.cat(reference.modulation(x, g, spec), 1),
        inputs=inputs,
        arguments=("coordinates", "grid"),
        tolerance=tolerances.LATTICE_FLOAT32,
        twice=(0, 1),
    )


class TestModulation(OpSuite):
    name = "modulation"
    cases = (
        make_case("time", ModulationSpec((5,), 8)),
        make_case("angle", ModulationSpec((6,), 1, (True,))),
        make_case("xy", ModulationSpec((7, 4), 3)),
        make_case("direction", ModulationSpec((10, 3), 8, (True, False))),
        make_case("torus", ModulationSpec((3, 5), 2, (True, True))),
        make_case("xyz", ModulationSpec((3, 4, 5), 5, (False, False, True))),
    )

    def registered(self, case):
        spec = ModulationSpec((4, 3), 2, (True, False))
        x = torch.rand(5, 2, requires_grad=True)
        yield "voxels", (x, spec.initial().requires_grad_(), None, *spec.arguments)

    def test_third_order_names_the_reference(self, case):
        x, grid = case.make(3, torch.float64)
        x.requires_grad_()
        (slope,) = torch.autograd.grad(case.function(x, grid).pow(2).sum(), x, create_graph=True)
        (second,) = torch.autograd.grad(slope.pow(2).sum(), x, create_graph=True)
        with pytest.raises(RuntimeError, match="third-order"):
            second.pow(2).sum().backward()


# ---- grids ---------------------------------------------------------------------------------------


def test_interpolation_is_exact_at_vertices_and_linear_between(any_isa):
    spec = ModulationSpec((5,), 1)
    grid = torch.stack((torch.arange(5.0), torch.tensor([3.0, 1, 4, 1, 5])), 1)
    x = torch.linspace(0, 1, 5)[:, None]
    scale, shift = ops.modulation(x, grid, spec)
    assert torch.equal(torch.cat((scale, shift), 1), grid)
    x = torch.rand(100, 1)
    torch.testing.assert_close(ops.modulation(x, grid, spec)[0], 4 * x)  # a ramp


def test_coordinates_beyond_the_ends_keep_their_value(any_isa):
    spec = ModulationSpec((32,), 1)
    grid = torch.rand(32, 2) + 1
    x = torch.tensor([[1.0], [1.0001], [1.05], [-0.0001], [0.0]], requires_grad=True)
    scale, _ = ops.modulation(x, grid, spec)
    expected = torch.stack([grid[31, 0]] * 3 + [grid[0, 0]] * 2)
    assert torch.equal(scale.detach()[:, 0], expected)
    scale.sum().backward()
    assert (x.grad[1:4] == 0).all()


def test_a_wrapped_axis_is_periodic(any_isa):
    spec = ModulationSpec((4,), 1, (True,))
    grid = torch.tensor([[1.0, 0], [2, 0], [3, 0], [5, 0]])
    x = torch.tensor([[0.0], [0.25], [0.875], [1.0], [-0.125], [17.25], [-1e-9], [1e30]])
    expected = [1.0, 2.0, 3.0, 1.0, 3.0, 2.0, 1.0, 1.0]
    assert ops.modulation(x, grid, spec)[0][:, 0].tolist() == pytest.approx(expected, abs=1e-5)


def test_axes_are_not_swapped():
    spec = ModulationSpec((2, 5), 1)
    grid = torch.zeros(5, 2, 2)  # [axis 1, axis 0, scale and shift]
    grid[3, 1] = torch.tensor([7.0, 8.0])
    scale, shift = ops.modulation(torch.tensor([[1.0, 0.75]]), grid.view(10, 2), spec)
    assert (scale.item(), shift.item()) == (7.0, 8.0)


def test_layers_have_scales_first():
    spec = ModulationSpec((2, 2), 3)
    grid = torch.arange(6.0).expand(4, 6).contiguous()
    scale, shift = ops.modulation(torch.rand(2, 2), grid, spec)
    torch.testing.assert_close(scale, torch.tensor([[0.0, 1, 2]] * 2))
    torch.testing.assert_close(shift, torch.tensor([[3.0, 4, 5]] * 2))


def test_weights_are_a_partition(any_isa):
    spec = ModulationSpec((6, 5, 4), 1, (True, False, True))
    grid = torch.zeros(spec.n_vertices, 2, requires_grad=True)
    scale, _ = ops.modulation(torch.rand(3000, 3) * 1.4 - 0.2, grid, spec)
    scale.sum().backward()
    assert grid.grad[:, 0].sum().item() == pytest.approx(3000, rel=1e-5)
    assert (grid.grad[:, 0] >= 0).all()
    assert (grid.grad[:, 1] == 0).all()


def test_wrapped_gradients_do_not_depend_on_threads(restored_core):
    spec = ModulationSpec((6, 9), 2, (True, True))
    x, grads = torch.rand(20_000, 2) * 2 - 0.5, []
    for n_threads in (1, 2, 5):
        restored_core.set_num_threads(n_threads)
        grads.append(derivatives(TestModulation.cases[4].function, [x, torch.rand(15, 4)])[2])
        grid = spec.initial()
        pair = derivatives(lambda x, g: torch.cat(ops.modulation(x, g, spec), 1), [x, grid])
        grads[-1] = pair[2]
    assert torch.equal(grads[0], grads[1])
    assert torch.equal(grads[0], grads[2])


# ---- features ------------------------------------------------------------------------------------


def features_case(n, n_channels, dtype, seed=0):
    generator = torch.Generator().manual_seed(seed + n)
    shapes = ((n, n_channels), (n,), (n,))
    return [
        torch.randn(shape, generator=generator, dtype=torch.float64).to(dtype) for shape in shapes
    ]


@pytest.mark.parametrize("normalize", [False, True])
@pytest.mark.parametrize("n_channels", [1, 3, 16, 29, 256])
@pytest.mark.parametrize("n", SIZES)
def test_modulate_equals_the_reference(n, n_channels, normalize, any_isa, device):
    for dtype, tolerance in (
        (torch.float32, tolerances.MODULATE_FLOAT32),
        (torch.float64, tolerances.FLOAT64),
    ):
        if n_channels == 1 and normalize and dtype == torch.float32:
            continue  # 0 / 0.003: rounding is all there is
        inputs = features_case(n, n_channels, dtype)
        expected = derivatives(
            lambda *t: reference.modulate(*t, normalize), [t.double() for t in inputs]
        )
        actual = derivatives(lambda *t: ops.modulate(*t, normalize), [t.to(device) for t in inputs])
        assert_near(actual, expected, tolerance)


@pytest.mark.parametrize("normalize", [False, True])
def test_first_derivatives_of_modulate_are_right(normalize):
    inputs = [tensor.requires_grad_() for tensor in features_case(5, 6, torch.float64)]
    assert torch.autograd.gradcheck(
        lambda *t: ops.modulate(*t, normalize), inputs, **FINITE_DIFFERENCES
    )


def test_gradients_have_the_closed_form():
    """With weights w of a grid: dL/dscale = sum w sum_c g f, dL/dshift = sum w sum_c g."""
    spec = ModulationSpec((4,), 1)
    x, grid = torch.rand(50, 1, dtype=torch.float64), spec.initial().double().requires_grad_()
    features, _, _ = features_case(50, 7, torch.float64)
    scale, shift = ops.modulation(x, grid, spec)
    g = torch.randn(50, 7, dtype=torch.float64)
    ops.modulate(features, scale[:, 0], shift[:, 0], True).backward(g)
    weights = (1 - (3 * x - torch.arange(4)).abs()).clamp(min=0)
    normal = torch.nn.functional.layer_norm(features, (7,))
    torch.testing.assert_close(grid.grad[:, 0], weights.T @ (g * normal).sum(1))
    torch.testing.assert_close(grid.grad[:, 1], weights.T @ g.sum(1))


def test_identity_at_the_start(any_isa):
    spec = ModulationSpec((8, 8), 2)
    scale, shift = ops.modulation(torch.rand(100, 2), spec.initial(), spec)
    features = torch.randn(100, 33)
    ones, zeros = scale[:, 1].round(decimals=5), shift[:, 1]
    assert torch.equal(ops.modulate(features, ones, zeros, False), features)
    expected = torch.nn.functional.layer_norm(features, (33,))
    torch.testing.assert_close(ops.modulate(features, ones, zeros, True), expected)


def test_normalised_features_have_mean_0_and_variance_1(any_isa):
    features = torch.randn(40, 100) * 50 + 200
    values = ops.modulate(features, torch.ones(40), torch.zeros(40), True)
    torch.testing.assert_close(values.mean(1), torch.zeros(40), rtol=0, atol=1e-5)
    torch.testing.assert_close(values.var(1, correction=0), torch.ones(40), rtol=0, atol=1e-4)
    moved = ops.modulate(features * 3 + 10, torch.ones(40), torch.zeros(40), True)
    torch.testing.assert_close(moved, values, rtol=0, atol=1e-4)


def test_samples_do_not_depend_on_each_other(any_isa):
    inputs = features_case(5000, 24, torch.float32)
    whole = derivatives(lambda *t: ops.modulate(*t, True), inputs)[0]
    parts = [
        ops.modulate(*(tensor[first : first + 777] for tensor in inputs), True)
        for first in range(0, 5000, 777)
    ]
    assert torch.equal(whole, torch.cat(parts))


def test_every_touched_vertex_gets_a_gradient():
    """Nothing is dead at the start: scales of 1 and shifts of 0 both train."""
    spec = ModulationSpec((8, 8), 1)
    grid = spec.initial().requires_grad_()
    scale, shift = ops.modulation(torch.rand(4000, 2), grid, spec)
    values = ops.modulate(torch.randn(4000, 16), scale[:, 0], shift[:, 0], True)
    (values - torch.randn(4000, 16)).square().sum().backward()
    assert (grid.grad != 0).all()


def test_modulate_passes_through_torch():
    inputs = features_case(33, 9, torch.float32)
    compiled = torch.compile(lambda *t: ops.modulate(*t, True), fullgraph=True, backend="aot_eager")
    expected = derivatives(lambda *t: ops.modulate(*t, True), inputs)
    assert all(
        torch.equal(a, b) for a, b in zip(derivatives(compiled, inputs), expected, strict=True)
    )
    variables = [tensor.clone().requires_grad_() for tensor in inputs]
    torch.library.opcheck(torch.ops.neural_fields.modulate.default, (*variables, True))
    arguments = (inputs[0], *inputs[:2], True)
    torch.library.opcheck(torch.ops.neural_fields.modulate_backward.default, arguments)
    gradients = torch.func.grad(lambda *t: ops.modulate(*t, True).sum(), (1, 2))(*inputs)
    assert torch.equal(gradients[1], torch.full((33,), 9.0))


def test_second_order_of_modulate_names_the_reference():
    inputs = [tensor.requires_grad_() for tensor in features_case(3, 4, torch.float64)]
    values = ops.modulate(*inputs, True)
    (slope,) = torch.autograd.grad(values.pow(2).sum(), inputs[0], create_graph=True)
    with pytest.raises(RuntimeError, match=r"^modulate: second-order .*reference\.modulate"):
        slope.pow(2).sum().backward()


# ---- refusals ------------------------------------------------------------------------------------


def test_wrong_features_are_refused():
    features, scale, shift = features_case(4, 3, torch.float32)
    for arguments, error, message in [
        ((features.half(), scale, shift), TypeError, "features needs float32 or float64"),
        ((features[0], scale, shift), ValueError, r"features needs shape \[n, n\], got \[3\]"),
        ((features[:, :0], scale, shift), ValueError, "features needs at least one channel"),
        ((features, scale[:3], shift), ValueError, r"scale needs shape \[4\], got \[3\]"),
        ((features, scale, shift.double()), TypeError, "shift needs torch.float32 like the first"),
    ]:
        with pytest.raises(error, match=f"^modulate: {message}"):
            ops.modulate(*arguments, True)


@pytest.mark.parametrize(
    ("arguments", "error", "message"),
    [
        (((), 2), ValueError, "resolution needs 1, 2 or 3 axes, got 0"),
        (((4, 1), 2), ValueError, "resolution needs 2 to"),
        (((4, 4.0), 2), TypeError, r"resolution needs an integer, got 4\.0"),
        (((4, 4), 0), ValueError, "n_layers needs 1 to 128, got 0"),
        (((4, 4), 1, (True,)), ValueError, "wrap needs one value per axis"),
    ],
)
def test_wrong_specs_are_refused(arguments, error, message):
    with pytest.raises(error, match=message):
        ModulationSpec(*arguments)
