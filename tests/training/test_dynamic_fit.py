"""Fitting what moves."""

import dataclasses
import json
import os
import signal

import pytest
import torch
from small_nf import small_dynamic

import neural_fields as nf
import neural_fields.fit
from neural_fields import InputError, TrainingError, scenes
from neural_fields.architectures.mlp import Mlp
from neural_fields.data.dataset import load_dataset
from neural_fields.fields import DynamicField, Levels
from neural_fields.ops import RadianceSamples, march_into
from neural_fields.rendering.occupancy import cell_centers, occupied
from neural_fields.rendering.seen import seen_by_camera
from neural_fields.rendering.volume import render_view
from neural_fields.training.evaluate import evaluate
from neural_fields.training.nerf import NerfTrainer
from neural_fields.training.presets import dynamic_setup, with_choices
from neural_fields.training.radiance_step import PackedBatch


@pytest.fixture(scope="module")
def moving(tmp_path_factory):
    folder = tmp_path_factory.mktemp("moving") / "scene"
    return scenes.make("clockwork", folder, n_train=20, n_test=6, size=40)


@pytest.fixture(autouse=True)
def small(monkeypatch):
    monkeypatch.setattr(neural_fields.fit.photographs, "dynamic_setup", small_dynamic)


@pytest.fixture(scope="module")
def run(moving, tmp_path_factory):
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(neural_fields.fit.photographs, "dynamic_setup", small_dynamic)
        return nf.fit.dynamic(moving, tmp_path_factory.mktemp("run") / "a.nf", steps=400)


def test_it_learns_what_moves(run, moving):
    scores = nf.evaluate(run.output, moving)
    assert scores["psnr"] > 19
    field = nf.load(run.output)
    test = load_dataset(moving, "test", 1, "white", aabb=field.config.box)
    at_their_times = evaluate(field, test)["psnr"]
    assert at_their_times == pytest.approx(scores["psnr"])
    elsewhen = (test.cameras.times + 0.5) % 1
    swapped = dataclasses.replace(test, cameras=dataclasses.replace(test.cameras, times=elsewhen))
    assert evaluate(field, swapped)["psnr"] < at_their_times - 0.3


def test_runs_repeat_and_go_on(moving, tmp_path):
    alone = nf.fit.dynamic(moving, tmp_path / "a.nf", steps=40)
    again = nf.fit.dynamic(moving, tmp_path / "b.nf", steps=40)

    def stop(progress):
        if progress.moment.step == 17:
            os.kill(os.getpid(), signal.SIGINT)

    stopped = nf.fit.dynamic(moving, tmp_path / "c.nf", steps=40, on_progress=stop)
    assert stopped.interrupted
    resumed = nf.fit.dynamic(moving, tmp_path / "c.nf", steps=40, resume=True)
    for other in (again, resumed):
        for name, value in alone.field.state_dict().items():
            assert torch.equal(value, other.field.state_dict()[name]), name
        assert torch.equal(alone.field.occupancy, other.field.occupancy)


def test_every_span_has_the_cells_that_are_occupied_in_it(moving, monkeypatch):
    data = load_dataset(moving, "train", 1, "white")
    config, options = small_dynamic(data)
    trainer = NerfTrainer(config, data, options)

    def ball(field, samples, levels):
        """A ball that goes along x in the cube, from 0.3 to 0.7."""
        cube, times = field.to_cube(samples.positions), samples.times
        middle = torch.full_like(cube, 0.5)
        middle[:, 0] = 0.3 + 0.4 * times
        inside = (cube - middle).norm(dim=1) < 0.08
        return Levels(log_density=torch.where(inside, 8.0, -20.0))

    monkeypatch.setattr(DynamicField, "evaluate", ball)
    n = config.n_spans
    for index in range(12 * n):
        trainer.grid.update(index, decay=0.5)
    for span in range(n):
        moment = trainer.field.at((span + 0.5) / n)
        seen = moment.to_cube(cell_centers(moment)[occupied(moment)])
        first, last = 0.3 + 0.4 * span / n, 0.3 + 0.4 * (span + 1) / n
        for x in (first, last):
            assert ((seen - seen.new_tensor([x, 0.5, 0.5])).norm(dim=1) < 0.06).any()
        assert first - 0.12 < seen[:, 0].min() < seen[:, 0].max() < last + 0.12
        assert (seen[:, 1:] - 0.5).abs().max() < 0.12


def test_rays_march_through_the_cells_of_their_span(moving):
    data = load_dataset(moving, "train", 1, "white")
    trainer = NerfTrainer(small_dynamic(data)[0], data)
    field, scene = trainer.field, trainer.field.march_scene()
    generator = torch.Generator().manual_seed(0)
    words = torch.randint(-(2**62), 2**62, field.occupancy.shape, generator=generator)
    field.occupancy.copy_(words)
    rays = trainer._draw_rays()
    batch = PackedBatch(field, 200_000)
    parts = (rays.origins, rays.directions, rays.jitter, scene, rays.times)
    samples, used = batch.march(*parts)
    n_used = int(used[0])
    assert n_used == len(rays.origins)
    assert int(used[1]) == int(samples.offsets[-1])
    for ray in range(0, n_used, 97):
        moment = field.at(float(rays.times[ray]))
        one = slice(ray, ray + 1)
        expected = RadianceSamples.empty(n_rays=1, capacity=4096)
        ray_parts = (rays.origins[one], rays.directions[one], rays.jitter[one])
        march_into(scene, moment.occupancy, *ray_parts, expected)
        begin, end = samples.offsets[ray : ray + 2].tolist()
        n = int(expected.offsets[1])
        assert end - begin == n
        assert torch.equal(samples.t_starts[begin:end], expected.t_starts[:n])
        assert torch.equal(samples.positions[begin:end], expected.positions[:n])
    few, used = PackedBatch(field, 2000).march(*parts)
    n_fit = int(used[0])
    assert 0 < n_fit < n_used
    assert torch.equal(few.offsets[: n_fit + 1], samples.offsets[: n_fit + 1])


def test_a_scene_that_is_lost_is_said_to_be(moving, monkeypatch):
    data = load_dataset(moving, "train", 1, "white")
    config, options = small_dynamic(data)
    trainer = NerfTrainer(config, data, dataclasses.replace(options, grid_every=1))

    def clear(field, samples, levels):
        return Levels(log_density=torch.full((len(samples.positions),), -20.0))

    monkeypatch.setattr(DynamicField, "evaluate", clear)
    with pytest.raises(TrainingError, match="nothing of the scene is left"):
        trainer._update_grid()


def test_a_motion_network_learns_too(moving):
    data = load_dataset(moving, "train", 1, "white")
    config, options = small_dynamic(data)
    config = dataclasses.replace(config, motion=Mlp(2, (16, 16)))
    trainer = NerfTrainer(config, data, options)
    before = [parameter.clone() for parameter in trainer.field.motion.parameters()]
    losses = [trainer.step(k / 60).loss for k in range(60)]
    assert sum(losses[-10:]) < sum(losses[:10])
    for old, new in zip(before, trainer.field.motion.parameters(), strict=True):
        assert not torch.equal(old, new)


def test_silhouettes_exclude_nothing_that_moves(moving):
    data = load_dataset(moving, "train", 1, "white")
    assert data.box_rule == "focus"  # no box from silhouettes of different moments
    config, options = small_dynamic(data)
    trainer = NerfTrainer(config, data, options)
    rests = (
        NerfTrainer(*neural_fields.training.presets.radiance_setup(data), data) if False else None
    )
    assert rests is None
    seen = trainer.grid.n_candidates
    assert seen > 0.9 * config.sampling.resolution**3


def test_every_ray_has_its_photographs_time(moving):
    data = load_dataset(moving, "train", 1, "white")
    trainer = NerfTrainer(small_dynamic(data)[0], data)
    rays = trainer._draw_rays()
    assert torch.equal(rays.times, data.cameras.times[rays.camera_ids])
    assert rays.times.unique().numel() == 20


def test_pictures_of_moments(run, moving):
    field = nf.load(run.output)
    cameras = load_dataset(moving, "test", 1, "white").cameras
    white = torch.ones(3)
    by_camera = seen_by_camera(field, cameras, 2, background=white)
    by_moment = seen_by_camera(field.at(float(cameras.times[2])), cameras, 2, background=white)
    assert torch.equal(by_camera, by_moment)
    timeless = dataclasses.replace(cameras, times=None)
    with pytest.raises(InputError, match="cameras need times"):
        render_view(field, timeless, 2)
    assert torch.equal(
        seen_by_camera(field.at(float(cameras.times[2])), timeless, 2, background=white), by_moment
    )


@pytest.mark.parametrize(
    ("times", "message"),
    [
        (lambda k: None, "there is no `time`"),
        (lambda k: 0.5, "all are 0.5"),
        (lambda k: -0.5 if k == 3 else 0.1 * k, "time: needs a finite number"),
        (lambda k: 1.5 if k == 3 else 0.1, "time: needs a finite number"),
        (lambda k: None if k == 3 else 0.1, r"frames\[3\] has no `time`"),
        (lambda k: float("nan"), "time"),
    ],
)
def test_times_that_are_none(moving, tmp_path, times, message):
    listed = json.loads((moving / "transforms_train.json").read_text())
    for k, frame in enumerate(listed["frames"]):
        frame.pop("time")
        frame["file_path"] = str(moving / frame["file_path"])
        if times(k) is not None:
            frame["time"] = times(k)
    (tmp_path / "transforms_train.json").write_text(json.dumps(listed))
    with pytest.raises(InputError, match=message):
        nf.fit.dynamic(tmp_path, tmp_path / "a.nf", steps=2)
    assert not (tmp_path / "a.nf").exists()


def test_modulation_is_by_time_where_the_trunk_does_not_see_it(moving):
    calls = []

    def note(trainer, _data):
        calls.append(trainer.field.config)

    nf.fit.dynamic(moving, steps=1, on_start=note)
    nf.fit.dynamic(moving, steps=1, modulate="time", on_start=note)
    assert calls[0].modulate is None
    assert calls[1].modulate.coordinates == "time"
    data = load_dataset(moving, "train", 1, "white")
    for field, expected in (
        ("hash", None),
        ("mlp", None),
        ("planes", None),
        ("fourier", "time"),
        ("voxels", None),
    ):
        config = with_choices(dynamic_setup(data, field)[0], "float32", None, 32)
        assert (config.modulate and config.modulate.coordinates) == expected
        assert (config.motion is None) == (field in ("hash", "mlp", "planes"))
