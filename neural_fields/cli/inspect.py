"""`nf info` and `nf doctor`."""

from __future__ import annotations

import importlib.util
import os
import platform
import shutil
from pathlib import Path
from typing import Any

import tyro

from neural_fields.cli.output import emit_json, say


def info(file: tyro.conf.Positional[Path], json: str | None = None) -> None:
    """Say what a .nf or .nfv file holds.

    Args:
        file: a .nf file or checkpoint, or a compressed video.
        json: write it as JSON to this file, or - for stdout.
    """
    if file.suffix == ".nfv":
        _info_of_video(file, json)
        return
    from neural_fields.fields import read_field_file

    content = read_field_file(file)
    tensors = {
        name: {"shape": list(tensor.shape), "dtype": str(tensor.dtype).removeprefix("torch.")}
        for name, tensor in sorted(content.tensors.items())
    }
    weights = [t for name, t in content.tensors.items() if name.startswith("field.")]
    result: dict[str, Any] = {
        "file": str(file),
        "bytes": file.stat().st_size,
        "kind": content.kind,
        "architecture": content.config.get("architecture"),
        "params": sum(tensor.numel() for tensor in weights),
        "config": content.config,
        "scene": content.scene,
        "protocol": content.protocol,
        "provenance": content.provenance,
        "metrics": content.metrics,
        "checkpoint": content.checkpoint,
        "tensors": tensors,
    }
    for key in ("kind", "architecture", "params", "bytes"):
        say(f"{key:>14}  {result[key]}", json)
    for group in ("config", "scene", "protocol", "metrics", "provenance", "checkpoint"):
        for key, value in result[group].items():
            text = str(value)
            say(
                f"{group + '.' + key:>28}  {text if len(text) < 200 else text[:200] + ' ...'}", json
            )
    for name, entry in tensors.items():
        say(f"{name:>40}  {entry['dtype']} {entry['shape']}", json)
    emit_json(json, result)


def _info_of_video(file: Path, json: str | None) -> None:
    from dataclasses import asdict

    from neural_fields.codec.decoder import CodedVideo

    with CodedVideo(file) as video:
        header = video.header
        result = {"file": str(file), "bytes": video.n_bytes, "kind": "coded video"}
        result |= asdict(header) | {"bpp": video.n_bytes * 8 / header.n_pixels}
        for key, value in result.items():
            text = str(value)
            say(f"{key:>14}  {text if len(text) < 200 else text[:200] + ' ...'}", json)
    emit_json(json, result)


def doctor(json: str | None = None) -> None:
    """Say what was found on this machine, which path is used, and why.

    Args:
        json: write it as JSON to this file, or - for stdout.
    """
    import torch

    import neural_fields
    from neural_fields import _core

    forced = os.environ.get("NF_ISA")
    result: dict[str, Any] = {
        "neural_fields": neural_fields.__version__,
        "python": platform.python_version(),
        "torch": torch.__version__,
        "system": f"{platform.system()} {platform.machine()}",
        "best_path": _core.best_isa(),
        "path_in_use": _core.active_isa(),
        "path_reason": f"NF_ISA={forced}" if forced else "the best that this processor runs",
        "bf16": _bf16(_core.active_isa(), _core.has_avx512_bf16()),
        "threads": _core.num_threads(),
        "threads_reason": "NF_NUM_THREADS"
        if os.environ.get("NF_NUM_THREADS")
        else "the cores that this process may use",
        "huge_pages": _huge_pages(),
        "cuda": _cuda(),
    }
    found = importlib.util.find_spec("imageio_ffmpeg") is not None
    result["imageio_ffmpeg"] = "found, for mp4 videos" if found else "missing: no mp4 videos"
    meshes = ("trimesh", "open3d", "skimage")
    absent = [name for name in meshes if importlib.util.find_spec(name) is None]
    result["meshes"] = f"missing: {', '.join(absent)}" if absent else "found, for shapes"
    for key, value in result.items():
        say(f"{key:>16}  {value}", json)
    emit_json(json, result)


def _bf16(path: str, dot_products: bool) -> str:
    if path == "amx":
        return "matrix tiles (AMX)"
    if path == "avx512" and dot_products:
        return "dot products (AVX512-BF16)"
    return "computed in float32 on this path: --precision bf16 is no faster"


def _huge_pages() -> str:
    path = Path("/sys/kernel/mm/transparent_hugepage/enabled")
    if not path.is_file():
        return "not offered by this system: large tables are slower"
    mode = path.read_text().split("[")[-1].split("]")[0]
    if mode == "never":
        return "switched off (transparent_hugepage = never): large tables are slower"
    return f"used for large tables (transparent_hugepage = {mode})"


def _cuda() -> str:
    if importlib.util.find_spec("neural_fields._cuda") is None:
        compiler = "nvcc found" if shutil.which("nvcc") else "no nvcc on PATH"
        return f"module not built ({compiler}); 'make cuda' builds it; the CPU path is used"
    from neural_fields import _cuda
    from neural_fields.errors import InputError
    from neural_fields.ops import chosen_device, device_text

    built = f"module built with CUDA {_cuda.runtime_version()} for {_cuda.architectures()}"
    try:
        devices = [chosen_device(f"cuda:{i}") for i in range(max(1, _cuda.device_count()))]
    except InputError as error:
        return f"{built}; not used: {str(error).partition(': ')[2]}"
    return f"{built}; {', '.join(device_text(device) for device in devices)}"
