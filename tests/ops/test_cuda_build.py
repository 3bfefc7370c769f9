"""The CUDA module: every operation has a kernel, and the bindings are those of the CPU core.

Where the module was built, it is imported as on a machine without a GPU; nothing runs on one.
"""

import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

from neural_fields import _core

ROOT = Path(__file__).resolve().parents[2]
OPS = ROOT / "csrc" / "ops"
CPU_ONLY = {"limits"}  # measures the processor
OWN_FUNCTIONS = {
    "architectures",
    "device_count",
    "device_name",
    "device_status",
    "runtime_version",
}
BUILT = (
    shutil.which("nvcc") is not None
    and (ROOT / "build" / "cuda").is_dir()
    and any((ROOT / "neural_fields").glob("_cuda.*.so"))
)

CODE = """
import json
from neural_fields import _core, _cuda

docs = {name: getattr(_cuda, name).__doc__ for name in dir(_cuda) if not name.startswith("_")}
errors = []
network = (_cuda if {own_shape} else _core).MlpShape([3, 4], "relu", "none", 1.0, True)
for call in (lambda: _cuda.device_name(0), lambda: _cuda.mlp_forward(network, 1, 2, 3)):
    try:
        call()
    except Exception as error:
        errors.append(f"{type(error).__name__}: {error}")
print(json.dumps([docs, errors, _cuda.device_count(), _cuda.runtime_version()]))
"""


def names_of(folder):
    """The operations below csrc/ops that belong on a GPU."""
    return {path.name for path in folder.iterdir() if path.is_dir()} - CPU_ONLY


def arguments(doc):
    """The argument names of a function, from the first line of what pybind11 writes."""
    return re.findall(r"[(,] (\w+):", doc.splitlines()[0].replace("(", "( "))


def belongs_to_an_op(name):
    return any(name.startswith(op) for op in names_of(OPS))


def test_every_operation_has_a_kernel():
    missing = {name for name in names_of(OPS) if not (OPS / name / f"{name}.cu").is_file()}
    assert missing == set()


def test_cmake_lists_every_kernel():
    listed = set(re.findall(r"csrc/\S+\.cu\b", (ROOT / "cmake" / "cuda_sources.cmake").read_text()))
    assert listed == {str(path.relative_to(ROOT)) for path in (ROOT / "csrc").rglob("*.cu")}


def test_arguments_are_read_from_the_docstring():
    doc = "adam(params: object, step: typing.SupportsInt, touched: object = None) -> None\n"
    assert arguments(doc) == ["params", "step", "touched"]


if BUILT:

    def in_a_process_without_a_gpu(own_shape):
        code = CODE.replace("{own_shape}", str(own_shape))
        environment = os.environ | {"CUDA_VISIBLE_DEVICES": ""}
        result = subprocess.run(
            [sys.executable, "-c", code], capture_output=True, text=True, cwd=ROOT, env=environment
        )
        assert result.returncode == 0, result.stderr
        return json.loads(result.stdout)

    def test_module_imports_and_says_what_is_missing():
        _, errors, n_devices, version = in_a_process_without_a_gpu(own_shape=True)
        assert n_devices == 0
        assert re.fullmatch(r"\d+\.\d+", version)
        assert errors[0].startswith("RuntimeError: device_name: no GPU can be used here: ")
        assert errors[1].startswith("TypeError: mlp_forward: needs a torch tensor, got ")

    def test_shapes_of_either_module_are_taken():
        _, errors, _, _ = in_a_process_without_a_gpu(own_shape=False)
        assert errors[1].startswith("TypeError: mlp_forward: needs a torch tensor, got ")

    def test_module_has_the_functions_of_the_core():
        docs = in_a_process_without_a_gpu(own_shape=True)[0]
        functions = {name for name in dir(_core) if belongs_to_an_op(name)}
        shapes = {name for name in docs if isinstance(getattr(_core, name, None), type)}
        assert set(docs) == functions | shapes | OWN_FUNCTIONS, "run 'make cuda' if it is older"
        for name in functions:
            assert arguments(docs[name]) == arguments(getattr(_core, name).__doc__), name
