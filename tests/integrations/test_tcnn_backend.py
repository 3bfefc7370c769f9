"""tiny-cuda-nn as a backend: layouts, gradients and refusals by a stand-in, and the real one.

The stand-in follows tiny-cuda-nn's sources and runs on the CPU, where the adapter is told to take
CPU tensors for those on CUDA.
"""

import contextlib
import importlib
import inspect
import sys

import pytest
import stub_tinycudann
import tolerances
import torch

from neural_fields import InputError, ops
from neural_fields.encodings.hash import HashEncoding
from neural_fields.integrations import tcnn
from neural_fields.ops import HashGridSpec, MlpSpec, reference

HALF = 2e-3  # a few roundings at 2^-11; errors are norms, relative to what is expected
HALF_AT_KINKS = 4e-2  # where relu of a sum near 0 may have either slope
GRIDS = {
    "hash": HashGridSpec(n_levels=4, log2_table_size=12),
    "one feature": HashGridSpec(n_levels=3, n_features=1, log2_table_size=10),
    "growth": HashGridSpec(n_levels=5, n_features=2, log2_table_size=12, per_level_scale=1.38),
    "smoothstep": HashGridSpec(n_levels=3, log2_table_size=11, interpolation="smoothstep"),
    "2-D": HashGridSpec(n_dims=2, n_levels=4, n_features=8, log2_table_size=9),
    "4-D": HashGridSpec(n_dims=4, n_levels=3, n_features=2, base_resolution=4, log2_table_size=9),
    "dense": HashGridSpec(n_levels=2, base_resolution=6, per_level_scale=1.3, grid_type="dense"),
    "tiled": HashGridSpec(n_dims=2, n_levels=3, base_resolution=12, grid_type="tiled"),
}
NETWORKS = {
    "fused": (MlpSpec((32, 64, 64, 16)), "FullyFusedMLP"),
    "fused, padded": (MlpSpec((3, 16, 1), output="sigmoid"), "FullyFusedMLP"),
    "fused, long inputs": (MlpSpec((200, 128, 40)), "FullyFusedMLP"),
    "sigmoid": (MlpSpec((5, 32, 32, 3), hidden="sigmoid"), "FullyFusedMLP"),
    "no activation": (MlpSpec((5, 32, 3), hidden="none", output="relu"), "FullyFusedMLP"),
    "padded to fused": (MlpSpec((20, 24, 24, 3)), "FullyFusedMLP"),
    "wide": (MlpSpec((32, 256, 3)), "CutlassMLP"),
    "padded": (MlpSpec((4, 70, 70, 3)), "CutlassMLP"),
    "inputs beyond a block's memory": (MlpSpec((230, 128, 1)), "CutlassMLP"),
    "no hidden layer": (MlpSpec((5, 7), hidden="softplus"), "CutlassMLP"),
}
NATIVE_GRIDS = {
    "torch-ngp": HashGridSpec(n_levels=2, convention="torch-ngp"),
    # 12 cells; there perhaps 12.000001, and so one vertex more.
    "whole scale": HashGridSpec(n_levels=2, base_resolution=8, per_level_scale=1.625),
    # 27 entries there, rounded up to 32 here.
    "tile of 27": HashGridSpec(n_levels=2, base_resolution=3, grid_type="tiled"),
    # 2048 vertices per axis: beyond 32 bits every vertex is entry 0 there.
    "fine tiles": HashGridSpec(n_levels=8, grid_type="tiled"),
}
NATIVE_NETWORKS = {
    "biases": MlpSpec((3, 16, 1), biases=True),
    "normalize": MlpSpec((3, 16, 1), normalize=True),
    "softplus": MlpSpec((3, 16, 1), hidden="softplus", beta=10.0),
    "sine": MlpSpec((3, 16, 1), hidden="sine"),
    "softplus last": MlpSpec((3, 16, 1), output="softplus"),
    "two widths": MlpSpec((3, 16, 32, 1)),
    "bf16": MlpSpec((3, 16, 1), precision="bf16"),
}


def forget_modules():
    tcnn._encoding.cache_clear()
    tcnn._network.cache_clear()


def install(monkeypatch, **options):
    package, created = stub_tinycudann.made(**options)
    monkeypatch.setitem(sys.modules, "tinycudann", package)
    monkeypatch.setattr(tcnn, "_DEVICE", "cpu")
    return created


@pytest.fixture(autouse=True)
def fresh_modules():
    forget_modules()
    yield
    forget_modules()


@pytest.fixture
def created(monkeypatch):
    """What is created of the stand-in, in half precision."""
    return install(monkeypatch)


@pytest.fixture
def created_float32(monkeypatch):
    """The same, as built without half precision."""
    return install(monkeypatch, dtype_of_networks=torch.float32)


def draw(spec, n=300, **options):
    """Inputs and parameters of an operation, and which one it is."""
    if isinstance(spec, HashGridSpec):
        x = torch.rand(n, spec.n_dims, **options)
        return "hash_grid", [x, torch.rand(spec.n_entries, spec.n_features, **options) - 0.5]
    x = torch.rand(n, spec.n_input, **options) - 0.5
    return "mlp", [x, (torch.rand(spec.n_params, **options) - 0.5) / spec.n_input**0.5]


def results(operation, tensors, spec, grad=None):
    """The values, and the gradients of both tensors."""
    leaves = [tensor.detach().clone().requires_grad_() for tensor in tensors]
    values = operation(*leaves, spec)
    assert values.dtype == torch.float32
    if grad is None:
        generator = torch.Generator().manual_seed(1)
        grad = torch.rand(values.shape, generator=generator) / len(values)
    return [values.detach(), *torch.autograd.grad(values, leaves, grad.to(values))]


def assert_close(actual, expected, tolerance, *, of_gradients=None):
    for name, a, e in zip(("values", "inputs", "params"), actual, expected, strict=True):
        error = (a - e).norm() / e.norm()
        wanted = tolerance if name == "values" else of_gradients or tolerance
        assert error < wanted, f"{name}: {error}"


def assert_networks_close(actual, expected, spec, tolerance=HALF):
    kinks = "relu" in (spec.output, spec.hidden)
    of_gradients = max(HALF_AT_KINKS if kinks else 0, tolerance)
    assert_close(actual, expected, tolerance, of_gradients=of_gradients)


# ---- values and gradients ------------------------------------------------------------------------


@pytest.mark.parametrize("kind", GRIDS)
@pytest.mark.parametrize("precision", ["float32", "half"])
def test_grids_equal_the_reference(kind, precision, created):
    spec = GRIDS[kind]
    assert tcnn.covers(spec)
    _, tensors = draw(spec)
    expected = results(reference.hash_grid, tensors, spec)
    with tcnn.use_tcnn(grid_precision=precision):
        actual = results(ops.hash_grid, tensors, spec)
    assert_close(actual, expected, HALF if precision == "half" else tolerances.HASH_GRID_FLOAT32)
    assert [type(module).__bases__[0].__name__ for module in created] == ["Encoding"]


@pytest.mark.parametrize("kind", NETWORKS)
def test_networks_equal_the_reference(kind, created_float32):
    spec, network = NETWORKS[kind]
    assert tcnn.covers(spec)
    _, tensors = draw(spec)
    with tcnn.use_tcnn():
        actual = results(ops.mlp, tensors, spec)
    assert_close(actual, results(reference.mlp, tensors, spec), tolerances.MLP_FLOAT32)
    assert [module.kind for module in created_float32] == [network]


@pytest.mark.parametrize("kind", NETWORKS)
def test_networks_in_half_precision(kind, created):
    spec, _ = NETWORKS[kind]
    _, tensors = draw(spec)
    actual = results(tcnn.mlp, tensors, spec)
    assert_networks_close(actual, results(reference.mlp, tensors, spec), spec)
    assert len(created) == 1


def test_positions_outside_and_nan_are_as_ours(created):
    spec = GRIDS["hash"]
    _, (_, table) = draw(spec)
    nan, inf = float("nan"), float("inf")
    x = torch.tensor([[-0.5, 0.3, 1.5], [nan, 0.3, 0.6], [0.0, 1.0, 0.2], [inf, -inf, 0.4]])
    actual = results(lambda *a: tcnn.hash_grid(*a, precision="float32"), [x, table], spec)
    expected = results(ops.hash_grid, [x, table], spec)
    assert_close(actual, expected, tolerances.HASH_GRID_FLOAT32)


@pytest.mark.parametrize("wanted", [(True, False), (False, True)])
@pytest.mark.parametrize("spec", [GRIDS["hash"], NETWORKS["fused"][0]], ids=["grid", "network"])
def test_only_the_gradient_that_is_needed(spec, wanted, created):
    name, tensors = draw(spec)
    for tensor, needed in zip(tensors, wanted, strict=True):
        tensor.requires_grad_(needed)
    getattr(tcnn, name)(*tensors, spec).square().mean().backward()
    assert [tensor.grad is not None for tensor in tensors] == list(wanted)


@pytest.mark.parametrize("spec", [GRIDS["hash"], NETWORKS["fused"][0]], ids=["grid", "network"])
def test_without_gradients(spec, created):
    name, tensors = draw(spec)
    expected = getattr(tcnn, name)(*tensors, spec)
    with torch.no_grad():
        kept = getattr(tcnn, name)(*(t.requires_grad_() for t in tensors), spec)
    assert not kept.requires_grad
    assert torch.equal(kept, expected)
    assert created[0].trained == [False, False]


def test_gradients_below_half_precision_survive(created):
    # Half precision ends at 6e-8; times 128, 2e-9 is above.
    spec = GRIDS["hash"]
    _, tensors = draw(spec, n=1)
    grad = torch.full((1, spec.n_output), 2e-9)
    _, _, actual = results(tcnn.hash_grid, tensors, spec, grad)
    _, _, expected = results(reference.hash_grid, tensors, spec, grad)
    assert (actual - expected).abs().max() < 0.3 * expected.max()
    assert [module.loss_scale for module in created] == [1.0]


def test_two_backward_passes(created):
    spec = NETWORKS["fused"][0]
    _, (x, params) = draw(spec)
    loss = tcnn.mlp(x, params.requires_grad_(), spec).square().mean()
    first, second = (torch.autograd.grad(loss, params, retain_graph=keep) for keep in (True, False))
    assert torch.equal(first[0], second[0])
    with pytest.raises(RuntimeError, match="second time"):
        torch.autograd.grad(loss, params)


@pytest.mark.parametrize("kind", ["smoothstep", "hash"])
def test_second_derivatives_are_native(kind, created):
    grid, network = GRIDS[kind], MlpSpec((GRIDS[kind].n_output, 16, 1), hidden="sigmoid")
    _, (x, table) = draw(grid)
    _, (_, params) = draw(network)

    def eikonal(grid_of, network_of):
        at, *leaves = [t.clone().requires_grad_() for t in (x, table, params)]
        value = network_of(grid_of(at, leaves[0], grid), leaves[1], network)
        (slope,) = torch.autograd.grad(value.sum(), at, create_graph=True)
        return torch.autograd.grad((slope.norm(dim=1) - 1).square().mean(), leaves)

    expected = eikonal(reference.hash_grid, reference.mlp)
    with tcnn.use_tcnn():
        actual = eikonal(ops.hash_grid, ops.mlp)
    assert len(created) == 2
    for a, e in zip(actual, expected, strict=True):
        # The network's slope is taken at features in half precision.
        assert (a - e).norm() < HALF * e.norm()


def test_parameters_that_depend_on_the_inputs(created_float32):
    spec = MlpSpec((3, 16, 2), hidden="sigmoid")
    _, (x, params) = draw(spec, n=20)

    slopes = []
    for operation in (tcnn.mlp, reference.mlp):
        at = x.clone().requires_grad_()
        values = operation(at, params * (1 + at.sum()), spec)
        slopes += torch.autograd.grad(values.sum(), at, create_graph=True)
    torch.testing.assert_close(*slopes, rtol=1e-4, atol=1e-5)


# ---- golden values -------------------------------------------------------------------------------
# By hand: the hash of Mueller et al. 2022, equation 4, and the layout in grid.h.

# 16 * 2^l vertices per axis: 16^3, 32^3, 64^3 entries, then 2^19 of 5 hashed levels.
BASE = HashGridSpec(n_levels=8, n_features=4, log2_table_size=19, base_resolution=16)


@pytest.mark.parametrize(
    ("spec", "level", "vertex", "entry"),
    [
        (BASE, 0, (3, 5, 7), 3 + 5 * 16 + 7 * 256),
        (BASE, 1, (1, 2, 3), 4096 + 1 + 2 * 32 + 3 * 1024),
        # 100 ^ 2606174792 ^ 1119789724 = 110768 modulo 2^19
        (BASE, 7, (100, 200, 300), 4096 + 32768 + 262144 + 4 * 524288 + 110768),
        # 256 + 1024 + 4096 + 16384 + 16384 entries before; 10 ^ 1549107668 = 478 modulo 2^14
        (HashGridSpec(n_dims=2, n_levels=6, log2_table_size=14), 5, (10, 20), 38144 + 478),
        # 1 ^ 1013904226 ^ 2416379583 ^ 1813711828 = 520 modulo 2^10
        (HashGridSpec(n_dims=4, n_levels=1, log2_table_size=10), 0, (1, 2, 3, 4), 520),
    ],
)
def test_golden_entries(spec, level, vertex, entry, created):
    cells = spec.base_resolution * 2**level - 1
    x = torch.tensor([[(v - 0.5 + 0.1) / cells for v in vertex]])  # 0.1 of a cell above the vertex
    table = torch.zeros(spec.n_entries, spec.n_features)
    table[entry, -1] = 1.0
    features = tcnn.hash_grid(x, table, spec, precision="float32")
    assert features[0, (level + 1) * spec.n_features - 1].item() == pytest.approx(
        0.9**spec.n_dims, rel=1e-3
    )
    assert features.count_nonzero() == 1


@pytest.mark.parametrize(
    ("spec", "n_entries"),
    [
        (BASE, 2_920_448),
        (HashGridSpec(n_levels=16, n_features=2, finest_resolution=2048), 6_098_120),
    ],
)
def test_golden_sizes(spec, n_entries, created):
    assert tcnn.covers(spec)
    tcnn._encoding(spec, "half", torch.device("cpu"))
    assert created[0].n_params == n_entries * spec.n_features


def test_golden_matrices(created_float32):
    # 20, 24, 24, 3 as 32, 32, 32, 16: 32 * 32 + 32 * 32 + 16 * 32 numbers.
    spec = MlpSpec((20, 24, 24, 3))
    params = torch.arange(1.0, spec.n_params + 1)
    tcnn.mlp(torch.zeros(1, 20), params, spec)
    (theirs,) = created_float32[0].received
    assert len(theirs) == 2560
    assert theirs[5 * 32 + 2] == params[5 * 20 + 2]
    assert theirs[1024 + 23 * 32 + 23] == params[480 + 23 * 24 + 23]
    assert theirs[2048 + 2 * 32 + 7] == params[1056 + 2 * 24 + 7]
    assert theirs.count_nonzero() == spec.n_params


def test_matrices_without_padding_are_passed_on(created_float32):
    spec = NETWORKS["fused"][0]
    _, (x, params) = draw(spec)
    tcnn.mlp(x, params, spec)
    assert torch.equal(created_float32[0].received[0], params)


def test_golden_network(created):
    # relu(3 - 2), relu(1 + 2), relu(-1) weighted with 2, 5, 7: 2 + 15; the ones that fill up the
    # inputs count nothing.
    spec = MlpSpec((2, 16, 1))
    first, last = torch.zeros(16, 2), torch.zeros(1, 16)
    first[:3] = torch.tensor([[3.0, -1.0], [1.0, 1.0], [-1.0, 0.0]])
    last[0, :3] = torch.tensor([2.0, 5.0, 7.0])
    params = torch.cat([first.flatten(), last.flatten()])
    assert tcnn.mlp(torch.tensor([[1.0, 2.0]]), params, spec).item() == 17.0


# ---- what stays native ---------------------------------------------------------------------------


@pytest.mark.parametrize("kind", NATIVE_GRIDS)
def test_other_grids_are_native(kind, created):
    spec = NATIVE_GRIDS[kind]
    assert not tcnn.covers(spec)
    _, tensors = draw(spec, n=5)
    expected = ops.hash_grid(*tensors, spec)
    with tcnn.use_tcnn():
        assert torch.equal(ops.hash_grid(*tensors, spec), expected)
    assert created == []


@pytest.mark.parametrize("kind", NATIVE_NETWORKS)
def test_other_networks_are_native(kind, created):
    spec = NATIVE_NETWORKS[kind]
    assert not tcnn.covers(spec)
    _, tensors = draw(spec, n=5)
    expected = ops.mlp(*tensors, spec)
    with tcnn.use_tcnn():
        assert torch.equal(ops.mlp(*tensors, spec), expected)
    assert created == []


def test_tensors_that_it_does_not_take_are_native(created):
    spec, n_layers = MlpSpec((3, 16, 1)), 1
    _, tensors = draw(spec, n=5)
    modulation = [torch.rand(5, n_layers) for _ in range(2)]
    expected = ops.mlp(*tensors, spec, *modulation)
    with tcnn.use_tcnn():
        assert torch.equal(ops.mlp(*tensors, spec, *modulation), expected)
        for operation in (GRIDS["hash"], spec):
            name, empty = draw(operation, n=0)
            assert getattr(ops, name)(*empty, operation).shape == (0, operation.n_output)
            name, doubles = draw(operation, n=5, dtype=torch.float64)
            assert getattr(ops, name)(*doubles, operation).dtype == torch.float64
    assert created == []


def test_wrong_tensors_are_refused_by_the_operation(created):
    spec = MlpSpec((3, 16, 1))
    _, (x, params) = draw(spec)
    with tcnn.use_tcnn():
        with pytest.raises(ValueError, match=r"^mlp: inputs needs shape \[n, 3\], got \[300, 2\]"):
            ops.mlp(x[:, :2], params, spec)
        with pytest.raises(ValueError, match=r"^hash_grid: table needs shape"):
            ops.hash_grid(x, torch.rand(8, 4), GRIDS["hash"])
        with pytest.raises(TypeError, match=r"^mlp: params needs torch.float32"):
            ops.mlp(x, params.double(), spec)


# ---- the switch ----------------------------------------------------------------------------------


def test_the_switch_reaches_modules_and_is_put_back(created):
    encoding = HashEncoding(GRIDS["hash"])
    encoding.reset(torch.Generator().manual_seed(0))
    x = torch.rand(10, 3)
    native = encoding(x)
    with tcnn.use_tcnn():
        with tcnn.use_tcnn(grid_precision="float32"):
            encoding(x)
        encoding(x)
    assert [module.dtype for module in created] == [torch.float32, torch.half]
    with contextlib.suppress(KeyError), tcnn.use_tcnn():
        raise KeyError
    assert torch.equal(encoding(x), native)
    assert [len(module.received) for module in created] == [1, 1]


def test_the_reference_wins(created):
    spec = GRIDS["hash"]
    _, tensors = draw(spec)
    expected = reference.hash_grid(*tensors, spec)
    with tcnn.use_tcnn(), ops.use_reference():
        assert torch.equal(ops.hash_grid(*tensors, spec), expected)
    with ops.use_reference(), tcnn.use_tcnn():
        assert torch.equal(ops.hash_grid(*tensors, spec), expected)
    assert created == []


def test_backends_nest_by_name():
    with ops.use_backend({"mlp": lambda: "a", "hash_grid": lambda: "b"}):
        with ops.use_backend({"mlp": lambda: "c", "unknown": None}):
            assert (ops.mlp(), ops.hash_grid()) == ("c", "b")
        assert ops.mlp() == "a"
    with pytest.raises(TypeError):
        ops.mlp()


def test_modules_are_made_once_and_keep_no_parameters(created):
    spec, network = GRIDS["hash"], NETWORKS["fused"][0]
    for _ in range(2):
        tcnn.hash_grid(*draw(spec)[1], spec)
        tcnn.hash_grid(*draw(spec)[1], HashGridSpec(n_levels=4, log2_table_size=12))
        tcnn.mlp(*draw(network)[1], network)
    assert len(created) == 2
    assert [module.params.numel() for module in created] == [0, 0]


@pytest.mark.parametrize("name", ["hash_grid", "mlp"])
def test_arguments_are_those_of_the_operation(name):
    ours, theirs = (
        [(p.name, p.kind, p.default) for p in inspect.signature(f).parameters.values()]
        for f in (getattr(ops, name), getattr(tcnn, name))
    )
    assert theirs[: len(ours)] == ours
    assert {name for name, _, _ in theirs[len(ours) :]} <= {"precision"}


# ---- refusals ------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "reason",
    [
        ImportError("No module named 'tinycudann'"),
        OSError("Unknown compute capability. Ensure PyTorch with CUDA support is installed."),
    ],
)
def test_without_the_package(reason, monkeypatch):
    def fail(name):
        assert name == "tinycudann"
        raise reason

    monkeypatch.setattr(importlib, "import_module", fail)
    message = (
        r"^--backend tcnn: needs the package tinycudann, which cannot be imported here "
        r"\([^()]*[^.]\); install it from github\.com/NVlabs/tiny-cuda-nn on a machine with nvcc "
        r"and a GPU, or leave --backend out\.$"
    )
    with pytest.raises(InputError, match=message), tcnn.use_tcnn():
        pass


@pytest.mark.parametrize("spec", [GRIDS["hash"], NETWORKS["fused"][0]], ids=["grid", "network"])
def test_tensors_on_the_cpu_are_computed_natively(spec, created, monkeypatch):
    monkeypatch.setattr(tcnn, "_DEVICE", "cuda")
    name, tensors = draw(spec)
    expected = getattr(ops, name)(*tensors, spec)
    with tcnn.use_tcnn():
        found = getattr(ops, name)(*tensors, spec)
    assert torch.equal(found, expected)
    assert created == []


def test_another_layout_is_refused(created, monkeypatch):
    monkeypatch.setattr(stub_tinycudann.Encoding, "size", lambda self, resolution: 8)
    spec = HashGridSpec(n_levels=1, n_features=2)
    with pytest.raises(InputError, match=r"needs 8192 parameters .* has 16; install version 2\.0"):
        tcnn.hash_grid(*draw(spec)[1], spec)


# ---- the real package ----------------------------------------------------------------------------


def is_there():
    """Whether tinycudann can be used here."""
    if not torch.cuda.is_available():
        return False
    try:
        importlib.import_module("tinycudann")
    except (ImportError, OSError):
        return False
    return True


if is_there():

    @pytest.mark.parametrize("kind", GRIDS)
    @pytest.mark.parametrize("precision", ["float32", "half"])
    def test_grids_of_tinycudann(kind, precision):
        spec = GRIDS[kind]
        _, tensors = draw(spec, device="cuda")
        expected = results(reference.hash_grid, tensors, spec)
        with tcnn.use_tcnn(grid_precision=precision):
            actual = results(ops.hash_grid, tensors, spec)
        # Sums of eight corners, and of gradients, are rounded to half after every addition.
        tolerance = 5 * HALF if precision == "half" else 10 * tolerances.HASH_GRID_FLOAT32
        assert_close(actual, expected, tolerance)

    @pytest.mark.parametrize("kind", NETWORKS)
    def test_networks_of_tinycudann(kind):
        spec, _ = NETWORKS[kind]
        _, tensors = draw(spec, device="cuda")
        expected = results(reference.mlp, tensors, spec)
        with tcnn.use_tcnn():
            actual = results(ops.mlp, tensors, spec)
        # Its sums of up to 256 products are in half precision, too.
        assert_networks_close(actual, expected, spec, 10 * HALF)
