"""Surfaces close, are oriented and do not depend on how they were cut into blocks."""

import numpy as np
import pytest
import torch

from neural_fields import InputError
from neural_fields.exporters.components import components
from neural_fields.rendering.marching import MARGIN, Lattice, marching_cubes

BOX = torch.tensor([[-1.0, -1.0, -1.0], [1.0, 1.0, 1.0]])


def sphere(x, radius=0.7):
    return x.norm(dim=1) - radius


def torus(x):
    around = x[:, :2].norm(dim=1) - 0.6
    return (around**2 + x[:, 2] ** 2).sqrt() - 0.25


def two_spheres(x):
    side = torch.tensor([0.45, 0.0, 0.0])
    return torch.minimum(sphere(x - side, 0.3), sphere(x + side, 0.3))


def box_on_planes(x):
    return x.abs().amax(1) - 0.5  # nodes lie on its faces, edges and corners


def octahedron(x):
    return x.abs().sum(1) - 0.75  # nodes lie on its faces, and neighbours touch at corners


def saddle(x):
    return torch.cos(torch.pi * x * 4).sum(1)  # all faces of some cubes are ambiguous, by a tie


def waves(x):
    generator = torch.Generator().manual_seed(3)
    frequency = torch.randn(3, 12, generator=generator) * 5
    return torch.sin(x @ frequency + torch.arange(12)).sum(1)


def noise(x):
    return torch.sin(x @ torch.tensor([127.1, 311.7, 74.7]) * 43.7)


def whole_numbers(x):
    return noise(x).mul(1.5).round()  # -2 to 2: many are 0


SHAPES = [sphere, torus, two_spheres, box_on_planes, octahedron, saddle, waves, noise]
SHAPES += [whole_numbers]


def mesh(shape, resolution=24, box=BOX, **options):
    return marching_cubes(shape, Lattice.over(box, resolution), **options)


def edges_of(faces):
    return np.concatenate([faces[:, [0, 1]], faces[:, [1, 2]], faces[:, [2, 0]]])


def euler(vertices, faces):
    return len(vertices) - len(faces) * 3 // 2 + len(faces)


def area_and_volume(vertices, faces):
    a, b, c = (vertices[faces[:, i]] for i in range(3))
    areas = np.linalg.norm(np.cross(b - a, c - a), axis=1) / 2
    return areas, (a * np.cross(b, c)).sum() / 6


def assert_closed(vertices, faces):
    """Every edge joins two faces that agree, and the faces around a vertex are one ring."""
    there = edges_of(faces)
    assert len(np.unique(there, axis=0)) == len(there)
    back = there[:, ::-1]
    assert {tuple(edge) for edge in there} == {tuple(edge) for edge in back}
    assert np.array_equal(np.unique(faces), np.arange(len(vertices)))
    # Corners of faces around one vertex hang together by the edges that they share at it.
    corner = {(f, v): n for n, (f, v) in enumerate((f, v) for f, r in enumerate(faces) for v in r)}
    pairs, seen = [], {}
    for f, row in enumerate(faces):
        for i in range(3):
            edge = frozenset((row[i], row[(i + 1) % 3]))
            if edge in seen:
                pairs += [(corner[f, v], corner[seen[edge], v]) for v in edge]
            seen[edge] = f
    one = np.array([(a, b, b) for a, b in pairs])
    assert len(np.unique(components(one, len(corner)))) == len(vertices)


@pytest.mark.parametrize("shape", SHAPES, ids=lambda shape: shape.__name__)
def test_surfaces_close_at_any_block(shape):
    vertices, faces = mesh(shape, 16)
    assert_closed(vertices, faces)
    areas, volume = area_and_volume(vertices, faces)
    assert volume > 0
    assert areas.min() > 0
    for block in (1, 7, 128):
        again = mesh(shape, 16, block=block)
        assert np.array_equal(again[0], vertices)
        assert np.array_equal(again[1], faces)


@pytest.mark.parametrize("block", [7, 32, 128])
@pytest.mark.parametrize(
    ("shape", "number", "parts"),
    [(sphere, 2, 1), (torus, 0, 1), (two_spheres, 4, 2), (box_on_planes, 2, 1), (octahedron, 2, 1)],
)
def test_topology_is_that_of_the_shape(shape, number, parts, block):
    vertices, faces = mesh(shape, 40, block=block)
    assert euler(vertices, faces) == number
    assert len(np.unique(components(faces, len(vertices)))) == parts


def test_area_volume_and_place_of_a_sphere():
    vertices, faces = mesh(sphere, 40)
    areas, volume = area_and_volume(vertices, faces)
    assert areas.sum() == pytest.approx(4 * np.pi * 0.7**2, rel=0.01)
    assert volume == pytest.approx(4 / 3 * np.pi * 0.7**3, rel=0.01)
    assert np.abs(np.linalg.norm(vertices, axis=1) - 0.7).max() < 1e-3
    a, b, c = (vertices[faces[:, i]] for i in range(3))
    assert (np.cross(b - a, c - a) * (a + b + c)).sum(1).min() > 0  # all of them outward


def test_vertices_are_those_of_another_program():
    from skimage.measure import marching_cubes as theirs

    lattice = Lattice.over(BOX, 20)
    for of in (sphere, torus):

        def shape(x, of=of):
            return of(x + 0.0123)  # theirs has several vertices where a node lies on the level

        vertices, faces = marching_cubes(shape, lattice)
        nodes = lattice.positions(np.arange(21**3))
        found, triangles, _, _ = theirs(shape(nodes).view(21, 21, 21).numpy(), 0.0)
        found = torch.from_numpy(found.astype(np.float64)) * 0.1 - 1
        apart = torch.cdist(torch.from_numpy(vertices), found)
        assert len(found) == len(vertices)
        assert len(triangles) == len(faces)
        assert max(apart.amin(0).max(), apart.amin(1).max()) < 1e-5


def test_values_on_the_level_keep_vertices_apart():
    for shape in (box_on_planes, octahedron, whole_numbers):
        lattice = Lattice.over(BOX, 16)
        vertices, faces = marching_cubes(shape, lattice)
        near = np.round((vertices + 1) / lattice.spacing)
        apart = np.abs((vertices + 1) / lattice.spacing - near).max(1)
        assert apart.min() > 0.99 * MARGIN
        edges = edges_of(faces)
        lengths = np.linalg.norm(vertices[edges[:, 0]] - vertices[edges[:, 1]], axis=1)
        assert lengths.min() > MARGIN * lattice.spacing


@pytest.mark.parametrize("scale", [1e-20, 1e20])
def test_the_scale_of_values_does_not_matter(scale):
    vertices, faces = mesh(sphere)
    scaled, same = mesh(lambda x: sphere(x) * scale)
    assert np.array_equal(faces, same)
    np.testing.assert_allclose(scaled, vertices, atol=1e-6)


def test_what_reaches_the_border_is_closed_there():
    vertices, faces = mesh(lambda x: x[:, 0] + 0.1 * x[:, 1])
    assert_closed(vertices, faces)
    assert area_and_volume(vertices, faces)[1] == pytest.approx(4, rel=0.02)
    assert np.abs(vertices).max() < 1
    assert vertices.min() == pytest.approx(-1, abs=2 * MARGIN / 12)


def test_answers_that_differ_from_call_to_call_leave_no_cracks():
    generator = torch.Generator().manual_seed(1)

    def shaky(x):
        return sphere(x) + 0.05 * torch.randn(len(x), generator=generator)

    for block in (1, 5):
        assert_closed(*mesh(shaky, 16, block=block))
        assert_closed(*mesh(shaky, 16, block=block, lipschitz=2.0))


def counted(shape):
    def ask(x):
        ask.n += len(x)
        return shape(x)

    ask.n = 0
    return ask


@pytest.mark.parametrize("shape", [sphere, torus, two_spheres, box_on_planes])
@pytest.mark.parametrize("level", [0.0, 0.1])
def test_a_bound_on_the_slope_saves_values_and_nothing_else(shape, level):
    box = torch.tensor([[-1.0, -1.0, -1.0], [1.0, 1.25, 1.7]])  # no multiple of 8 cells
    vertices, faces = mesh(shape, 70, box, level=level)
    for block in (7, 128):
        ask = counted(shape)
        fewer, same = mesh(ask, 70, box, level=level, block=block, lipschitz=1.0)
        assert np.array_equal(fewer, vertices)
        assert np.array_equal(same, faces)
        assert ask.n < 0.85 * np.prod(Lattice.over(box, 70).n_nodes)


def test_nodes_between_two_cubes_belong_to_both():
    def plane(x):  # half a cell before the third cube, whose middle is out of reach
        return x[:, 0] + 1 - 15.5 * 2 / 64

    ask = counted(plane)
    vertices, _ = mesh(ask, 64, lipschitz=0.6)
    assert vertices[:, 0].max() == pytest.approx(-1 + 15.5 * 2 / 64)
    assert ask.n < 0.6 * 65**3


def test_most_of_a_fine_lattice_is_left_out():
    ask = counted(sphere)
    vertices, faces = mesh(ask, 128, lipschitz=1.0)
    assert euler(vertices, faces) == 2
    assert ask.n < 0.35 * 129**3


@pytest.mark.parametrize("shape", [waves, noise])
def test_a_wrong_bound_on_the_slope_is_noticed(shape):
    vertices, faces = mesh(shape, 20)
    for block in (3, 128):
        found, same = mesh(shape, 20, block=block, lipschitz=0.05)
        assert np.array_equal(found, vertices)
        assert np.array_equal(same, faces)


def test_a_bound_may_hold_though_the_border_cuts():
    def slab(x):
        return x[:, 0].abs() - 0.9

    ask = counted(slab)
    vertices, faces = mesh(slab, 64)
    found, same = mesh(ask, 64, lipschitz=1.0)
    assert np.array_equal(found, vertices)
    assert np.array_equal(same, faces)
    assert ask.n < 0.9 * 65**3


@pytest.mark.parametrize("steepness", [1.0, 1e3])
def test_halving_finds_where_values_jump(steepness):
    def jump(x):
        return torch.tanh(steepness * sphere(x)) + 0.3 * (sphere(x) > 0)

    vertices, faces = mesh(jump, 24, refine=6)
    assert_closed(vertices, faces)
    off = np.abs(np.linalg.norm(vertices, axis=1) - 0.7).max()
    assert off < 2 / 24 / 2**6
    assert off < 0.1 * np.abs(np.linalg.norm(mesh(jump, 24)[0], axis=1) - 0.7).max()


def test_every_node_is_asked_for_once():
    ask = counted(sphere)
    steps = []
    mesh(ask, 24, block=5, on_block=lambda *step: steps.append(step))
    assert ask.n == 25**3
    assert steps == [(n, 5) for n in range(1, 6)]


@pytest.mark.parametrize("resolution", [1, 3, 10, 64])
def test_lattices_cover_their_box(resolution):
    box = torch.tensor([[-3.0, 10.0, 0.2], [1.0, 11.1, 3.3]], dtype=torch.float64)
    lattice = Lattice.over(box, resolution)
    low, high = lattice.box
    assert lattice.n_cells[0] == resolution
    assert lattice.spacing == pytest.approx(4 / resolution)
    for outside in (box[0].numpy() - low, high - box[1].numpy()):
        assert (outside > -1e-6).all()
        assert (outside < lattice.spacing / 2).all()
    ends = lattice.positions(np.array([0, np.prod(lattice.n_nodes) - 1]))
    np.testing.assert_allclose(ends.numpy(), lattice.box, rtol=1e-6)


def test_what_has_no_surface_is_refused():
    with pytest.raises(InputError, match="values that pass 2 inside the box, got none"):
        mesh(sphere, level=2.0)  # all of the box is inside
    with pytest.raises(InputError, match="values that pass 0 inside the box, got none"):
        mesh(lambda x: sphere(x) + 5, lipschitz=1.0)
    for bad in (torch.nan, torch.inf):
        with pytest.raises(InputError, match="not finite"):
            mesh(lambda x, bad=bad: torch.where(x[:, 0] > 0.4, bad, sphere(x)))
