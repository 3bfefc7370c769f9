import importlib.util
import subprocess
import sys
from pathlib import Path

import pytest

CI = Path(__file__).resolve().parents[1] / ".ci"
SCRIPT = CI / "check_skips.py"
TESTS = """
import pytest
def test_runs(): pass
@pytest.mark.skip(reason="no CUDA device here")
def test_device(): pass
@pytest.mark.parametrize("i", [0, 1])
def test_lazy(i): pytest.skip("did not feel like it")
@pytest.mark.xfail(reason="known to be wrong")
def test_wrong(): assert False
"""


def run(junit, allowed):
    return subprocess.run(
        [sys.executable, str(SCRIPT), str(junit), str(allowed)], capture_output=True, text=True
    )


@pytest.fixture(scope="module")
def junit(tmp_path_factory):
    folder = tmp_path_factory.mktemp("suite")
    (folder / "test_it.py").write_text(TESTS)
    command = [sys.executable, "-m", "pytest", "-q", "--rootdir", str(folder), "-c", "/dev/null"]
    command += ["-p", "no:cacheprovider", "--junit-xml=report.xml", "test_it.py"]
    subprocess.run(command, cwd=folder, check=True, capture_output=True)
    return folder / "report.xml"


def test_every_skip_explained_passes(junit, tmp_path):
    allowed = tmp_path / "allowed.txt"
    allowed.write_text(
        "# why\n\nCUDA device -- no GPU\nfeel like -- moods\n^xfail: known -- later\n"
    )
    result = run(junit, allowed)
    assert result.returncode == 0, result.stdout
    assert "4 skipped, 0 reasons not allowed" in result.stdout


def test_unexplained_skips_fail_and_are_named(junit, tmp_path):
    allowed = tmp_path / "allowed.txt"
    allowed.write_text("CUDA device -- no GPU\n")
    result = run(junit, allowed)
    assert result.returncode == 1
    assert "skipped    2  did not feel like it  [NOT ALLOWED]" in result.stdout
    assert "test_lazy[0]" in result.stdout
    assert "known to be wrong" in result.stdout


def test_a_pattern_without_a_reason_is_refused(junit, tmp_path):
    allowed = tmp_path / "allowed.txt"
    allowed.write_text("CUDA device\n")
    result = run(junit, allowed)
    assert result.returncode != 0
    assert "allowed.txt:1: needs 'pattern -- why'" in result.stderr


def test_an_empty_report_is_refused(tmp_path):
    report = tmp_path / "report.xml"
    report.write_text("<testsuites><testsuite/></testsuites>")
    result = run(report, CI / "allowed_skips.txt")
    assert result.returncode != 0
    assert "no test ran" in result.stderr


def test_the_projects_own_list_is_well_formed():
    spec = importlib.util.spec_from_file_location("check_skips", SCRIPT)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    assert module.read_allowed(CI / "allowed_skips.txt")
