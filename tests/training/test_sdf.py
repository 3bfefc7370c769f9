"""Signed distance fields that learn small shapes, and their scores."""

import math
import os
import signal

import numpy as np
import pytest
import torch
import trimesh

import neural_fields as nf
from neural_fields import InputError, architectures
from neural_fields.architectures.hash import Hash
from neural_fields.architectures.rbf import HashSizes, Rbf
from neural_fields.architectures.siren import Siren
from neural_fields.data.mesh import load_mesh, mesh_of
from neural_fields.fields import Samples, SdfConfig, SdfField, read_field_file
from neural_fields.fields.load import load
from neural_fields.training.evaluate_sdf import compare_surfaces, evaluate_sdf, iou

SMALL = {"batch_points": 4096, "pool": 1 << 16}
GRID = HashSizes("hash", 8, 2, 14, finest_resolution=128)


def ball(radius=1.0, center=(0, 0, 0), subdivisions=4):
    mesh = trimesh.creation.icosphere(subdivisions=subdivisions, radius=radius)
    return mesh_of(np.asarray(mesh.vertices) + center, np.asarray(mesh.faces), "a ball")


class Ball(torch.nn.Module):
    """An SDF that is exact: a sphere of this radius, in units, around the cube's middle."""

    def __init__(self, radius):
        super().__init__()
        self.radius = radius

    def forward(self, cube):
        return ((cube - 0.5) * 2).norm(dim=1, keepdim=True) - self.radius


def exact(radius, box=1.25):
    corner = (box,) * 3
    field = SdfField(SdfConfig((tuple(-x for x in corner), corner)))
    field.trunk = Ball(radius / box)
    return field


# ---- scores --------------------------------------------------------------------------------------


def test_scores_of_a_sphere_that_is_too_small():
    scores = evaluate_sdf(exact(0.9), ball(), resolution=96)
    assert scores["iou"] == pytest.approx(0.9**3, abs=0.006)  # facets lie inside the sphere
    assert scores["chamfer"] == pytest.approx(0.1 / (2 * math.sqrt(3)), rel=0.02)
    assert scores["normal_error_deg"] < 3
    assert scores["f_score"] == 0


def test_scores_of_the_same_sphere():
    scores = evaluate_sdf(exact(1.0), ball(subdivisions=5), resolution=128)
    assert scores["iou"] > 0.998
    assert scores["chamfer"] < 3e-4
    assert scores["normal_error_deg"] < 2
    assert scores["f_score"] > 0.999
    assert scores["n_points"] == 1 << 21


def test_a_surface_compared_with_itself_and_with_its_inside_out():
    one = ball()
    scores = compare_surfaces(one, one, n=10_000)
    assert scores.chamfer < 1e-6
    assert scores.normal_error_deg < 0.1
    assert scores.f_score == 1
    turned = mesh_of(one.vertices.numpy(), one.faces.numpy()[:, ::-1], "turned")
    assert compare_surfaces(turned, one, n=10_000).normal_error_deg > 179


def test_a_field_without_a_surface_scores_nothing():
    field = exact(-0.5)
    scores = evaluate_sdf(field, ball(), resolution=32)
    assert scores["iou"] == 0
    assert math.isnan(scores["chamfer"])
    assert iou(exact(2.0), ball(), n=1000) == pytest.approx(math.pi / 6, abs=0.05)


# ---- learning ------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", architectures.names())
def test_every_architecture_learns_a_ball(name, tmp_path):
    shape = ball(radius=3.0, center=(10, 0, -4))
    sized = architectures.get(name).sized(architectures.Target("sdf", 3, 64))
    if name == "rbf":
        sized = Rbf(GRID)
    nf.fit.sdf(shape, tmp_path / "a.nf", field=sized, steps=200, options=SMALL)
    field = load(tmp_path / "a.nf")
    assert field.kind == "sdf"
    assert field.architecture == name
    # A grid without anything behind it has seen each vertex a dozen times, wavelets learn slowly.
    assert iou(field, shape, n=1 << 16) > (0.7 if name in ("voxels", "wire") else 0.95)
    positions = torch.tensor([[10.0, 0.0, -4.0], [10.0, 3.0, -4.0]])
    middle, on = field.distance(Samples(positions)).tolist()
    assert middle < -0.5  # world units
    assert abs(on) < 0.5


def test_neurons_behind_a_grid_learn_a_sphere_to_a_hundredth(tmp_path):
    shape = ball()
    run = nf.fit.sdf(shape, field=Rbf(GRID), steps=400, options=SMALL)
    assert iou(run.field, shape, n=1 << 17) > 0.99
    assert run.summary["train_samples"] == 400 * 4096
    assert run.summary["kind"] == "sdf"


@pytest.mark.parametrize("field", [Rbf(GRID), Hash(8, 2, 14, finest_resolution=128)])
def test_steps_repeat_and_resume_bit_for_bit(field, tmp_path):
    shape, options = ball(subdivisions=2), {**SMALL, "pool": 1 << 13}

    def stop(progress):
        if progress.moment.step == 117:  # behind the start of the neurons
            os.kill(os.getpid(), signal.SIGINT)

    def fit(name, **more):
        path = tmp_path / f"{name}.nf"
        return nf.fit.sdf(shape, path, field=field, steps=140, options=options, **more)

    fit("a"), fit("b")
    assert fit("c", on_progress=stop).interrupted
    fit("c", resume=True)
    files = [read_field_file(tmp_path / f"{name}.nf").tensors for name in "abc"]
    for other in files[1:]:
        for name, value in files[0].items():
            assert torch.equal(value, other[name]), name


@pytest.mark.parametrize(
    ("field", "steps", "truer"),
    [(Rbf(GRID), 200, 1.5), (Siren(hidden=(64, 64)), 600, 1.2)],
    ids=["rbf", "siren"],
)
def test_the_eikonal_term_brings_slopes_to_one(field, steps, truer):
    shape = ball(subdivisions=3)
    errors = []
    for more in ({}, {"eikonal": 0.02}):
        run = nf.fit.sdf(shape, field=field, steps=steps, options={**SMALL, **more})
        low, high = torch.tensor(run.field.config.box)
        positions = low + torch.rand(4000, 3) * (high - low)
        positions.requires_grad_()
        distance = run.field.distance(Samples(positions)).sum()
        (slope,) = torch.autograd.grad(distance, positions)
        errors.append(float((slope.norm(dim=1) - 1).abs().mean()))
    assert errors[1] < errors[0] / truer
    assert iou(run.field, shape, n=1 << 16) > 0.97


def test_positions_outside_take_the_nearest_place_of_the_box():
    field = exact(1.0)
    far = field.distance(Samples(torch.tensor([[9.0, 0.0, 0.0], [1.25, 0.0, 0.0]])))
    assert far[0] == far[1]


def test_a_mesh_of_another_kind_of_data_is_refused(tmp_path):
    nf.save(SdfField(SdfConfig(architecture=Rbf(GRID))), tmp_path / "a.nf")
    from neural_fields.data.picture import Picture

    picture = Picture.__new__(Picture)
    with pytest.raises(InputError, match="is of kind sdf; it needs the mesh, got a picture"):
        nf.evaluate(tmp_path / "a.nf", picture)


def test_shared_shapes_load_as_described(shared_data):
    expected = {"armadillo": True, "rocker-arm": True, "spot": True, "stanford-bunny": False}
    for name, watertight in expected.items():
        assert load_mesh(shared_data(f"sdf/{name}.obj")).watertight == watertight
