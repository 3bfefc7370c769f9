"""Before anything is measured on a GPU: the CUDA module, the suite of operations, the machine."""

from __future__ import annotations

import importlib
import importlib.util
import os
import platform
import re
import shutil
import signal
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from neural_fields.benchmarks.device_timing import Budget
from neural_fields.errors import InputError
from neural_fields.ops import chosen_device, device_text

ROOT = Path(__file__).resolve().parents[1]
_OUTCOME = re.compile(r"\b(PASSED|FAILED|ERROR|SKIPPED|XFAIL|XPASS)\b")
_TEST = re.compile(r"tests/\S+")
_SHOWN_LINES = 30  # of a failed build
_SHOWN_FAILURES = 20
_TAIL = 4000  # characters


@dataclass(frozen=True)
class Suite:
    """How the tests of the operations went.

    Attributes:
        passed: tests.
        failed: tests, and errors before or after one.
        skipped: tests.
        seconds: of the run.
        finished: False where its time was over first.
        failures: names of the first ones.
        tail: the end of what pytest printed, where not all went well.
    """

    passed: int
    failed: int
    skipped: int
    seconds: float
    finished: bool
    failures: tuple[str, ...]
    tail: str


@dataclass(frozen=True)
class Done:
    """How a command ended.

    Attributes:
        code: its exit status; None where its time was over first.
        text: what it printed.
    """

    code: int | None
    text: str


def command(arguments: Sequence[str], seconds: float) -> Done:
    """Run a command in the checkout; it and all that it started end with its time."""
    with tempfile.TemporaryFile("w+") as output:
        process = subprocess.Popen(
            arguments, cwd=ROOT, stdout=output, stderr=subprocess.STDOUT, start_new_session=True
        )
        code: int | None
        try:
            code = process.wait(timeout=seconds)
        except BaseException as error:
            os.killpg(process.pid, signal.SIGKILL)
            process.wait()
            if not isinstance(error, subprocess.TimeoutExpired):
                raise
            code = None
        output.seek(0)
        return Done(code, output.read())


def ready_device(seconds: float, build: bool = True) -> torch.device:
    """The first GPU, with a CUDA module that runs on it, which is built where there is none.

    Args:
        seconds: that a build may take.
        build: False: use what is there.

    Raises:
        InputError: no GPU can be used, or the module cannot be built; the sentence says why.
    """
    if build and torch.cuda.is_available() and not _module_runs():
        build_module(torch.cuda.get_device_capability(0), seconds)
        importlib.invalidate_caches()
    return chosen_device("cuda")


def _module_runs() -> bool:
    """Asked in a process of its own: a module that is loaded once cannot be loaded anew."""
    if importlib.util.find_spec("neural_fields._cuda") is None:
        return False
    code = "from neural_fields.ops import chosen_device; chosen_device('cuda')"
    return subprocess.run([sys.executable, "-c", code], capture_output=True).returncode == 0


def build_module(capability: tuple[int, int], seconds: float) -> None:
    """Compile `neural_fields._cuda` for one compute capability, as `make cuda` does for all.

    Raises:
        InputError: something is missing, it does not compile, or its time is over.
    """
    if not (ROOT / "CMakeLists.txt").is_file():
        raise InputError(f"the CUDA module is not built, and {ROOT} has no sources to build it of.")
    for tool in ("nvcc", "cmake"):
        if shutil.which(tool) is None:
            raise InputError(
                f"the CUDA module is not built, and building it needs {tool} on PATH; install it, "
                "or add its folder to PATH."
            )
    folder = str(ROOT / "build" / "cuda")
    for arguments in (_configure(folder, capability), _compile(folder)):
        done = command(arguments, seconds)
        if done.code != 0:
            print("\n".join(done.text.splitlines()[-_SHOWN_LINES:]), file=sys.stderr)
            why = "took too long" if done.code is None else f"failed with {done.code}"
            raise InputError(f"the CUDA module is not built: '{' '.join(arguments[:3])}' {why}.")


def _configure(folder: str, capability: tuple[int, int]) -> list[str]:
    pybind11 = command([sys.executable, "-m", "pybind11", "--cmakedir"], 60)
    if pybind11.code != 0:
        raise InputError(
            "the CUDA module is not built, and building it needs the package pybind11; "
            "pip install pybind11."
        )
    major, minor = capability
    return [
        "cmake", "-S", str(ROOT), "-B", folder, "-DNF_CUDA=ON", "-DNF_BIND=OFF",
        "-DCMAKE_BUILD_TYPE=Release", f"-DNF_CUDA_ARCHITECTURES={major}{minor}-real",
        f"-DPython_EXECUTABLE={sys.executable}", f"-Dpybind11_DIR={pybind11.text.strip()}",
        f"-DCMAKE_LIBRARY_OUTPUT_DIRECTORY={ROOT / 'neural_fields'}",
    ]  # fmt: skip


def _compile(folder: str) -> list[str]:
    jobs = str(os.cpu_count() or 1)
    return ["cmake", "--build", folder, "--target", "_cuda", "--parallel", jobs]


def run_suite(seconds: float) -> Suite:
    """The tests of all operations on the GPU, in a process of its own.

    Raises:
        InputError: the tests or pytest are not there.
    """
    for name, is_there in (
        ("tests/ops", (ROOT / "tests" / "ops").is_dir()),
        ("pytest", importlib.util.find_spec("pytest") is not None),
    ):
        if not is_there:
            raise InputError(f"the suite needs {name}, which is not here.")
    arguments = [sys.executable, "-m", "pytest", "tests/ops", "--device", "cuda", "-k", "cuda"]
    arguments += ["-v", "-rN", "--tb=line", *_workers()]
    budget = Budget(seconds / 60)
    done = command(arguments, seconds)
    return suite_of(done, budget.spent)


def _workers() -> list[str]:
    """Several processes where pytest can: most of the time goes into references on the CPU."""
    n = min(4, (os.cpu_count() or 1) // 2)
    if n < 2 or importlib.util.find_spec("xdist") is None:
        return []
    return ["-n", str(n), "--dist", "loadfile"]


def suite_of(done: Done, seconds: float) -> Suite:
    """Count what `pytest -v` printed, also where its time was over before its summary."""
    counts = dict.fromkeys(("PASSED", "FAILED", "ERROR", "SKIPPED", "XFAIL", "XPASS"), 0)
    failures = []
    for line in done.text.splitlines():
        test, outcome = _TEST.search(line), _OUTCOME.search(line)
        if test is None or outcome is None:
            continue
        counts[outcome[1]] += 1
        if outcome[1] in ("FAILED", "ERROR"):
            failures.append(test[0])
    failed = counts["FAILED"] + counts["ERROR"]
    if done.code not in (0, 1, None):  # of pytest itself: nothing chosen, or it could not begin
        failed, failures = max(failed, 1), failures or [f"pytest ended with {done.code}"]
    return Suite(
        passed=counts["PASSED"] + counts["XFAIL"],
        failed=failed,
        skipped=counts["SKIPPED"],
        seconds=seconds,
        finished=done.code is not None,
        failures=tuple(failures[:_SHOWN_FAILURES]),
        tail=done.text[-_TAIL:] if failed or done.code is None else "",
    )


def machine(device: torch.device) -> dict[str, Any]:
    """What figures belong to; None for what cannot be found out."""
    facts: dict[str, Any] = {
        "device": device_text(device),
        "commit": _git("rev-parse", "--short", "HEAD"),
        "changed": _git("status", "--porcelain", "--untracked-files=no") not in ("", None),
        "torch": torch.__version__,
        "python": platform.python_version(),
        "processors": os.cpu_count(),
    }
    if device.type != "cuda":
        return facts
    module: Any = importlib.import_module("neural_fields._cuda")
    properties: Any = torch.cuda.get_device_properties(device)
    return facts | {
        "device": properties.name,
        "capability": f"{properties.major}.{properties.minor}",
        "memory_gb": round(properties.total_memory / 1e9, 1),
        "cache_mb": round(getattr(properties, "L2_cache_size", 0) / 1e6, 1) or None,
        "driver": _printed("nvidia-smi", "--query-gpu=driver_version", "--format=csv,noheader"),
        "torch_cuda": torch.version.cuda,
        "module_cuda": module.runtime_version(),
        "module_architectures": module.architectures(),
    }


def _git(*arguments: str) -> str | None:
    return _printed("git", "-C", str(ROOT), *arguments)


def _printed(*arguments: str) -> str | None:
    if shutil.which(arguments[0]) is None:
        return None
    done = subprocess.run(arguments, capture_output=True, text=True)
    return done.stdout.strip() if done.returncode == 0 else None
