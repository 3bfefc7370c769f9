"""Fitting surfaces to photographs."""

import dataclasses
import json

import numpy as np
import pytest
import torch
from PIL import Image
from small_nf import small_surface

import neural_fields as nf
import neural_fields.fit
from neural_fields import InputError, architectures, scenes
from neural_fields.architectures.hash import Hash
from neural_fields.data.dataset import load_dataset
from neural_fields.data.edges import edge_pixels
from neural_fields.fields import Samples, SurfaceField
from neural_fields.rendering.occupancy import cell_centers, occupied
from neural_fields.scenes import catalog
from neural_fields.training.presets import surface_setup, with_choices
from neural_fields.training.surface import SurfaceTrainer

SMALL = Hash(n_levels=4, log2_table_size=14, finest_resolution=64)


@pytest.fixture(scope="module")
def chess(tmp_path_factory):
    folder = tmp_path_factory.mktemp("chess") / "scene"
    return scenes.make("chess", folder, n_train=30, n_test=3, size=64)


def trainer_of(data, field="hash", n_steps=0, total=100, **options):
    config, training = surface_setup(data, SMALL if field == "hash" else field)
    config = with_choices(config, "float32", "none", 32, len(data))
    sampling = dataclasses.replace(config.sampling, resolution=32)
    config = dataclasses.replace(config, sampling=sampling)
    training = dataclasses.replace(training, batch_samples=1 << 14, places=256, **options)
    trainer = SurfaceTrainer(config, data, training, seed=1)
    for step in range(n_steps):
        trainer.step(step / total)
    return trainer


def true_points(n=4000):
    """On the scene's surface, by Newton's method along its own distances."""
    scene = catalog.build("chess")
    low, high = (torch.tensor(corner, dtype=torch.float64) for corner in scene.bounds())
    share = torch.rand(8 * n, 3, generator=torch.Generator().manual_seed(0)).double()
    at = low + share * (high - low)
    for _ in range(6):
        at = at.detach().requires_grad_()
        distance = scene.distance(at)
        (slope,) = torch.autograd.grad(distance.sum(), at)
        at = at - distance[:, None] * slope / slope.square().sum(1, keepdim=True).clamp(min=0.1)
    at = at.detach()
    near = scene.distance(at).abs() < 1e-3
    return at[near & (at[:, 2] > -0.5)][:n].float()  # undersides are seen by nobody


def test_it_finds_the_surface(chess):
    data = load_dataset(chess)
    at = true_points()
    off = {}
    for n_steps in (0, 300):
        field = trainer_of(data, n_steps=n_steps, total=300).averaged_field()
        with torch.no_grad():
            off[n_steps] = float(field.distance(Samples(at)).abs().mean())
    assert off[0] > 0.2
    assert off[300] < 0.05


@pytest.mark.parametrize("options", [{"slopes": "numerical"}, {"density": "neus"}])
def test_other_ways_find_it_too(chess, options):
    data = load_dataset(chess)
    density = options.pop("density", "volsdf")
    trainer = trainer_of(data, **options)
    if density == "neus":
        config = dataclasses.replace(trainer.field.config, density=density)
        trainer = SurfaceTrainer(config, data, trainer.options, seed=1)
    for step in range(300):
        trainer.step(step / 300)
    field, at = trainer.averaged_field(), true_points()
    with torch.no_grad():
        assert float(field.distance(Samples(at)).abs().mean()) < 0.15


@pytest.mark.parametrize("slopes", ["analytic", "numerical"])
@pytest.mark.parametrize("name", architectures.names())
def test_every_architecture_takes_steps(chess, name, slopes):
    data = load_dataset(chess, downscale=2)
    trainer = trainer_of(data, name, slopes=slopes)
    before = [parameter.detach().clone() for parameter in trainer.field.parameters()]
    reports = [trainer.step(0.01 * step) for step in range(3)]
    assert all(np.isfinite(report.loss) for report in reports)
    trainer.check_finite()
    pairs = zip(before, trainer.field.parameters(), strict=True)
    assert all(not torch.equal(one, other) for one, other in pairs)


def test_the_fused_step_is_the_one_by_operations(chess, monkeypatch):
    """Of the same loss: one keeps the slopes' second derivatives in its own pass."""
    data = load_dataset(chess, downscale=2)
    fused = trainer_of(data, first_levels=4)
    with monkeypatch.context() as patch:
        patch.setattr(SurfaceField, "slope_spec", lambda field: None)
        by_ops = trainer_of(data, first_levels=4)
    with torch.no_grad():
        for one, other in zip(by_ops.field.parameters(), fused.field.parameters(), strict=True):
            one.copy_(other)
    # places away from the surface use fewer levels in the fused step; here all are coarse
    reports = [trainer.step(0.2) for trainer in (fused, by_ops)]
    assert reports[0].loss == pytest.approx(reports[1].loss, rel=1e-4)
    pairs = zip(fused.field.parameters(), by_ops.field.parameters(), strict=True)
    for one, other in pairs:
        moved = (one - other).abs() > 1e-4
        assert float(moved.float().mean()) < 0.02  # Adam's first step has the gradient's sign


def test_the_grid_is_a_shell_around_the_surface(chess):
    trainer = trainer_of(load_dataset(chess), n_steps=200, total=200)
    field = trainer.field
    centers = cell_centers(field)
    with torch.no_grad():
        distance = field.distance(Samples(centers)).abs() / field.unit
    kept = occupied(field)
    assert float(kept.float().mean()) < 0.35
    assert float(distance[kept].median()) < 0.15


def test_one_ray_in_four_is_one_of_an_edge(chess):
    data = load_dataset(chess)
    trainer = trainer_of(data)
    edges = set(edge_pixels(data).tolist())
    assert 0 < len(edges) < data.images[..., 0].numel() / 2
    index = trainer._pixels(400, torch.Generator().manual_seed(3)).tolist()
    assert all(pixel in edges for pixel in index[::4])
    assert sum(pixel in edges for pixel in index) < 250


def test_finer_levels_begin_as_nothing_and_come_into_use(chess):
    trainer = trainer_of(load_dataset(chess, downscale=2), first_levels=2)
    encoding = trainer.field.trunk.encoding
    first = encoding.spec.levels[2].offset
    assert float(encoding.table[first:].detach().abs().max()) == 0
    for _ in range(3):
        trainer.step(0.0)
    assert float(encoding.table[first:].detach().abs().max()) == 0
    assert float(encoding.table[:first].detach().abs().max()) > 1e-3
    for _ in range(3):
        trainer.step(0.9)
    assert float(encoding.table[first:].detach().abs().max()) > 0


@pytest.fixture
def small(monkeypatch):
    monkeypatch.setattr(neural_fields.fit.photographs, "surface_setup", small_surface)


def test_runs_repeat_and_go_on(chess, tmp_path, small):
    a = nf.fit.surface(chess, tmp_path / "a.nf", steps=30, downscale=2)
    b = nf.fit.surface(chess, tmp_path / "b.nf", steps=30, downscale=2)

    def stop(progress):
        if progress.moment.step == 12:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        nf.fit.surface(
            chess, tmp_path / "c.nf", steps=30, downscale=2, on_progress=stop, save_every=1e-9
        )
    c = nf.fit.surface(chess, tmp_path / "c.nf", steps=30, downscale=2, resume=True)
    for other in (b, c):
        for name, value in a.field.state_dict().items():
            assert torch.equal(value, other.field.state_dict()[name]), name
        assert torch.equal(a.field.occupancy, other.field.occupancy)
    assert float(c.field.width) < 0.01


def with_masks(folder, out, size=None):
    """The set with its alpha moved into mask files, and pictures over green."""
    out.mkdir()
    for split in ("train", "test"):
        listed = json.loads((folder / f"transforms_{split}.json").read_text())
        for frame in listed["frames"]:
            picture = Image.open(folder / f"{frame['file_path']}.png")
            name = frame["file_path"].replace("/", "_").strip("._")
            over = Image.new("RGB", picture.size, (20, 200, 20))
            over.paste(picture, mask=picture.getchannel("A"))
            over.save(out / f"{name}.png")
            mask = picture.getchannel("A").point(lambda value: 255 * (value > 127))
            (mask if size is None else mask.resize(size)).save(out / f"{name}_mask.png")
            frame.update(file_path=f"{name}.png", mask_path=f"{name}_mask.png")
        (out / f"transforms_{split}.json").write_text(json.dumps(listed))
    return out


def test_masks_of_the_object_are_its_alpha(chess, tmp_path, small):
    folder = with_masks(chess, tmp_path / "masked")
    data = load_dataset(folder, masks="object")
    assert data.masks is None
    assert data.protocol["alpha"] == "straight"
    whole = load_dataset(chess)
    _, found = data.image(3)
    _, alpha = whole.image(3)
    assert torch.equal(found > 0.5, alpha > 0.5)
    run = nf.fit.surface(folder, tmp_path / "a.nf", steps=20, masks="object")
    assert nf.evaluate(run.output, folder)["protocol"]["masks"] == "object"
    assert load_dataset(folder).masks is not None


def test_bad_masks_and_options_are_said_in_a_sentence(chess, tmp_path):
    folder = with_masks(chess, tmp_path / "wrong", size=(10, 12))
    with pytest.raises(InputError, match="64x64, got 10x12"):
        nf.fit.surface(folder, masks="object")
    with pytest.raises(InputError, match="have none"):
        nf.fit.surface(chess, masks="object")
    with pytest.raises(InputError, match="--masks"):
        nf.fit.surface(chess, masks="some")
    with pytest.raises(InputError, match="--density"):
        nf.fit.surface(chess, density="solid")
    with pytest.raises(InputError, match="slopes"):
        nf.fit.surface(chess, options={"slopes": "guessed"})
    with pytest.raises(InputError, match="final_width"):
        nf.fit.surface(chess, options={"final_width": 0.5})
