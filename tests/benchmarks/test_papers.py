"""The papers' protocols where they are small enough to be tests."""

import pytest

from neural_fields.benchmarks.papers.cam import PUBLISHED_TOY, toy_row
from neural_fields.benchmarks.papers.rows import Rows

PARAMETERS = {"MLP": 12_673, "MLP+PE": 14_721, "MLP+CAM": 13_185, "MLP+PE+CAM": 15_233}


@pytest.mark.parametrize("name", PUBLISHED_TOY)
def test_the_toy_of_modulation(name):
    """Ten sines on 200 points; two of the four arms are affine functions of their inputs."""
    row = toy_row(name, seed=0)
    assert row["params"] == PARAMETERS[name]
    # Published as means of unknown seeds; ours of one vary by as much as this.
    assert row["mse"] == pytest.approx(PUBLISHED_TOY[name], rel=0.1, abs=0.02)


def test_rows_are_made_once(tmp_path):
    calls = []

    def make():
        calls.append(1)
        return {"a": len(calls)}

    assert Rows(tmp_path / "r.json").get("x", make) == {"a": 1}
    assert Rows(tmp_path / "r.json").get("x", make) == {"a": 1}
    assert len(calls) == 1
