"""Paths through views: they pass through all of them, smoothly, without odd turns."""

from dataclasses import replace

import pytest
import torch

from neural_fields.errors import InputError
from neural_fields.rendering.camera_path import smooth_path
from neural_fields.rendering.cameras import Cameras


def keys(n=4, **options):
    return Cameras.orbit((0.5, 0, 0), 4, elevation_deg=20, n=n, **options)


@pytest.mark.parametrize("closed", [False, True])
def test_passes_through_its_keys(closed):
    four = keys()
    n = 40 if closed else 31
    path = smooth_path(four, n, closed=closed)
    assert len(path) == n
    found = path.camera_to_world[::10][: len(four)]
    torch.testing.assert_close(found, four.camera_to_world, rtol=0, atol=1e-5)


def test_is_rigid_and_smooth():
    path = smooth_path(keys(5), 201).camera_to_world.double()
    rotation = path[:, :3, :3]
    identity = torch.eye(3, dtype=torch.float64).expand_as(rotation)
    torch.testing.assert_close(rotation @ rotation.mT, identity, rtol=0, atol=1e-6)
    assert (torch.linalg.det(rotation) > 0).all()
    speed = path[:, :3, 3].diff(dim=0)
    assert (speed.diff(dim=0).norm(dim=1) < 0.15 * speed.norm(dim=1).mean()).all()
    # On a circle all turns are about its axis, at constant speed.
    turns = (rotation[:-1].mT @ rotation[1:]).diagonal(dim1=1, dim2=2).sum(1)
    torch.testing.assert_close(turns, turns[:1].expand_as(turns), rtol=0, atol=1e-6)


def test_a_half_turn_and_no_turn():
    two = keys(2)  # opposite each other
    half = smooth_path(two, 3).camera_to_world[1, :3, :3].double()
    cosine = ((two.camera_to_world[0, :3, :3].double().mT @ half).trace() - 1) / 2
    assert abs(float(cosine)) < 1e-3  # a quarter
    still = Cameras.joined([two[0], two[0]])
    path = smooth_path(still, 5).camera_to_world
    torch.testing.assert_close(path, still.camera_to_world[:1].expand_as(path))


def test_lenses_and_times_go_along():
    three = keys(3)
    three = replace(
        three,
        focal=three.focal * torch.tensor([[1.0], [2.0], [1.0]]),
        times=torch.tensor([0.0, 0.5, 1.0]),
    )
    path = smooth_path(three, 9)
    torch.testing.assert_close(path.focal[2], three.focal[0] * 1.5)
    torch.testing.assert_close(path.times, torch.linspace(0, 1, 9))


@pytest.mark.parametrize(("n_keys", "n"), [(1, 9), (3, 2)])
def test_too_few_are_refused(n_keys, n):
    with pytest.raises(InputError, match="2 views or more"):
        smooth_path(keys(n_keys), n)


def test_only_like_cameras_are_joined():
    with pytest.raises(InputError, match="one size"):
        Cameras.joined([keys(width=30), keys(width=31)])
