"""Fixtures for all tests."""

import importlib.util
import os
import signal
import sys
from pathlib import Path

import pytest

REPOSITORY = Path(__file__).resolve().parents[1]


@pytest.fixture
def shared_data():
    """Path of a folder or file of the shared test data; the test is skipped where it is absent.

    The data lie in $NF_DATA, else in shared/data beside the repository.
    """
    root = Path(os.environ.get("NF_DATA") or REPOSITORY.parent / "shared" / "data")

    def find(name):
        path = root / name
        if not path.exists():
            pytest.skip(f"shared data not present: {name}")
        return path

    return find


@pytest.fixture(autouse=True)
def same_draws():
    """Every test draws the same numbers in every run, alone or among others."""
    if "torch" in sys.modules:
        sys.modules["torch"].manual_seed(0)


def pytest_configure(config):
    # Runs are compared bit for bit, which no GPU promises; what tests one says so.
    os.environ["NF_DEVICE"] = "cpu"
    emulate()
    # A job in a shell's background is started with Ctrl-C ignored, and so would be what it starts.
    if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
        signal.signal(signal.SIGINT, signal.default_int_handler)


def emulate():
    """Let torch know the emulated device, where it is built: before the first gradient is taken."""
    from device import emulation

    if emulation.is_built():
        emulation.install()


def pytest_addoption(parser):
    parser.addoption(
        "--device",
        choices=["cpu", "cuda", "emulated"],
        default="cpu",
        help="repeats the suites of the operations on cuda, if this machine can, or with the CUDA "
        "kernels on the host",
    )


def cuda_works():
    import torch

    return torch.cuda.is_available() and importlib.util.find_spec("neural_fields._cuda") is not None


def pytest_report_header(config):
    if config.getoption("device") == "cuda" and not cuda_works():
        return (
            "device: no CUDA device or no CUDA module here, so its cases are not part of this run"
        )
    return None
