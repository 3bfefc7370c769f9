"""Any field into any other, in Python."""

import io
import json
import os
import signal
from pathlib import Path

import numpy as np
import pytest
import torch
import trimesh
from PIL import Image

import neural_fields as nf
from neural_fields import InputError, architectures, distill
from neural_fields.architectures.hash import Hash
from neural_fields.architectures.mlp import Mlp
from neural_fields.architectures.rbf import HashSizes, Rbf
from neural_fields.architectures.siren import Siren
from neural_fields.architectures.voxels import Voxels
from neural_fields.data.mesh import mesh_of
from neural_fields.distill import report, setup
from neural_fields.distill.shape import FieldShape
from neural_fields.fields import (
    ImageConfig,
    ImageField,
    RadianceConfig,
    RadianceField,
    Sampling,
    SdfConfig,
    SdfField,
    read_field_file,
)
from neural_fields.training.sdf import Pool

SMALL_HASH = Hash(log2_table_size=12, base_resolution=8, finest_resolution=64, hidden=(32,))


@pytest.fixture(autouse=True)
def small_reports(monkeypatch):
    monkeypatch.setattr(report, "LARGEST", 64)


@pytest.fixture(scope="module")
def ball(tmp_path_factory):
    """A shape field of a ball of radius 1."""
    solid = trimesh.creation.icosphere(subdivisions=3)
    mesh = mesh_of(np.asarray(solid.vertices), np.asarray(solid.faces), "ball")
    path = tmp_path_factory.mktemp("ball") / "ball.nf"
    options = {"batch_points": 8192, "pool": 1 << 15}
    nf.fit.sdf(mesh, path, field=SMALL_HASH, steps=300, options=options)
    return path


@pytest.fixture(scope="module")
def rings(tmp_path_factory):
    """A picture field of rings."""
    y, x = np.mgrid[:64, :80] / 64
    values = np.sin(40 * ((x - 0.3) ** 2 + (y - 0.4) ** 2)) * 0.5 + 0.5
    folder = tmp_path_factory.mktemp("rings")
    Image.fromarray((values * 255).astype(np.uint8)).save(folder / "rings.png")
    nf.fit.image(folder / "rings.png", folder / "rings.nf", field=SMALL_HASH, steps=200)
    return folder / "rings.nf"


def test_a_shape_into_neurons(ball, tmp_path):
    small = Rbf(HashSizes(n_levels=8, log2_table_size=12, finest_resolution=64))
    options = {"batch_points": 8192, "pool": 1 << 15}
    found = nf.convert(ball, tmp_path / "rbf.nf", to=small, steps=200, options=options)
    assert found.summary["iou_student_vs_teacher"] > 0.95
    assert found.summary["distance_error"] < 0.07
    assert found.summary["architecture"] == "rbf"
    assert found.summary["bytes"] == (tmp_path / "rbf.nf").stat().st_size
    assert nf.load(tmp_path / "rbf.nf").architecture == "rbf"


def test_points_on_the_surface_of_a_field(ball):
    shape = FieldShape(nf.load(ball))
    points = shape.surface(2000, torch.Generator().manual_seed(1))
    assert points.shape == (2000, 3)
    assert (points.norm(dim=1) - 1).abs().max() < 0.02
    pool = Pool(shape, SdfField(SdfConfig(box=((-1.2,) * 3, (1.2,) * 3))), 512, 0)
    positions, values = pool.draw((100, 100, 100), 1)
    assert (values[:100] == 0).all()
    world = (positions[100:200] - 0.5) * 2.4
    torch.testing.assert_close(values[100:200] * 1.2, world.norm(dim=1) - 1, atol=0.03, rtol=0)


def test_a_field_without_a_surface_is_refused():
    shape = FieldShape(SdfField(SdfConfig(architecture=Siren(hidden=(8,)))))
    shape._field.distance = lambda samples: samples.positions[:, 0] * 0 + 3.0
    with pytest.raises(InputError, match="the teacher: has hardly any surface inside its box"):
        shape.surface(10, torch.Generator().manual_seed(1))


def test_a_picture_into_another_architecture(rings, tmp_path):
    found = nf.convert(rings, tmp_path / "s.nf", to=Voxels(80, 0), steps=60)
    assert found.summary["psnr_student_vs_teacher"] > 30
    assert found.summary["psnr_teacher"] is None
    data = nf.api.load_picture(rings.with_suffix(".png"))
    scored = nf.convert(rings, None, to=Siren(hidden=(64, 64)), steps=20, data=data)
    assert scored.summary["psnr_teacher"] > 30
    assert scored.summary["psnr_student"] < scored.summary["psnr_teacher"]


def test_the_report_is_in_the_file(rings, tmp_path):
    path = tmp_path / "s.nf"
    found = nf.convert(rings, path, to=Siren(hidden=(32,)), steps=20)
    content = read_field_file(path)
    kept = content.metrics["conversion"]
    said = {key: value for key, value in found.summary.items() if key not in ("student", "output")}
    assert kept == json.loads(json.dumps(said))
    assert kept["bytes"] == path.stat().st_size
    assert kept["pixels_per_s"]["teacher"] > 0
    picture = np.array(Image.open(io.BytesIO(content.tensors["comparison"].numpy())))
    assert picture.shape == (64, 3 * 80, 3)
    torch.testing.assert_close(
        torch.from_numpy(picture).float() / 255, found.report.picture, atol=1 / 255, rtol=0
    )
    assert content.provenance["teacher"] == str(rings)


def test_runs_repeat_and_go_on(rings, tmp_path):
    def fit(name, **more):
        path = tmp_path / f"{name}.nf"
        return nf.convert(rings, path, to=Siren(hidden=(16,)), steps=40, **more)

    def stop(progress):
        if progress.moment.step == 15:
            os.kill(os.getpid(), signal.SIGINT)

    a, b = fit("a"), fit("b")
    c = fit("c", on_progress=stop)
    assert c.run.interrupted
    assert nf.load(tmp_path / "c.nf").n_params == a.run.field.n_params  # usable
    d = fit("c", resume=True)
    for other in (b, d):
        for x, y in zip(a.run.field.parameters(), other.run.field.parameters(), strict=True):
            assert torch.equal(x, y)


def test_resuming_with_another_teacher_is_refused(rings, tmp_path):
    path = tmp_path / "a.nf"
    nf.convert(rings, path, to=Siren(hidden=(16,)), steps=5)
    other = ImageField(nf.load(rings).config, seed=9)
    nf.save(other, tmp_path / "other.nf", protocol=read_field_file(rings).protocol)
    with pytest.raises(InputError, match="was made with another data"):
        nf.convert(tmp_path / "other.nf", path, to=Siren(hidden=(16,)), steps=5, resume=True)


SCENE = RadianceConfig(
    architecture=Voxels(16, 1), sampling=Sampling(step=0.3, max_step=0.3, resolution=16)
)


def bright():
    """A scene of voxels with density and a colour that no untrained field has."""
    field = RadianceField(SCENE, 1)
    with torch.no_grad():
        field.trunk.grid[:, 0] += 1.5
        field.trunk.grid[:, 1] -= 2.0
    return field


@pytest.mark.parametrize("name", architectures.names())
def test_every_architecture_is_student_and_teacher(name):
    """Of scenes without cameras, and without data."""
    options = {"batch_samples": 1024, "n_rays": 64, "features_until": 0.0, "points_until": 0.0}
    teacher, psnr = bright(), []
    for steps in (1, 64):  # averages begin to move at step 16
        found = nf.convert(teacher, to=name, steps=steps, options=options)
        psnr.append(found.summary["psnr_student_vs_teacher"])
    assert psnr[1] > min(psnr[0] + 2, 50)  # voxels begin with all that there is
    assert found.run.field.architecture == name
    assert found.summary["teacher"] == "a field of voxels"
    back = [
        nf.convert(found.run.field, to=SMALL_HASH, steps=steps, options=options)
        for steps in (1, 64)
    ]
    psnr = [conversion.summary["psnr_student_vs_teacher"] for conversion in back]
    assert psnr[1] > psnr[0] + 2


@pytest.mark.parametrize("modulate", ["xyz", "direction", "direction-trunk", "camera"])
def test_modulated_networks_are_students_and_teachers(modulate):
    options = {"batch_samples": 1024, "n_rays": 64}
    made = nf.convert(
        RadianceField(SCENE, 1), to=Mlp(hidden=(32,)), modulate=modulate, steps=1, options=options
    )
    assert made.run.field.modulation is not None
    back = nf.convert(made.run.field, to=SMALL_HASH, steps=1, options=options)
    assert back.summary["psnr_student_vs_teacher"] > 0


def test_what_cannot_be_converted(rings, ball):
    with pytest.raises(InputError, match="--method pvd-al: needs a radiance field, got kind image"):
        nf.convert(rings, to="siren", method="pvd-al")
    with pytest.raises(InputError, match="--method: needs one of pvd, pvd-al, got 'pdv'"):
        nf.convert(rings, to="siren", method="pdv")
    with pytest.raises(InputError, match="--modulate: an SDF needs xyz, got direction"):
        nf.convert(ball, to="siren", modulate="direction")
    field = RadianceField(RadianceConfig(architecture=Voxels(16, 1)), 1)
    with pytest.raises(InputError, match="options: start needs a word, got 3"):
        nf.convert(field, to="voxels", options={"start": 3})


def test_ends_are_checked_before_any_work(rings, tmp_path):
    with pytest.raises(InputError, match="would overwrite the teacher"):
        nf.convert(rings, rings, to="siren", steps=1)
    checkpoint = tmp_path / "a.ckpt.nf"
    checkpoint.write_bytes(rings.read_bytes())
    with pytest.raises(InputError, match="would overwrite the teacher"):
        nf.convert(checkpoint, tmp_path / "a.nf", to="siren", steps=1)
    with pytest.raises(InputError, match="kind image needs a Picture, got str"):
        nf.convert(rings, to="siren", steps=1, data="rings.png")
    field = RadianceField(SCENE, 1)
    with pytest.raises(InputError, match=r"--preset paper: needs --to one of .*vm.*, got cp"):
        nf.convert(field, to="cp", preset="paper", steps=1)
    field.occupancy.zero_()
    with pytest.raises(InputError, match="has no occupied cells"):
        nf.convert(field, to="vm", steps=1)


def test_equal_pictures_have_no_finite_psnr(rings, tmp_path, monkeypatch):
    monkeypatch.setattr(report, "psnr", lambda *_: float("inf"))
    path = tmp_path / "s.nf"
    found = nf.convert(rings, path, to=Siren(hidden=(8,)), steps=2)
    assert found.summary["psnr_student_vs_teacher"] == float("inf")
    assert read_field_file(path).metrics["conversion"]["psnr_student_vs_teacher"] is None


def test_the_preset_paper_keeps_the_published_steps():
    cameras = setup.scene_cameras({}, RadianceField(SCENE, None))
    for method, first, second in (("pvd", 2000, 5000), ("pvd-al", 0, 0)):
        _, options = setup.radiance_student(
            SCENE, cameras, "vm", preset="paper", method=method, steps=10_000
        )
        assert round(options.features_until * 10_000) == first
        assert round(options.points_until * 10_000) == second
        assert options.feature_weight(138 / 10_000) == pytest.approx(0.001)
    _, options = setup.radiance_student(SCENE, cameras, "mlp", preset="paper")
    assert options.learning_rate * options.final_rate == pytest.approx(7e-5)


def test_comparing_needs_two_of_a_kind(rings, ball):
    with pytest.raises(TypeError, match="two fields of one kind"):
        distill.compare(nf.load(rings), nf.load(ball))


def test_eight_bits(rings, tmp_path):
    path = tmp_path / "small.nf"
    large = nf.convert(rings, Path(tmp_path / "l.nf"), to=Siren(hidden=(64, 64)), steps=30)
    small = nf.convert(rings, path, to=Siren(hidden=(64, 64)), steps=30, bits=8)
    assert small.summary["bytes"] < large.summary["bytes"] - 2 * small.summary["params"]
    assert isinstance(nf.load(path), ImageField)
    assert isinstance(nf.load(path).config, ImageConfig)
