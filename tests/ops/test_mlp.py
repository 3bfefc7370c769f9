"""Small fully connected networks."""

import dataclasses
import math

import pytest
import tolerances
import torch

from neural_fields import _core, ops
from neural_fields.ops import reference

from .conftest import ISAS
from .suite import Case, OpSuite, assert_equal, assert_near, derivatives


def make_case(name, widths, modulated=False, **options):
    spec = ops.MlpSpec(widths, **options)

    def inputs(n, generator):
        samples = torch.rand(n, spec.n_input, generator=generator) * 2 - 1
        spread = 1.5 * sum(widths) ** -0.5
        tensors = [samples, torch.randn(spec.n_params, generator=generator) * spread]
        if modulated:
            scale, shift = torch.rand(2, n, spec.n_hidden_layers, generator=generator)
            tensors += [0.5 + scale, shift - 0.5]
        return tensors

    return Case(
        name=name,
        function=lambda x, p, *modulation: ops.mlp(x, p, spec, *modulation),
        reference=lambda x, p, *modulation: reference.mlp(x, p, spec, *modulation),
        inputs=inputs,
        arguments=("inputs", "params", "scale", "shift")[: 4 if modulated else 2],
        tolerance=tolerances.MLP_FLOAT32,
        twice=(0, 2, 3) if modulated else (0,),
    )


def cam(name, *arguments, **options):
    return make_case(name, *arguments, modulated=True, **options)


class TestMlp(OpSuite):
    name = "mlp"
    cases = (
        make_case("density", (32, 64, 16)),
        make_case("color", (32, 64, 64, 3), output="sigmoid"),
        make_case("distance", (35, 48, 48, 1), hidden="softplus", beta=5.0, biases=True),
        make_case("odd", (3, 17, 5, 33, 2), hidden="sigmoid", output="softplus", biases=True),
        make_case("single", (7, 4), output="relu", biases=True),
        make_case("sine", (2, 32, 19, 3), hidden="sine", omega=3.0, first_omega=10.0, biases=True),
        make_case("finer", (3, 20, 32, 1), hidden="finer", omega=2.0, biases=True),
        make_case("gabor", (2, 24, 38, 3), hidden="gabor", omega=3.0, gabor_scale=0.8, biases=True),
        make_case("normalized", (5, 33, 16, 2), hidden="softplus", normalize=True, biases=True),
        cam("cam-relu", (7, 32, 17, 3), biases=True),
        cam("cam-sine", (2, 32, 20, 3), hidden="sine", omega=3.0),
        cam("cam-finer", (2, 16, 35, 3), hidden="finer", output="sigmoid", biases=True),
        cam("cam-gabor", (2, 16, 34, 3), hidden="gabor", omega=2.0, gabor_scale=0.7, biases=True),
        cam("cam-normalized", (6, 32, 35, 17, 3), hidden="sigmoid", normalize=True, biases=True),
        cam("cam-normalized-sine", (2, 24, 33, 3), hidden="sine", normalize=True, biases=True),
        cam("cam-normalized-gabor", (2, 24, 18, 3), hidden="gabor", normalize=True, biases=True),
    )

    def registered(self, case):
        spec = ops.MlpSpec((3, 8, 2), hidden="softplus", biases=True, normalize=True)
        x, p, scale, shift = (torch.rand(*s) for s in [(5, 3), (spec.n_params,), (5, 1), (5, 1)])
        for modulation in [(scale, shift), (None, None)]:
            inputs = (x, p, *modulation)
            output, hidden = torch.ops.neural_fields.mlp(*inputs, True, *spec.arguments)
            leaves = (None if t is None else t.clone().requires_grad_() for t in inputs)
            yield "mlp", (*leaves, True, *spec.arguments)
            saved = (torch.ones(5, 2), *inputs, hidden, output)
            yield "mlp_backward", (*saved, [True, True, True], *spec.arguments)
            yield "mlp_backward", (*saved, [True, False, False], *spec.arguments)
            tangents = (x, *modulation)
            yield "mlp_backward_backward", (*tangents, *saved, [True] * 3, *spec.arguments)
            yield "mlp_backward_backward", (*tangents, *saved, [False] * 3, *spec.arguments)


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

    def spy(shape, inputs, params, output, hidden, *rest):
        kept.append(hidden is not None)
        forward(shape, inputs, params, output, hidden, *rest)

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


# ---- bfloat16 ------------------------------------------------------------------------------------

TILES = "amx-emulated"  # the code for matrix tiles, on arrays
BF16_PATHS = ISAS[: ISAS.index(_core.best_isa()) + 1]
BF16_PATHS += [TILES] if len(BF16_PATHS) > 1 else []  # compiled where there is more than portable
BF16_SPECS = {
    "density": ops.MlpSpec((32, 64, 16), precision="bf16"),
    "color": ops.MlpSpec((32, 64, 64, 3), output="sigmoid", precision="bf16"),
    "wide": ops.MlpSpec((128, 128, 256, 128), precision="bf16"),
    "odd": ops.MlpSpec(
        (35, 17, 50, 2), hidden="softplus", output="softplus", biases=True, precision="bf16"
    ),
    "single": ops.MlpSpec((7, 4), biases=True, precision="bf16"),
}


@pytest.fixture(params=BF16_PATHS)
def bf16_path(request, restored_core):
    restored_core.set_isa(request.param)


def bf16_inputs(spec, n):
    generator = torch.Generator().manual_seed(n)
    samples = torch.rand(n, spec.n_input, generator=generator) * 2 - 1
    return samples, torch.randn(spec.n_params, generator=generator) * sum(spec.widths) ** -0.5


@pytest.mark.parametrize("n", [0, 1, 31, 32, 33, 95, 97, 1000])
@pytest.mark.parametrize("name", BF16_SPECS)
def test_bf16_equals_the_reference(name, n, bf16_path):
    spec = BF16_SPECS[name]
    inputs = bf16_inputs(spec, n)
    values, *gradients = derivatives(lambda x, p: ops.mlp(x, p, spec), inputs)
    expected, *slopes = derivatives(lambda x, p: reference.mlp(x, p, spec), inputs)
    smooth = "softplus" in (spec.hidden, spec.output)
    assert_near([values], [expected], tolerances.MLP_BF16)
    tolerance = tolerances.MLP_BF16_SMOOTH_GRADIENT if smooth else tolerances.MLP_BF16
    assert_near(gradients, slopes, tolerance)


@pytest.mark.parametrize("name", ["density", "color"])
def test_bf16_rounds_what_it_multiplies(name, bf16_path):
    """Far from float32, near bfloat16's resolution: a path that forgot to round would show."""
    spec = BF16_SPECS[name]
    inputs, params = bf16_inputs(spec, 500)
    exact = ops.mlp(inputs, params, dataclasses.replace(spec, precision="float32"))
    error = (ops.mlp(inputs, params, spec) - exact).abs().mean() / exact.abs().mean()
    assert 2**-14 < error < 2**-7


def test_bf16_rounds_as_torch_does(bf16_path):
    spec = ops.MlpSpec((1, 1), precision="bf16")
    generator = torch.Generator().manual_seed(0)
    bits = torch.randint(0x00800000, 0x7F7F0000, (20_000,), generator=generator, dtype=torch.int32)
    ties = (bits[:5000] & ~0xFFFF) | 0x8000
    numbers = torch.cat([bits, ties, -bits]).view(torch.float32)
    special = torch.tensor([0.0, -0.0, math.inf, -math.inf, math.nan])
    numbers = torch.cat([numbers[numbers.abs() > 1e-37], special])
    rounded = ops.mlp(numbers[:, None], torch.ones(1), spec)[:, 0]
    assert torch.equal(rounded.nan_to_num(7e7), numbers.bfloat16().float().nan_to_num(7e7))
    assert rounded[-1].isnan()


@pytest.mark.parametrize("name", BF16_SPECS)
def test_bf16_repeats_bit_for_bit(name, restored_core):
    spec, runs = BF16_SPECS[name], []
    for n_threads in (1, 2, 3):
        restored_core.set_num_threads(n_threads)
        runs.append(derivatives(lambda x, p: ops.mlp(x, p, spec), bf16_inputs(spec, 3000)))
    for run in runs[1:]:
        assert_equal(run, runs[0])


def test_bf16_registration_and_compilation():
    spec = BF16_SPECS["odd"]
    x, p = bf16_inputs(spec, 5)
    output, hidden = torch.ops.neural_fields.mlp(x, p, None, None, True, *spec.arguments)
    assert hidden.dtype == torch.bfloat16
    mlp, backward = torch.ops.neural_fields.mlp, torch.ops.neural_fields.mlp_backward
    gradients = (torch.ones_like(output), x, p, None, None, hidden, output, [True] * 3)
    torch.library.opcheck(backward.default, (*gradients, *spec.arguments))
    inputs = (x.requires_grad_(), p.requires_grad_(), None, None, True)
    torch.library.opcheck(mlp.default, (*inputs, *spec.arguments))


def test_bf16_refuses_what_it_cannot_do():
    spec = BF16_SPECS["density"]
    x, p = bf16_inputs(spec, 4)
    with pytest.raises(TypeError, match=r"bf16 needs float32 tensors, got torch\.float64"):
        ops.mlp(x.double(), p.double(), spec)
    x.requires_grad_()
    (slope,) = torch.autograd.grad(ops.mlp(x, p, spec).sum(), x, create_graph=True)
    with pytest.raises(RuntimeError, match=r"^mlp: second derivatives in bf16 .*reference\.mlp"):
        torch.autograd.grad(slope.sum(), x)
    with pytest.raises(ValueError, match="precision: needs float32 or bf16, got 'fp8'"):
        ops.MlpSpec((3, 4), precision="fp8")
