"""One tiny data set for all tests here, made once."""

import pytest
import torch

from neural_fields import _core, scenes
from neural_fields.data.dataset import load_dataset


@pytest.fixture(scope="session")
def scene(tmp_path_factory):
    """Folder of a data set of 20 + 4 views of 48 pixels."""
    folder = tmp_path_factory.mktemp("data") / "scene"
    return scenes.make("locomotive", folder, n_train=20, n_test=4, size=48)


@pytest.fixture(scope="session")
def data(scene):
    return load_dataset(scene)


@pytest.fixture(autouse=True)
def one_thread():
    """So little work per step that threads would only wait for each other."""
    before = torch.get_num_threads(), _core.num_threads()
    torch.set_num_threads(1)
    _core.set_num_threads(1)
    yield
    torch.set_num_threads(before[0])
    _core.set_num_threads(before[1])
