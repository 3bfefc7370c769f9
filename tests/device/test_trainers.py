"""Every trainer on a GPU that is emulated: the CPU's numbers, by CUDA's kernels, without a wait."""

import dataclasses

import pytest
import torch
from small_nf import small_dynamic, small_setup, small_surface

from device.conftest import small
from neural_fields import TrainingError, architectures
from neural_fields.data.mesh import Mesh
from neural_fields.fields import read_field_file
from neural_fields.fields.load import build_field
from neural_fields.training import presets
from neural_fields.training.budget import Budget
from neural_fields.training.checkpoint import Description, restore_run, write_run
from neural_fields.training.frames import FramesTrainer
from neural_fields.training.image import ImageTrainer
from neural_fields.training.ledger import EVERY
from neural_fields.training.loop import run_loop
from neural_fields.training.nerf import NerfTrainer
from neural_fields.training.radiance_step import kept_samples, shares
from neural_fields.training.sdf import MeshShape, SdfTrainer
from neural_fields.training.surface import SurfaceTrainer
from neural_fields.training.video import VideoTrainer

N_STEPS = EVERY + 4
FEW = {"batch_samples": 2048}


def radiance(data, device, architecture="hash", preset="default"):
    config, options = small(small_setup(data), **FEW)
    other = presets.radiance_setup(data, architecture, preset)[0].architecture
    if architecture != "hash":
        config = dataclasses.replace(config, architecture=other)
    return NerfTrainer(config, data, options, device=device)


def moving(data, device):
    return NerfTrainer(*few_of(small_dynamic(data), data), device=device)


def few_of(pair, data):
    config, options = small(pair, **FEW)
    return config, data, options


def surface(data, device, **changes):
    config, options = small(small_surface(data), places=64, **FEW, **changes)
    return SurfaceTrainer(config, data, options, device=device)


def shape(device, eikonal):
    corners = torch.tensor([[0, 0, 0], [1, 0, 0], [0, 1, 0], [0, 0, 1]], dtype=torch.float64)
    faces = torch.tensor([[0, 2, 1], [0, 1, 3], [0, 3, 2], [1, 2, 3]])
    mesh = Mesh(corners, faces, True, "mesh", "a tetrahedron", "fingerprint")
    config, options = presets.sdf_setup(mesh, "hash", "default")
    small_grid = dataclasses.replace(config.architecture, log2_table_size=12)
    config = dataclasses.replace(config, architecture=small_grid)
    options = dataclasses.replace(options, batch_points=256, pool=1024, eikonal=eikonal)
    return SdfTrainer(config, MeshShape(mesh), options, device=device)


def image(picture, device, architecture):
    config, options = presets.image_setup(picture, architecture, "default")
    return ImageTrainer(
        config, picture, dataclasses.replace(options, batch_pixels=128), device=device
    )


def frames(video, device):
    config, options = presets.frames_setup(video, "default", None, 32)
    return FramesTrainer(config, video, options, device=device)


def pyramid(video, device):
    config, options = presets.video_setup(video, "pyramid", "default", None)
    return VideoTrainer(
        config, video, dataclasses.replace(options, batch_pixels=256), device=device
    )


SCENES = {
    "hash": radiance,
    "vm": lambda data, device: radiance(data, device, "vm"),
    "rbf": lambda data, device: radiance(data, device, "rbf"),
    "cones": lambda data, device: radiance(data, device, "mlp", "ipe"),
    "dynamic": moving,
    "surface": surface,
    "surface by differences": lambda data, device: surface(data, device, slopes="numerical"),
}
SIGNALS = {
    "hash picture": lambda p, v, device: image(p, device, "hash"),
    "siren picture": lambda p, v, device: image(p, device, "siren"),
    "pyramid video": lambda p, v, device: pyramid(v, device),
    "frames": lambda p, v, device: frames(v, device),
    "shape": lambda p, v, device: shape(device, 0.0),
    "shape with slopes": lambda p, v, device: shape(device, 0.1),
}


def run_both(on_cpu, on_device, waits, n_equal, tolerance):
    """Steps of both; their first losses agree, and later ones are made without a wait."""
    for k in range(N_STEPS):
        del waits[:]
        ours = on_device.step(k / N_STEPS)
        noted = list(waits)
        if k < n_equal:
            theirs = on_cpu.step(k / N_STEPS)
            assert ours.loss == pytest.approx(theirs.loss, rel=tolerance), f"step {k}"
            assert ours.n_rays == theirs.n_rays
        if k > EVERY:
            assert noted == [], f"step {k}"
            assert ours.n_rays == 0  # and none is reported before the next look
    assert on_device.settle() == pytest.approx(ours.loss, rel=2)
    on_device.check_finite()
    assert on_device.n_samples > 0


@pytest.mark.parametrize("kind", SCENES)
def test_scenes(kind, photographs, waits):
    on_cpu, on_device = (SCENES[kind](photographs, device) for device in ("cpu", "emulated"))
    for trainer in (on_cpu, on_device):
        trainer.n_rays = 64  # so few that they all fit, on either
    run_both(on_cpu, on_device, waits, 1, 1e-4)
    field = on_device.averaged_field()
    assert field.occupancy.device.type == "emulated"


@pytest.mark.parametrize("kind", SIGNALS)
def test_pictures_videos_and_shapes(kind, picture, video, waits):
    make = SIGNALS[kind]
    on_cpu, on_device = (make(picture, video, device) for device in ("cpu", "emulated"))
    run_both(on_cpu, on_device, waits, 4, 1e-3)


@pytest.mark.parametrize("name", architectures.names())
def test_every_architecture_is_the_cpus(name, picture, photographs, waits):
    for make in (
        lambda device: image(picture, device, name),
        lambda device: radiance(photographs, device, name),
    ):
        on_cpu, on_device = make("cpu"), make("emulated")
        for trainer in (on_cpu, on_device):
            trainer.n_rays = 16  # of radiance fields
        assert on_device.step(0.0).loss == pytest.approx(on_cpu.step(0.0).loss, rel=1e-3)
        on_device.check_finite()


@pytest.mark.parametrize(
    ("modulate", "bits"),
    [("xyz", 32), ("direction", 32), ("direction-trunk", 32), ("camera", 32), ("none", 8)],
)
def test_modulation_and_rounded_weights(modulate, bits, photographs, waits):
    config, options = small(small_setup(photographs), **FEW)
    config = presets.with_choices(config, "float32", modulate, bits, len(photographs))
    on_cpu, on_device = (
        NerfTrainer(config, photographs, options, device=device) for device in ("cpu", "emulated")
    )
    on_cpu.n_rays = on_device.n_rays = 32
    assert on_device.step(0.0).loss == pytest.approx(on_cpu.step(0.0).loss, rel=1e-4)


def test_gradients_are_those_of_the_fused_step(photographs, waits):
    on_cpu, on_device = (radiance(photographs, device) for device in ("cpu", "emulated"))
    assert on_cpu.field.fused_spec() is not None
    assert on_device.field.fused_spec() is None
    for trainer in (on_cpu, on_device):
        trainer.n_rays = 64
        trainer._outcome(0.0)
    for name, state in on_cpu.state.adam.items():
        other = on_device.state.adam[name].grad.cpu()
        assert (state.grad - other).norm() < 1e-4 * state.grad.norm(), name


def test_samples_beyond_the_room_are_left_out_with_their_rays(photographs, waits):
    trainer = surface(photographs, "emulated")
    trainer.n_rays = 64
    step = trainer._surface_step
    whole = trainer._outcome(0.0)
    n_kept = int(whole.used[2])
    step.room = n_kept // 2
    cut = trainer._outcome(0.0)
    assert int(cut.used[2]) == n_kept  # what there should be room for
    assert cut.loss.isfinite()
    keep, offsets = torch.ones(6, dtype=torch.bool), torch.tensor([0, 2, 4, 6])
    kept = kept_samples(keep, offsets, 5)
    assert kept.fits.tolist() == [True, True, False]
    used = torch.tensor([3, 6])
    assert shares(used, 3, kept.fits).tolist() == [0.5, 0.5, 0]


def test_a_run_goes_on_from_its_checkpoint_on_another_device(photographs, waits, tmp_path):
    about = Description({}, {}, {"seed": 0, "training": {}, "fingerprint": ""})
    on_device = radiance(photographs, "emulated")
    for k in range(3):
        on_device.step(k / 8)
    on_device.settle()
    write_run(tmp_path / "a.nf", on_device, about, {}, resumable=True, seconds=1.0)
    on_cpu, again = radiance(photographs, "cpu"), radiance(photographs, "emulated")
    for trainer in (on_cpu, again):
        assert restore_run(tmp_path / "a.nf", trainer, about) == 1.0
        assert trainer.step_number == 3
        assert trainer.n_samples == on_device.n_samples
    first, second = (trainer.step(0.5).loss for trainer in (on_cpu, again))
    assert first == pytest.approx(second, rel=0.2)  # the CPU has room for more rays
    content = read_field_file(tmp_path / "a.nf")
    field, made = build_field(content, tmp_path / "a.nf"), on_device.averaged_field()
    for name, value in field.state_dict().items():
        assert torch.equal(value, made.state_dict()[name].cpu()), name


def test_a_loss_that_is_no_number_ends_a_run(photographs, waits):
    trainer = radiance(photographs, "emulated")
    for k in range(EVERY + 1):  # the next update of the grid is far: it would empty it
        trainer.step(k / 100)
    with torch.no_grad():
        trainer.field.trunk.mlp.params.fill_(torch.nan)
    saved = []
    with pytest.raises(TrainingError, match="is not finite"):
        run_loop(trainer, Budget(steps=EVERY + 4), save=saved.append, save_every_s=1e9)
    assert saved == []
