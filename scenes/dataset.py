"""Renders a scene to a data set in Blender's layout, all of it or nothing."""

from __future__ import annotations

import itertools
import json
import os
import shutil
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor, as_completed
from contextlib import contextmanager
from functools import lru_cache
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from neural_fields.errors import InputError
from neural_fields.scenes.cameras import ANGLE_X, focal_length, poses
from neural_fields.scenes.catalog import build, moves
from neural_fields.scenes.model import Array
from neural_fields.scenes.render import Renderer, View

VERSION = 1  # of what a name and a seed render to; a set of another version is not reused
_BATCH_PIXELS = 700_000
_MOMENT_CELLS = 64  # of the grid of one moment, which serves a view


def make_dataset(
    name: str,
    out: Path,
    *,
    n_train: int,
    n_test: int,
    size: int,
    seed: int,
    depth: bool,
    progress: Callable[[int, int], None] | None,
    overwrite: bool,
    reuse: bool,
) -> Path:
    """Does what ``neural_fields.scenes.make`` documents."""
    out = Path(out)
    record: dict[str, object] = {
        "name": name,
        "version": VERSION,
        "seed": seed,
        "size": size,
        "n_train": n_train,
        "n_test": n_test,
        "depth": depth,
    }
    _check(n_train, n_test, size, seed)
    if reuse and _read_record(out) == record:
        return out
    try:
        occupied = out.exists() and (not out.is_dir() or any(out.iterdir()))
    except OSError as error:
        raise _unwritable(out, error) from None
    if occupied and not overwrite:
        raise InputError(f"{out}: exists already; name another folder, or allow overwriting it.")
    if not moves(name):
        with _one_thread():
            _renderer(name, None)  # before the first views, which share it
    with _renamed_when_complete(out.absolute()) as folder:
        shots = {split: _shots(name, n, seed, split) for split, n in _splits(record)}
        _render(name, shots, folder, size, depth, progress)
        for split, some in shots.items():
            _write_json(folder / f"transforms_{split}.json", _transforms(split, some))
        _write_json(folder / "scene.json", record)
    return out


def render_view(
    name: str, camera_to_world: Array, focal: float, width: int, height: int, time: float | None
) -> View:
    """Does what ``neural_fields.scenes.render_view`` documents."""
    with _one_thread():
        return _renderer(name, time).view(camera_to_world, focal, width, height)


@lru_cache(maxsize=1)
def _renderer(name: str, time: float | None) -> Renderer:
    return Renderer(build(name)) if time is None else Renderer(build(name, time), _MOMENT_CELLS)


class _Shot(NamedTuple):
    """A pose [4, 4], and the time in [0, 1] where the scene moves."""

    pose: Array
    time: float | None


def _shots(name: str, n: int, seed: int, split: str) -> list[_Shot]:
    """Train views from the first moment to the last one, test views at moments between."""
    test = split == "test"
    offset, last = (0.5, n) if test else (0.0, max(1, n - 1))
    timed = moves(name)
    matrices = poses(n, seed, test=test)
    return [_Shot(m, (k + offset) / last if timed else None) for k, m in enumerate(matrices)]


def _splits(record: dict[str, object]) -> list[tuple[str, int]]:
    return [(split, int(str(record[f"n_{split}"]))) for split in ("train", "test")]


def _check(n_train: int, n_test: int, size: int, seed: int) -> None:
    for label, value, least in (
        ("number of train views", n_train, 1),
        ("number of test views", n_test, 0),
        ("size", size, 8),
        ("seed", seed, 0),
    ):
        if value < least:
            raise InputError(f"{label}: must be at least {least}, got {value}.")


def _render(
    name: str,
    shots: dict[str, list[_Shot]],
    folder: Path,
    size: int,
    depth: bool,
    progress: Callable[[int, int], None] | None,
) -> None:
    """Renders and writes all views, a few at a time, one batch per core.

    One thread per batch beats many threads per operation: they never wait for each other.
    """
    per_batch = max(1, _BATCH_PIXELS // (size * size))
    jobs = []
    for split, some in shots.items():
        (folder / split).mkdir()
        starts = range(0, len(some), per_batch)
        jobs += [(split, start, some[start : start + per_batch]) for start in starts]
    total, done = sum(len(some) for some in shots.values()), 0

    def work(split: str, start: int, some: list[_Shot]) -> int:
        for i, view in enumerate(_views(name, some, size), start):
            stem = folder / split / f"r_{i}"
            Image.fromarray(to_png(view.rgba)).save(f"{stem}.png")
            if depth and split == "test":
                path, depth_map, normal = f"{stem}_geometry.npz", view.depth, view.normal
                np.savez_compressed(path, depth=depth_map.numpy(), normal=normal.numpy())
        return len(some)

    workers = max(1, min(torch.get_num_threads(), len(jobs)))
    with ThreadPoolExecutor(workers, initializer=torch.set_num_threads, initargs=(1,)) as pool:
        futures = [pool.submit(work, *job) for job in jobs]
        try:
            for future in as_completed(futures):
                done += future.result()
                if progress:
                    progress(done, total)
        except BaseException:
            pool.shutdown(wait=False, cancel_futures=True)
            raise


def _views(name: str, shots: list[_Shot], size: int) -> Iterator[View]:
    """Views of a scene that rests, all at once; of one that moves, one by one."""
    focal = focal_length(size)
    if shots[0].time is None:
        poses_of = [shot.pose for shot in shots]
        yield from _renderer(name, None).views(poses_of, focal, size, size)
        return
    for shot in shots:
        moment = Renderer(build(name, shot.time or 0.0), _MOMENT_CELLS)
        yield moment.view(shot.pose, focal, size, size)


def to_png(rgba: Tensor) -> np.typing.NDArray[np.uint8]:
    """8-bit straight-alpha picture [h, w, 4] of a premultiplied one [h, w, 4] in [0, 1]."""
    alpha = rgba[..., 3:]
    color = rgba[..., :3] / alpha.clamp_min(1e-6)
    straight = torch.cat([color.clamp(0.0, 1.0), alpha], dim=-1)
    return (straight * 255.0 + 0.5).to(torch.uint8).numpy()


def _transforms(split: str, shots: list[_Shot]) -> dict[str, object]:
    frames = [
        {"file_path": f"./{split}/r_{i}", "transform_matrix": shot.pose.tolist()}
        | ({} if shot.time is None else {"time": shot.time})
        for i, shot in enumerate(shots)
    ]
    return {"camera_angle_x": ANGLE_X, "frames": frames}


def _write_json(path: Path, value: object) -> None:
    path.write_text(json.dumps(value, indent=1) + "\n", encoding="utf-8")


def _read_record(out: Path) -> object:
    try:
        return json.loads((out / "scene.json").read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return None


@contextmanager
def _one_thread() -> Iterator[None]:
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(before)


@contextmanager
def _renamed_when_complete(out: Path) -> Iterator[Path]:
    """A new folder beside ``out`` that takes its name at the end, or is removed on any failure."""
    stems = (out.parent / f".{out.name}.{os.getpid()}.{i}" for i in itertools.count())
    folder = next(stem for stem in stems if not stem.exists())
    old = folder.with_name(folder.name + ".old")
    try:
        folder.mkdir(parents=True)
        yield folder
        if out.exists():
            out.rename(old)
        try:
            folder.rename(out)
        except OSError:
            if old.exists():
                old.rename(out)
            raise
    except OSError as error:
        raise _unwritable(out, error) from None
    finally:
        shutil.rmtree(folder, ignore_errors=True)
        if old.is_file():
            old.unlink()
        shutil.rmtree(old, ignore_errors=True)


def _unwritable(out: Path, error: OSError) -> InputError:
    return InputError(f"{out}: cannot be written ({error.strerror or error}); name another folder.")
