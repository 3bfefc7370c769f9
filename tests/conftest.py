"""Fixtures for all tests."""

import os
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
