"""Meshes and point clouds from files, and distances to them."""

import numpy as np
import pytest
import torch
import trimesh

from neural_fields import InputError
from neural_fields.data.distance import Distances
from neural_fields.data.mesh import load_mesh, mesh_of

SPHERE = trimesh.creation.icosphere(subdivisions=3)


def ball(path, **places):
    mesh = SPHERE.copy()
    mesh.apply_scale(places.get("scale", 1.0))
    mesh.apply_translation(places.get("shift", (0, 0, 0)))
    mesh.export(path)
    return path


@pytest.mark.parametrize("suffix", ["obj", "ply", "stl", "glb", "off"])
def test_every_format_gives_the_same_triangles(suffix, tmp_path):
    mesh = load_mesh(ball(tmp_path / f"a.{suffix}", shift=(3, -2, 10), scale=5.0))
    assert len(mesh.faces) == 1280
    assert len(mesh.vertices) == 642  # those of STL are merged
    assert mesh.watertight
    torch.testing.assert_close(mesh.box.mean(0).float(), torch.tensor([3.0, -2.0, 10.0]))
    assert float(mesh.areas.sum()) == pytest.approx(SPHERE.area * 25, rel=1e-4)
    outward = (mesh.normals * (mesh.vertices[mesh.faces].mean(1) - mesh.box.mean(0))).sum(1)
    assert outward.min() > 0


def test_vertices_at_the_same_place_are_one_and_flat_faces_are_none():
    corners = np.array([[0, 0, 0], [1, 0, 0], [0, 1, 0], [0, 0, 1.0]])
    faces = np.array([[0, 2, 1], [0, 1, 3], [1, 2, 3], [2, 0, 3]])
    split = corners[faces].reshape(-1, 3)  # every face its own vertices
    soup = np.arange(12).reshape(-1, 3)
    assert mesh_of(split, soup, "a").watertight
    with_flat = np.concatenate([soup, [[0, 0, 1], [3, 4, 4]]])
    mesh = mesh_of(split, with_flat, "a")
    assert len(mesh.faces) == 4
    assert mesh.watertight
    assert not mesh_of(corners, faces[:3], "a").watertight
    flipped = np.concatenate([faces[:3], faces[3:, ::-1]])
    assert not mesh_of(corners, flipped, "a").watertight


def test_points_of_the_surface_are_uniform_and_on_it():
    mesh = mesh_of(np.asarray(SPHERE.vertices), np.asarray(SPHERE.faces), "a")
    positions, face = mesh.surface(20_000, torch.Generator().manual_seed(1))
    corners = mesh.vertices[mesh.faces[face]]
    height = ((positions - corners[:, 0]) * mesh.normals[face]).sum(1)
    assert height.abs().max() < 1e-9
    assert positions.mean(0).abs().max() < 0.02
    up = (positions[:, 2] > 0.5).double().mean()  # a cap of height 1/2 has a quarter of the area
    assert float(up) == pytest.approx(0.25, abs=0.02)


@pytest.mark.parametrize("place", [{}, {"scale": 1e-3}, {"scale": 50.0, "shift": (1e4, 0, 2e4)}])
def test_distances_are_those_of_a_sphere(place, tmp_path):
    mesh = load_mesh(ball(tmp_path / "a.ply", **place))
    scale = place.get("scale", 1.0)
    shift = torch.tensor(place.get("shift", (0, 0, 0)), dtype=torch.float64)
    local = torch.rand(5000, 3, generator=torch.Generator().manual_seed(1)).double() * 3 - 1.5
    distances = Distances(mesh)
    world = local * scale + shift
    expected = (local.norm(dim=1) - 1).float()
    # Facets lie up to 0.6 % inside the sphere; far from the origin float32 files lose digits.
    signed = distances.signed(world) / scale
    assert (signed - expected).abs().max() < 0.01
    clear = expected.abs() > 0.01
    assert torch.equal(distances.inside(world)[clear], expected[clear] < 0)
    assert torch.equal((signed < 0)[clear], expected[clear] < 0)
    away, face = distances.nearest(world)
    torch.testing.assert_close((away / scale).float(), signed.abs(), rtol=1e-3, atol=1e-4)
    toward = torch.nn.functional.normalize(local, dim=1)
    assert ((mesh.normals[face] * toward).sum(1) > 0.97).all()
    assert distances.signed(world[:0]).shape == (0,)


def test_a_shape_with_a_hole_still_has_an_inside():
    open_ball = mesh_of(np.asarray(SPHERE.vertices), np.asarray(SPHERE.faces)[20:], "a")
    assert not open_ball.watertight
    distances = Distances(open_ball)
    assert "not watertight" in distances.sign
    local = torch.randn(5000, 3, generator=torch.Generator().manual_seed(1)).double() * 0.7
    clear = (local.norm(dim=1) - 1).abs() > 0.05
    wrong = distances.inside(local)[clear] != (local.norm(dim=1) < 1)[clear]
    assert wrong.double().mean() < 0.005
    assert torch.equal(distances.inside(local), distances.inside(local))


def test_a_point_cloud_becomes_a_surface(tmp_path):
    normals = torch.randn(20_000, 3, generator=torch.Generator().manual_seed(1))
    normals = torch.nn.functional.normalize(normals, dim=1).numpy()
    write_points(tmp_path / "a.ply", normals * 2 + 5, normals)
    mesh = load_mesh(tmp_path / "a.ply")
    assert mesh.origin == "points"
    radius = (mesh.vertices - 5).norm(dim=1)
    assert (radius - 2).abs().max() < 0.05
    assert mesh.watertight


def write_points(path, places, normals=None):
    names = ["x", "y", "z"] + (["nx", "ny", "nz"] if normals is not None else [])
    columns = places if normals is None else np.concatenate([places, normals], 1)
    header = ["ply", "format ascii 1.0", f"element vertex {len(places)}"]
    header += [f"property float {name}" for name in names] + ["end_header"]
    lines = [" ".join(f"{x:.6f}" for x in row) for row in columns]
    path.write_text("\n".join([*header, *lines]) + "\n")


# ---- bad input -----------------------------------------------------------------------------------


def write_obj(path, vertices, faces):
    lines = [f"v {x} {y} {z}" for x, y, z in vertices]
    lines += [f"f {a + 1} {b + 1} {c + 1}" for a, b, c in faces]
    path.write_text("\n".join(lines) + "\n")
    return path


CORNERS = [(0, 0, 0), (1, 0, 0), (0, 1, 0), (0, 0, 1)]
FACES = [(0, 2, 1), (0, 1, 3), (1, 2, 3), (2, 0, 3)]


def with_nan(path):
    return write_obj(path, [("nan", 0, 0), *CORNERS[1:]], FACES)


def without_area(path):
    return write_obj(path, [(0, 0, 0), (1, 0, 0), (2, 0, 0)], [(0, 1, 2)])


def one_point(path):
    return write_obj(path, [(1, 1, 1)] * 3, [(0, 1, 2)])


def far_away(path):
    return write_obj(path, [(x + 1e9, y, z) for x, y, z in CORNERS], FACES)


def no_faces(path):
    return write_obj(path, CORNERS, [])


def empty(path):
    path.write_bytes(b"")
    return path


def text_as_ply(path):
    path = path.with_suffix(".ply")
    path.write_text("dear reader\nthis is no mesh\n")
    return path


def truncated_ply(path):
    path = ball(path.with_suffix(".ply"))
    path.write_bytes(path.read_bytes()[:2000])
    return path


def points_without_normals(path):
    path = path.with_suffix(".ply")
    write_points(path, np.random.default_rng(0).random((50, 3)))
    return path


def unknown_suffix(path):
    return ball(path.with_suffix(".obj")).rename(path.with_suffix(".objj"))


def a_folder(path):
    path.mkdir()
    return path


BAD_MESHES = [
    (with_nan, "finite vertices"),
    (without_area, "with an area"),
    (one_point, "a single point"),
    (far_away, "lies 1e+09 from the origin"),
    (no_faces, "normals|no triangles"),
    (empty, "an empty file"),
    (text_as_ply, "cannot be read as one"),
    (truncated_ply, "cannot be read as one"),
    (points_without_normals, "needs normals"),
    (unknown_suffix, "did you mean .obj"),
    (a_folder, "there is none"),
    (lambda path: path, "there is none"),
]


@pytest.mark.parametrize(("make", "said"), BAD_MESHES)
def test_bad_meshes_are_refused_in_a_sentence(make, said, tmp_path):
    path = make(tmp_path / "a.obj")
    with pytest.raises(InputError, match=said.replace("+", r"\+")) as refused:
        load_mesh(path)
    assert str(refused.value).startswith(str(path))
    assert "\n" not in str(refused.value)


def test_a_surface_where_three_faces_meet_has_distances(tmp_path):
    """Not a manifold: two tetrahedra that share an edge, and one face more on it."""
    corners = [*CORNERS, (-1, 0, 0), (0, -1, 0), (0.5, 0.5, 2)]
    faces = [*FACES, (0, 1, 6)]
    mesh = load_mesh(write_obj(tmp_path / "a.obj", corners, faces))
    assert not mesh.watertight
    inside = torch.tensor([[0.1, 0.1, 0.1], [2.0, 2.0, 2.0]], dtype=torch.float64)
    assert Distances(mesh).inside(inside).tolist() == [True, False]
