"""What is shipped: the source archive, the wheel, and the wheel imported far from the checkout."""

import fcntl
import os
import re
import subprocess
import sys
import tarfile
import tomllib
import zipfile
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())
MAPPED = PROJECT["tool"]["setuptools"]["package-dir"]
PACKAGES = PROJECT["tool"]["setuptools"]["packages"]


def package_folder(package):
    return ROOT / MAPPED.get(package, package.replace(".", "/"))


def call(*arguments, **options):
    result = subprocess.run(
        [sys.executable, "-m", *map(str, arguments)], capture_output=True, text=True, **options
    )
    assert result.returncode == 0, f"{result.stdout[-9000:]}\n{result.stderr[-9000:]}"
    return result.stdout


@pytest.fixture(scope="module")
def build_env(tmp_path_factory):
    """Reuse the compiled core; keep everything else that setuptools writes out of the checkout."""
    folder = tmp_path_factory.mktemp("build")
    (folder / "extra.cfg").write_text(f"[build]\nbuild_base = {folder}/build\n")
    build_dir = ROOT / "build" / f"cmake-{sys.implementation.cache_tag}"
    build_dir.mkdir(parents=True, exist_ok=True)
    with (ROOT / "build" / ".packaging.lock").open("w") as lock:  # one build folder, many workers
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield os.environ | {
            "DIST_EXTRA_CONFIG": str(folder / "extra.cfg"),
            "NF_BUILD_DIR": os.environ.get("NF_BUILD_DIR", str(build_dir)),
            "PIP_DISABLE_PIP_VERSION_CHECK": "1",
        }


@pytest.fixture(scope="module")
def wheel(build_env, tmp_path_factory):
    out = tmp_path_factory.mktemp("wheel")
    flags = ["--no-build-isolation", "--no-deps", "--no-index", "-w", out]
    call("pip", "wheel", *flags, ROOT, env=build_env)
    return next(out.glob("*.whl"))


@pytest.fixture(scope="module")
def wheel_names(wheel):
    with zipfile.ZipFile(wheel) as archive:
        return archive.namelist()


@pytest.fixture(scope="module")
def sdist_names(build_env, tmp_path_factory):
    out = tmp_path_factory.mktemp("sdist")
    call("build", "--sdist", "--no-isolation", "--outdir", out, ROOT, env=build_env)
    with tarfile.open(next(out.glob("*.tar.gz"))) as archive:
        return {name.partition("/")[2] for name in archive.getnames()}


def test_sdist_has_all_that_a_build_needs(sdist_names):
    needed = {"CMakeLists.txt", "LICENSE", "README.md", "pyproject.toml", "setup.py"}
    for folder in (ROOT / "csrc", *map(package_folder, PACKAGES)):
        files = (p for p in folder.rglob("*") if p.suffix in {".py", ".h", ".cpp", ".cu", ".cuh"})
        needed |= {str(path.relative_to(ROOT)) for path in files}
    assert sorted(needed - sdist_names) == []


def test_sdist_has_no_build_outputs(sdist_names):
    assert [n for n in sdist_names if re.search(r"\.(so|o|pyc|nf)$|(^|/)(build|\.venv)/", n)] == []


def test_wheel_has_the_package_and_nothing_else(wheel_names):
    assert {name.split("/")[0].split("-")[0] for name in wheel_names} == {"neural_fields"}
    assert "neural_fields/py.typed" in wheel_names
    native = [n for n in wheel_names if re.fullmatch(r"neural_fields/_core\.[^/]+\.so", n)]
    assert len(native) == 1
    unexpected = [n for n in wheel_names if re.search(r"(^|/)tests?/|\.(cpp|h|cu|pyc|png)$", n)]
    assert unexpected == []


def test_wheel_has_every_module_of_every_package(wheel_names):
    for package in PACKAGES:
        modules = {path.name for path in package_folder(package).glob("*.py")}
        prefix = package.replace(".", "/") + "/"
        assert sorted(modules - {n.removeprefix(prefix) for n in wheel_names}) == []


def test_every_package_of_the_library_is_listed():
    folders = {p.parent.relative_to(ROOT) for p in (ROOT / "neural_fields").rglob("__init__.py")}
    assert sorted({".".join(f.parts) for f in folders} - set(PACKAGES)) == []


def test_wheel_imports_from_another_folder(wheel, tmp_path):
    site = tmp_path / "site"
    call("pip", "install", "--no-deps", "--no-index", "--no-compile", "--target", site, wheel)
    names = ["neural_fields._core", *PACKAGES]
    code = f"import importlib\nfor n in {names}: print(importlib.import_module(n).__file__)"
    (tmp_path / "check.py").write_text(code)
    printed = call("check", cwd=tmp_path, env=os.environ | {"PYTHONPATH": str(site)})
    assert [line for line in printed.splitlines() if not line.startswith(str(site))] == []
    assert len(printed.splitlines()) == len(names)
    assert (site / "bin" / "nf").is_file()


def test_building_needs_neither_torch_nor_a_packaged_cmake():
    required = {
        re.split(r"[^\w-]", line)[0].lower() for line in PROJECT["build-system"]["requires"]
    }
    assert required & {"torch", "cmake", "ninja"} == set()


def test_dependencies_are_few():
    assert len(PROJECT["project"]["dependencies"]) <= 8
