"""Low-rank tensors: VM, CP and K-planes."""

import math

import pytest
import tolerances
import torch

from neural_fields import ops
from neural_fields.ops import TensorPlanesSpec, reference

from .suite import Case, OpSuite, derivatives

BORDER = 1e-3  # cells that points keep from the borders, where linear gradients jump
VM_TERMS = (((0, 1), (2,)), ((0, 2), (1,)), ((1, 2), (0,)))


def points(resolution, n, generator):
    """Positions in and around the unit cube, away from the borders of cells."""
    candidates = torch.rand(2 * n + 64, len(resolution), generator=generator) * 1.2 - 0.1
    t = candidates.double().clamp(0, 1) * (torch.tensor(resolution) - 1) % 1
    outside = (candidates < -BORDER) | (candidates > 1 + BORDER)
    good = (outside | ((t > BORDER) & (t < 1 - BORDER))).all(1)
    assert good.sum() >= n
    return candidates[good][:n]


def make_case(name, spec):
    def inputs(n, generator):
        table = torch.rand(spec.n_params, generator=generator) * 2 - 1
        return [points(spec.resolution, n, generator), table]

    return Case(
        name=name,
        function=lambda x, t: ops.tensor_planes(x, t, spec),
        reference=lambda x, t: reference.tensor_planes(x, t, spec),
        inputs=inputs,
        arguments=("positions", "table"),
        tolerance=tolerances.LATTICE_FLOAT32,
        twice=(0, 1),
    )


class TestTensorPlanes(OpSuite):
    name = "tensor_planes"
    cases = (
        make_case("vm", TensorPlanesSpec.vm((7, 5, 9), 16, "smoothstep")),
        make_case("vm-linear", TensorPlanesSpec.vm((30, 20, 25), 3)),
        make_case("vm-2d", TensorPlanesSpec.vm((6, 4), 5, "smoothstep")),
        make_case("cp", TensorPlanesSpec.cp((9, 4, 6), 29, "smoothstep")),
        make_case("cp-4d", TensorPlanesSpec.cp((3, 4, 5, 2), 2, "smoothstep")),
        make_case("planes", TensorPlanesSpec.planes((5, 6, 4), 12, "smoothstep")),
        make_case("planes-2d", TensorPlanesSpec.planes((8, 5), 1, "smoothstep")),
        make_case("planes-4d", TensorPlanesSpec.planes((3, 4, 2, 5), 17, "smoothstep")),
        make_case(
            "mixed",
            TensorPlanesSpec((4, 3, 5), 6, (((0,), (0, 2), (1, 2)), ((1,),), ((2,), (0,)))),
        ),
    )

    def registered(self, case):
        spec = TensorPlanesSpec.vm((3, 4, 2), 5)
        x, table, grad = torch.rand(5, 3), torch.rand(spec.n_params), torch.ones(5, 15)
        variables = [tensor.clone().requires_grad_() for tensor in (grad, x, table)]
        yield "tensor_planes", (*variables[1:], *spec.arguments)
        yield "tensor_planes_backward_positions", (*variables, *spec.arguments)
        yield "tensor_planes_backward_table", (*variables, *spec.arguments)
        second = "tensor_planes_backward_backward"
        yield second, (x, None, grad, x, table, True, *spec.arguments)
        yield second, (None, table, grad, x, table, False, *spec.arguments)


# ---- layout --------------------------------------------------------------------------------------


def test_published_sizes():
    density = TensorPlanesSpec.vm((300, 300, 300), 16)
    color = TensorPlanesSpec.vm((300, 300, 300), 48)
    basis = 27 * 3 * 48
    assert density.n_params + color.n_params + basis == 17_341_488  # TensoRF's VM-192
    head = 31 * 64 + 64 * 64 + 64 * 3
    assert density.n_params + color.n_params + 15 * 3 * 48 + head == 17_346_032  # PVD's vm
    cp = [TensorPlanesSpec.cp((500, 500, 500), rank) for rank in (96, 288)]
    assert [spec.n_params for spec in cp] == [144_000, 432_000]


def test_axes_are_those_of_tensorf():
    assert TensorPlanesSpec.vm((2, 3, 4), 5).terms == VM_TERMS
    assert TensorPlanesSpec.vm((2, 3), 5).terms == (((0,), (1,)), ((1,), (0,)))
    spec = TensorPlanesSpec.vm((2, 3, 4), 5)
    assert spec.factor_shapes == (((3, 2, 5), (4, 5)), ((4, 2, 5), (3, 5)), ((4, 3, 5), (2, 5)))
    assert TensorPlanesSpec.planes((2, 3, 4, 5), 1).n_params == 6 + 8 + 10 + 12 + 15 + 20


def test_views_are_the_table():
    spec = TensorPlanesSpec.vm((2, 3, 4), 5)
    table = torch.zeros(spec.n_params)
    for number, factor in enumerate(factor for term in spec.views(table) for factor in term):
        factor.fill_(number + 1.0)
    assert table.unique(return_counts=True)[1].tolist() == [30, 20, 40, 15, 60, 10]
    assert table[0] == 1
    assert table[-1] == 6


@pytest.mark.parametrize("resolution", [(4, 3, 5), (2, 2, 2)])
def test_vm_is_the_expanded_tensor_at_vertices(resolution, any_isa):
    spec = TensorPlanesSpec.vm(resolution, 7)
    table = torch.randn(spec.n_params)
    (xy, z), (xz, y), (yz, x) = spec.views(table)
    expected = [
        torch.einsum("yxr,zr->xyzr", xy, z),
        torch.einsum("zxr,yr->xyzr", xz, y),
        torch.einsum("zyr,xr->xyzr", yz, x),
    ]
    axes = [torch.linspace(0, 1, r) for r in resolution]
    vertices = torch.cartesian_prod(*axes)
    actual = ops.tensor_planes(vertices, table, spec).view(*resolution, 21)
    torch.testing.assert_close(actual, torch.cat(expected, 3), rtol=0, atol=2e-6)


def test_planes_multiply_pairs_of_axes():
    spec = TensorPlanesSpec.planes((3, 4, 5), 1)
    table = torch.zeros(spec.n_params)
    (xy, xz, yz) = spec.views(table)[0]
    xy[1, 2], xz[3, 2], yz[3, 1] = 2.0, 3.0, 5.0  # [higher axis, lower axis]
    vertex = torch.tensor([[2 / 2, 1 / 3, 3 / 4]])
    assert ops.tensor_planes(vertex, table, spec).item() == pytest.approx(30.0)


# ---- interpolation -------------------------------------------------------------------------------


def test_both_ends_are_vertices(any_isa):
    spec = TensorPlanesSpec.cp((5, 3), 2)
    table = torch.randn(spec.n_params)
    (x, y) = spec.views(table)[0]
    ends = torch.tensor([[0.0, 1.0], [1.0, 0.0], [-0.001, 1.001], [1.001, -5.0], [1e30, -1e30]])
    expected = torch.stack([x[0] * y[2], x[4] * y[0], x[0] * y[2], x[4] * y[0], x[4] * y[0]])
    assert torch.equal(ops.tensor_planes(ends, table, spec), expected)


def test_a_product_of_ramps_is_the_product_of_coordinates():
    spec = TensorPlanesSpec.cp((5, 3, 9), 1)
    table = torch.cat([torch.linspace(0, 1, r, dtype=torch.float64) for r in spec.resolution])
    x = torch.rand(100, 3, dtype=torch.float64, requires_grad=True)
    values = ops.tensor_planes(x, table, spec)
    torch.testing.assert_close(values[:, 0], x.detach().prod(1))
    values.sum().backward()
    torch.testing.assert_close(x.grad, x.detach().prod(1, keepdim=True) / x.detach())


def test_positions_outside_have_no_gradient(any_isa):
    spec = TensorPlanesSpec.vm((5, 4, 6), 4)
    table = torch.rand(spec.n_params) + 1
    outside = torch.tensor([[-0.5, 0.3, 0.2], [1.5, 0.3, 0.2]], requires_grad=True)
    ops.tensor_planes(outside, table, spec).sum().backward()
    assert (outside.grad[:, 0] == 0).all()
    assert (outside.grad[:, 1:] != 0).all()


def test_not_finite_positions_stay_within_the_table(any_isa):
    spec = TensorPlanesSpec.vm((5, 4, 6), 4)
    table = torch.rand(spec.n_params)
    strange = torch.tensor([[math.nan] * 3, [math.inf] * 3, [-math.inf] * 3])
    plain = torch.tensor([[0.0] * 3, [1.0] * 3, [0.0] * 3])
    results = [
        derivatives(lambda x, t: ops.tensor_planes(x, t, spec), [x, table])
        for x in (strange, plain)
    ]
    assert torch.equal(results[0][0], results[1][0])
    assert torch.equal(results[0][2], results[1][2])
    assert (results[0][1] == 0).all()


# ---- gradients -----------------------------------------------------------------------------------


def test_two_zero_factors_have_no_gradient_and_ones_train():
    spec = TensorPlanesSpec.planes((6, 5, 4), 3)
    x, target = torch.rand(200, 3), torch.rand(200, 3)

    def gradients(values):
        table = torch.zeros(spec.n_params)
        for factor, value in zip(spec.views(table)[0], values, strict=True):
            factor.fill_(value)
        table.requires_grad_()
        loss = (ops.tensor_planes(x, table, spec) - target).square().sum()
        (grad,) = torch.autograd.grad(loss, table)
        return [factor.abs() for factor in spec.views(grad)[0]]

    assert all((grad == 0).all() for grad in gradients([0.0, 0.0, 1.0]))
    assert all((grad > 0).float().mean() > 0.9 for grad in gradients([1.0, 1.0, 1.0]))
    dead, *_ = gradients([0.0, 1.0, 1.0])  # one zero factor trains, and then the others
    assert (dead > 0).float().mean() > 0.9


@pytest.mark.parametrize(
    "spec",
    [
        TensorPlanesSpec.vm((40, 30, 20), 8),
        TensorPlanesSpec.cp((40, 30, 20), 8),
        TensorPlanesSpec.planes((40, 30, 20), 8),
    ],
    ids=["vm", "cp", "planes"],
)
def test_gradients_of_many_points(spec, any_isa):
    """More points than one task takes, many of them in one row."""
    generator = torch.Generator().manual_seed(3)
    x = torch.rand(20_000, 3, generator=generator, dtype=torch.float64)
    x[:10_000, 1:] = x[:10_000, 1:] * 0.01 + 0.5
    table = torch.rand(spec.n_params, generator=generator, dtype=torch.float64)
    expected = derivatives(lambda x, t: reference.tensor_planes(x, t, spec), [x, table])
    inputs = [x.float(), table.float()]
    actual = derivatives(lambda x, t: ops.tensor_planes(x, t, spec), inputs)
    scale = expected[2].abs().max().item()
    torch.testing.assert_close(actual[2].double(), expected[2], rtol=0, atol=1e-5 * scale)


def test_the_tables_gradient_does_not_depend_on_threads_in_large_batches(restored_core):
    spec = TensorPlanesSpec.vm((16, 12, 20), 4)
    x, table = torch.rand(140_000, 3), torch.rand(spec.n_params, requires_grad=True)
    grads = []
    for n_threads in (1, 2, 5):
        restored_core.set_num_threads(n_threads)
        grads += torch.autograd.grad(ops.tensor_planes(x, table, spec).sum(), table)
    assert torch.equal(grads[0], grads[1])
    assert torch.equal(grads[0], grads[2])


# ---- specifications ------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("arguments", "error", "message"),
    [
        (((4,), 2, (((0,),),)), ValueError, "resolution needs 2, 3 or 4 axes, got 1"),
        (((4, 1), 2, (((0,),),)), ValueError, "resolution needs 2 to .* per axis, got 1"),
        (((4, 4.0), 2, (((0,),),)), TypeError, r"resolution needs an integer, got 4\.0"),
        (((4, 4), 0, (((0,),),)), ValueError, "rank needs 1 to 512, got 0"),
        (((4, 4), 2, ()), ValueError, r"terms needs products of factors, got \(\)"),
        (((4, 4), 2, ((),)), ValueError, "terms needs products of factors"),
        (((4, 4), 2, (((),),)), ValueError, "terms need factors of one or two axes"),
        (((4, 4), 2, (((2,),),)), ValueError, "terms need axes below 2, got '2'"),
        (((4, 4), 2, (((1, 0),),)), ValueError, "terms need a factor's lower axis first"),
        (((4, 4, 4), 2, (((0, 1, 2),),)), ValueError, "factors of one or two axes"),
        (((4, 4), 2, (((0,),) * 7,)), ValueError, "terms need 6 factors at most"),
        (((4, 4), 2, (((0,),),) * 9), ValueError, "terms need to be 8 at most"),
        (((4, 4), 2, (((0,),),), "cubic"), ValueError, "needs linear or smoothstep, got 'cubic'"),
    ],
)
def test_wrong_specs_are_refused(arguments, error, message):
    with pytest.raises(error, match=message):
        TensorPlanesSpec(*arguments)


def test_vm_needs_two_or_three_axes():
    with pytest.raises(ValueError, match="vm needs 2 or 3 axes, got 4"):
        TensorPlanesSpec.vm((4, 4, 4, 4), 2)
