"""Fields to mesh files, and what is said about them."""

import dataclasses
import math
import sys

import numpy as np
import pytest
import torch
import trimesh
from torch import nn

import neural_fields as nf
from neural_fields import InputError
from neural_fields.architectures.hash import Hash
from neural_fields.data.mesh import load_mesh
from neural_fields.decoders import Modulate
from neural_fields.exporters import export_mesh
from neural_fields.exporters.components import components, without_small
from neural_fields.exporters.density import surface_level
from neural_fields.fields import (
    ImageConfig,
    ImageField,
    RadianceConfig,
    RadianceField,
    Samples,
    Sampling,
    SdfConfig,
    SdfField,
)
from neural_fields.rendering.cameras import Cameras
from neural_fields.rendering.marching import MARGIN

SMALL = Hash(log2_table_size=8, base_resolution=4, finest_resolution=32)
BOX = ((-1.0, -2.0, 3.0), (3.0, 1.0, 6.0))  # unit 2, around (1, -0.5, 4.5)
CENTER = np.array([1.0, -0.5, 4.5])
SUFFIXES = ("ply", "obj", "glb", "stl", "off")


class Analytic(nn.Module):
    """A trunk that is a function of positions in units from the box's middle."""

    sees_variances = False

    def __init__(self, values, n_output=1):
        super().__init__()
        self.values, self.n_output = values, n_output

    def forward(self, cube, *_):
        values = self.values(2 * cube - 1)
        return torch.nn.functional.pad(values[:, None], (0, self.n_output - 1))

    def fused(self):
        return None


def shape(values, box=BOX):
    field = SdfField(SdfConfig(box, SMALL))
    field.trunk = Analytic(values)
    return field


def ball(radius=0.6, box=BOX):
    return shape(lambda x: x.norm(dim=1) - radius, box)


def cuboid(x):
    """A box of 0.8 x 1 x 0.4 units, exactly."""
    beyond = x.abs() - torch.tensor([0.4, 0.5, 0.2])
    return beyond.clamp(min=0).norm(dim=1) + beyond.amax(1).clamp(max=0)


def scene(log_density, box=BOX, **changes):
    sampling = Sampling(resolution=16, step=0.004, max_step=0.004)
    field = RadianceField(RadianceConfig(box, SMALL, sampling=sampling, **changes))
    field.trunk = Analytic(log_density, 16)
    return field


def fog(radius=0.5, density=400.0):
    """A ball of one density per unit, its border a hundredth of a unit thick."""
    return lambda x: (
        math.log(density) + torch.nn.functional.logsigmoid(500 * (radius - x.norm(dim=1)))
    )


def cameras(n=3):
    return Cameras.orbit(CENTER.tolist(), 6.0, 20, n, width=16, height=12).to_json()


def read(path):
    (mesh,) = trimesh.load_scene(str(path), process=False).geometry.values()
    return mesh


# ---- distances -----------------------------------------------------------------------------------


@pytest.mark.parametrize("suffix", SUFFIXES)
def test_formats_read_back(suffix, tmp_path):
    path = tmp_path / f"a.{suffix}"
    report = export_mesh(ball(), path, resolution=32)
    assert [p.name for p in tmp_path.iterdir()] == [path.name]
    mesh = load_mesh(path)
    assert mesh.watertight
    assert len(mesh.faces) == report.faces == len(read(path).faces)
    assert len(mesh.vertices) == report.vertices
    assert np.abs(np.linalg.norm(mesh.vertices.numpy() - CENTER, axis=1) - 1.2).max() < 0.01
    lacking = any("neither colours nor" in note for note in report.notes)
    assert lacking == (suffix in ("stl", "off"))


def test_the_report(tmp_path):
    steps = []
    report = export_mesh(
        ball(), tmp_path / "a.ply", resolution=48, on_block=lambda *step: steps.append(step)
    )
    assert steps[-1][0] == steps[-1][1]
    assert (report.components, report.open_edges, report.euler) == (1, 0, 2)
    assert report.watertight
    assert report.resolution == 48
    assert report.level == 0
    assert report.notes == ()
    # A chord of 4 / 48 lies this far inside of a circle of radius 1.2; twice halved, a 16th of it.
    limit = (4 / 48) ** 2 / 8 / 1.2 / 16
    assert 0 < report.distance_to_zero < report.distance_to_zero_max < limit + MARGIN * 4 / 48
    assert dataclasses.asdict(report)["output"] == str(tmp_path / "a.ply")


def test_distances_are_those_to_the_field(tmp_path):
    field = shape(lambda x: (x.square().sum(1) - 0.36) * 7)  # no distance, and steep
    report = export_mesh(field, tmp_path / "a.ply", resolution=8)
    radii = np.linalg.norm(np.asarray(read(tmp_path / "a.ply").vertices) - CENTER, axis=1)
    assert 0 < report.distance_to_zero == pytest.approx(np.abs(radii - 1.2).mean(), rel=0.05)
    assert report.distance_to_zero_max == pytest.approx(np.abs(radii - 1.2).max(), rel=0.05)


@pytest.mark.parametrize("suffix", ["ply", "obj", "glb"])
def test_normals_are_the_field_s(suffix, tmp_path):
    export_mesh(ball(), tmp_path / f"a.{suffix}", resolution=24)
    mesh = read(tmp_path / f"a.{suffix}")
    assert "vertex_normals" in mesh._cache  # the file's own, not trimesh's mean of the faces'
    outward = np.asarray(mesh.vertices) - CENTER
    outward /= np.linalg.norm(outward, axis=1, keepdims=True)
    assert (np.asarray(mesh.vertex_normals) * outward).sum(1).min() > 1 - 1e-5


def similarity(scale=10.0, mirror=1.0):
    turn = np.array([[0.8, -0.6, 0.0], [0.6, 0.8, 0.0], [0.0, 0.0, mirror]])
    matrix = np.eye(4)
    matrix[:3, :3], matrix[:3, 3] = scale * turn, (100.0, -50.0, 7.0)
    return matrix


@pytest.mark.parametrize("mirror", [1.0, -1.0])
def test_known_sizes_come_back_in_the_input_s_frame(mirror, tmp_path):
    """0.8 x 1 x 0.4 units of 2 world lengths, which are 10 lengths of the input each."""
    matrix = similarity(mirror=mirror)
    field, kept = shape(cuboid), {"to_input": matrix.tolist()}
    report = export_mesh(field, tmp_path / "a.ply", resolution=100, scene=kept)
    mesh = read(tmp_path / "a.ply")
    assert mesh.volume == pytest.approx(16 * 20 * 8, rel=0.03)  # positive: still outward
    at_home = (np.asarray(mesh.vertices) - matrix[:3, 3]) @ np.linalg.inv(matrix[:3, :3]).T
    np.testing.assert_allclose(np.ptp(at_home, axis=0), [1.6, 2.0, 0.8], rtol=0.01)
    np.testing.assert_allclose(at_home.mean(0), CENTER, atol=0.01)
    normals = np.asarray(mesh.vertex_normals)
    np.testing.assert_allclose(np.linalg.norm(normals, axis=1), 1, atol=1e-5)
    flat = np.abs(normals @ matrix[:3, :3]).max(1) / 10
    assert np.median(flat) > 0.999  # most lie on a face, whose normal is an axis of the field's
    assert report.distance_to_zero < 0.5

    own = export_mesh(field, tmp_path / "b.ply", resolution=100, frame="field", scene=kept)
    at_home = np.asarray(read(tmp_path / "b.ply").vertices)
    np.testing.assert_allclose(np.ptp(at_home, axis=0), [1.6, 2.0, 0.8], rtol=0.01)
    assert own.distance_to_zero == pytest.approx(report.distance_to_zero / 10)


def test_thresholds_are_distances(tmp_path):
    report = export_mesh(ball(0.3), tmp_path / "a.ply", resolution=40, threshold=0.4)
    assert report.level == 0.4
    radii = np.linalg.norm(np.asarray(read(tmp_path / "a.ply").vertices) - CENTER, axis=1)
    assert np.abs(radii - 1.0).max() < 0.01


def test_what_the_box_cuts_is_closed_and_said(tmp_path):
    report = export_mesh(ball(0.9), tmp_path / "a.ply", resolution=40)
    assert report.watertight
    assert any("reaches the box" in note for note in report.notes)
    assert report.distance_to_zero_max < 0.01  # the walls are not counted
    mesh = read(tmp_path / "a.ply")
    low, high = np.array(BOX)
    assert (np.asarray(mesh.vertices) > low - 0.05).all()
    assert (np.asarray(mesh.vertices) < high + 0.05).all()
    wall = np.asarray(mesh.vertices)[:, 1] > 0.99  # of y = 1
    middle = wall & (np.abs(np.asarray(mesh.vertices) - CENTER)[:, [0, 2]].max(1) < 0.5)
    assert middle.any()
    np.testing.assert_allclose(np.asarray(mesh.vertex_normals)[middle, 1], 1, atol=1e-4)


def test_small_parts_of_distances_stay_unless_asked(tmp_path):
    def two(x):
        side = torch.tensor([0.6, 0.0, 0.0])
        return torch.minimum((x - side).norm(dim=1) - 0.3, (x + side).norm(dim=1) - 0.05)

    both = export_mesh(shape(two), tmp_path / "a.ply", resolution=64)
    assert (both.components, both.euler) == (2, 4)
    one = export_mesh(shape(two), tmp_path / "a.ply", resolution=64, min_volume=0.1)
    assert (one.components, one.euler) == (1, 2)
    assert any("left out 1 parts below 0.1" in note for note in one.notes)


def test_far_from_the_origin(tmp_path):
    box = tuple(tuple(x + 1e4 for x in corner) for corner in ((-1, -1, -1), (1, 1, 1)))
    report = export_mesh(ball(0.5, box), tmp_path / "a.ply", resolution=64)
    assert report.watertight
    assert any("keeps seven digits" in note for note in report.notes)


# ---- densities -----------------------------------------------------------------------------------


def test_densities_have_colours_and_a_stated_level(tmp_path):
    field = scene(fog(density=40.0))
    report = export_mesh(field, tmp_path / "a.ply", resolution=48, scene={"cameras": cameras()})
    assert report.level == pytest.approx(40 / 2 / 2, rel=0.05)  # half of it, per world length
    assert any("half of the median" in note for note in report.notes)
    assert (report.components, report.euler, report.watertight) == (1, 2, True)
    mesh = read(tmp_path / "a.ply")
    radii = np.linalg.norm(np.asarray(mesh.vertices) - CENTER, axis=1)
    assert np.abs(radii - 1.0).max() < 0.01
    assert report.distance_to_zero < 0.01
    positions, normals = (
        torch.tensor(np.asarray(x), dtype=torch.float32)
        for x in (mesh.vertices, mesh.vertex_normals)
    )
    expected = (field.color(positions, -normals) * 255).detach().numpy()
    assert np.abs(mesh.visual.vertex_colors[:, :3] - expected).max() < 2
    assert np.ptp(expected) > 3  # they differ by direction


def test_levels_without_cameras(tmp_path):
    field = scene(fog())
    level = math.log(2) / (0.01 * 2)
    assert surface_level(field, {})[0] == pytest.approx(level)
    assert "no training cameras" in surface_level(field, {})[1]
    empty = scene(lambda x: torch.full_like(x[:, 0], -5.0))
    found, how = surface_level(empty, {"cameras": cameras()})
    assert found == pytest.approx(level)
    assert "no training camera sees a surface" in how
    report = export_mesh(field, tmp_path / "a.obj", resolution=24)
    assert report.level == pytest.approx(level)
    assert export_mesh(field, tmp_path / "a.obj", resolution=24, threshold=7.0).level == 7


def test_half_way_is_where_half_of_the_light_is_gone():
    """Density grows along x from 0; half is gone where its integral is ln 2."""
    field = scene(lambda x: torch.log(100 * (x[:, 0] + 1).clamp(min=1e-6)))
    rays = Cameras.orbit(CENTER.tolist(), 1e4, 0, 1, focal=1e5, width=4, height=4)
    pose = rays.camera_to_world[0]
    pose[:3, :3] = torch.tensor([[0.0, 0, -1], [-1, 0, 0], [0, 1, 0]])  # looks along x
    pose[:3, 3] = torch.tensor([-1e3, *CENTER[1:]])
    level, _ = surface_level(field, {"cameras": rays.to_json()})
    depth = math.sqrt(2 * math.log(2) / 100)  # units
    assert level == pytest.approx(100 * depth / 2 / 2, rel=0.05)


def test_floaters_are_left_out(tmp_path):
    def with_floaters(x):
        side = torch.tensor([0.75, 0.5, 0.5])
        small = fog(0.04)
        parts = [fog()(x), small(x - side), small(x + side)]
        return torch.stack(parts).amax(0)

    field = scene(with_floaters)
    report = export_mesh(field, tmp_path / "a.ply", resolution=96)
    assert report.components == 1
    assert any("left out 2 parts below 0.001" in note for note in report.notes)
    everything = export_mesh(field, tmp_path / "a.ply", resolution=96, min_volume=0.0)
    assert everything.components == 3


# ---- parts ---------------------------------------------------------------------------------------


def test_components_of_long_and_shuffled_strips():
    generator = np.random.default_rng(1)
    strips = [np.arange(n)[:, None] + [0, 1, 2] + begin for n, begin in ((500, 0), (300, 600))]
    faces = np.concatenate(strips)
    number = generator.permutation(1000)
    faces = number[faces[generator.permutation(len(faces))]]
    found = components(faces, 1000)
    sizes = sorted(np.unique(found, return_counts=True)[1])
    assert sizes[-2:] == [302, 502]
    assert sum(sizes[:-2]) == len(sizes[:-2]) == 196  # vertices of no face
    assert (found <= np.arange(1000)).all()


def test_hollows_count_by_their_size():
    outer, inner = trimesh.creation.icosphere(2, 1.0), trimesh.creation.icosphere(2, 0.2)
    inner.invert()
    both = trimesh.util.concatenate([outer, inner])
    kept = without_small(np.array(both.vertices), np.array(both.faces), 0.5)
    assert (len(kept[0]), len(kept[1]), kept[2]) == (len(outer.vertices), len(outer.faces), 1)
    np.testing.assert_array_equal(kept[1], outer.faces)
    assert without_small(np.array(both.vertices), np.array(both.faces), 1e-3)[2] == 0


# ---- refusals ------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"resolution": 0}, "--resolution: needs a whole number from 2 to 2048, got 0"),
        ({"resolution": 10**6}, "--resolution: needs"),
        ({"threshold": math.nan}, "--threshold: needs a finite number"),
        ({"threshold": 9.0}, "values that pass 9 inside the box, got none"),
        ({"min_volume": -0.1}, "--min-volume: needs a number in"),
        ({"min_volume": 2.0}, "--min-volume: needs a number in"),
        ({"frame": "world"}, "--frame: needs input or field"),
        ({"scene": {"to_input": [[1, 0], [0, 1]]}}, "to_input needs four rows"),
        ({"scene": {"to_input": "none"}}, "to_input needs four rows"),
        ({"scene": {"to_input": np.diag([1, 2, 1, 1]).tolist()}}, "to_input needs four rows"),
    ],
)
def test_bad_options(options, message, tmp_path):
    with pytest.raises(InputError, match=message):
        export_mesh(ball(), tmp_path / "a.ply", **{"resolution": 16, **options})
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("a.xyz", "suffix: needs one of .ply, .obj, .glb, .stl, .off, got '.xyz'"),
        ("a", "suffix: needs one of"),
        ("none/a.ply", "does not exist; create it first"),
        (".", "got a folder"),
    ],
)
def test_bad_paths(name, message, tmp_path):
    with pytest.raises(InputError, match=message):
        export_mesh(ball(), tmp_path / name)


def test_fields_without_a_surface(tmp_path):
    with pytest.raises(InputError, match=r"needs a field with a surface.* got kind 'image'"):
        export_mesh(ImageField(ImageConfig(8, 8, architecture=SMALL)), tmp_path / "a.ply")
    modulated = RadianceField(
        RadianceConfig(BOX, SMALL, modulate=Modulate("direction-trunk", (4, 4)))
    )
    with pytest.raises(InputError, match=r"same from everywhere.*direction-trunk"):
        export_mesh(modulated, tmp_path / "a.ply")
    with pytest.raises(InputError, match="--threshold: needs a density above 0, got -1"):
        export_mesh(scene(fog()), tmp_path / "a.ply", threshold=-1.0)
    with pytest.raises(InputError, match="the field's own cameras"):
        export_mesh(scene(fog()), tmp_path / "a.ply", scene={"cameras": {"frames": []}})


def test_a_missing_package_is_named(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "trimesh", None)
    with pytest.raises(InputError, match=r"needs the package trimesh .*neural_fields\[mesh\]"):
        export_mesh(ball(), tmp_path / "a.ply")


def test_files_and_fields_alike(tmp_path):
    field = SdfField(SdfConfig(BOX, SMALL))
    with torch.no_grad():  # random, but it passes this level
        level = float(field.distance(Samples(torch.rand(500, 3) * 3 + CENTER[0] - 1)).median())
    nf.save(field, tmp_path / "a.nf", scene={"to_input": similarity().tolist()})
    report = nf.export(tmp_path / "a.nf", tmp_path / "a.ply", resolution=12, threshold=level)
    other = nf.export(field, tmp_path / "b.ply", resolution=12, threshold=level)
    assert (report.faces, report.watertight) == (other.faces, other.watertight)
    moved, own = (np.asarray(read(tmp_path / f"{name}.ply").vertices) for name in "ab")
    np.testing.assert_allclose(moved, own @ similarity()[:3, :3].T + similarity()[:3, 3], rtol=1e-4)
    with pytest.raises(InputError, match="there is none"):
        nf.export(tmp_path / "none.nf", tmp_path / "c.ply")
