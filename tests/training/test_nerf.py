import dataclasses
import math

import numpy as np
import pytest
import torch
from small_nf import small_setup

import neural_fields.fit
from neural_fields import InputError, TrainingError, _core, architectures, evaluate
from neural_fields.data.dataset import load_dataset
from neural_fields.decoders import direction_coordinates
from neural_fields.fields import RadianceField, Samples, read_field_file
from neural_fields.rendering.occupancy import cell_centers, cell_sizes
from neural_fields.rendering.volume import render_view
from neural_fields.training import presets, radiance_step
from neural_fields.training.evaluate import evaluate as evaluate_field
from neural_fields.training.nerf import NerfTrainer
from neural_fields.training.visibility import visible_cells


@pytest.fixture(autouse=True)
def small(monkeypatch):
    monkeypatch.setattr(neural_fields.fit.photographs, "radiance_setup", small_setup)


def make_trainer(data, seed=0, **options):
    config, training = small_setup(data)
    return NerfTrainer(config, data, dataclasses.replace(training, **options), seed)


def train(trainer, n):
    for _ in range(n):
        trainer.step(trainer.step_number / 100)
    return trainer


def state(trainer):
    averages = {f"average.{name}": value.value for name, value in trainer.state.averages.items()}
    return {**trainer.checkpoint_tensors(), **averages, "words": trainer.field.occupancy}


def assert_equal_states(a, b):
    assert a.checkpoint_state() == b.checkpoint_state()
    for name, value in state(a).items():
        assert torch.equal(value, state(b)[name]), name


def test_it_learns(scene, tmp_path):
    """300 steps reach 21.5 dB here; a field of one colour scores 9 dB."""
    run = neural_fields.fit.nerf(scene, tmp_path / "a.nf", steps=300)
    scores = evaluate(tmp_path / "a.nf", scene)
    assert scores["psnr"] > 20.0
    assert scores["ssim"] > 0.7
    assert scores["n_views"] == 4
    assert run.summary["psnr_train"] > 21
    assert run.summary["steps"] == 300


def test_runs_repeat_for_any_number_of_threads(data):
    runs = []
    for seed, threads in ((0, 1), (0, 2), (1, 2)):
        _core.set_num_threads(threads)
        torch.set_num_threads(threads)
        runs.append(train(make_trainer(data, seed), 40))
    assert_equal_states(runs[0], runs[1])
    for name, value in runs[2].state.parameters.items():
        assert not torch.equal(value, runs[0].state.parameters[name])


def test_the_fused_path_and_the_operations_agree(data):
    fused, by_ops = make_trainer(data), make_trainer(data)
    step = radiance_step._ByOps(
        by_ops.field,
        by_ops.state,
        radiance_step.PackedBatch(by_ops.field, 4096),
        by_ops.options.huber,
    )
    scene = fused.field.march_scene()
    rays = fused._draw_rays()
    ours, theirs = fused._gradients(rays, scene), step(rays, scene)
    assert ours.used.tolist() == theirs.used.tolist()
    assert float(ours.loss) == pytest.approx(float(theirs.loss), rel=1e-5)
    assert float(ours.mse) == pytest.approx(float(theirs.mse), rel=1e-5)
    for name, state in fused.state.adam.items():
        other = by_ops.state.adam[name].grad
        assert (state.grad - other).norm() < 1e-4 * other.norm(), name


def test_widths_without_a_fused_form_train_by_operations(data):
    config, training = small_setup(data)
    narrow = dataclasses.replace(config.architecture, hidden=(24,))
    config = dataclasses.replace(config, architecture=narrow)
    trainer = NerfTrainer(config, data, training)
    assert trainer.field.fused_spec() is None
    reports = [trainer.step(n / 150) for n in range(150)]
    assert reports[-1].mse < reports[0].mse / 4


@pytest.mark.parametrize("name", architectures.names())
def test_every_architecture_learns_a_scene(data, name):
    config, training = presets.radiance_setup(data, name)
    sampling = dataclasses.replace(config.sampling, resolution=32)
    config = dataclasses.replace(config, sampling=sampling)
    trainer = NerfTrainer(config, data, dataclasses.replace(training, batch_samples=4096))
    reports = [trainer.step(n / 150) for n in range(150)]
    assert trainer.check_finite() is None
    assert sum(r.mse for r in reports[-10:]) < 0.85 * sum(r.mse for r in reports[:10])
    picture = render_view(trainer.averaged_field(), data.cameras)
    assert torch.isfinite(picture.color).all()


@pytest.mark.parametrize("coordinates", ["xyz", "direction", "direction-trunk", "camera"])
def test_modulated_scenes_are_learnt_and_kept(data, coordinates, tmp_path):
    run = neural_fields.fit.nerf(data, tmp_path / "a.nf", steps=40, modulate=coordinates)
    field = neural_fields.load(tmp_path / "a.nf")
    assert field.config.modulate.coordinates == coordinates
    assert field.fused_spec() is None
    grid = field.modulation.grid
    assert (grid.std(0) > 0).all()  # every layer's scales and shifts have moved
    assert run.summary["psnr_train"] > 12


@pytest.mark.parametrize("coordinates", ["direction", "direction-trunk"])
def test_what_depends_on_the_view_is_a_mean_without_one(data, coordinates):
    config, training = presets.radiance_setup(data, "mlp")
    config = presets.with_choices(config, "float32", coordinates, 32)
    field = NerfTrainer(config, data, training).field
    assert field.view_dependent_density == (coordinates == "direction-trunk")
    assert not RadianceField(presets.radiance_setup(data, "mlp")[0]).view_dependent_density
    with torch.no_grad():
        field.modulation.grid += 0.3 * torch.rand_like(field.modulation.grid)
    axes = -data.cameras.camera_to_world[:, :3, 2]
    scale, shift = field.modulation(direction_coordinates(axes))
    mean_scale, mean_shift = field.modulation.mean(2)
    torch.testing.assert_close(mean_scale[1], scale.mean(0))
    torch.testing.assert_close(mean_shift[0], shift.mean(0))
    points = torch.rand(2, 3).sub(0.5)
    seen = [
        field.evaluate(Samples(points, axis.expand(2, 3)), ("log_density",)).log_density
        for axis in torch.eye(3)
    ]
    assert torch.allclose(seen[0], seen[1]) != field.view_dependent_density
    assert torch.isfinite(field.density(points)).all()
    before = field.color(points)
    with torch.no_grad():  # changes around the mean change nothing where only the mean counts
        field.modulation.grid.copy_(
            torch.cat([mean_scale[:1], mean_shift[:1]], 1).expand_as(field.modulation.grid)
        )
    torch.testing.assert_close(field.color(points), before)


def test_cameras_differ_and_without_one_it_is_their_mean(data):
    config, training = presets.radiance_setup(data, "hash")
    config = presets.with_choices(config, "float32", "camera", 32, len(data))
    assert config.modulate.resolution == (len(data),)
    field = NerfTrainer(config, data, training).field
    grid = field.modulation.grid
    with torch.no_grad():
        grid += torch.rand_like(grid)
    points, axis = torch.rand(len(data), 3) - 0.5, torch.tensor([[0.0, 0.0, 1.0]])
    axes, ids = axis.expand(len(data), 3), torch.arange(len(data))
    for number in (0, len(data) - 1):  # a camera's own row, and no other
        same = field.evaluate(Samples(points, axes, None, torch.full_like(ids, number)))
        (gradient,) = torch.autograd.grad(same.color.sum(), grid)
        rest = gradient[torch.arange(len(data)) != number]
        assert rest.abs().max() < 1e-4 * gradient[number].abs().max()
    seen = field.evaluate(Samples(points[:1].expand(len(data), 3), axes, None, ids))
    assert seen.color.std(0).min() > 0
    assert torch.equal(seen.log_density, seen.log_density[:1].expand(len(data)))
    with torch.no_grad():
        grid.copy_(grid.mean(0, keepdim=True).expand_as(grid))
    known = field.evaluate(Samples(points, axes, None, ids)).color
    torch.testing.assert_close(field.evaluate(Samples(points, axes)).color, known)


def test_weights_of_8_bits_are_trained_and_kept(data, tmp_path):
    run = neural_fields.fit.nerf(data, tmp_path / "a.nf", steps=40, field="mlp", bits=8)
    kept = neural_fields.load(tmp_path / "a.nf")
    for name, value in run.field.named_parameters():
        assert torch.equal(value, kept.get_parameter(name)), name
    assert (tmp_path / "a.ckpt.nf").stat().st_size > 3 * 4 * kept.n_params  # floats and moments
    a, b = (evaluate(tmp_path / f"a{end}.nf", data)["psnr"] for end in ("", ".ckpt"))
    assert a == b > 12


def test_a_step_sees_rounded_weights_and_moves_the_raw_ones(data, monkeypatch):
    config, training = presets.radiance_setup(data, "mlp")
    config = presets.with_choices(config, "float32", "none", 8)
    trainer = NerfTrainer(config, data, dataclasses.replace(training, batch_samples=4096))
    params, seen = trainer.field.trunk.last.params, []
    gradients = trainer._gradients
    monkeypatch.setattr(
        trainer, "_gradients", lambda *a: (seen.append(params.detach().clone()), gradients(*a))[1]
    )
    before = params.detach().clone()
    trainer.step(0.0)
    matrix = slice(0, 128 * 63)
    assert len(before[matrix].unique()) > 1000
    assert len(seen[0][matrix].unique()) <= 255
    moved = (params.detach() - before).abs()
    assert moved[matrix].square().mean().sqrt() == pytest.approx(training.matrix_rate, rel=0.25)
    assert 0 < moved[128 * 63 : 128 * 64].max() < 1.5 * training.learning_rate  # biases
    assert len(params[matrix].unique()) > 1000


def test_pictures_of_nothing_are_refused(data):
    images = data.images.clone()
    images[..., 3] = 0
    with pytest.raises(InputError, match="all of it is transparent"):
        make_trainer(dataclasses.replace(data, images=images))


# ---- numbers that are not finite -----------------------------------------------------------------


@pytest.mark.parametrize(
    "poison", ["trunk.encoding.table", "trunk.mlp.params", "color_head.mlp.params"]
)
def test_poisoned_parameters_are_named(data, poison, tmp_path):
    path = tmp_path / "a.nf"
    path.write_bytes(b"as it was")

    def start(trainer, _):
        with torch.no_grad():
            trainer.state.parameters[poison].view(-1)[::3] = math.nan

    with pytest.raises(TrainingError, match=rf"step \d+: {poison} is not finite"):
        neural_fields.fit.nerf(data, path, steps=20, on_start=start)
    assert path.read_bytes() == b"as it was"
    assert [entry.name for entry in tmp_path.iterdir()] == ["a.nf"]


@pytest.mark.parametrize("poison", ["trunk.encoding.table", "trunk.mlp.params"])
def test_poisoned_moments_are_found(data, poison, tmp_path):
    """As a gradient that is not finite leaves them."""

    def start(trainer, _):
        trainer.state.adam[poison].first.fill_(math.inf)

    with pytest.raises(TrainingError, match=rf"step \d+: {poison} is not finite"):
        neural_fields.fit.nerf(data, tmp_path / "a.nf", steps=5, on_start=start)
    assert list(tmp_path.iterdir()) == []


def test_poisoned_targets_are_named(data, tmp_path, monkeypatch):
    draw = NerfTrainer._draw_rays

    def poisoned(self):
        rays = draw(self)
        if self.step_number == 7:
            rays.target[0] = math.nan
        return rays

    monkeypatch.setattr(NerfTrainer, "_draw_rays", poisoned)
    with pytest.raises(TrainingError, match="step 8: the loss is nan"):
        neural_fields.fit.nerf(data, tmp_path / "a.nf", steps=20)
    assert list(tmp_path.iterdir()) == []


# ---- data ----------------------------------------------------------------------------------------


def masked(data, color):
    """The left third of all images is not used and has this colour."""
    images, masks = data.images.clone(), torch.ones(data.images.shape[:3], dtype=torch.bool)
    masks[:, :, :16] = False
    images[:, :, :16, :3] = torch.tensor(color, dtype=torch.uint8)
    return dataclasses.replace(data, images=images, masks=masks)


def test_masked_pixels_are_never_trained_on(data):
    runs = [train(make_trainer(masked(data, c)), 20) for c in ((0, 0, 0), (255, 0, 255))]
    assert_equal_states(*runs)
    unmasked = train(make_trainer(data), 20)
    assert unmasked.n_samples != runs[0].n_samples


def test_small_masks_leave_full_batches(data):
    masks = torch.zeros(data.images.shape[:3], dtype=torch.bool)
    masks[3, 20:24, 20:24] = True
    trainer = make_trainer(dataclasses.replace(data, masks=masks))
    rays = trainer._draw_rays()
    assert rays.origins.shape[0] == trainer.n_rays
    assert (rays.origins == data.cameras.camera_to_world[3, :3, 3]).all()
    reports = [trainer.step(0.0) for _ in range(20)]
    assert reports[-1].n_samples > 2000


def test_drawn_rays_see_their_pixels(data):
    rays = make_trainer(data)._draw_rays()
    origins, directions = data.cameras.image_rays(5)
    color, alpha = data.image(5)
    mine = (rays.origins == origins[0]).all(1).nonzero()[:, 0]
    pixel = (rays.directions[mine] @ directions.T).argmax(1)
    torch.testing.assert_close(directions[pixel], rays.directions[mine])
    background = rays.background[mine]
    expected = color.view(-1, 3)[pixel] + (1 - alpha.view(-1)[pixel])[:, None] * background
    torch.testing.assert_close(rays.target[mine], expected)
    assert len(pixel.unique()) > 100


@pytest.mark.parametrize("background", ["white", "black", "random", "0.5,0.25,1"])
def test_backgrounds_are_kept(scene, background, tmp_path):
    path = tmp_path / "a.nf"
    neural_fields.fit.nerf(scene, path, steps=3, background=background)
    content = read_field_file(path)
    scores = evaluate(path, scene)
    assert content.protocol["background"] == scores["protocol"]["background"]
    expected = {
        "white": [1.0] * 3, "black": [0.0] * 3, "random": None, "0.5,0.25,1": [0.5, 0.25, 1.0]
    }  # fmt: skip
    assert content.scene["background"] == expected[background]


@pytest.mark.parametrize(("background", "value"), [("white", 1.0), ("black", 0.0), ("random", 0.0)])
def test_an_empty_field_shows_the_background(scene, background, value):
    test = load_dataset(scene, "test", background=background)
    config, _ = small_setup(test)
    field = RadianceField(config)
    field.occupancy.zero_()

    def compare(index, picture, truth, _):
        color, alpha = test.image(index)
        assert (picture == value).all()
        torch.testing.assert_close(truth, color + (1 - alpha)[..., None] * value)

    evaluate_field(field, test, compare)


def test_downscaled_fits_are_scored_at_their_size(scene, tmp_path):
    neural_fields.fit.nerf(scene, tmp_path / "a.nf", steps=3, downscale=2)
    content = read_field_file(tmp_path / "a.nf")
    assert content.protocol["downscale"] == 2
    assert content.scene["cameras"]["w"] == 24
    assert evaluate(tmp_path / "a.nf", scene)["protocol"]["downscale"] == 2


def test_nested_cubes_train_and_render(data):
    wide = dataclasses.replace(
        data, aabb=(data.aabb - data.aabb.mean(0)) * 4 + data.aabb.mean(0), aabb_scale=4
    )
    trainer = train(make_trainer(wide), 40)
    sampling = trainer.field.config.sampling
    assert sampling.n_cascades == 3
    assert sampling.cone > 0
    picture = render_view(trainer.averaged_field(), data.cameras, 0)
    assert picture.color.isfinite().all()
    assert picture.opacity.max() > 0.1


@pytest.mark.parametrize("resolution", [8, 12, 32])
def test_excluded_cells_hold_nothing(resolution, scene, data):
    """The test views' exact surface points lie in cells that the silhouettes leave."""
    test = load_dataset(scene, "test")
    config, _ = small_setup(data)
    sampling = dataclasses.replace(config.sampling, resolution=resolution)
    field = RadianceField(dataclasses.replace(config, sampling=sampling))
    visible, size = visible_cells(field, data), float(cell_sizes(field)[0])
    assert 0.01 < visible.float().mean() < 0.9
    low = torch.tensor(field.center) - field.unit
    n_points = 0
    for index in range(len(test)):
        origins, directions = test.cameras.image_rays(index)
        depth = np.load(scene / f"test/r_{index}_geometry.npz")["depth"].reshape(-1)
        depth = torch.from_numpy(depth).float()
        points = (origins + depth[:, None] * directions)[depth > 0]
        points = points[field.inside(points)]
        x, y, z = ((points - low) / size).long().clamp(0, resolution - 1).unbind(1)
        block = (z // 4 * (resolution // 4) + y // 4) * (resolution // 4) + x // 4
        cell = block * 64 + (z % 4) * 16 + (y % 4) * 4 + x % 4
        assert visible[cell].all()
        n_points += len(points)
    assert n_points > 1000


def test_cells_cut_off_by_the_border_are_not_excluded(data):
    """What an image does not show it cannot exclude."""
    images = data.images.clone()
    images[..., 3] = 0
    images[..., 0, 3] = 255  # an object that only the leftmost column still shows
    config, _ = small_setup(data)
    field = RadianceField(config)
    few = dataclasses.replace(data, images=images[:1], cameras=data.cameras[0:1])
    visible = visible_cells(field, few)
    pixels, depth = few.cameras.project(0, cell_centers(field)[visible])
    assert (depth > 0).all()
    borders = torch.stack([pixels, 48 - pixels], 1).flatten(1).amin(1)
    assert (borders < 12).all()
    assert (pixels[:, 0] > 40).any()  # the right border, beyond which nothing is known


# ---- options -------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"seconds": 1.0, "steps": 1}, "not both"),
        ({"seconds": -1.0}, "--seconds: needs a positive number"),
        ({"seconds": math.nan}, "--seconds"),
        ({"steps": 0}, "--steps: needs at least 1"),
        ({"steps": 1, "seed": -1}, "--seed"),
        ({"steps": 1, "save_every": 0.0}, "--save-every"),
        ({"steps": 1, "options": {"rate": 1}}, "options: needs one of batch_samples"),
        ({"steps": 1, "options": {"batch_samples": 0.5}}, "positive whole number"),
        ({"steps": 1, "options": {"learning_rate": math.inf}}, "positive number"),
        ({"steps": 1, "options": {"huber": "a"}}, "positive number"),
    ],
)
def test_wrong_arguments(arguments, message, data):
    with pytest.raises(InputError, match=message):
        neural_fields.fit.nerf(data, None, **arguments)


def test_options_reach_the_trainer(data):
    seen = []
    neural_fields.fit.nerf(
        data,
        steps=1,
        options={"learning_rate": 0.5, "grid_every": 3},
        on_start=lambda trainer, _: seen.append(trainer.options),
    )
    assert (seen[0].learning_rate, seen[0].grid_every, seen[0].batch_samples) == (0.5, 3, 4096)


def test_what_is_opaque_can_clear_up():
    """The densest samples keep their gradient, as on the fused path."""
    log_density = torch.tensor([-30.0, 0.0, 2.0, 15.0, 40.0], requires_grad=True)
    density = radiance_step.density_of(log_density)
    expected = torch.tensor([1e-9, 1.0, math.exp(2), math.exp(15), math.exp(15)])
    torch.testing.assert_close(density, expected)
    (gradient,) = torch.autograd.grad(density.sum(), log_density)
    torch.testing.assert_close(gradient, expected)
