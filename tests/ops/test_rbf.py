"""Gaussian neurons."""

import math

import pytest
import tolerances
import torch

from neural_fields import ops
from neural_fields.ops import reference

from .suite import Case, OpSuite


def neurons(generator, n_features, n_kernels, n_outputs, isotropic=False, spread=1.0):
    """Centres, logarithms of precisions, weights, biases."""
    draw = lambda *shape: torch.randn(shape, generator=generator)  # noqa: E731
    precisions = draw(n_kernels) if isotropic else draw(n_kernels, n_features)
    return [
        spread * draw(n_kernels, n_features),
        0.3 * precisions - math.log(n_features),
        draw(n_outputs, n_kernels) / n_kernels**0.5,
        draw(n_outputs),
    ]


def make_case(name, n_features, n_kernels, n_outputs, isotropic=False):
    def inputs(n, generator):
        features = torch.randn(n, n_features, generator=generator)
        return [features, *neurons(generator, n_features, n_kernels, n_outputs, isotropic)]

    return Case(
        name=name,
        function=ops.rbf,
        reference=reference.rbf,
        inputs=inputs,
        arguments=("features", "centers", "log_precision", "weight", "bias"),
        tolerance=tolerances.RBF_FLOAT32,
    )


class TestRbf(OpSuite):
    name = "rbf"
    cases = (
        make_case("sdf", 18, 64, 1),
        make_case("image", 32, 64, 3),
        make_case("harmonics", 18, 32, 49),
        make_case("isotropic", 5, 21, 9, isotropic=True),
        make_case("one", 1, 1, 1),
    )

    def any_shape(self, argument, wrong):
        return argument == "features" and wrong.dim() == 2 and wrong.shape[1] > 0

    def test_wrong_inputs_are_refused(self, case):
        """The features' width is what the centres' is compared with."""
        features, centers, precision, weight, bias = case.make(4)
        for arguments, error, message in [
            (
                (features.half(), centers, precision, weight, bias),
                TypeError,
                "features needs float32",
            ),
            ((features[0], centers, precision, weight, bias), ValueError, "features needs shape"),
            (
                (features, centers.double(), precision, weight, bias),
                TypeError,
                "centers needs torch",
            ),
            (
                (features, centers[:, :0], precision, weight, bias),
                ValueError,
                "centers needs shape",
            ),
            ((features, centers, precision[:0], weight, bias), ValueError, "log_precision needs"),
            ((features, centers, precision, weight[:, :0], bias), ValueError, "weight needs shape"),
            ((features, centers, precision, weight, bias[:0]), ValueError, "bias needs shape"),
            (
                (features, centers, precision, weight, bias.to("meta")),
                ValueError,
                "bias needs to be",
            ),
        ]:
            with pytest.raises(error, match=f"^rbf: {message}"):
                ops.rbf(*arguments)

    def registered(self, case):
        features, *others = case.make(7)
        n_kernels, n_outputs = others[0].shape[0], others[2].shape[0]
        grad, activations = torch.ones(7, n_outputs), torch.ones(7, n_kernels)
        variables = [tensor.clone().requires_grad_() for tensor in (features, *others)]
        yield "rbf", (*variables, True)
        arguments = (grad, features, *others[:3], activations, True, True)
        yield "rbf_backward", arguments
        yield "rbf_backward_backward", (features, *arguments)


# ---- golden values -------------------------------------------------------------------------------


def one_neuron(features):
    zeros = torch.zeros(1, 2)
    return ops.rbf(torch.tensor([features]), zeros, zeros, torch.ones(1, 1), torch.zeros(1)).item()


def test_golden_values(any_isa):
    assert one_neuron([0.0, 0.0]) == pytest.approx(1.0, abs=1e-6)
    assert one_neuron([0.6, 0.8]) == pytest.approx(math.exp(-0.5), abs=1e-6)  # 0.60653
    assert one_neuron([30.0, 40.0]) == pytest.approx(0.0, abs=1e-30)
    precise = torch.full((1, 2), math.log(4.0))
    value = ops.rbf(
        torch.tensor([[0.3, 0.4]]), torch.zeros(1, 2), precise, torch.ones(1, 1), torch.zeros(1)
    )
    assert value.item() == pytest.approx(math.exp(-0.5), abs=1e-6)


def test_gradients_have_the_closed_form():
    generator = torch.Generator().manual_seed(1)
    centers, precisions, _, _ = (t.requires_grad_() for t in neurons(generator, 4, 1, 1))
    x = torch.randn(1, 4, generator=generator).requires_grad_()
    phi = ops.rbf(x, centers, precisions, torch.ones(1, 1), torch.zeros(1))
    phi.backward()
    beta, difference = precisions.exp(), x - centers
    torch.testing.assert_close(precisions.grad, -0.5 * beta * difference.square() * phi)
    torch.testing.assert_close(centers.grad, beta * difference * phi)
    torch.testing.assert_close(x.grad, -beta * difference * phi)


def test_order_of_kernels_does_not_matter(any_isa):
    generator = torch.Generator().manual_seed(2)
    centers, precisions, weight, bias = neurons(generator, 6, 40, 3)
    order = torch.randperm(40, generator=generator)
    x = torch.randn(100, 6, generator=generator)
    permuted = ops.rbf(x, centers[order], precisions[order], weight[:, order], bias)
    torch.testing.assert_close(permuted, ops.rbf(x, centers, precisions, weight, bias))


# ---- pitfalls ------------------------------------------------------------------------------------


@pytest.mark.parametrize("offset", [0.0, 10.0, 1000.0])
def test_distances_do_not_cancel(offset, any_isa):
    """The expanded square loses some |x|^2 2^-24: at 1000 as much as the distances themselves."""
    generator = torch.Generator().manual_seed(3)
    centers, precisions, weight, bias = neurons(generator, 18, 64, 2)
    # Multiples of 2^-6, so that adding the offset is exact, with precisions of one.
    x = torch.randint(-64, 64, (200, 18), generator=generator) / 64
    centers = (centers * 64).round() / 64
    arguments = centers, torch.zeros_like(precisions), weight, bias
    expected = reference.rbf(x.double(), *(tensor.double() for tensor in arguments))
    actual = ops.rbf(x + offset, centers + offset, *arguments[1:])
    torch.testing.assert_close(actual.double(), expected, rtol=0, atol=1e-5)


@pytest.mark.parametrize("log_precision", [-80.0, 80.0, 1e4])
def test_extreme_precisions_stay_finite(log_precision, any_isa):
    x = torch.randn(33, 8, requires_grad=True)
    precisions = torch.full((16, 8), log_precision, requires_grad=True)
    values = ops.rbf(x, torch.randn(16, 8), precisions, torch.ones(1, 16), torch.zeros(1))
    values.sum().backward()
    assert values.isfinite().all()
    assert x.grad.isfinite().all()
    assert precisions.grad.isfinite().all()
    assert (values >= 0).all()
    assert (values <= 16 * 1.00001).all()


def test_nan_stays_where_it_is(any_isa):
    generator = torch.Generator().manual_seed(4)
    arguments = neurons(generator, 3, 20, 2)
    x = torch.randn(40, 3, generator=generator)
    x[7, 1] = math.nan
    values = ops.rbf(x, *arguments)
    assert values[7].isnan().all()
    assert values[torch.arange(40) != 7].isfinite().all()


def test_a_sine_is_learnt():
    """The sheet's toy: features are positions, 16 kernels."""
    x = torch.linspace(0, 1, 200)[:, None]
    target = torch.sin(2 * math.pi * x)
    centers = torch.linspace(0, 1, 16)[:, None].clone().requires_grad_()
    precisions = torch.full((16, 1), math.log(200.0)).requires_grad_()
    weight, bias = torch.zeros(1, 16, requires_grad=True), torch.zeros(1, requires_grad=True)
    variables = [centers, precisions, weight, bias]
    adam = torch.optim.Adam(variables, lr=3e-2)
    for _ in range(1000):
        loss = (ops.rbf(x, *variables) - target).square().mean()
        adam.zero_grad()
        loss.backward()
        adam.step()
    assert loss.item() < 1e-4


def test_gradients_of_neurons_have_no_second_order():
    arguments = [t.double().requires_grad_() for t in TestRbf.cases[3].make(5)]
    values = ops.rbf(*arguments)
    (slope,) = torch.autograd.grad(values.pow(2).sum(), arguments[1], create_graph=True)
    with pytest.raises(RuntimeError, match=r"^rbf: second derivatives of the gradients of the neu"):
        slope.pow(2).sum().backward()


@pytest.mark.parametrize("sizes", [(257, 4, 1), (4, 1025, 1), (4, 4, 257), (4, 0, 1), (4, 4, 0)])
def test_sizes_out_of_range(sizes):
    n_features, n_kernels, n_outputs = sizes
    with pytest.raises(ValueError, match=r"^rbf: needs 1 to "):
        ops.rbf(
            torch.zeros(2, n_features),
            torch.zeros(n_kernels, n_features),
            torch.zeros(n_kernels, n_features),
            torch.zeros(n_outputs, n_kernels),
            torch.zeros(n_outputs),
        )
