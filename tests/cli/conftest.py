"""One tiny data set, one small field fitted to it, and `nf` inside this process."""

import io
import sys
from contextlib import redirect_stderr, redirect_stdout
from pathlib import Path
from typing import NamedTuple

import pytest
import torch

from neural_fields import _core, scenes

TESTS = Path(__file__).parents[1]
sys.path += [str(TESTS / "training"), str(TESTS / "fields"), str(TESTS / "data")]


class Outcome(NamedTuple):
    code: int
    out: str
    err: str


@pytest.fixture(autouse=True, scope="session")
def one_thread():
    before = torch.get_num_threads(), _core.num_threads()
    torch.set_num_threads(1)
    _core.set_num_threads(1)
    yield
    torch.set_num_threads(before[0])
    _core.set_num_threads(before[1])


@pytest.fixture(scope="session")
def nf():
    """Runs `nf` with these arguments; fits use small networks."""
    import small_nf

    import neural_fields.fit
    from neural_fields.cli.main import run

    def call(*arguments):
        out, err = io.StringIO(), io.StringIO()
        with redirect_stdout(out), redirect_stderr(err), pytest.MonkeyPatch.context() as patch:
            patch.setattr(neural_fields.fit.photographs, "radiance_setup", small_nf.small_setup)
            patch.setattr(neural_fields.fit.photographs, "dynamic_setup", small_nf.small_dynamic)
            patch.setattr(neural_fields.fit.photographs, "surface_setup", small_nf.small_surface)
            code = run([str(argument) for argument in arguments])
        return Outcome(code, out.getvalue(), err.getvalue())

    return call


@pytest.fixture
def refused(nf, tmp_path):
    """Runs `nf`, which must refuse: one sentence, code 2, and nothing written to tmp_path."""

    def call(*arguments):
        before = sorted(tmp_path.rglob("*"))
        outcome = nf(*arguments)
        assert outcome.code == 2, outcome
        assert outcome.out == ""
        assert outcome.err.startswith("nf: ")
        assert outcome.err.count("\n") == 1
        assert outcome.err.endswith("\n")
        assert "Traceback" not in outcome.err
        assert sorted(tmp_path.rglob("*")) == before
        return outcome.err

    return call


@pytest.fixture(scope="session")
def scene(tmp_path_factory):
    folder = tmp_path_factory.mktemp("cli") / "scene"
    return scenes.make("locomotive", folder, n_train=8, n_test=2, size=32)


@pytest.fixture(scope="session")
def fitted(nf, scene, tmp_path_factory):
    """A field of 60 steps."""
    path = tmp_path_factory.mktemp("fitted") / "a.nf"
    assert nf("fit", "nerf", scene, "-o", path, "--steps", 60).code == 0
    return path
