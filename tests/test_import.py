"""`import neural_fields` stays light: no optional package, no device, no compiler, little memory.

Time is machine-dependent and lives in benchmarks/import_time.py.
"""

import json
import statistics
import subprocess
import sys
from pathlib import Path

import pytest

HEAVY = {
    "av",
    "imageio",
    "imageio_ffmpeg",
    "matplotlib",
    "nerfstudio",
    "open3d",
    "skimage",
    "tinycudann",
    "torch.utils.cpp_extension",
    "torchmetrics",
    "trimesh",
    "triton",
    "viser",
}
# VmHWM counts this process only; ru_maxrss would start from the size of the one that forked it.
REPORT = """
import json, re, sys
status = open("/proc/self/status").read()
torch = sys.modules.get("torch")
print(json.dumps({
    "peak_kb": int(re.search(r"VmHWM:\\s*(\\d+) kB", status)[1]),
    "modules": sorted(sys.modules),
    "device": bool(torch and torch.cuda.is_initialized()),
}))
"""

pytestmark = pytest.mark.skipif(
    not Path("/proc/self/status").exists(), reason="needs /proc/self/status to measure memory"
)


def measure(statement, cwd):
    command = [sys.executable, "-W", "error", "-c", f"{statement}\n{REPORT}"]
    result = subprocess.run(command, cwd=cwd, capture_output=True, text=True)
    assert result.returncode == 0, result.stderr
    return json.loads(result.stdout)


@pytest.fixture(scope="module")
def pairs(tmp_path_factory):
    cwd = tmp_path_factory.mktemp("elsewhere")  # not the checkout, which would be on the path
    return [(measure("import torch", cwd), measure("import neural_fields", cwd)) for _ in range(3)]


def test_nothing_heavy_is_imported(pairs):
    from_torch, ours = (set(report["modules"]) for report in pairs[0])
    assert "neural_fields" in ours
    assert sorted((ours - from_torch) & HEAVY) == []


def test_no_device_is_touched(pairs):
    assert not pairs[0][1]["device"]


def test_memory_is_close_to_that_of_torch(pairs):
    ratios = [ours["peak_kb"] / torch["peak_kb"] for torch, ours in pairs]
    assert statistics.median(ratios) < 1.5
