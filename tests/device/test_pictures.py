"""What is rendered, scored, converted and exported of fields on an emulated GPU."""

import copy
import json
from dataclasses import replace

import pytest
import torch
from small_nf import small_setup

import neural_fields as nf
import neural_fields.fit
from neural_fields.architectures.hash import Hash
from neural_fields.architectures.mlp import Mlp
from neural_fields.architectures.vm import Vm
from neural_fields.cli.main import run
from neural_fields.data.dataset import load_dataset
from neural_fields.distill.options import DistillOptions
from neural_fields.distill.trainer import Distiller
from neural_fields.fields import (
    FieldFile,
    ImageConfig,
    ImageField,
    RadianceConfig,
    SdfConfig,
    SdfField,
)
from neural_fields.rendering.image import render_image
from neural_fields.rendering.occupancy import cell_centers
from neural_fields.rendering.orbits import around
from neural_fields.rendering.seen import MODES, seen_by_camera
from neural_fields.rendering.surface import render_surface
from neural_fields.rendering.volume import render_rays
from neural_fields.training.checkpoint import Description, write_run
from neural_fields.training.evaluate import evaluate
from neural_fields.training.ledger import EVERY
from neural_fields.training.nerf import NerfTrainer
from neural_fields.training.run import device_of_field
from neural_fields.viewer.overlays import Overlays
from neural_fields.viewer.shown import Look, Rays, camera_of, shown

SMALL = Hash(log2_table_size=10, n_levels=4)


@pytest.fixture(scope="module")
def field(photographs):
    config, options = small_setup(photographs)
    trainer = NerfTrainer(config, photographs, options)
    for k in range(40):
        trainer.step(k / 40)
    return trainer.averaged_field()


def moved(field):
    return copy.deepcopy(field).to("emulated")


@pytest.mark.parametrize("mode", MODES)
def test_pictures_are_the_cpus(mode, field, photographs, waits):
    white = torch.ones(3)
    ours, theirs = (
        seen_by_camera(each, photographs.cameras, 1, mode=mode, background=white)
        for each in (moved(field), field)
    )
    assert ours.device.type == "cpu"
    assert (ours - theirs).abs().mean() < 1e-5


def test_rays_of_a_device_stay_there(field, photographs, waits):
    rays = photographs.cameras.image_rays(0)
    there = render_rays(moved(field), *(part.to("emulated") for part in rays))
    here = render_rays(field, *rays)
    for ours, theirs in zip(there, here, strict=True):
        assert ours.device.type == "emulated"
        assert (ours.cpu() - theirs).abs().max() < 1e-4


def test_scores_are_the_cpus(field, scene_folder, waits):
    test = load_dataset(scene_folder, "test", 1, "white", aabb=field.config.box)
    assert evaluate(moved(field), test)["psnr"] == pytest.approx(evaluate(field, test)["psnr"])


def test_pictures_of_shapes_and_images(waits):
    shape = SdfField(SdfConfig(architecture=SMALL), seed=3)
    with torch.no_grad():
        shape.trunk.encoding.table.mul_(1e3)
    cameras = around(shape, 1, size=24)
    ours, theirs = (render_surface(each, cameras) for each in (moved(shape), shape))
    assert (ours[0].depth - theirs[0].depth).abs().max() < 1e-3
    assert (ours[1] - theirs[1]).abs().mean() < 1e-2
    image = ImageField(ImageConfig(32, 24, architecture=SMALL), seed=3)
    assert (render_image(moved(image), 16, 12) - render_image(image, 16, 12)).abs().max() < 1e-5


STUDENTS = {
    "hash": (SMALL, {}),
    "vm": (Vm(resolution=16, first_rank=4, rank=8), {"hard_points": True}),
    "mlp": (Mlp(4, (16, 16)), {"hard_rays": True}),
}


@pytest.mark.parametrize("to", STUDENTS)
def test_conversions_learn_the_same(to, field, photographs, waits):
    made, active = STUDENTS[to]
    config = RadianceConfig(
        box=field.config.box,
        architecture=made,
        head=field.config.head,
        sampling=field.config.sampling,
    )
    options = DistillOptions(batch_samples=1024, n_rays=128, n_cameras=20, n_epochs=1, **active)
    runs = [Distiller(each, config, photographs.cameras, options) for each in (field, moved(field))]
    for k in range(EVERY + 4):
        del waits[:]
        progress = 0.4 + 0.5 * k / (EVERY + 4)
        ours = runs[1].step(progress)
        noted = list(waits)
        if k < 2:
            theirs = runs[0].step(progress)
            assert ours.loss == pytest.approx(theirs.loss, rel=2e-3)
        if k > EVERY and not active.get("hard_rays"):  # their pool is the host's
            assert noted == []
    runs[1].settle()
    runs[1].check_finite()


def test_shapes_and_pictures_convert(waits):
    shape = SdfField(SdfConfig(architecture=SMALL), seed=3)
    with torch.no_grad():
        shape.trunk.encoding.table.mul_(1e3)
    image = ImageField(ImageConfig(32, 24, architecture=SMALL), seed=3)
    options = {"sdf": {"batch_points": 256, "pool": 1024}, "image": {"batch_pixels": 128}}
    for field in (shape, image):
        for teacher in (field, moved(field)):
            made = nf.convert(
                teacher, to=SMALL, steps=3, device="emulated", options=options[field.kind]
            )
            assert made.run.summary["device"] == "emulated"
            assert made.run.field.n_params == field.n_params


def test_networks_of_bfloat16_stay_on_the_cpu(photographs, tmp_path, scene_folder, waits):
    config, options = small_setup(photographs)
    trainer = NerfTrainer(replace(config, precision="bf16"), photographs, options)
    about = Description({}, dict(photographs.protocol), {})
    write_run(tmp_path / "a.nf", trainer, about, {}, resumable=False, seconds=0.0)
    field = nf.load(tmp_path / "a.nf")
    assert device_of_field("auto", field) == torch.device("cpu")
    message = "--device emulated: needs networks of float32; those of bf16 are computed on the CPU"
    for call in (
        lambda: nf.evaluate(tmp_path / "a.nf", scene_folder, device="emulated"),
        lambda: nf.convert(tmp_path / "a.nf", to=SMALL, steps=1, device="emulated"),
        lambda: neural_fields.fit.nerf(scene_folder, precision="bf16", steps=1, device="emulated"),
    ):
        with pytest.raises(nf.InputError, match=message):
            call()


def test_commands(scene_folder, tmp_path, waits, monkeypatch, capsys):
    monkeypatch.setattr(neural_fields.fit.photographs, "radiance_setup", small_setup)
    made, device = tmp_path / "a.nf", ["--device", "emulated"]

    def call(*arguments):
        assert run([str(argument) for argument in arguments]) == 0
        return capsys.readouterr().out

    fitted = call("fit", "nerf", scene_folder, "-o", made, "--steps", 20, "--json", "-", *device)
    assert json.loads(fitted)["device"] == "emulated"
    scored = call("eval", made, "--data", scene_folder, "--json", "-", *device)
    assert json.loads(scored)["psnr"] == pytest.approx(nf.evaluate(made, scene_folder)["psnr"])
    call("render", made, "--orbit", 2, "-o", tmp_path / "views", "--size", "16x16", *device)
    assert len(list((tmp_path / "views").iterdir())) == 2
    student = tmp_path / "b.nf"
    call("convert", made, "--to", "vm", "-o", student, "--steps", 2, *device)
    assert student.is_file()


def test_the_viewer_shows_what_it_shows_on_the_cpu(field, scene_folder, waits):
    data = load_dataset(scene_folder, "train", 1, "white", aabb=field.config.box)
    content = FieldFile("radiance", {}, {}, scene={"cameras": data.cameras.to_json()})
    here, there = (shown(each, content, data) for each in (field, moved(field)))
    camera = camera_of(here.start, 24, 16)
    origins, directions = camera.image_rays(0)
    rays = Rays(origins, directions, camera.pixel_widths(torch.zeros(len(origins)).long()))
    assert set(here.modes) == set(there.modes) == {*MODES, "error"}
    for mode in here.modes:
        ours, theirs = there.pixels(rays, Look(mode=mode)), here.pixels(rays, Look(mode=mode))
        assert ours.device.type == "cpu"
        # An error is grey or not, as depths of two renderings say.
        assert (ours - theirs).abs().mean() < (0.02 if mode == "error" else 1e-3), mode
    clouds = []

    class Scene:
        def add_point_cloud(self, name, points, **_):
            clouds.append(points)

    class Client:
        scene = Scene()

    for each in (here, there):
        overlays = Overlays(Client(), print)
        overlays.show_cells(each)
    assert (clouds[0] == clouds[1]).all()


def test_meshes_of_a_field_on_a_device(field, tmp_path, waits):
    level = float(field.density(cell_centers(field)).detach().max()) / 2
    reports = [
        nf.export(each, tmp_path / f"{name}.ply", resolution=24, threshold=level)
        for name, each in (("here", field), ("there", moved(field)))
    ]
    assert (tmp_path / "here.ply").read_bytes() == (tmp_path / "there.ply").read_bytes()
    assert reports[0].vertices == reports[1].vertices
