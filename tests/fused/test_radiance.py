"""The fused radiance path equals the operations called one by one."""

import dataclasses
import functools
import math

import pytest
import torch

from neural_fields import _core, ops

COLOR = ops.MlpSpec((32, 64, 64, 3), output="sigmoid")
GRIDS = {
    "8x4": ops.HashGridSpec(n_levels=8, n_features=4, log2_table_size=12, finest_resolution=256),
    "16x2": ops.HashGridSpec(n_levels=16, n_features=2, log2_table_size=12, finest_resolution=256),
    "torch-ngp": ops.HashGridSpec(
        n_levels=8,
        n_features=4,
        log2_table_size=12,
        base_resolution=8,
        finest_resolution=256,
        convention="torch-ngp",
    ),
}
SPECS = {name: ops.RadianceSpec(g, ops.MlpSpec((32, 64, 16)), COLOR) for name, g in GRIDS.items()}
UNIT = 2.5
SCENE = ops.MarchScene(
    box_min=(-2.0, -2.5, -1.5),
    box_max=(3.0, 2.5, 1.5),
    center=(0.5, 0.0, 0.0),
    unit=UNIT,
    step=0.02 * UNIT,
    cone=1 / 64,
    max_step=0.1 * UNIT,
    grid=ops.OccupancySpec(16, 2),
)
NO_WORDS, ALL_WORDS = (torch.full((SCENE.grid.n_words,), fill) for fill in (0, -1))
ISAS = ["portable", "avx2", "avx512", "amx"]
GRADIENT = 2e-5  # relative, in the 2-norm
BF16_GRADIENT = 5e-3  # hidden numbers between two bfloat16 numbers go either way


@pytest.fixture
def restored_core():
    isa, n_threads = _core.active_isa(), _core.num_threads()
    yield _core
    _core.set_isa(isa)
    _core.set_num_threads(n_threads)


@pytest.fixture(params=ISAS[: ISAS.index(_core.best_isa()) + 1])
def any_isa(request, restored_core):
    restored_core.set_isa(request.param)


@functools.cache
def make_params(name, log_density=0.0):
    """Random ones: log-densities spread by some units around about this."""
    spec, generator = SPECS[name], torch.Generator().manual_seed(0)
    table = torch.rand(spec.grid.n_entries, spec.grid.n_features, generator=generator) * 2 - 1
    density = torch.randn(spec.density.n_params, generator=generator) * 0.25
    color = torch.randn(spec.color.n_params, generator=generator) * 0.2
    # The first feature's weights; its hidden units add up to about 11.
    density[-16 * 64 : -15 * 64].mul_(2.0).add_(log_density / 11)
    return ops.RadianceParams(table, density, color)


def make_rays(n, seed=0):
    generator = torch.Generator().manual_seed(seed)
    directions = torch.nn.functional.normalize(torch.randn(n, 3, generator=generator), dim=1)
    through = torch.rand(n, 3, generator=generator) * 2 - 1
    origins = through - directions * (torch.rand(n, 1, generator=generator) * 8)
    return origins, directions, torch.rand(n, generator=generator)


def make_words(share=0.5):
    generator = torch.Generator().manual_seed(1)
    values = (torch.rand(SCENE.grid.n_cells, generator=generator) < share).float()
    return ops.occupancy_words(values, SCENE.grid)


class Exponential(torch.autograd.Function):
    """exp(x) whose derivative is exp(clamp(x, -15, 15))."""

    @staticmethod
    def forward(ctx, x):
        ctx.save_for_backward(x)
        return x.exp()

    @staticmethod
    def backward(ctx, gradient):
        (x,) = ctx.saved_tensors
        return gradient * x.clamp(-15, 15).exp()


def evaluate(spec, params, positions, directions):
    """Log-density and colour by the public operations."""
    features = ops.mlp(
        ops.hash_grid(positions, params.table, spec.grid), params.density, spec.density
    )
    inputs = torch.cat([features, ops.spherical_harmonics(directions, 4)], dim=1)
    return features[:, 0], ops.mlp(inputs, params.color, spec.color)


def per_op(spec, params, samples, directions, stop, unit=UNIT):
    """What `ops.composite` makes of the field at packed samples."""
    n_samples = int(samples.offsets[-1])
    ray = torch.repeat_interleave(samples.offsets.diff())
    log_density, color = evaluate(spec, params, samples.positions[:n_samples], directions[ray])
    t0, t1 = samples.t_starts[:n_samples], samples.t_ends[:n_samples]
    density = Exponential.apply(log_density) / unit
    return ops.composite(samples.offsets, t0, t1, density, color, stop)


def huber(error, knee=0.1):
    size = error.abs()
    return torch.where(size <= knee, error**2 / (2 * knee), size - knee / 2)


class Batch:
    """A batch of rays, and what `radiance_train` leaves of it."""

    def __init__(self, n_rays=150, capacity=20_000, words=None):
        self.origins, self.directions, jitter = make_rays(n_rays)
        self.target, self.background = torch.rand(
            2, n_rays, 3, generator=torch.Generator().manual_seed(2)
        ).unbind()
        self.samples = ops.RadianceSamples.empty(n_rays, capacity)
        words = make_words() if words is None else words
        rays = (self.origins, self.directions, jitter)
        self.n_used = int(ops.march_into(SCENE, words, *rays, self.samples)[0])

    def over(self, ray):
        return ray.color + (1 - ray.opacity)[:, None] * self.background

    def train(self, spec, params, stop, n_loss_rays=None, unit=UNIT):
        n_rays = len(self.origins)
        self.gradients = ops.RadianceGradients.zeros(spec)
        self.loss, self.color = torch.full((n_rays,), -1.0), torch.full((n_rays, 3), -1.0)
        samples = self.samples._replace(positions=self.samples.positions.clone())
        self.n_kept = ops.radiance_train(
            spec,
            params,
            samples,
            self.origins,
            self.directions,
            self.target,
            self.background,
            features=torch.empty(len(samples.t_starts), spec.grid.n_output),
            gradients=self.gradients,
            ray_loss=self.loss,
            ray_color=self.color,
            unit=unit,
            stop=stop,
            n_loss_rays=n_loss_rays or n_rays,
        )
        return self


def relative_error(actual, expected):
    return ((actual - expected).norm() / expected.norm()).item()


@pytest.mark.parametrize(("stop", "density"), [(0.0, 0.0), (1e-4, 3.0), (0.1, 0.0)])
@pytest.mark.parametrize("name", SPECS)
def test_training_equals_the_operations(name, stop, density, any_isa):
    spec, batch = SPECS[name], Batch()
    params = ops.RadianceParams(*(p.clone().requires_grad_() for p in make_params(name, density)))
    ray = per_op(spec, params, batch.samples, batch.directions, stop)
    color = batch.over(ray)
    ray_loss = huber(color - batch.target).sum(1) / (5 * 3)
    (ray_loss.sum() / len(ray_loss)).backward()

    batch.train(spec, make_params(name, density), stop)
    torch.testing.assert_close(batch.color, color.detach(), rtol=0, atol=1e-5)
    torch.testing.assert_close(batch.loss, ray_loss.detach(), rtol=0, atol=1e-5)
    assert relative_error(batch.gradients.table, params.table.grad) < GRADIENT
    assert relative_error(batch.gradients.density, params.density.grad) < GRADIENT
    assert relative_error(batch.gradients.color, params.color.grad) < GRADIENT
    n_samples = int(batch.samples.offsets[-1])
    assert batch.n_kept == n_samples if stop == 0 else batch.n_kept < 0.95 * n_samples
    if stop > 0:
        assert abs(batch.n_kept - int((ray.weights > 0).sum())) <= 2  # ends within rounding
    else:
        assert ((ray.opacity > 0.05) & (ray.opacity < 0.95)).float().mean() > 0.5


def in_bf16(spec):
    """The same field with both networks in bfloat16."""
    parts = (dataclasses.replace(part, precision="bf16") for part in (spec.density, spec.color))
    return ops.RadianceSpec(spec.grid, *parts)


@pytest.mark.parametrize("isa", [_core.best_isa(), "portable", "amx-emulated"])
@pytest.mark.parametrize("name", SPECS)
def test_bf16_equals_the_operations(name, isa, restored_core):
    restored_core.set_isa(isa)
    spec, batch = in_bf16(SPECS[name]), Batch()
    params = ops.RadianceParams(*(p.clone().requires_grad_() for p in make_params(name)))
    ray = per_op(spec, params, batch.samples, batch.directions, 0.0)
    color = batch.over(ray)
    (huber(color - batch.target).sum() / (5 * 3 * len(color))).backward()
    batch.train(spec, make_params(name), 0.0)
    torch.testing.assert_close(batch.color, color.detach(), rtol=0, atol=2e-3)
    for actual, expected in zip(batch.gradients[::2], params[:2], strict=True):
        assert relative_error(actual, expected.grad) < BF16_GRADIENT
    assert relative_error(batch.gradients.color, params.color.grad) < BF16_GRADIENT
    exact = Batch().train(SPECS[name], make_params(name), 0.0)
    assert relative_error(batch.gradients.color, exact.gradients.color) > 10 * GRADIENT

    origins, directions, half = batch.origins, batch.directions, torch.full((150,), 0.5)
    out = torch.empty(150, 3), torch.empty(150), torch.empty(150)
    rays = (origins, directions)
    ops.radiance_render(spec, make_params(name), SCENE, make_words(), *rays, *out, stop=0, cull=0)
    samples = ops.RadianceSamples.empty(150, 20_000)
    ops.march_into(SCENE, make_words(), *rays, half, samples)
    ray = per_op(spec, make_params(name), samples, directions, 0.0)
    torch.testing.assert_close(out[0], ray.color, rtol=0, atol=2e-3)
    log_density = torch.empty(1000)
    positions = batch.samples.positions[:1000]
    ops.radiance_density(spec, make_params(name), positions, log_density)
    expected, _ = evaluate(spec, make_params(name), positions, positions)
    torch.testing.assert_close(log_density, expected, rtol=0, atol=2e-2)


def test_slope_of_the_density_is_bounded(any_isa):
    """Beyond 15 the gradient is that of exp(15), as per operation; in a tiny step, to matter."""
    spec, batch, unit = SPECS["8x4"], Batch(), 1e6 * UNIT
    params = ops.RadianceParams(*(p.clone().requires_grad_() for p in make_params("8x4", 15.0)))
    ray = per_op(spec, params, batch.samples, batch.directions, 0.0, unit)
    (huber(batch.over(ray) - batch.target).sum() / (5 * 3 * len(ray.color))).backward()
    batch.train(spec, make_params("8x4", 15.0), 0.0, unit=unit)
    for actual, expected in zip(batch.gradients[::2], params[:2], strict=True):
        assert relative_error(actual, expected.grad) < GRADIENT

    log_density = torch.empty(int(batch.samples.offsets[-1]))
    positions = batch.samples.positions[: len(log_density)]
    ops.radiance_density(spec, make_params("8x4", 15.0), positions, log_density)
    assert 0.2 < (log_density > 15).float().mean() < 0.8


def test_gradients_of_the_table_are_added_and_marked():
    spec, params, batch = SPECS["8x4"], make_params("8x4"), Batch(40)
    first = batch.train(spec, params, 0.0).gradients
    blocks = torch.nn.functional.pad(first.table.flatten(), (0, -first.table.numel() % 16))
    assert set(first.touched.tolist()) == {0, 1}
    assert (first.touched.bool() | (blocks.view(-1, 16) == 0).all(1)).all()
    batch.train(spec, params, 0.0, n_loss_rays=10)
    torch.testing.assert_close(batch.gradients.color, first.color * 4)
    torch.testing.assert_close(batch.gradients.table, first.table * 4)


@pytest.mark.parametrize("loss", [(0.05, 0.0125 / 5), (0.3, 0.25 / 5)])
def test_golden_losses(loss):
    """A ray that meets nothing shows the background."""
    error, expected = loss
    batch = Batch(3, words=NO_WORDS)
    batch.background = batch.target + error
    batch.train(SPECS["8x4"], make_params("8x4"), 0.0)
    assert batch.loss.tolist() == pytest.approx([expected] * 3, rel=1e-5)
    torch.testing.assert_close(batch.color, batch.background)
    assert batch.n_kept == 0
    assert all((gradient == 0).all() for gradient in batch.gradients)


@pytest.mark.parametrize("stop", [0.0, 1e-2])
@pytest.mark.parametrize("name", SPECS)
def test_training_repeats_bit_for_bit(name, stop, restored_core):
    runs = []
    for n_threads in (1, 1, 2, 3):
        restored_core.set_num_threads(n_threads)
        batch = Batch(300).train(SPECS[name], make_params(name), stop)
        runs.append((*batch.gradients, batch.loss, batch.color, batch.samples.offsets))
    for run in runs[1:]:
        assert all(torch.equal(a, b) for a, b in zip(run, runs[0], strict=True))


# ---- samples -------------------------------------------------------------------------------------


@pytest.mark.parametrize("share", [0.003, 0.03, 0.5])
@pytest.mark.parametrize(("resolution", "n_cascades"), [(128, 1), (36, 1), (64, 3), (16, 2)])
def test_empty_space_is_skipped_without_loss(resolution, n_cascades, share, restored_core):
    """The march skips cubes of 16 cells, where they fit the cascades and where not."""
    restored_core.set_isa("portable")
    scene = dataclasses.replace(SCENE, grid=ops.OccupancySpec(resolution, n_cascades))
    generator = torch.Generator().manual_seed(4)
    values = (torch.rand(scene.grid.n_cells, generator=generator) < share).float()
    words = ops.occupancy_words(values, scene.grid)
    rays = make_rays(300)
    expected = ops.march(scene, words, *rays)
    batch = ops.RadianceSamples.empty(300, 40_000)
    assert int(ops.march_into(scene, words, *rays, batch)[0]) == 300
    n = int(expected.offsets[-1])
    assert n > 0
    assert torch.equal(batch.offsets, expected.offsets)
    assert torch.equal(batch.t_starts[:n], expected.t_starts)


@pytest.mark.parametrize("n_rays", [0, 1, 127, 128, 129, 400])
def test_samples_equal_the_march(n_rays, restored_core):
    restored_core.set_isa("portable")
    origins, directions, jitter = make_rays(n_rays)
    expected = ops.march(SCENE, make_words(), origins, directions, jitter)
    batch = ops.RadianceSamples.empty(n_rays, 40_000)
    assert int(ops.march_into(SCENE, make_words(), origins, directions, jitter, batch)[0]) == n_rays
    n = int(expected.offsets[-1])
    for name in expected._fields:
        found = getattr(batch, name)[:n] if name[0] == "t" else batch.offsets
        assert torch.equal(found, getattr(expected, name))
    ray = torch.repeat_interleave(expected.offsets.diff())
    middle = (expected.t_starts + expected.t_ends)[:, None] / 2
    world = origins[ray] + middle * directions[ray]
    positions = (world - torch.tensor(SCENE.center)) / (2 * UNIT) + 0.5
    torch.testing.assert_close(batch.positions[:n], positions, rtol=0, atol=1e-6)


def test_instruction_sets_march_alike(any_isa, restored_core):
    """Fused multiply-adds may move a step across the border of a cell."""
    origins, directions, jitter = make_rays(500)
    here, there = (ops.RadianceSamples.empty(500, 60_000) for _ in range(2))
    ops.march_into(SCENE, make_words(), origins, directions, jitter, here)
    restored_core.set_isa("portable")
    ops.march_into(SCENE, make_words(), origins, directions, jitter, there)
    counts = here.offsets.diff() - there.offsets.diff()
    assert counts.abs().max() <= 2
    assert (counts != 0).float().mean() < 0.02


@pytest.mark.parametrize("capacity", [0, 1, 500, 3000])
def test_rays_that_do_not_fit_own_no_samples(capacity):
    origins, directions, jitter = make_rays(200)
    expected = ops.march(SCENE, ALL_WORDS, origins, directions, jitter)
    batch = ops.RadianceSamples.empty(200, capacity)
    n_used = int(ops.march_into(SCENE, ALL_WORDS, origins, directions, jitter, batch)[0])
    fits = expected.offsets[1:] <= capacity
    assert n_used == int(fits.sum()) < 200
    n = int(expected.offsets[n_used])
    assert n <= capacity
    assert (batch.offsets[n_used:] == n).all()
    torch.testing.assert_close(batch.t_starts[:n], expected.t_starts[:n])


# ---- rendering -----------------------------------------------------------------------------------


def render(name, words, origins, directions, stop=0.0, cull=0.0, params=None):
    n = len(origins)
    out = torch.full((n, 3), -1.0), torch.full((n,), -1.0), torch.full((n,), -1.0)
    rays = (origins, directions)
    params = make_params(name) if params is None else params
    options = {"stop": stop, "cull": cull}
    n_samples = ops.radiance_render(SPECS[name], params, SCENE, words, *rays, *out, **options)
    return *out, n_samples


def rendered_per_op(name, words, origins, directions, stop=0.0):
    n = len(origins)
    samples = ops.RadianceSamples.empty(n, 100_000)
    half = torch.full((n,), 0.5)
    assert int(ops.march_into(SCENE, words, origins, directions, half, samples)[0]) == n
    ray = per_op(SPECS[name], make_params(name), samples, directions, stop)
    return ray, int(samples.offsets[-1])


@pytest.mark.parametrize("name", SPECS)
def test_rendering_equals_the_operations(name, any_isa):
    origins, directions, _ = make_rays(300)
    color, opacity, depth, n_samples = render(name, make_words(), origins, directions)
    ray, n_expected = rendered_per_op(name, make_words(), origins, directions)
    torch.testing.assert_close(color, ray.color, rtol=0, atol=1e-5)
    torch.testing.assert_close(opacity, ray.opacity, rtol=0, atol=1e-5)
    torch.testing.assert_close(depth, ray.depth, rtol=1e-5, atol=3e-5 * UNIT)
    assert n_samples == n_expected


def test_rendering_stops_and_culls(any_isa):
    origins, directions, _ = make_rays(300)
    color, opacity, depth, n_all = render("8x4", ALL_WORDS, origins, directions)
    ray, _ = rendered_per_op("8x4", ALL_WORDS, origins, directions, stop=0.05)
    stopped = render("8x4", ALL_WORDS, origins, directions, stop=0.05)
    for actual, expected in zip(stopped[:3], (ray.color, ray.opacity, ray.depth), strict=True):
        torch.testing.assert_close(actual, expected, rtol=1e-5, atol=2e-5)
    assert stopped[3] < n_all
    culled = render("8x4", ALL_WORDS, origins, directions, cull=1e-3)
    assert torch.equal(culled[1], opacity)
    assert torch.equal(culled[2], depth)
    assert 0 < (culled[0] - color).abs().max() < 0.1


@pytest.mark.parametrize("n_rays", [0, 1, 127, 128, 129, 1025])
def test_rendering_does_not_depend_on_threads_or_neighbours(n_rays, restored_core):
    origins, directions, _ = make_rays(1025)
    runs = []
    for n_threads in (1, 2, 3):
        restored_core.set_num_threads(n_threads)
        runs.append(render("8x4", make_words(), origins[:n_rays], directions[:n_rays], stop=1e-3))
    for run in runs[1:]:
        assert all(torch.equal(a, b) for a, b in zip(run[:3], runs[0][:3], strict=True))
        assert run[3] == runs[0][3]
    assert all(len(result) == n_rays for result in runs[0][:3])


def test_rays_that_see_nothing_are_transparent():
    origins, directions, _ = make_rays(20)
    directions[3], origins[4], directions[5] = math.nan, math.inf, 0.0
    for result in render("8x4", NO_WORDS, origins, directions)[:3]:
        assert (result == 0).all()
    color, opacity, depth, _ = render("8x4", ALL_WORDS, origins, directions)
    assert color.isfinite().all()
    assert (opacity[3:6] == 0).all()
    assert (depth[3:6] == 0).all()


@pytest.mark.parametrize("n", [0, 1, 31, 32, 33, 9000])
@pytest.mark.parametrize("name", SPECS)
def test_density_equals_the_operations(name, n, any_isa):
    positions = torch.rand(n, 3, generator=torch.Generator().manual_seed(3))
    log_density = torch.empty(n)
    ops.radiance_density(SPECS[name], make_params(name), positions, log_density)
    expected, _ = evaluate(SPECS[name], make_params(name), positions, positions)
    torch.testing.assert_close(log_density, expected, rtol=1e-5, atol=1e-5)


# ---- wrong inputs --------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("parts", "message"),
    [
        ({"grid": ops.HashGridSpec(n_dims=2)}, "needs 3 dimensions"),
        ({"grid": ops.HashGridSpec(n_levels=7)}, "needs the width of the encoding"),
        ({"density": ops.MlpSpec((32, 64, 15))}, "features needs to be a multiple of 16"),
        ({"density": ops.MlpSpec((32, 60, 16))}, "hidden widths need to be multiples of 16"),
        ({"color": ops.MlpSpec((31, 64, 3))}, r"features \+ 16"),
        ({"color": ops.MlpSpec((32, 64, 4))}, "needs 3 outputs"),
        ({"density": ops.MlpSpec((32, 64, 16), precision="bf16")}, "the same precision"),
        ({"density": ops.MlpSpec((32, 64, 16), hidden="sine")}, "hidden layers need none, relu"),
        ({"color": ops.MlpSpec((32, 64, 3), normalize=True)}, "and no normalize"),
    ],
)
def test_fields_without_a_fused_form_are_refused(parts, message):
    with pytest.raises(ValueError, match=message):
        ops.RadianceSpec(
            **({"grid": GRIDS["8x4"], "density": ops.MlpSpec((32, 64, 16)), "color": COLOR} | parts)
        )


def test_wrong_buffers_are_refused():
    spec, params, batch = SPECS["8x4"], make_params("8x4"), Batch(5)
    batch.samples.offsets[2] = 10**9
    with pytest.raises(ValueError, match="offsets: needs a non-decreasing list"):
        batch.train(spec, params, 0.0)
    batch = Batch(5)
    with pytest.raises(ValueError, match="table: needs shape"):
        batch.train(spec, params._replace(table=params.table[1:]), 0.0)
    with pytest.raises(ValueError, match="n_loss_rays"):
        batch.train(spec, params, 0.0, n_loss_rays=-1)
