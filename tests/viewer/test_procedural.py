"""Procedural scenes in the viewer, against the renderer that makes data sets."""

import math

import numpy as np
import pytest
import torch

from neural_fields.scenes import catalog
from neural_fields.scenes.render import Renderer
from neural_fields.viewer.frame import State, render_frame
from neural_fields.viewer.procedural import ShownScene
from neural_fields.viewer.shown import Look, Rays, camera_of

SIZE = 48


@pytest.fixture(scope="module")
def clockwork():
    return ShownScene("clockwork")


def view_of(shown, time, name="clockwork"):
    """The same camera's view by the scenes' own renderer."""
    pose = camera_of(shown.start, SIZE, SIZE).camera_to_world[0].numpy().astype(np.float64)
    focal = SIZE / 2 / math.tan(shown.start.fov_rad / 2)
    return Renderer(catalog.build(name, time), 64).view(pose, focal, SIZE, SIZE)


def fine_frame(shown, look):
    """The mean of 4x4 rays per pixel, as data sets have several."""
    picture = render_frame(camera_of(shown.start, 4 * SIZE, 4 * SIZE), State(shown, look), bool)
    return picture.float().view(SIZE, 4, SIZE, 4, 3).mean((1, 3)) / 255


def frame(shown, **look):
    return render_frame(camera_of(shown.start, SIZE, SIZE), State(shown, Look(**look)), bool)


@pytest.mark.parametrize("time", [0.0, 0.35])
def test_shows_the_scene_at_its_time(clockwork, time):
    view = view_of(clockwork, time)
    inside = view.rgba[..., 3] == 1
    for background in ((1.0, 1.0, 1.0), (0.0, 0.0, 1.0)):
        over = view.rgba[..., :3] + (1 - view.rgba[..., 3:]) * torch.tensor(background)
        ours = fine_frame(clockwork, Look(time=time, background=background))
        assert (ours - over).abs().mean() < 0.01
        assert (ours - over)[inside].abs().median() < 0.01
    other = frame(clockwork, time=time + 0.3) / 255
    assert (other - frame(clockwork, time=time) / 255).abs().mean() > 0.003


def test_depth_normal_and_opacity(clockwork):
    view = view_of(clockwork, 0.0)
    camera = camera_of(clockwork.start, SIZE, SIZE)
    rays = camera.image_rays(0)
    widths = torch.zeros(len(rays[0]))
    depth, opacity, normal = (
        clockwork.pixels(Rays(*rays, widths), Look(mode)) for mode in ("depth", "opacity", "normal")
    )
    torch.testing.assert_close(depth.view(SIZE, SIZE), view.depth, atol=2e-3, rtol=0)
    assert torch.equal(opacity.view(SIZE, SIZE) > 0, view.ids >= 0)
    seen = view.ids >= 0
    ours = normal.view(SIZE, SIZE, 3)[seen] * 2 - 1
    assert ((ours * view.normal[seen]).sum(-1) > 0.99).float().mean() > 0.98
    assert (normal.view(SIZE, SIZE, 3)[~seen] == 1).all()


def test_a_crop_cuts_it_open(clockwork):
    low, high = clockwork.box
    box = (low, (high[0], high[1], 0.0))  # what is above is gone
    camera = camera_of(clockwork.start, SIZE, SIZE)
    origins, directions = camera.image_rays(0)
    rays = Rays(origins, directions, torch.zeros(len(origins)))
    depth = clockwork.pixels(rays, Look("depth", box=box))
    hit = depth > 0
    points = (origins + depth[:, None] * directions)[hit]
    assert points[:, 2].max() < 1e-3
    assert clockwork.pixels(rays, Look("depth"))[hit].mean() < depth[hit].mean()
    cut = points[:, 2] > -1e-3
    distance = catalog.build("clockwork").distance(points[cut].double())
    assert cut.sum() > 3
    assert (distance < 1e-3).all()  # the inside is solid


def test_the_box_holds_every_moment(clockwork):
    low, high = (np.array(corner) for corner in clockwork.box)
    for time in np.linspace(0, 1, 29):
        bounds = catalog.build("clockwork", time).bounds()
        assert (bounds[0] > low - 0.03).all()
        assert (bounds[1] < high + 0.03).all()


def test_kept_moments_are_bounded(clockwork, monkeypatch):
    monkeypatch.setattr("neural_fields.viewer.procedural._MOMENTS", 8)
    shown = ShownScene("clockwork")
    for time in np.linspace(0, 1, 30):
        shown._moment(float(time))
    assert len(shown._moments) == 9
