"""Parameters and fixtures of the suite that every operation passes."""

import importlib

import pytest
import torch

from neural_fields import _core

ISAS = ["portable", "avx2", "avx512", "amx"]


def pytest_generate_tests(metafunc):
    names = metafunc.fixturenames
    if "device" in names:
        wanted = metafunc.config.getoption("device")
        cuda = torch.cuda.is_available() and importlib.util.find_spec("neural_fields._cuda")
        here = wanted == "emulated" or (wanted == "cuda" and cuda)
        metafunc.parametrize("device", ["cpu", wanted] if here else ["cpu"], indirect=True)
    if "case" in names and metafunc.cls is not None:
        metafunc.parametrize("case", metafunc.cls.cases, ids=lambda case: case.name)
    if "isa" in names:
        here = ISAS[1 : ISAS.index(_core.best_isa()) + 1]
        metafunc.parametrize("isa", here or ["portable"])


@pytest.fixture
def device(request):
    """The name of a device; the emulated one is there for as long as the test runs."""
    if request.param != "emulated":
        yield request.param
        return
    from device.emulation import emulation

    with emulation():
        yield request.param


@pytest.fixture
def restored_core():
    """The instruction set and the number of threads are put back after the test."""
    isa, n_threads = _core.active_isa(), _core.num_threads()
    yield _core
    _core.set_isa(isa)
    _core.set_num_threads(n_threads)


@pytest.fixture(params=ISAS[: ISAS.index(_core.best_isa()) + 1])
def any_isa(request, restored_core):
    """Runs the test once per instruction set of this machine."""
    restored_core.set_isa(request.param)
    return request.param


def pytest_collection_modifyitems(config, items):
    """The emulated device has the suite's sizes that differ to it: none, a warp and one, blocks."""
    few = {1, 31, 32}
    left = [item for item in items if _of_suite(item) and item.callspec.params["n"] in few]
    if left:
        config.hook.pytest_deselected(items=left)
        items[:] = [item for item in items if item not in set(left)]


def _of_suite(item):
    params = getattr(item, "callspec", None) and item.callspec.params
    return bool(params) and params.get("device") == "emulated" and {"case", "n"} <= set(params)
