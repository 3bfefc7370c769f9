"""Derivatives in positions, against closed forms, finite differences and the references."""

import dataclasses
import math
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from PIL import Image

import neural_fields as nf
from neural_fields import InputError, architectures, ops
from neural_fields.architectures import NetworkOptions, Smoothness, Target
from neural_fields.decoders import Modulate
from neural_fields.fields import (
    ImageConfig,
    ImageField,
    RadianceConfig,
    RadianceField,
    Samples,
    SdfConfig,
    SdfField,
    derivatives,
)
from neural_fields.ops import reference

ROOT = Path(__file__).resolve().parents[2]
SIZES = {
    "siren": {"first_omega": 6.0, "omega": 6.0, "hidden": (16, 16)},
    "finer": {"first_omega": 3.0, "omega": 3.0, "hidden": (16, 16)},
    "wire": {"first_omega": 4.0, "omega": 4.0, "scale": 2.0, "hidden": (8, 8)},
    "fourier": {"sigma": 1.0, "n_frequencies": 8, "hidden": (16, 16)},
    "mlp": {"octaves": 3, "hidden": (16, 16, 16)},
    "hash": {"n_levels": 3, "log2_table_size": 8, "base_resolution": 4, "finest_resolution": 16},
    "planes": {"resolutions": (4, 8), "rank": 4},
    "vm": {"resolution": 8, "first_rank": 0, "rank": 4},
    "cp": {"resolution": 8, "first_rank": 0, "rank": 6},
    "voxels": {"resolution": 8},
}
SMOOTHSTEP = {**SIZES["hash"], "interpolation": "smoothstep"}
LINEAR = ("hash", "planes", "vm", "cp", "voxels")


def config_of(name):
    """The small configuration of an architecture, or one of two smooth hash grids."""
    if name.startswith("smoothstep"):
        hidden = (16,) if name == "smoothstep" else ()
        return architectures.get("hash")(**SMOOTHSTEP, hidden=hidden)
    return architectures.get(name)(**SIZES[name])


@torch.no_grad()
def trained(module):
    """Drawn anew, grids with values as large as those of fitted ones, in float64."""
    generator = torch.Generator().manual_seed(5)
    trunk = getattr(module, "trunk", module)
    trunk.reset(generator)
    for name in sorted(trunk.grids):
        trunk.get_parameter(name).normal_(0, 0.5, generator=generator)
    return module.double()


def trunk_of(name, n_dims=2, n_output=2):
    return trained(config_of(name).trunk(n_dims, n_output, NetworkOptions()))


def points(n, d=2, seed=1):
    generator = torch.Generator().manual_seed(seed)
    return torch.rand(n, d, generator=generator, dtype=torch.float64)


def differences(function, x, step=1e-6):
    """[n, ..., d]: central differences of a function's results."""
    columns = []
    for axis in range(x.shape[1]):
        shift = torch.zeros(x.shape[1], dtype=x.dtype)
        shift[axis] = step
        columns.append((function(x + shift) - function(x - shift)).detach() / (2 * step))
    return torch.stack(columns, -1)


def assert_near(actual, expected, tolerance):
    assert actual.shape == expected.shape
    scale = expected.abs().max().item()
    assert scale > 0
    assert (actual - expected).abs().max().item() <= tolerance * scale


# ---- closed forms --------------------------------------------------------------------------------


@pytest.mark.parametrize("d", [1, 2, 3])
def test_a_plane_wave(d):
    x, k = points(50, d), 3 * torch.rand(d, dtype=torch.float64)

    def wave(x):
        return (x @ k).sin()

    cos, sin = (x @ k).cos(), (x @ k).sin()
    torch.testing.assert_close(derivatives.gradient(wave, x), cos[:, None] * k)
    torch.testing.assert_close(derivatives.jacobian(wave, x), cos[:, None, None] * k)
    torch.testing.assert_close(
        derivatives.hessian(wave, x), -sin[:, None, None] * torch.outer(k, k)
    )
    torch.testing.assert_close(derivatives.laplacian(wave, x), -sin * (k @ k))


def test_quadratics_keep_their_columns():
    matrices = torch.randn(3, 2, 2, dtype=torch.float64)
    slopes = torch.randn(3, 2, dtype=torch.float64)
    x = points(20)

    def quadratics(x):
        return torch.einsum("ni,cij,nj->nc", x, matrices, x) + x @ slopes.T

    both = matrices + matrices.mT
    expected = torch.einsum("cij,nj->nci", both, x) + slopes
    torch.testing.assert_close(derivatives.jacobian(quadratics, x), expected)
    torch.testing.assert_close(derivatives.hessian(quadratics, x), both.expand(20, 3, 2, 2))
    trace = both.diagonal(dim1=1, dim2=2).sum(1)
    torch.testing.assert_close(derivatives.laplacian(quadratics, x), trace.expand(20, 3))


def test_a_gaussian_and_its_single_column():
    x = 2 * points(30, 3)

    def column(x):
        return (-x.square().sum(1, keepdim=True) / 2).exp()

    value = column(x)
    torch.testing.assert_close(derivatives.gradient(column, x), -x * value)
    expected = (x.square().sum(1, keepdim=True) - 3) * value
    torch.testing.assert_close(derivatives.laplacian(column, x), expected)
    assert derivatives.hessian(column, x).shape == (30, 1, 3, 3)


def test_the_facade_has_them():
    assert nf.derivatives is derivatives
    assert "derivatives" in dir(nf)


def test_a_linear_function_has_a_constant_slope():
    x = points(4)
    assert torch.equal(
        derivatives.gradient(lambda x: x[:, 1], x), torch.tensor([0.0, 1]).expand(x.shape).double()
    )
    assert torch.equal(derivatives.hessian(lambda x: x, x), x.new_zeros(4, 2, 2, 2))


def test_no_positions_give_no_rows():
    none = torch.zeros(0, 2)
    for function, shape in (
        (derivatives.jacobian, (0, 3, 2)),
        (derivatives.hessian, (0, 3, 2, 2)),
        (derivatives.laplacian, (0, 3)),
    ):
        assert function(lambda x: torch.stack([x[:, 0].sin()] * 3, 1), none).shape == shape
    assert derivatives.gradient(lambda x: x[:, 0], none).shape == (0, 2)


# ---- architectures -------------------------------------------------------------------------------


@pytest.mark.parametrize("name", architectures.names())
def test_gradients_are_the_differences_of_the_references(name):
    sized = architectures.get(name).sized(Target("image", 2, 32))
    trunk = trained(sized.trunk(2, 2, NetworkOptions()))
    x = 0.05 + 0.9 * points(20)
    with ops.use_reference():
        expected = differences(trunk, x, 1e-8)  # the finest cells are small
    assert_near(derivatives.jacobian(trunk, x), expected, 1e-6)
    assert_near(derivatives.jacobian(trunk, x, reference=True), expected, 1e-6)


CURVED = [name for name in (*SIZES, "smoothstep", "smoothstep alone") if name not in LINEAR]


@pytest.mark.parametrize("name", CURVED)
def test_second_derivatives_are_those_of_the_references_and_of_the_slopes(name):
    trunk, x = trunk_of(name), 0.05 + 0.9 * points(20)
    native = derivatives.hessian(trunk, x)
    assert_near(native, derivatives.hessian(trunk, x, reference=True), 1e-10)
    assert_near(native, differences(lambda x: derivatives.jacobian(trunk, x), x), 1e-6)
    laplacian = derivatives.laplacian(trunk, x)
    assert_near(laplacian, native[..., 0, 0] + native[..., 1, 1], 1e-12)


@pytest.mark.parametrize("name", [*SIZES, "smoothstep", "smoothstep alone"])
def test_smoothness_is_as_stated(name):
    """Between neighbours half as far apart, what is continuous differs half as much."""
    trunk = trunk_of(name, n_output=1)
    stated = {"siren": math.inf, "wire": math.inf, "finer": 1, "smoothstep alone": 1}.get(name, 0)
    assert trunk.smoothness.continuous == stated
    assert trunk.smoothness.curved == (name not in LINEAR)
    assert ("smoothstep" in trunk.smoothness.advice) == (name in LINEAR)

    def largest_jump(order, n):
        along = torch.linspace(0.05, 0.95, n, dtype=torch.float64)
        x = torch.stack([along, 0.3 + 0.4 * along], 1)
        if order == 0:
            values = trunk(x).detach()
        else:
            values = (derivatives.jacobian, derivatives.hessian)[order - 1](trunk, x)
        return values.flatten(1).diff(dim=0).abs().max().item()

    orders = range(2) if name in LINEAR else range(3)
    halves = [largest_jump(order, 4001) / largest_jump(order, 8001) > 1.6 for order in orders]
    assert halves == [order <= stated for order in orders]


def test_what_says_nothing_of_its_smoothness_counts_as_smooth():
    assert architectures.Trunk().smoothness == Smoothness(math.inf, True, "")


def test_a_detached_factor_of_finer_is_no_constant_in_positions():
    """Its parameters learn as in the released code: only positions that ask change that."""
    trunk, x = trunk_of("finer"), points(10)
    whole = trained(
        dataclasses.replace(config_of("finer"), detached=False).trunk(2, 2, NetworkOptions())
    )
    torch.testing.assert_close(derivatives.jacobian(trunk, x), derivatives.jacobian(whole, x))
    slopes = []
    for model in (trunk, whole):
        model(x).square().sum().backward()
        slopes.append(model.mlp.params.grad)
    assert not torch.allclose(*slopes)


@pytest.mark.parametrize("name", LINEAR)
def test_second_derivatives_of_linear_grids_are_refused(name):
    field = trained(ImageField(ImageConfig(20, 10, architecture=config_of(name))))
    x = 10 * points(5)
    assert derivatives.jacobian(field, x).abs().max() > 0
    for function in (derivatives.hessian, derivatives.laplacian):
        message = rf"^{function.__name__}: needs second .* got {name}, .*; fit it .*smoothstep\.$"
        with pytest.raises(InputError, match=message):
            function(field, x)
        with pytest.raises(InputError, match="smoothstep"):
            function(field.trunk, x / 10)


# ---- fields --------------------------------------------------------------------------------------


def test_images_are_asked_in_pixels():
    field = trained(ImageField(ImageConfig(40, 20, architecture=config_of("siren"))))
    x = points(10) * torch.tensor([40, 20])
    assert_near(
        derivatives.jacobian(field, x), differences(lambda x: field.value(Samples(x)), x), 1e-6
    )
    expected = differences(lambda x: derivatives.jacobian(field, x), x)
    assert_near(derivatives.hessian(field, x), expected, 1e-5)
    grey = ImageConfig(40, 20, channels=1, architecture=config_of("siren"))
    assert derivatives.gradient(trained(ImageField(grey)), x).shape == (10, 2)


def test_signed_distances_rise_per_world_length():
    box = ((-3.0, -2.0, 1.0), (5.0, 2.0, 4.0))
    field = trained(SdfField(SdfConfig(box, config_of("siren"))))
    x = torch.tensor(box[0]) + points(10, 3) * (torch.tensor(box[1]) - torch.tensor(box[0]))
    expected = differences(lambda x: field.distance(Samples(x)), x)
    assert_near(derivatives.gradient(field, x), expected, 1e-6)
    expected = differences(lambda x: derivatives.gradient(field, x), x)
    assert_near(derivatives.hessian(field, x), expected, 1e-6)
    outside = torch.full((1, 3), 9.0, dtype=torch.float64)
    assert torch.equal(derivatives.gradient(field, outside), torch.zeros_like(outside))


def test_densities_rise_per_world_length():
    box = ((-3.0, -2.0, 1.0), (5.0, 2.0, 4.0))
    field = trained(RadianceField(RadianceConfig(box, config_of("siren"))))
    x = torch.tensor(box[0]) + points(10, 3) * (torch.tensor(box[1]) - torch.tensor(box[0]))
    assert_near(derivatives.gradient(field, x), differences(field.density, x), 1e-6)
    expected = derivatives.hessian(field, x).diagonal(dim1=1, dim2=2).sum(1)
    assert_near(derivatives.laplacian(field, x), expected, 1e-12)


def test_what_an_operation_lacks_is_computed_by_its_reference():
    """The layer behind a skip is modulated by an operation that is once differentiable."""
    mlp = architectures.get("mlp")(octaves=3, hidden=(16, 16, 16), skip=1)
    config = ImageConfig(20, 10, architecture=mlp, modulate=Modulate("xy", (4, 3)))
    field, x = trained(ImageField(config)), 10 * points(30)
    torch.nn.init.normal_(field.modulation.grid, 1, 0.3)
    expected = derivatives.hessian(field, x, reference=True)
    assert_near(derivatives.hessian(field, x), expected, 1e-12)
    assert_near(
        derivatives.jacobian(field, x), derivatives.jacobian(field, x, reference=True), 1e-10
    )


def test_fields_are_left_as_they_were():
    field, x = trained(SdfField(SdfConfig(architecture=config_of("siren")))), points(10, 3)
    with torch.no_grad():
        result = derivatives.gradient(field, x.requires_grad_())
    assert not result.requires_grad
    assert x.grad is None
    assert all(p.requires_grad and p.grad is None for p in field.parameters())


# ---- losses --------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["siren", "hash", "smoothstep", "finer"])
def test_an_eikonal_loss_reaches_the_parameters(name):
    field, x = trained(SdfField(SdfConfig(architecture=config_of(name)))), points(50, 3)
    results = []
    for by_reference in (False, True):
        slope = derivatives.gradient(field, x, differentiable=True, reference=by_reference)
        loss = (slope.norm(dim=1) - 1).square().mean()
        results.append(torch.autograd.grad(loss, [*field.parameters()]))
    for native, expected in zip(*results, strict=True):
        assert_near(native, expected, 1e-10)


def test_results_are_differentiable_in_positions_that_ask():
    trunk, x = trunk_of("siren", n_output=1), points(10).requires_grad_()
    slope = derivatives.gradient(trunk, x, differentiable=True)
    (second,) = torch.autograd.grad(slope[:, 0].sum(), x)
    assert_near(second, derivatives.hessian(trunk, x.detach())[:, 0, 0], 1e-12)


def test_losses_on_second_derivatives_need_the_reference():
    trunk, x = trunk_of("siren", n_output=1), points(20)
    params = trunk.mlp.params

    def loss(by_reference=True):
        bent = derivatives.laplacian(trunk, x, differentiable=True, reference=by_reference)
        return bent.square().mean()

    with pytest.raises(RuntimeError, match=r"^mlp: third-order .*use_reference\(\)"):
        loss(by_reference=False).backward()
    (slope,) = torch.autograd.grad(loss(), params)
    direction = torch.randn_like(params)
    ends = []
    for step in (1e-6, -1e-6):
        with torch.no_grad():
            params += step * direction
        ends.append(loss().detach())
        with torch.no_grad():
            params -= step * direction
    torch.testing.assert_close((ends[0] - ends[1]) / 2e-6, slope @ direction, rtol=1e-5, atol=0)


# ---- memory --------------------------------------------------------------------------------------


def test_positions_are_taken_in_chunks_unless_graphs_are_kept(monkeypatch):
    x, sizes = points(20), []

    def wave(x):
        sizes.append(len(x))
        return (3 * x).sin()

    expected = derivatives.hessian(wave, x)
    monkeypatch.setattr(derivatives, "CHUNK", 7)
    torch.testing.assert_close(derivatives.hessian(wave, x), expected)
    assert torch.equal(derivatives.hessian(wave, x, differentiable=True), expected)
    assert sizes == [20, 7, 7, 6, 20]


# ---- references in place of operations -----------------------------------------------------------

NOT_REPLACED = {"adam_step", "hardest", "march", "occupancy_update", "occupancy_words"}
REPLACED = sorted({*reference.__all__} - NOT_REPLACED - {"visible_samples"})


@pytest.mark.parametrize("name", REPLACED)
def test_references_stand_in_inside_and_only_there(name, monkeypatch):
    monkeypatch.setattr(reference, name, lambda *args, **options: (args, options))
    with ops.use_reference():
        assert getattr(ops, name)(1, wide=2) == ((1,), {"wide": 2})
    with pytest.raises(TypeError):
        getattr(ops, name)(1, wide=2)


def third_derivative(x):
    result = ops.frequency(x, n_octaves=1)[:, 1].sum()  # a sine
    for _ in range(3):
        (result,) = torch.autograd.grad(result.sum(), x, create_graph=True)
    return result.detach()


def test_the_switch_goes_back_after_an_error_and_may_be_nested():
    x = points(5, 1).requires_grad_()
    with ops.use_reference():
        with pytest.raises(ValueError, match="made"), ops.use_reference():
            raise ValueError("made")
        torch.testing.assert_close(third_derivative(x), -x.detach().cos())
    with pytest.raises(RuntimeError, match="third-order"):
        third_derivative(x)


def test_the_switch_is_seen_by_torch_func_and_compiled_functions():
    def sine(x):
        return ops.frequency(x, n_octaves=1)[:, 1].sum()

    third = torch.func.grad(
        lambda x: torch.func.grad(lambda x: torch.func.grad(sine)(x).sum())(x).sum()
    )
    x = points(5, 1)
    with ops.use_reference():
        torch.testing.assert_close(third(x), -x.cos())

    torch._dynamo.reset()
    compiled = torch.compile(sine, fullgraph=True, backend="aot_eager")
    native = compiled(x)
    with ops.use_reference(), pytest.MonkeyPatch.context() as patch:
        patch.setattr(reference, "frequency", lambda x, n_octaves: x.new_full((5, 2), 7.0))
        assert compiled(x) == 35
    assert torch.equal(compiled(x), native)


# ---- refusals ------------------------------------------------------------------------------------


def test_wrong_positions_are_refused():
    field = SdfField(SdfConfig(architecture=config_of("siren")))
    x = torch.rand(4, 3)
    for wrong, message in (
        (x[:, :2], r"\[n, 3\], got torch.float32 \[4, 2\]\.$"),
        (x[0], r"\[n, 3\], got torch.float32 \[3\]\.$"),
        (x.half(), r"\[n, 3\], got torch.float16 \[4, 3\]\.$"),
        (x.double(), r"the field's torch.float32, got torch.float64; convert one of them\.$"),
        (torch.where(torch.arange(4)[:, None] == 2, math.nan, x), r"got NaN in row 2; leave"),
    ):
        with pytest.raises(InputError, match=r"^gradient: positions need .*" + message):
            derivatives.gradient(field, wrong)
    with pytest.raises(InputError, match=r"^hessian: positions need .* \[n, d\], got"):
        derivatives.hessian(torch.sin, x[0])


def test_wrong_functions_are_refused():
    x = torch.rand(4, 2)
    picture = ImageField(ImageConfig(20, 10, architecture=config_of("siren")))
    with pytest.raises(InputError, match=r"^gradient: needs one value .* got 3; use jacobian\.$"):
        derivatives.gradient(picture, x)
    assert all(parameter.requires_grad for parameter in picture.parameters())
    for wrong in (torch.sum, lambda x: x[None], lambda x: x[:2], lambda x: x[:, :0]):
        with pytest.raises(InputError, match=r"^jacobian: needs a function of values \[n\] or"):
            derivatives.jacobian(wrong, x)
    with pytest.raises(InputError, match=r"^laplacian: needs .* without a gradient; look for"):
        derivatives.laplacian(lambda x: x.detach().sin(), x)


# ---- the example ---------------------------------------------------------------------------------


def test_the_poisson_example_takes_its_options(tmp_path):
    command = [sys.executable, str(ROOT / "examples" / "poisson.py")]
    command += ["--size", "16", "--steps", "2", "--seed", "1", "-o", str(tmp_path / "made")]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr
    assert [line.split(":")[0] for line in done.stdout.splitlines() if "dB" in line] == [
        "siren",
        "gaussians",
    ]
    with Image.open(tmp_path / "made" / "poisson.png") as picture:
        assert picture.width == 4 * picture.height
