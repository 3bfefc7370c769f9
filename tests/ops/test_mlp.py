"""Small fully connected networks."""

import dataclasses
import itertools
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


@pytest.mark.parametrize("hidden", ["none", "relu", "softplus", "sigmoid", "sine", "finer"])
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
        ({"widths": (3, 4), "output": "sine"}, ValueError, "output's activation needs none, relu"),
        ({"widths": (3, 5, 4), "hidden": "gabor"}, ValueError, "even hidden widths .*got 5 at pos"),
        ({"widths": (3, 4), "omega": math.inf}, ValueError, "omega needs a finite number, got inf"),
        (
            {"widths": (3, 4), "normalize": True, "precision": "bf16"},
            ValueError,
            "sine, finer, gabor and normalize need precision float32, got bf16",
        ),
        ({"widths": (3, 4), "beta": 0.0}, ValueError, "beta needs a positive number, got 0"),
    ],
)
def test_wrong_specs_are_refused(options, error, message):
    with pytest.raises(error, match=message):
        ops.MlpSpec(**options)


# ---- waves ---------------------------------------------------------------------------------------

ONE = torch.ones(1)


def one_wave(x, hidden, **options):
    """hidden(x) of a column, through a network of one neuron."""
    spec = ops.MlpSpec((1, 1, 1), hidden=hidden, **options)
    return ops.mlp(x[:, None], ONE.repeat(2).to(x.dtype), spec)[:, 0]


@pytest.mark.parametrize("magnitude", [1.0, 100.0, 1e4])
def test_sine_of_large_phases(magnitude, any_isa):
    z = torch.linspace(-magnitude, magnitude, 20001).requires_grad_()
    values = one_wave(z, "sine", omega=1.0)
    values.sum().backward()
    exact = z.detach().double()
    assert (values - exact.sin()).abs().max() <= tolerances.SINE_FLOAT32
    assert (z.grad - exact.cos()).abs().max() <= tolerances.SINE_FLOAT32


def test_sine_of_huge_phases_stays_bounded(any_isa):
    z = torch.logspace(4, 38, 1000)
    assert one_wave(torch.cat([z, -z]), "sine").abs().max() <= 1.0 + 1e-5
    assert one_wave(torch.tensor([math.inf, -math.inf]), "sine").isnan().all()


def test_detached_finer_has_the_values_of_finer_and_a_smaller_slope():
    spec = ops.MlpSpec((2, 16, 16, 3), hidden="finer", omega=3.0, biases=True)
    detached = dataclasses.replace(spec, hidden="finer-detached")
    case = make_case("", (2, 16, 16, 3), hidden="finer-detached", omega=3.0, biases=True)
    inputs = case.make(40, torch.float64)
    assert torch.equal(ops.mlp(*inputs, spec), ops.mlp(*inputs, detached))
    expected = derivatives(case.reference, inputs, (0,))
    assert_near(derivatives(case.function, inputs, (0,)), expected, tolerances.FLOAT64)
    z = torch.tensor([2.0], dtype=torch.float64, requires_grad=True)
    (exact,) = torch.autograd.grad(one_wave(z, "finer", omega=0.1), z)
    (smaller,) = torch.autograd.grad(one_wave(z, "finer-detached", omega=0.1), z)
    assert exact.item() == pytest.approx(0.5 * math.cos(0.6))  # (2 |z| + 1) omega
    assert smaller.item() == pytest.approx(0.3 * math.cos(0.6))  # (|z| + 1) omega


def test_gabor_is_the_complex_wavelet():
    spec = ops.MlpSpec((2, 2, 2), hidden="gabor", omega=5.0, gabor_scale=2.0)
    params = torch.eye(2).repeat(2, 1).flatten()
    a, b = torch.rand(2, 100) - 0.5
    z = torch.complex(a, b)
    expected = torch.exp(5j * z - (2 * z.abs()) ** 2)
    actual = torch.complex(*ops.mlp(torch.stack([a, b], 1), params, spec).unbind(1))
    torch.testing.assert_close(actual, expected)


def test_the_first_layer_has_its_own_omega():
    x = torch.rand(50, 2)
    spec = ops.MlpSpec((2, 8, 8, 1), hidden="sine", omega=2.0, first_omega=7.0)
    params = torch.randn(spec.n_params)
    first, second, last = torch.split(params.double(), [16, 64, 8])
    h = torch.sin(7.0 * x.double() @ first.view(8, 2).T)
    h = torch.sin(2.0 * h @ second.view(8, 8).T)
    expected = (h @ last.view(1, 8).T).float()
    torch.testing.assert_close(ops.mlp(x, params, spec), expected, rtol=1e-5, atol=1e-4)


def test_activations_of_siren_keep_their_statistics():
    """Sitzmann et al. 2020, theorem 1.8: preactivations stay near N(0, 1), sines near arcsine."""
    n, width, n_hidden, omega = 4000, 256, 8, 30.0
    generator = torch.Generator().manual_seed(0)
    bounds = [1 / 2, *[math.sqrt(6 / width) / omega] * (n_hidden - 1)]
    widths = (2, *[width] * n_hidden)
    params = [
        (torch.rand(n_in * n_out, generator=generator) * 2 - 1) * bound
        for (n_in, n_out), bound in zip(itertools.pairwise(widths), bounds, strict=True)
    ]
    x = torch.rand(n, 2, generator=generator) * 2 - 1
    for depth in range(1, n_hidden + 1):
        below = ops.MlpSpec(widths[: depth + 1], hidden="sine", omega=omega)
        z = omega * ops.mlp(x, torch.cat(params[:depth]), below)
        spec = ops.MlpSpec((*below.widths, width), hidden="sine", omega=omega)
        y = ops.mlp(x, torch.cat([*params[:depth], torch.eye(width).flatten()]), spec)
        if depth == 1:  # many turns: an arcsine distribution
            assert y.std().item() == pytest.approx(math.sqrt(0.5), abs=0.02)
            assert y.flatten()[:100_000].quantile(0.75).item() == pytest.approx(0.707, abs=0.03)
        else:  # the sine of N(0, s^2) has the variance (1 - exp(-2 s^2)) / 2
            assert z.std().item() == pytest.approx(0.95, abs=0.1)
            variance = -math.expm1(-2 * z.var().item()) / 2
            assert y.std().item() == pytest.approx(math.sqrt(variance), abs=0.02)


def test_sine_works_at_all_widths():
    for widths in [(2, 512, 512, 3), (1, 1, 1), (5, 100, 3, 7)]:
        case = cam("", widths, hidden="sine", normalize=widths[1] > 1)
        inputs = case.make(100)
        expected = derivatives(case.reference, [t.double() for t in inputs])
        assert_near(derivatives(case.function, inputs), expected, tolerances.MLP_FLOAT32)


# ---- normalisation, scale and shift --------------------------------------------------------------


def ones_and_zeros(n, spec):
    return torch.ones(n, spec.n_hidden_layers), torch.zeros(n, spec.n_hidden_layers)


def rows_of(n, width, seed=0):
    """Rows that unit matrices take for products, and the parameters of such a network."""
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(n, width, generator=generator), torch.eye(width).flatten().repeat(2)


@pytest.mark.parametrize("hidden", ["relu", "sine", "finer", "gabor"])
def test_scale_one_and_shift_zero_change_no_bit(hidden, any_isa):
    spec = ops.MlpSpec((5, 18, 32, 3), hidden=hidden, biases=True, normalize=False)
    x, params = torch.rand(40, 5), torch.randn(spec.n_params) * 0.3
    assert torch.equal(
        ops.mlp(x, params, spec, *ones_and_zeros(40, spec)), ops.mlp(x, params, spec)
    )
    normalized = dataclasses.replace(spec, normalize=True)
    modulated = ops.mlp(x, params, normalized, *ones_and_zeros(40, spec))
    assert torch.equal(modulated, ops.mlp(x, params, normalized))


@pytest.mark.parametrize("width", [7, 64, 100])
def test_rows_are_normalised(width, any_isa):
    rows, params = rows_of(30, width)
    spec = ops.MlpSpec((width,) * 3, hidden="none", normalize=True)
    normal = ops.mlp(3 * rows + 2, params, spec)
    torch.testing.assert_close(normal.mean(1), torch.zeros(30), rtol=0, atol=1e-6)
    torch.testing.assert_close(normal.var(1, correction=0), torch.ones(30), rtol=1e-4, atol=0)
    expected = torch.nn.functional.layer_norm(3 * rows + 2, (width,))
    torch.testing.assert_close(normal, expected, rtol=0, atol=1e-6)
    changed = ops.mlp(40 * rows - 7, params, spec)  # a row's mean and size do not matter
    torch.testing.assert_close(changed, normal, rtol=0, atol=2e-5)


def test_chunks_are_as_the_whole(any_isa):
    case = cam("", (6, 35, 64, 3), hidden="sine", normalize=True, biases=True)
    x, params, scale, shift = case.make(1000)
    whole = case.function(x, params, scale, shift)
    bounds = [0, 1, 96, 400, 777, 1000]
    parts = [
        case.function(x[a:b], params, scale[a:b], shift[a:b]) for a, b in itertools.pairwise(bounds)
    ]
    assert torch.equal(torch.cat(parts), whole)


def test_gradients_of_scale_and_shift_have_closed_forms():
    rows, params = rows_of(50, 20)
    rows, params = rows.double(), params.double()
    spec = ops.MlpSpec((20, 20, 20), hidden="sine", normalize=True)
    scale, shift = (torch.rand(2, 50, 1, dtype=torch.float64) + 0.5).requires_grad_().unbind()
    weights = torch.rand(50, 20, dtype=torch.float64)
    loss = (ops.mlp(rows, params, spec, scale, shift) * weights).sum()
    of_scale, of_shift = torch.autograd.grad(loss, [scale, shift])
    normal = torch.nn.functional.layer_norm(rows, (20,))
    slope = (scale * normal + shift).cos() * weights
    torch.testing.assert_close(of_scale, (slope * normal).sum(1, keepdim=True))
    torch.testing.assert_close(of_shift, slope.sum(1, keepdim=True))


def test_normals_through_a_modulated_field():
    """Scale and shift that depend on the position take part in its gradient, and in that's."""
    case = cam("", (3, 16, 16, 1), hidden="softplus", normalize=True, biases=True)
    x, params, _, _ = case.make(20, torch.float64)
    factors = torch.rand(3, 2, dtype=torch.float64)

    def slope(function, x, params, factors):
        x = x.detach().requires_grad_()
        distance = function(x, params, 1 + x @ factors, (x @ factors).sin())
        (normal,) = torch.autograd.grad(distance.sum(), x, create_graph=True)
        leaves = [params, factors]
        return torch.autograd.grad((normal.norm(dim=1) - 1).pow(2).sum(), leaves)

    leaves = (params.requires_grad_(), factors.requires_grad_())
    expected = slope(case.reference, x, *leaves)
    assert_near(slope(case.function, x, *leaves), expected, tolerances.FLOAT64)


def test_scale_and_shift_come_together():
    spec = ops.MlpSpec((3, 8, 2))
    x, params = torch.rand(4, 3), torch.rand(spec.n_params)
    scale, shift = ones_and_zeros(4, spec)
    for modulation in [(scale, None), (None, shift)]:
        with pytest.raises(ValueError, match=r"^mlp: scale and shift need to come together"):
            ops.mlp(x, params, spec, *modulation)
    bf16 = dataclasses.replace(spec, precision="bf16")
    with pytest.raises(ValueError, match=r"^mlp: scale and shift need precision float32, got bf16"):
        ops.mlp(x, params, bf16, scale, shift)


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
