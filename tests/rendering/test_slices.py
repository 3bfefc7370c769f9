"""Planes through spheres, whose distances are known."""

import pytest
import torch
from test_surface import ball

from neural_fields.errors import InputError
from neural_fields.rendering.cameras import Cameras
from neural_fields.rendering.seen import seen_by_rays
from neural_fields.rendering.slices import Slice, slice_rays

WHITE = torch.ones(3)


def cut(field, plane, elevation=60, size=81, box=None, n=1):
    cameras = Cameras.orbit((0, 0, 0), 6, elevation, n, width=size, height=size)
    rays = cameras.image_rays(0)
    widths = cameras.pixel_widths(torch.zeros(len(rays[0]), dtype=torch.int64))
    return slice_rays(field, *rays, widths, plane, WHITE, box).view(size, size, 3), rays, widths


def test_inside_and_outside_have_their_colours():
    picture, _, _ = cut(ball(), Slice(2, 0.0), elevation=89.9)
    middle = picture[38:43, 38:43].reshape(-1, 3)
    assert (middle[:, 0] > middle[:, 2]).all()  # orange
    corner = picture[22:25, 22:25].reshape(-1, 3)  # in the box, outside of the ball
    assert (corner[:, 2] > corner[:, 0]).all()  # blue
    assert (picture[0, 0] == 1).all()  # nothing there


def test_the_surface_is_the_thick_line():
    """Dark where the distance is 0, along the row through the middle."""
    size = 201
    picture, (origins, directions), _ = cut(ball(), Slice(2, 0.0), elevation=89.9, size=size)
    row = slice(size // 2 * size, size // 2 * size + size)
    depth = -origins[row, 2] / directions[row, 2]
    at = origins[row] + depth[:, None] * directions[row]
    dark = picture[size // 2].mean(1) < 0.12
    radius = at[:, :2].norm(dim=1)
    assert dark.any()
    assert ((radius[dark] - 1).abs() < 0.05).all()
    assert dark[(radius - 1).abs() < 0.01].all()


def test_the_half_towards_the_eye_is_taken_away():
    away, (origins, _), _ = cut(ball(), Slice(0, -1.2), elevation=0)
    assert (origins[:, 0] > 5).all()
    there, rays, widths = cut(ball(), Slice(0, 1.24), elevation=0)
    plain = seen_by_rays(ball(), *rays, widths, background=WHITE).view(81, 81, 3)
    covered = (there != plain).any(2)
    assert torch.equal(covered, (there < 1).any(2))  # seen through the plane
    inside = (plain < 1).any(2)
    # What the plane, 0.7 opaque, adds to what is behind it: its red, under lines or not.
    red = ((there - 0.3 * plain) / 0.7)[..., 0][covered & inside]
    assert 0.08 < red.min() < red.max() < 0.37
    red = ((away - 0.3) / 0.7)[..., 0][(away < 1).any(2)]  # white behind it
    assert 0.08 < red.min() < red.max() < 0.37


def test_a_crop_cuts_the_plane_too():
    box = ((0.0, -1.25, -1.25), (1.25, 1.25, 1.25))
    picture, _, _ = cut(ball(), Slice(2, 0.0), elevation=89.9, box=box)
    whole, _, _ = cut(ball(), Slice(2, 0.0), elevation=89.9)
    differs = (picture != whole).any(2)
    assert 0.3 < differs.float().sum() / (whole < 1).any(2).float().sum() < 0.7


def test_planes_beside_the_box_and_other_axes():
    for axis in range(3):
        picture, _, _ = cut(ball(), Slice(axis, 99.0), size=21)
        assert picture.isfinite().all()
    with pytest.raises(InputError, match="axis"):
        Slice(3, 0.0)
