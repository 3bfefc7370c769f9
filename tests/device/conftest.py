"""Small runs on the CPU and on the emulated device."""

import sys
from dataclasses import replace
from fractions import Fraction
from pathlib import Path

import pytest
import torch

from neural_fields import scenes
from neural_fields.data.dataset import load_dataset
from neural_fields.data.picture import Picture
from neural_fields.data.video import Video

TESTS = Path(__file__).parents[1]
sys.path += [str(TESTS / "training")]


@pytest.fixture
def waits():
    """The emulated device is there, and the list is of what made the host wait for it."""
    from device.emulation import emulation

    with emulation() as noted:
        yield noted


@pytest.fixture(scope="session")
def scene_folder(tmp_path_factory):
    folder = tmp_path_factory.mktemp("device") / "scene"
    scenes.make("clockwork", folder, n_train=8, n_test=2, size=32)
    return folder


@pytest.fixture(scope="session")
def photographs(scene_folder):
    return load_dataset(scene_folder, "train", 1, "white")


def noise(*shape):
    return (torch.rand(*shape, generator=torch.Generator().manual_seed(1)) * 255).byte()


@pytest.fixture(scope="session")
def picture():
    return Picture(noise(24, 32, 3), "noise", "srgb", 8, {}, "fingerprint")


@pytest.fixture(scope="session")
def video():
    times = tuple(k / 25 for k in range(4))
    return Video(noise(4, 24, 32, 3), "noise", Fraction(25), times, {}, "fingerprint")


def small(pair, **changes):
    """A configuration, and its options with few rays a step."""
    config, options = pair
    return config, replace(options, **changes)
