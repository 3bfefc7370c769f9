"""Small fully connected networks."""

import pytest
import tolerances
import torch

from neural_fields import _core, ops
from neural_fields.ops import reference

from .suite import Case, OpSuite


def make_case(name, widths, **options):
    spec = ops.MlpSpec(widths, **options)

    def inputs(n, generator):
        samples = torch.rand(n, spec.n_input, generator=generator) * 2 - 1
        scale = 1.5 * sum(widths) ** -0.5
        return [samples, torch.randn(spec.n_params, generator=generator) * scale]

    return Case(
        name=name,
        function=lambda x, p: ops.mlp(x, p, spec),
        reference=lambda x, p: reference.mlp(x, p, spec),
        inputs=inputs,
        arguments=("inputs", "params"),
        tolerance=tolerances.MLP_FLOAT32,
    )


class TestMlp(OpSuite):
    name = "mlp"
    cases = (
        make_case("density", (32, 64, 16)),
        make_case("color", (32, 64, 64, 3), output="sigmoid"),
        make_case("distance", (35, 48, 48, 1), hidden="softplus", beta=5.0, biases=True),
        make_case("odd", (3, 17, 5, 33, 2), hidden="sigmoid", output="softplus", biases=True),
        make_case("single", (7, 4), output="relu", biases=True),
    )

    def registered(self, case):
        spec = ops.MlpSpec((3, 8, 2), hidden="softplus", biases=True)
        x, p = torch.rand(5, 3), torch.rand(spec.n_params)
        output, hidden = torch.ops.neural_fields.mlp(x, p, True, *spec.arguments)
        saved = (torch.ones(5, 2), x, p, hidden, output)
        yield "mlp", (x.clone().requires_grad_(), p.clone().requires_grad_(), True, *spec.arguments)
        yield "mlp_backward", (*saved, True, True, *spec.arguments)
        yield "mlp_backward", (*saved, True, False, *spec.arguments)
        yield "mlp_backward_backward", (x, *saved, True, True, *spec.arguments)
        yield "mlp_backward_backward", (x, *saved, False, False, *spec.arguments)


def test_parameters_are_those_of_linear_layers():
    layers = [torch.nn.Linear(5, 20), torch.nn.Linear(20, 3)]
    params = torch.cat(
        [t.detach().flatten() for layer in layers for t in (layer.weight, layer.bias)]
    )
    x = torch.randn(40, 5)
    expected = layers[1](layers[0](x).relu()).detach()
    torch.testing.assert_close(ops.mlp(x, params, ops.MlpSpec((5, 20, 3), biases=True)), expected)


def test_parameter_counts_of_the_published_networks():
    assert ops.MlpSpec((32, 64, 16)).n_params == 3072
    assert ops.MlpSpec((32, 64, 64, 16)).n_params == 7168
    assert ops.MlpSpec((3, 8, 2), biases=True).n_params == 3 * 8 + 8 + 8 * 2 + 2


def test_hidden_activations_are_kept_for_gradients_only(monkeypatch):
    kept = []
    forward = _core.mlp_forward

    def spy(shape, inputs, params, output, hidden):
        kept.append(hidden is not None)
        forward(shape, inputs, params, output, hidden)

    monkeypatch.setattr(_core, "mlp_forward", spy)
    spec = ops.MlpSpec((3, 8, 2))
    x, p = torch.rand(5, 3), torch.rand(spec.n_params)
    recorded = ops.mlp(x, p, spec)
    with torch.no_grad():
        assert torch.equal(ops.mlp(x, p, spec), recorded)
    assert kept == [True, False]


@pytest.mark.parametrize("hidden", ["none", "relu", "softplus", "sigmoid"])
def test_nan_is_not_lost(hidden, any_isa):
    spec = ops.MlpSpec((2, 8, 1), hidden=hidden)
    x = torch.tensor([[float("nan"), 1.0], [0.5, 1.0]])
    values = ops.mlp(x, torch.rand(spec.n_params), spec)
    assert values.isnan().flatten().tolist() == [True, False]


def test_large_preactivations_stay_finite(any_isa):
    spec = ops.MlpSpec((1, 1), output="softplus", beta=100.0)
    x = torch.tensor([[-1e4], [-1.0], [1.0], [1e4]], requires_grad=True)
    values = ops.mlp(x, torch.ones(1), spec)
    assert values.flatten().tolist() == pytest.approx([0.0, 0.0, 1.0, 1e4])
    values.sum().backward()
    assert x.grad.flatten().tolist() == pytest.approx([0.0, 0.0, 1.0, 1.0])


def test_gradient_of_params_is_final():
    spec = ops.MlpSpec((3, 8, 2), hidden="softplus")
    x, p = torch.rand(5, 3), torch.rand(spec.n_params).requires_grad_()
    (slope,) = torch.autograd.grad(ops.mlp(x, p, spec).sum(), p, create_graph=True)
    message = r"^mlp: second derivatives of the gradient of params .*ops\.reference\.mlp"
    with pytest.raises(RuntimeError, match=message):
        torch.autograd.grad(slope.sum(), p)


@pytest.mark.parametrize(
    ("options", "error", "message"),
    [
        ({"widths": [3, 4]}, TypeError, r"widths needs a tuple of integers, got \[3, 4\]"),
        ({"widths": (3, 4.0)}, TypeError, r"widths\[1\] needs an integer, got 4\.0"),
        ({"widths": (3,)}, ValueError, "needs 1 to 12 layers, got 0"),
        ({"widths": (3,) * 14}, ValueError, "needs 1 to 12 layers, got 13"),
        ({"widths": (3, 600)}, ValueError, "widths need 1 to 512, got 600 at position 1"),
        ({"widths": (3, 0)}, ValueError, "widths need 1 to 512, got 0"),
        ({"widths": (3, 4), "hidden": "tanh"}, ValueError, "needs none, relu, .* got 'tanh'"),
        ({"widths": (3, 4), "beta": 0.0}, ValueError, "beta needs a positive number, got 0"),
    ],
)
def test_wrong_specs_are_refused(options, error, message):
    with pytest.raises(error, match=message):
        ops.MlpSpec(**options)
