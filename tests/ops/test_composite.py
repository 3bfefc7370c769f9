"""Compositing of packed samples."""

import itertools
import math

import pytest
import tolerances
import torch

from neural_fields import ops
from neural_fields.ops import reference

from .suite import Case, OpSuite, derivatives, weights_like

RESULTS = ops.Composited._fields


def packed(n):
    """Offsets and float64 distances of n samples along rays of 0 to 12 samples each.

    Part of what is compiled, so without a generator.
    """
    counts, wanted = [0], itertools.cycle((5, 1, 0, 12, 3, 7))
    while sum(counts) < n:
        counts.append(min(next(wanted), n - sum(counts)))
    offsets = [0, *itertools.accumulate([*counts, 0])]
    first = [
        begin for begin, count in zip(offsets, [*counts, 0], strict=False) for _ in range(count)
    ]
    lengths = (torch.arange(n) * 0.618).double() % 1 * 0.25 + 0.05
    ends = torch.cat([torch.zeros(1).double(), lengths.cumsum(0)])
    base = ends[torch.tensor(first, dtype=torch.int64)] - 0.1
    t0, t1 = ((t - base).float().double() for t in (ends[:-1], ends[1:]))
    return torch.tensor(offsets), t0, t1


def flat(composited):
    return torch.cat([result.flatten() for result in composited])


def make_case(name, stop=0.0, only=RESULTS):
    def call(composite, density, color):
        offsets, t0, t1 = packed(density.shape[0])
        dtype = density.dtype if density.is_floating_point() else torch.float32
        dtype = torch.float32 if dtype == torch.float16 else dtype
        t0, t1 = (t.to(density.device, dtype) for t in (t0, t1))
        result = composite(offsets.to(density.device), t0, t1, density, color, stop)
        return flat([getattr(result, field) for field in only])

    def inputs(n, generator):
        return [torch.rand(n, generator=generator) * 20, torch.rand(n, 3, generator=generator)]

    return Case(
        name=name,
        function=lambda s, c: call(ops.composite, s, c),
        reference=lambda s, c: call(reference.composite, s, c),
        inputs=inputs,
        arguments=("density", "color"),
        tolerance=tolerances.COMPOSITE_FLOAT32,
        twice=(),
    )


class TestComposite(OpSuite):
    name = "composite"
    cases = (make_case("all"), make_case("stop", stop=0.05), make_case("color", only=("color",)))

    def any_shape(self, argument, wrong):
        return argument == "density" and wrong.dim() == 1

    def test_second_derivatives_are_right(self, case):
        inputs = [tensor.requires_grad_() for tensor in case.make(5, torch.float64)]
        values = case.function(*inputs)
        first = torch.autograd.grad(values.sum(), inputs, create_graph=True)
        message = r"^composite: second-order .*neural_fields\.ops\.reference\.composite"
        with pytest.raises(RuntimeError, match=message):
            torch.autograd.grad(first[0].sum(), inputs)

    def test_third_order_names_the_reference(self, case):
        """The second order already does; the reference goes on."""
        density, color = case.make(5, torch.float64)
        density.requires_grad_()
        result = case.reference(density, color).sum()
        for _ in range(3):
            (slope,) = torch.autograd.grad(result, density, create_graph=True)
            result = slope.pow(2).sum()
        assert result.isfinite()

    def test_works_under_torch_func(self, case):
        inputs = case.make(33, torch.float64)
        values, *first = derivatives(case.function, inputs)
        weights = weights_like(values, 1)

        def loss(*tensors):
            return (case.function(*tensors) * weights).sum()

        torch.testing.assert_close(torch.func.grad(loss, (0, 1))(*inputs), tuple(first))
        same_values, pull_back = torch.func.vjp(case.function, *inputs)
        torch.testing.assert_close((same_values, *pull_back(weights)), (values, *first))

    def registered(self, case):
        offsets, t0, t1 = packed(7)
        density, color = torch.rand(7).double(), torch.rand(7, 3).double()
        variables = [tensor.clone().requires_grad_() for tensor in (density, color)]
        yield "composite", (offsets, t0, t1, *variables, 0.01)
        n_rays = len(offsets) - 1
        grads = [torch.rand(n_rays, 3).double(), *torch.rand(3, n_rays).double(), density]
        yield "composite_backward", (*grads, offsets, t0, t1, density, color, 0.01)
        yield "composite_backward", (*[None] * 4, density, offsets, t0, t1, density, color, 0.0)


@pytest.mark.parametrize("field", RESULTS)
def test_gradient_of_each_result(field):
    case = make_case(field, only=(field,))
    inputs = [tensor.requires_grad_() for tensor in case.make(40, torch.float64)]
    assert torch.autograd.gradcheck(case.function, inputs, rtol=tolerances.FINITE_DIFFERENCES)


@pytest.mark.parametrize("n_rays", [0, 1, 31, 32, 33])
@pytest.mark.parametrize("each", [0, 3])
def test_numbers_of_rays(n_rays, each):
    offsets = torch.arange(n_rays + 1) * each
    n = n_rays * each
    t = torch.linspace(0, 1, n + 1)
    inputs = (offsets, t[:-1], t[1:], torch.rand(n) * 5, torch.rand(n, 3))
    torch.testing.assert_close(ops.composite(*inputs), reference.composite(*inputs))


def slab(sigma, length, n, dtype=torch.float64):
    t = torch.linspace(0, length, n + 1, dtype=dtype)
    density = torch.full((n,), sigma, dtype=dtype)
    color = torch.tensor([[1.0, 0.5, 0.25]], dtype=dtype).expand(n, 3)
    return torch.tensor([0, n]), t[:-1], t[1:], density, color


@pytest.mark.parametrize(("sigma", "length"), [(0.01, 1.0), (1.0, 2.0), (30.0, 0.5)])
def test_a_slab_is_as_opaque_as_the_formula_says(sigma, length, any_isa):
    opacity = 1 - math.exp(-sigma * length)
    # 1 - exp(-a) of a thin sample is a multiple of 6e-8 in float32, and there are 100 of them.
    for dtype, tolerance in ((torch.float64, 1e-12), (torch.float32, 4e-6)):
        ray = ops.composite(*slab(sigma, length, 100, dtype))
        results = [ray.opacity.item(), ray.weights.sum().item(), *ray.color[0].tolist()]
        expected = [opacity, opacity, opacity, opacity / 2, opacity / 4]
        assert results == pytest.approx(expected, abs=tolerance)


def test_depth_and_distortion_of_a_thin_shell():
    """All light from one sample: depth is its midpoint, distortion a third of its length."""
    offsets, t0, t1, density, color = slab(0.0, 1.0, 10)
    density[4] = 1e6
    ray = ops.composite(offsets, t0, t1, density, color)
    assert ray.depth.item() == pytest.approx(0.45)
    assert ray.distortion.item() == pytest.approx(0.1 / 3)


def test_gradient_through_the_background():
    offsets, t0, t1, density, color = slab(1.0, 2.0, 5)
    background = torch.tensor([[0.9, 0.1, 0.4]], dtype=torch.float64)

    def pixel(density, color, background):
        ray = ops.composite(offsets, t0, t1, density, color)
        return ray.color + (1 - ray.opacity)[:, None] * background

    inputs = [tensor.clone().requires_grad_() for tensor in (density, color, background)]
    assert torch.autograd.gradcheck(pixel, inputs, rtol=tolerances.FINITE_DIFFERENCES)
    pixel(*inputs).sum().backward()
    assert inputs[2].grad[0, 0].item() == pytest.approx(math.exp(-2))


def test_a_ray_ends_where_it_has_become_opaque():
    inputs = slab(1.0, 10.0, 10)  # transmittance exp(-i) before sample i
    stop = math.exp(-4.5)
    ray = ops.composite(*inputs, stop)
    assert (ray.weights[:5] > 0).all()
    assert (ray.weights[5:] == 0).all()
    assert ray.opacity.item() == pytest.approx(1 - math.exp(-5))
    density = inputs[3].clone().requires_grad_()
    ops.composite(*inputs[:3], density, inputs[4], stop).opacity.sum().backward()
    assert (density.grad[:5] > 0).all()
    assert (density.grad[5:] == 0).all()


def test_results_that_a_loss_leaves_out_cost_no_gradient():
    offsets, t0, t1, density, color = slab(1.0, 1.0, 4)
    density = density.requires_grad_()
    used = ops.composite(offsets, t0, t1, density, color)
    (alone,) = torch.autograd.grad(used.depth.sum(), density, retain_graph=True)
    zeros = [torch.zeros_like(result) for result in used]
    zeros[2] += 1
    (with_zeros,) = torch.autograd.grad(tuple(used), density, tuple(zeros))
    torch.testing.assert_close(alone, with_zeros)


def test_distances_get_no_gradient():
    offsets, t0, t1, density, color = slab(1.0, 1.0, 4)
    t0 = t0.clone().requires_grad_()
    ray = ops.composite(offsets, t0, t1, density.requires_grad_(), color)
    assert torch.autograd.grad(ray.depth.sum(), t0, allow_unused=True) == (None,)


def test_samples_of_nobody_weigh_nothing(device):
    _, t0, t1, density, color = (part.to(device) for part in slab(1.0, 1.0, 4))
    density.requires_grad_()
    color.requires_grad_()
    some = composited = ops.composite(torch.tensor([0, 1, 3]).to(device), t0, t1, density, color)
    assert composited.weights[3] == 0
    total = some.color.sum() + some.weights.sum()
    of_density, of_color = torch.autograd.grad(total, (density, color))
    assert of_density[3] == 0
    assert (of_color[3] == 0).all()
    alone = ops.composite(
        torch.tensor([0, 1, 3]).to(device), *(p[:3] for p in (t0, t1)), density[:3], color[:3]
    )
    assert torch.equal(some.color, alone.color)
    assert torch.equal(some.weights[:3], alone.weights)
    assert (of_density[:3] != 0).all()


@pytest.mark.parametrize(
    ("offsets", "error", "message"),
    [
        (torch.tensor([0, 2], dtype=torch.int32), TypeError, "offsets needs int64, got torch.int"),
        (torch.tensor([[0, 4]]), ValueError, r"offsets needs shape \[n_rays \+ 1\], got"),
        (torch.tensor([], dtype=torch.int64), ValueError, r"offsets needs shape"),
        (torch.tensor([0, 5]), ValueError, "non-decreasing list from 0 to .* 4"),
        (torch.tensor([1, 4]), ValueError, "non-decreasing"),
        (torch.tensor([0, 3, 2, 4]), ValueError, "non-decreasing"),
        (torch.tensor([0, 9, 4]), ValueError, "non-decreasing"),
    ],
)
def test_wrong_offsets_are_refused(offsets, error, message):
    with pytest.raises(error, match=message):
        ops.composite(offsets, *slab(1.0, 1.0, 4)[1:])
