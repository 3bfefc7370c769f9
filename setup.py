"""Builds neural_fields._core with CMake; everything else about the package is in pyproject.toml."""

from __future__ import annotations

import os
import re
import shlex
import shutil
import subprocess
import sys
from pathlib import Path

from setuptools import Extension, setup
from setuptools.command.build_ext import build_ext

HERE = Path(__file__).resolve().parent


def is_stale(cache: Path) -> bool:
    """Whether a build folder was configured by tools or for a tree that are no longer there."""
    text = cache.read_text()
    program = re.search(r"^CMAKE_MAKE_PROGRAM:\w+=(.*)$", text, re.M)
    home = re.search(r"^CMAKE_HOME_DIRECTORY:\w+=(.*)$", text, re.M)
    return bool((program and not os.path.exists(program[1])) or (home and Path(home[1]) != HERE))


class CMakeBuild(build_ext):
    """Builds the native module in a fixed folder, so that rebuilds are incremental."""

    def build_extension(self, ext: Extension) -> None:
        """Build one extension into the place where setuptools wants it."""
        if shutil.which("cmake") is None:
            raise SystemExit(
                "neural_fields: building needs CMake 3.18 or newer and none was found; "
                "run 'pip install cmake' and try again."
            )
        import pybind11

        out = Path(self.get_ext_fullpath(ext.name)).resolve().parent
        default = HERE / "build" / f"cmake-{sys.implementation.cache_tag}"
        build = Path(os.environ.get("NF_BUILD_DIR") or default).resolve()
        cache = build / "CMakeCache.txt"
        if cache.exists() and is_stale(cache):
            shutil.rmtree(build)
        build.mkdir(parents=True, exist_ok=True)
        arguments = [
            f"-DCMAKE_LIBRARY_OUTPUT_DIRECTORY={out}",
            f"-DPython_EXECUTABLE={sys.executable}",
            f"-DCMAKE_BUILD_TYPE={'Debug' if self.debug else 'Release'}",
            f"-Dpybind11_DIR={pybind11.get_cmake_dir()}",
        ]
        if shutil.which("ninja") and not cache.exists():
            arguments += ["-G", "Ninja"]
        arguments += shlex.split(os.environ.get("CMAKE_ARGS", ""))
        jobs = str(os.cpu_count() or 1)
        subprocess.run(["cmake", "-S", str(HERE), "-B", str(build), *arguments], check=True)
        subprocess.run(
            ["cmake", "--build", str(build), "--target", "_core", "--parallel", jobs], check=True
        )


setup(
    ext_modules=[Extension("neural_fields._core", sources=[])],
    cmdclass={"build_ext": CMakeBuild},
)
