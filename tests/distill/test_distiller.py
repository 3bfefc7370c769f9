"""What a student is shown and when, and that it learns."""

import math
from dataclasses import replace

import pytest
import torch

from neural_fields.architectures.cp import Cp
from neural_fields.architectures.hash import Hash
from neural_fields.architectures.mlp import Mlp
from neural_fields.architectures.vm import Vm
from neural_fields.architectures.voxels import Voxels
from neural_fields.decoders import Head
from neural_fields.distill import setup, trainer
from neural_fields.distill.options import DistillOptions
from neural_fields.distill.start import Teacher, occupied_cells, start_student
from neural_fields.distill.trainer import Distiller
from neural_fields.errors import InputError
from neural_fields.fields import RadianceConfig, RadianceField, Samples, Sampling
from neural_fields.fields.radiance import Levels
from neural_fields.ops import occupancy_words
from neural_fields.rendering.cameras import Cameras
from neural_fields.rendering.occupancy import cell_centers
from neural_fields.rendering.volume import over, render_view
from neural_fields.training.metrics import psnr

HASH = Hash(log2_table_size=12, base_resolution=8, finest_resolution=32, hidden=(32,))
HEAD = Head(hidden=(32,))
SAMPLING = Sampling(step=0.03, max_step=0.03, resolution=32)
CAMERAS = Cameras.orbit((0, 0, 0), 3.5, 20.0, 12, width=32, height=32)
SMALL = DistillOptions(batch_samples=4096, n_rays=256, n_cameras=20, coarse_step=1.0)


def config(architecture, **changes):
    return RadianceConfig(architecture=architecture, head=HEAD, sampling=SAMPLING, **changes)


def teacher(seed=1):
    """Untrained, but with density in a ball."""
    field = RadianceField(config(HASH), seed)
    with torch.no_grad():
        field.trunk.encoding.table.mul_(3e3)
        matrix, _ = list(field.trunk.mlp.layers())[-1]
        matrix[0].abs_()  # of positive features: dense
    in_ball = cell_centers(field).norm(dim=1) < 0.7
    words = occupancy_words(in_ball.float() * 2 - 1, SAMPLING.grid)
    field.occupancy.copy_(words)
    return field


def distiller(architecture=HASH, options=SMALL, seed=0, **more):
    return Distiller(teacher(), config(architecture), CAMERAS, options, seed, **more)


def moved(run, progress):
    """Which parameters one step changes."""
    before = {name: value.detach().clone() for name, value in run.field.named_parameters()}
    report = run.step(progress)
    after = dict(run.field.named_parameters())
    return report, {name for name, value in before.items() if not torch.equal(value, after[name])}


def test_a_copy_of_the_teacher_has_nothing_to_learn():
    for form in ("norm", "mean"):
        run = distiller(options=replace(SMALL, form=form, l2=0.0))
        run.field.load_state_dict(run.teacher.state_dict())
        for progress in (0.0, 0.1, 0.5):
            report, changed = moved(run, progress)
            assert report.losses == (0.0, 0.0, 0.0)
            assert report.mse == 0
            assert not changed
            run.check_finite()


def test_what_is_compared_when():
    run = distiller()
    report, changed = moved(run, 0.0)
    assert report.stage == "features"
    # The colour network, not compared yet, is not led to 0 by its decay either.
    assert changed == {"trunk.encoding.table", "trunk.mlp.params"}
    composited = []
    original = run._composited
    run._composited = lambda *a: composited.append(1) or original(*a)
    report, changed = moved(run, 0.0667)
    assert report.stage == "points"
    assert "color_head.mlp.params" in changed
    assert not composited
    report, _ = moved(run, 0.3)
    assert report.stage == "pixels"
    assert len(composited) == 2  # of teacher and student


def test_the_stages_end_as_published():
    cameras = setup.scene_cameras({}, RadianceField(config(HASH), None))
    _, options = setup.radiance_student(config(HASH), cameras, "vm", preset="paper")
    stages = {1999: "features", 2000: "points", 4999: "points", 5000: "pixels"}
    for step, stage in stages.items():
        assert options.stage(step / 30000, features=True) == stage


def test_without_shared_features_points_come_first():
    run = distiller(Voxels(16, 4))
    assert run.step(0.0).stage == "points"
    other = Distiller(run.field, config(HASH), CAMERAS, SMALL)
    assert other.step(0.0).stage == "points"


def test_the_weight_of_features_halves_as_published():
    cameras = setup.scene_cameras({}, RadianceField(config(HASH), None))
    _, options = setup.radiance_student(config(HASH), cameras, "vm", preset="paper")
    for k in (1, 100, 1000, 2000):
        published = 0.002 * 0.995**k
        assert options.feature_weight(k / 30000) == pytest.approx(published, rel=k * 3e-5)


@pytest.mark.parametrize("stop", [0.0, 0.9])
@pytest.mark.parametrize("student", [HASH, Voxels(16, 4)], ids=["hash", "voxels"])
@pytest.mark.parametrize("backwards", [False, True])
def test_both_fields_see_the_same_samples(student, stop, backwards, monkeypatch):
    run = distiller(student)
    if backwards:
        run = Distiller(run.field, config(HASH), CAMERAS, SMALL)
    seen = {}
    original = RadianceField.evaluate_cube

    def noted(self, samples, levels):
        found = original(self, samples, levels)
        seen.setdefault("teacher" if self is run.teacher else "student", []).append(
            (samples, found)
        )
        return found

    monkeypatch.setattr(RadianceField, "evaluate_cube", noted)
    run.options = replace(SMALL, stop=stop, start="paper")
    shared = []
    compared = run._compare
    run._compare = lambda *a: shared.append(a[0]) or compared(*a)
    run.step(0.5)
    ((other, _),), ((mine, _),) = seen["teacher"], seen["student"]  # each is asked once
    cut = len(other.positions) - len(mine.positions)
    assert (cut == 0) == (stop == 0)
    if not cut:
        assert torch.equal(other.positions, mine.positions)
    # What the teacher said is what it says at the student's samples.
    monkeypatch.undo()
    (shared,) = shared
    again = run.teacher.evaluate_cube(mine, ("log_density", "color"))
    torch.testing.assert_close(shared.levels.log_density, again.log_density)
    torch.testing.assert_close(shared.levels.color, again.color)
    assert shared.offsets[-1] == len(mine.positions)
    assert (shared.offsets.diff() >= 0).all()


def test_samples_end_where_the_teacher_is_opaque():
    dense = teacher()
    with torch.no_grad():
        matrix, _ = list(dense.trunk.mlp.layers())[-1]
        matrix[0].mul_(8)
    whole, cut = (
        Distiller(dense, config(HASH), CAMERAS, replace(SMALL, stop=stop, n_rays=128))
        for stop in (0.0, 0.05)
    )
    many, few = whole.step(0.5), cut.step(0.5)
    assert few.n_samples < many.n_samples
    assert few.n_rays == many.n_rays


def test_the_clip_is_on_both_sides():
    run = distiller(options=replace(SMALL, stop=0.0))
    rays, scene = run._draw_rays(torch.Generator(), 0.1)[0], run.teacher.march_scene()
    shared = run._ask_teacher(rays, torch.zeros(256), "points", scene)
    n = len(shared.t_starts)
    raw = torch.tensor([-3.0, 8.0, 0.0]).repeat(n)[:n].requires_grad_()
    far = torch.tensor([-9.0, 20.0, 1.0]).repeat(n)[:n]
    shared = shared._replace(levels=Levels(None, far, shared.levels.color))
    run._shares_features = False
    run.field.evaluate_cube = lambda *_: Levels(None, raw, shared.levels.color)
    loss, _, losses, _ = run._compare(shared, "points", 0.1, torch.zeros(256, 3))
    (gradient,) = torch.autograd.grad(loss, raw)
    assert (gradient[raw != 0] == 0).all()
    assert (gradient[raw == 0] != 0).all()
    assert float(losses[1]) == pytest.approx(math.sqrt(int((raw == 0).sum())))
    bounds = torch.tensor([run.options.clip_low, run.options.clip_high]).exp()
    torch.testing.assert_close(bounds, torch.tensor([0.13534, 1096.63]), rtol=1e-4, atol=0)


def test_heads_are_inherited_where_they_fit():
    run = distiller()
    assert run.inherits
    mine, other = run.field.color_head, run.teacher.color_head
    assert torch.equal(mine.mlp.params, other.mlp.params)
    assert not distiller(inherit=False).inherits
    assert not distiller(Voxels(16, 4)).inherits
    with_other_head = replace(config(HASH), head=Head(hidden=(16,)))
    assert not Distiller(run.teacher, with_other_head, CAMERAS, SMALL).inherits


def test_the_student_keeps_the_teachers_occupancy():
    run = distiller()
    for _ in range(20):
        run.step(0.5)
    assert torch.equal(run.averaged_field().occupancy, run.teacher.occupancy)


def test_occupied_cells_are_those_of_the_grid():
    field = teacher()
    inside = occupied_cells(field, grow=0)[0]
    centers = cell_centers(field)
    x, y, z = ((centers + 1) * 16).long().unbind(1)
    assert torch.equal(inside[z, y, x], centers.norm(dim=1) < 0.7)
    grown = occupied_cells(field)[0]
    i, j, k = inside.nonzero().unbind(1)
    assert grown[i + 1, j - 1, k].all()
    assert not grown[inside.nonzero().amax(0)[0] + 2 :].any()


@pytest.mark.parametrize(
    ("architecture", "of", "left"),
    [
        (Voxels(33, 4), HASH, 0.6),  # as many vertices as the finest level
        (Vm(32, 8, 16), Vm(32, 4, 8), 0.1),
        (Cp(32, 24, 32), Cp(32, 8, 12), 0.3),
    ],
    ids=["voxels", "vm", "cp"],
)
def test_closed_starts_are_near_the_teacher(architecture, of, left):
    field = teacher()
    if of is not HASH:  # of less rank
        low_rank = RadianceField(config(of), 3)
        low_rank.occupancy.copy_(field.occupancy)
        with torch.no_grad():
            low_rank.trunk.first.mul_(4.0)
        field = low_rank
    generator = torch.Generator().manual_seed(1)
    student = RadianceField(config(architecture), 0)
    names = start_student(student, field, CAMERAS, (-2, 7), generator, shares_features=True)
    assert names
    low, high = -0.4, 0.4
    positions = torch.rand(2000, 3) * (high - low) + low
    asked = Teacher(field, CAMERAS, (-2, 7), generator)
    truth = asked.features(field.to_cube(positions)).values
    mine = student.evaluate(Samples(positions), ("log_density",)).log_density
    spread = truth[:, 0].std()
    assert (mine - truth[:, 0]).std() < left * spread
    if student.color_head is not None:
        features = student.evaluate(Samples(positions), ("features",)).features
        error = (features - truth)[:, 1:].square().mean()
        assert error < left * truth[:, 1:].var(dim=0).mean()


def test_architectures_without_a_closed_form_start_as_they_do():
    student = RadianceField(config(Mlp(hidden=(32, 32))), 0)
    before = [value.clone() for value in student.state_dict().values()]
    generator = torch.Generator().manual_seed(1)
    names = start_student(student, teacher(), CAMERAS, (-2, 7), generator, shares_features=True)
    assert names == frozenset()
    after = student.state_dict().values()
    assert all(torch.equal(a, b) for a, b in zip(before, after, strict=True))


@pytest.mark.parametrize("start", ["closed", "paper"])
def test_voxels_learn_a_hash_grid(start):
    options = replace(SMALL, start=start, learning_rate=5e-2, grid_rate=5e-2)
    run = distiller(Voxels(33, 4), options)
    for step in range(150):
        run.step(step / 150)
    student = run.averaged_field()
    view = Cameras.orbit((0, 0, 0), 3.5, 35.0, 1, width=48, height=48)
    pictures = [over(render_view(field, view), torch.ones(3)) for field in (run.teacher, student)]
    assert psnr(pictures[1], pictures[0]) > (30 if start == "closed" else 22)


@pytest.mark.parametrize("active", [False, True])
def test_steps_repeat_and_go_on(active, monkeypatch):
    monkeypatch.setattr(trainer, "RAY_CAPACITY", 60)
    levels = dict.fromkeys(("hard_cameras", "hard_rays", "hard_points"), active)
    options = replace(SMALL, n_epochs=20, n_cameras=400, **levels)

    def run(first, last, of):
        for step in range(first, last):
            of.step(0.4 + step / 40)
        return of

    once, twice, other = (distiller(Vm(16, 4, 8), options) for _ in range(3))
    run(0, 16, once)
    run(0, 11, twice)
    tensors = {**twice.checkpoint_tensors()}
    field = twice.averaged_field()
    tensors |= {f"field.{name}": value for name, value in field.state_dict().items()}
    tensors = {name: value.clone() for name, value in tensors.items()}
    other.restore(tensors, twice.checkpoint_state())
    run(11, 16, other)
    if active:
        assert once._hard_rays.is_full
        assert once._hard_cameras.is_full
    for a, b in zip(once.field.parameters(), other.field.parameters(), strict=True):
        assert torch.equal(a, b)


@pytest.mark.parametrize("level", ["hard_cameras", "hard_rays", "hard_points"])
def test_each_level_of_active_learning_runs_alone(level, monkeypatch):
    options = replace(SMALL, n_epochs=20, n_cameras=200, **{level: True})
    monkeypatch.setattr(trainer, "RAY_CAPACITY", 50)
    run = distiller(options=options)
    counts = []
    for step in range(24):
        counts.append(run.step(0.3 + 0.02 * step).n_rays)
        assert run.field.trunk.mlp.params.isfinite().all()
    if level == "hard_rays":
        assert run._hard_rays.is_full
        assert counts[-1] > counts[0]
    if level == "hard_cameras":
        assert run._hard_cameras.is_full


def test_rays_come_again_though_a_run_is_short():
    options = replace(SMALL, hard_rays=True, batch_samples=0, points_until=5000 / 30000)
    run = distiller(options=options)
    assert run.step(0.2).n_rays == run.step(0.21).n_rays == 256
    assert not run._hard_rays.is_full
    gathered = run._hard_rays.n_filled
    assert gathered == 2 * 25
    report = run.step(0.22)  # beyond 5000 / 30000 + 1503 / 30000
    assert report.n_rays == 256 + 25
    assert run._hard_rays.n_filled == gathered


def test_cameras_that_were_not_seen_are_not_hard():
    run = distiller(options=replace(SMALL, hard_cameras=True, n_epochs=1000))
    for step in range(4):  # no pixels yet
        run.step(0.1 + 0.002 * step)
    assert run._hard_cameras.n_filled == 0
    for step in range(4):
        run.step(0.3 + 0.002 * step)
    assert run._hard_cameras.n_filled > 0


def test_options_that_are_none():
    with pytest.raises(InputError, match="start: needs one of closed, paper"):
        DistillOptions(start="papre")
    with pytest.raises(InputError, match="clip_low needs to be below"):
        DistillOptions(clip_low=8.0)
