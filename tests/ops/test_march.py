"""Marching rays through occupancy grids."""

import itertools
import math

import pytest
import torch

from neural_fields import _core, ops
from neural_fields.ops import reference
from neural_fields.ops.march import native_scene

CUBE = {"box_min": (-1.0, -1.0, -1.0), "box_max": (1.0, 1.0, 1.0), "center": (0.0, 0.0, 0.0)}
SMALL = ops.OccupancySpec(16)
SCENES = {
    "plain": {"step": 0.02, "grid": SMALL},
    "cone": {"step": 0.01, "cone": 1 / 64, "max_step": 0.04, "grid": SMALL},
    "cascades": {"step": 0.015, "cone": 1 / 20, "max_step": 0.5, "grid": ops.OccupancySpec(8, 4)},
    "limits": {"step": 0.02, "near": 0.7, "far": 2.1, "max_samples": 9, "grid": SMALL},
    "world": {
        "box_min": (3.0, -4.0, 9.5),
        "box_max": (7.0, 0.0, 10.5),
        "center": (5.0, -2.0, 10.0),
        "unit": 2.0,
        "step": 0.03,
        "grid": ops.OccupancySpec(12, 2),
    },
}
N_RAYS = 42
SHIFT = 3e-6  # by how much, in units, a ray moves to find out whether rounding decides its samples


def make_scene(**options):
    return ops.MarchScene(**({"unit": 1.0} | CUBE | options))


def make_words(grid, share, seed=0):
    generator = torch.Generator().manual_seed(seed)
    values = (torch.rand(grid.n_cells, generator=generator) < share).float()
    return ops.occupancy_words(values, grid)


def full(scene):
    return torch.full((scene.grid.n_words,), -1)


def make_rays(scene, n, seed=0):
    """Rays from outside and inside, some axis-parallel, some with zeros, some that miss the box."""
    generator = torch.Generator().manual_seed(seed)
    center, unit = torch.tensor(scene.center), scene.unit
    toward = center + unit * (torch.rand(n, 3, generator=generator) * 2 - 1)
    directions = torch.nn.functional.normalize(torch.randn(n, 3, generator=generator), dim=1)
    directions[::7, 1] = 0.0
    directions[1::7] = torch.eye(3)[torch.arange(len(directions[1::7])) % 3]
    directions[2::7] = -torch.eye(3)[torch.arange(len(directions[2::7])) % 3]
    directions = torch.nn.functional.normalize(directions, dim=1)
    distance = torch.rand(n, 1, generator=generator) * 3 * unit
    distance[3::7] = 0.0
    toward[4::7] += 3 * unit
    return toward - distance * directions, directions, torch.rand(n, generator=generator)


def samples_of(packed, ray):
    begin, end = packed.offsets[ray : ray + 2].tolist()
    return packed.t_starts[begin:end], packed.t_ends[begin:end]


@pytest.mark.parametrize("share", [0.0, 0.02, 0.3, 1.0])
@pytest.mark.parametrize("options", SCENES.values(), ids=SCENES)
def test_equals_the_march_that_looks_at_every_step(options, share):
    scene = make_scene(**options)
    words = make_words(scene.grid, share)
    origins, directions, jitter = make_rays(scene, N_RAYS)
    actual = ops.march(scene, words, origins, directions, jitter)
    expected = reference.march(scene, words, origins, directions, jitter)
    decided = torch.ones(N_RAYS, dtype=torch.bool)  # by more than rounding
    for shift in SHIFT * scene.unit * torch.cat([torch.eye(3), -torch.eye(3)]).double():
        moved = reference.march(scene, words, origins.double() + shift, directions, jitter)
        for ray in range(N_RAYS):
            t, other = samples_of(expected, ray)[0], samples_of(moved, ray)[0]
            same = len(t) == len(other) and bool(((t - other).abs() < scene.step / 3).all())
            decided[ray] &= same
    assert decided.float().mean() > 0.7
    assert actual.offsets.dtype == torch.int64
    for ray in decided.nonzero()[:, 0].tolist():
        for a, b in zip(samples_of(actual, ray), samples_of(expected, ray), strict=True):
            torch.testing.assert_close(a.double(), b, rtol=2e-6, atol=2e-6 * scene.unit)
    assert (actual.offsets[-1] > 0) == (share > 0)


@pytest.mark.parametrize("options", SCENES.values(), ids=SCENES)
def test_skipping_chooses_among_the_steps_of_a_full_grid(options):
    """Bit for bit: what the grid holds decides which steps are listed, not where they are."""
    scene = make_scene(**options | {"max_samples": 65536})
    rays = make_rays(scene, 200)
    every = ops.march(scene, full(scene), *rays)
    some = ops.march(scene, make_words(scene.grid, 0.1), *rays)
    for ray in range(200):
        known = set(zip(*(t.tolist() for t in samples_of(every, ray)), strict=True))
        found = list(zip(*(t.tolist() for t in samples_of(some, ray)), strict=True))
        assert known.issuperset(found)
        assert found == sorted(set(found))


def test_skips_end_where_longer_steps_look_up_coarser_cells():
    """An empty innermost cascade, whose place only the cascade around it calls occupied."""
    grid = ops.OccupancySpec(8, n_cascades=4)
    scene = make_scene(step=0.01, cone=1 / 20, max_step=1.0, grid=grid)
    values = torch.arange(grid.n_cells) // 8**3 == 1
    words = ops.occupancy_words(values.float() + 1e-9, grid, threshold=0.5)
    words[: 8**3 // 64] = 0
    # Steps become longer than two innermost cells at t = 1.25, which is inside that cascade.
    generator = torch.Generator().manual_seed(0)
    directions = torch.nn.functional.normalize(torch.randn(200, 3, generator=generator), dim=1)
    distance = 1.2 + 0.1 * torch.rand(200, 1, generator=generator)
    rays = 0.05 * torch.rand(200, 3, generator=generator) - distance * directions, directions
    counts = ops.march(scene, words, *rays).offsets.diff()
    wanted = reference.march(scene, words, *rays).offsets.diff()
    assert (counts == wanted).float().mean() > 0.98  # all but for rounding


# ---- the lattice ---------------------------------------------------------------------------------

DT = math.sqrt(3) / 1024
NGP = {"step": DT, "max_step": DT * 2**7 * 1024 / 128, "grid": SMALL}


def test_steps_without_a_cone_are_constant():
    scene = make_scene(**NGP)
    assert scene.distance_at(10) == pytest.approx(10 * DT, rel=1e-6)
    _, t0, t1 = ops.march(scene, full(scene), *make_rays(scene, 20))
    torch.testing.assert_close(t1 - t0, torch.full_like(t0, DT), rtol=0, atol=1e-6)


def test_steps_with_a_cone_grow_with_distance():
    scene = make_scene(**NGP, cone=1 / 256)
    for t in (0.5, 1.0, 3.0, 100.0):
        n = scene.index_at(t)
        assert scene.distance_at(n + 1) - t == pytest.approx(t / 256, abs=1e-6 * max(1, 5 * t))
    assert scene.distance_at(1) == pytest.approx(DT)
    far = scene.index_at(1000.0)
    assert scene.distance_at(far + 1) - 1000 == pytest.approx(NGP["max_step"], abs=2e-3)


def test_ends_of_the_logarithmic_part():
    scene = make_scene(**NGP, cone=1 / 256)
    t_log, t_far = DT / math.log1p(1 / 256), NGP["max_step"] / math.log1p(1 / 256)
    assert (t_log, t_far) == pytest.approx((0.43386, 444.27), rel=1e-4)
    for t in (t_log, t_far):  # slopes 1 / step meet there
        n = scene.index_at(t)
        below, above = scene.distance_at(n - 1), scene.distance_at(n + 1)
        assert above - t == pytest.approx(t - below, rel=5e-3)


@pytest.mark.parametrize("cone", [0.0, 1 / 256, 1 / 20])
def test_index_is_the_inverse_of_distance(cone):
    scene = make_scene(**NGP, cone=cone)
    indices = torch.linspace(0, 2500, 301).tolist()
    distances = [scene.distance_at(n) for n in indices]
    assert all(a < b for a, b in itertools.pairwise(distances))
    back = [scene.index_at(t) for t in distances]
    assert back == pytest.approx(indices, rel=1e-5, abs=1e-5)
    as_tensors = (torch.tensor(x).double() for x in (indices, distances))
    formula = reference_lattice(scene, *as_tensors)
    assert (distances, back) == (
        pytest.approx(formula[0], rel=2e-5),
        pytest.approx(formula[1], 2e-5),
    )


def reference_lattice(scene, indices, distances):
    from neural_fields.ops.reference.march import distance_at, index_at

    return distance_at(scene, indices).tolist(), index_at(scene, distances).tolist()


# ---- rays ----------------------------------------------------------------------------------------


def test_golden_samples():
    scene = make_scene(step=0.5, grid=ops.OccupancySpec(4))
    ray = torch.tensor([[-2.0, 0.1, 0.1]]), torch.tensor([[1.0, 0.0, 0.0]])
    for jitter, first in ((torch.zeros(1), 1.0), (None, 1.25), (torch.tensor([0.9]), 1.45)):
        offsets, t0, t1 = ops.march(scene, full(scene), *ray, jitter)
        assert t0.tolist() == pytest.approx([first + 0.5 * i for i in range(int(offsets[-1]))])
        assert (t0 + t1)[-1] / 2 < 3.0
        torch.testing.assert_close(t1 - t0, torch.full_like(t0, 0.5))


def test_near_far_and_the_number_of_samples_limit_a_ray():
    ray = torch.tensor([[0.0, 0.0, 0.0]]), torch.tensor([[0.0, 0.0, -1.0]])
    limits = {"near": 0.2, "far": 0.5, "step": 0.01, "grid": SMALL}
    scene = make_scene(**limits)
    _, t0, t1 = ops.march(scene, full(scene), *ray, torch.zeros(1))
    assert t0[0].item() == pytest.approx(0.2)
    assert ((t0 + t1) / 2 < 0.5).all()
    assert t1[-1] > 0.499
    scene = make_scene(**limits, max_samples=3)
    assert torch.equal(ops.march(scene, full(scene), *ray, torch.zeros(1)).t_starts, t0[:3])


@pytest.mark.parametrize("bad", [math.nan, math.inf, -math.inf])
def test_rays_that_are_not_finite_have_no_samples(bad):
    scene = make_scene(step=0.05, cone=0.01, grid=SMALL)
    origins, directions, _ = make_rays(scene, 6)
    origins = torch.zeros(12, 3)
    directions = torch.nn.functional.normalize(torch.ones(12, 3), dim=1)
    directions[3:6] = torch.eye(3)
    for i in range(6):
        origins[i, i % 3] = bad
        directions[i + 6, i % 3] = bad
    offsets, _, _ = ops.march(scene, full(scene), origins, directions)
    assert (offsets == 0).all()
    jitter = torch.full((6,), bad)
    assert (ops.march(scene, full(scene), *make_rays(scene, 6)[:2], jitter).offsets >= 0).all()


def test_rays_without_direction_have_no_samples():
    scene = make_scene(step=0.05, grid=SMALL)
    rays = torch.zeros(2, 3), torch.tensor([[0.0, 0.0, 0.0], [-0.0, 0.0, -0.0]])
    assert ops.march(scene, full(scene), *rays).offsets.tolist() == [0, 0, 0]


@pytest.mark.parametrize("words", [0, -1, 1])
def test_rays_of_strange_lengths_come_to_an_end(words):
    scene = make_scene(step=1e-4, cone=1e-6, grid=ops.OccupancySpec(8, 3), max_samples=100)
    lengths = torch.tensor([1e-40, 1e-30, 1e-12, 1e-3, 1e3, 1e12, 1e30]).repeat_interleave(3)
    directions = lengths[:, None] * torch.tensor(
        [[1.0, 0.0, 0.0], [0.6, 0.8, 0.0], [1, 1, 1]]
    ).repeat(7, 1)
    for origin in (0.0, 1.0, -0.3, 1e20):
        packed = ops.march(
            scene, torch.full((scene.grid.n_words,), words), torch.full((21, 3), origin), directions
        )
        assert (packed.offsets.diff() <= 100).all()


@pytest.mark.parametrize("n", [0, 1, 31, 32, 33])
def test_numbers_of_rays(n):
    scene = make_scene(step=0.1, grid=SMALL)
    origins, directions, jitter = make_rays(scene, 33)
    every = ops.march(scene, full(scene), origins, directions, jitter)
    some = ops.march(scene, full(scene), origins[:n], directions[:n], jitter[:n])
    n_samples = int(every.offsets[n])
    assert torch.equal(some.offsets, every.offsets[: n + 1])
    assert torch.equal(some.t_starts, every.t_starts[:n_samples])


def test_does_not_depend_on_the_number_of_threads(restored_core):
    scene = make_scene(**SCENES["cascades"])
    words, rays = make_words(scene.grid, 0.2), make_rays(scene, 2000)
    runs = []
    for n_threads in (1, 2, 3):
        restored_core.set_num_threads(n_threads)
        runs.append(ops.march(scene, words, *rays))
    for run in runs[1:]:
        assert all(torch.equal(a, b) for a, b in zip(run, runs[0], strict=True))


def test_takes_tensors_with_gaps_and_gradients():
    scene = make_scene(step=0.1, grid=SMALL)
    origins, directions, jitter = make_rays(scene, 20)
    expected = ops.march(scene, full(scene), origins, directions, jitter)
    apart = torch.stack([origins, directions], dim=-1).requires_grad_()
    actual = ops.march(scene, full(scene), apart[..., 0], apart[..., 1], jitter)
    assert all(torch.equal(a, b) for a, b in zip(actual, expected, strict=True))
    assert not actual.t_starts.requires_grad


# ---- wrong inputs --------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"step": 0.0}, "0 < step"),
        ({"step": math.nan}, "0 < step"),
        ({"step": 0.1, "max_step": 0.05}, "step <= max_step"),
        ({"step": 0.1, "near": 2.0, "far": 1.0}, "near < far"),
        ({"step": 0.1, "unit": -1.0}, "unit > 0"),
        ({"step": 0.1, "cone": -0.1}, "cone >= 0"),
        ({"step": 0.1, "max_samples": 0}, "needs 1 to 65536, got 0"),
        ({"step": 0.1, "box_max": (1.0, -1.0, 1.0)}, "box_min < box_max"),
    ],
)
def test_wrong_scenes_are_refused(options, message):
    with pytest.raises(ValueError, match=message):
        make_scene(**options)


def test_wrong_tensors_are_refused():
    scene = make_scene(step=0.1, grid=ops.OccupancySpec(8))
    words, (origins, directions, jitter) = full(scene), make_rays(scene, 4)
    with pytest.raises(ValueError, match=r"words: needs shape \[8\], got \[7\]"):
        ops.march(scene, words[:7], origins, directions)
    with pytest.raises(TypeError, match="words: needs int64"):
        ops.march(scene, words.int(), origins, directions)
    with pytest.raises(TypeError, match="origins: needs float32, got float64"):
        ops.march(scene, words, origins.double(), directions)
    with pytest.raises(ValueError, match=r"directions: needs shape \[4, 3\], got \[3, 3\]"):
        ops.march(scene, words, origins, directions[:3])
    with pytest.raises(ValueError, match=r"jitter: needs shape \[4\]"):
        ops.march(scene, words, origins, directions, jitter[:3])


def test_a_grid_that_changes_between_counting_and_filling_is_harmless():
    scene = make_scene(step=0.1, grid=ops.OccupancySpec(8))
    native = native_scene(_core, scene)
    origins, directions, _ = make_rays(scene, 30)
    offsets = torch.empty(31, dtype=torch.int64)
    _core.march_count(native, make_words(scene.grid, 0.1), origins, directions, None, offsets)
    ends = torch.full((2, int(offsets[-1])), -1.0)
    _core.march_fill(native, full(scene), origins, directions, None, offsets, *ends)
    assert (ends >= 0).all()
    offsets[3] = 10**9
    with pytest.raises(ValueError, match="offsets: needs a non-decreasing list"):
        _core.march_fill(native, full(scene), origins, directions, None, offsets, *ends)


# ---- into a buffer, and on devices ---------------------------------------------------------------


def into(scene, words, rays, capacity, grids=None):
    """What `march_into` leaves: rays that fit, and the samples of a buffer, on the CPU."""
    device = rays[0].device
    samples = ops.RadianceSamples.empty(len(rays[0]), capacity, device)
    used = ops.march_into(scene, words, *rays, samples, grids)
    n_used, n = used.tolist()
    assert n == int(samples.offsets[-1])
    return n_used, [samples.offsets.cpu(), *(part[:n].cpu() for part in samples[1:])]


@pytest.mark.parametrize("options", SCENES.values(), ids=SCENES)
def test_devices_march_alike(options, device):
    """Steps on the border of a cell may be listed here and not there."""
    scene = make_scene(**options)
    words, rays = make_words(scene.grid, 0.3), make_rays(scene, 3 * N_RAYS)
    expected = ops.march(scene, words, *rays)
    found = ops.march(scene, words.to(device), *(part.to(device) for part in rays))
    assert {part.device.type for part in found} == {device}
    counts, ours = expected.offsets.diff(), found.offsets.cpu().diff()
    assert (counts == ours).float().mean() > 0.95
    for ray in (counts == ours).nonzero()[:, 0].tolist():
        for theirs, mine in zip(samples_of(expected, ray), samples_of(found, ray), strict=True):
            torch.testing.assert_close(mine.cpu(), theirs, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("n", [0, 1, 33, 300])
def test_into_a_buffer_are_the_samples_of_march(n, device):
    scene = make_scene(step=0.05, grid=SMALL)
    words = make_words(scene.grid, 0.3).to(device)
    rays = [part.to(device) for part in make_rays(scene, n)]
    expected = [part.cpu() for part in ops.march(scene, words, *rays)]
    n_used, (offsets, t_starts, t_ends, positions) = into(scene, words, rays, 20_000)
    assert n_used == n
    for found, wanted in zip((offsets, t_starts, t_ends), expected, strict=True):
        assert torch.equal(found, wanted)
    owner = torch.repeat_interleave(torch.arange(n), offsets.diff())
    origins, directions, _ = (part.cpu() for part in rays)
    middle = ((t_starts + t_ends) / 2)[:, None]
    at = origins[owner] + middle * directions[owner]
    torch.testing.assert_close(positions, at / 2 + 0.5, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("capacity", [0, 1, 200, 1500, "exact"])
def test_rays_that_do_not_fit_own_nothing(capacity, device):
    scene = make_scene(step=0.05, grid=SMALL)
    words = make_words(scene.grid, 0.3).to(device)
    rays = [part.to(device) for part in make_rays(scene, 300)]
    _, whole = into(scene, words, rays, 20_000)
    room = int(whole[0][57]) if capacity == "exact" else capacity
    n_used, (offsets, *samples) = into(scene, words, rays, room)
    assert n_used == int(torch.searchsorted(whole[0], room, right=True)) - 1
    n = int(whole[0][n_used])
    assert torch.equal(offsets[: n_used + 1], whole[0][: n_used + 1])
    assert (offsets[n_used:] == n).all()
    for found, wanted in zip(samples, whole[1:], strict=True):
        assert torch.equal(found, wanted[:n])


def test_every_ray_has_its_grid(device):
    scene = make_scene(step=0.05, grid=SMALL)
    words = torch.stack(
        [make_words(scene.grid, share, seed) for seed, share in enumerate((0.1, 0.6))]
    )
    rays = make_rays(scene, 60)
    grids = torch.arange(60) % 2
    there = [part.to(device) for part in (words, *rays, grids)]
    _, (offsets, t_starts, *_) = into(scene, there[0], there[1:4], 20_000, there[4])
    for grid in (0, 1):
        _, (alone, starts, *_) = into(scene, there[0][grid].contiguous(), there[1:4], 20_000)
        for ray in range(grid, 60, 2):
            assert torch.equal(
                t_starts[offsets[ray] : offsets[ray + 1]], starts[alone[ray] : alone[ray + 1]]
            )


def test_grids_that_do_not_exist_are_refused():
    scene = make_scene(step=0.05, grid=SMALL)
    words, rays = torch.stack([full(scene)]), make_rays(scene, 3)
    with pytest.raises(IndexError, match="grids: needs indices from 0 and below 1, got 1"):
        into(scene, words, rays, 100, torch.tensor([0, 1, 0]))
