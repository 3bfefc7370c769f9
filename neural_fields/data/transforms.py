"""transforms.json in its two layouts: which images and cameras a data set lists, and its splits.

Blender's NeRF sets have one JSON file per split and are complete; a capture (nerfstudio,
instant-ngp) has one `transforms.json`, may list images that are not there, and is split here.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from neural_fields.errors import InputError
from neural_fields.rendering.camera_json import frame_times, frames_of, pose, read_json

Split = Literal["train", "val", "test"]
SPLITS: tuple[Split, ...] = ("train", "val", "test")
HOLD_OUT_EVERY = 8

IMAGE_SUFFIXES = (".png", ".jpg", ".jpeg")
VIDEO_SUFFIXES = (".mp4", ".mov", ".avi", ".mkv", ".webm")


@dataclass(frozen=True)
class Frame:
    """One listed image that exists.

    Attributes:
        file_path: as the JSON has it, with `/` and without a leading `./`.
        where: what an error calls it.
        image: the image file.
        keep_mask: a mask whose nonzero pixels are used (`mask_path`), or None.
        ignore_mask: a mask whose nonzero pixels are ignored (`dynamic_mask_*.png`), or None.
        pose: camera-to-world, float64 [4, 4].
        time: in [0, 1], or None.
        keys: the frame's JSON object.
    """

    file_path: str
    where: str
    image: Path
    keep_mask: Path | None
    ignore_mask: Path | None
    pose: NDArray[np.float64]
    time: float | None
    keys: dict[str, Any]


@dataclass(frozen=True)
class Listing:
    """The frames of one split.

    Attributes:
        source: the JSON file.
        shared: its object.
        frames: at least one.
        split_rule: `"files"`, `"filenames"` or `"every 8th"`.
        skipped: file paths that are listed (in whatever split) but do not exist.
    """

    source: Path
    shared: dict[str, Any]
    frames: list[Frame]
    split_rule: str
    skipped: list[str]


def read_listing(path: Path, split: Split) -> Listing:
    """The frames of one split of a data set folder, or of a capture's JSON file.

    Args:
        path: a folder with `transforms_train.json` (Blender) or `transforms.json` (capture), or a
            capture's JSON file under any name.
        split: `"train"`, `"val"` or `"test"`.

    Returns:
        The listing.

    Raises:
        InputError: the folder, the JSON or a listed file is at fault.

    Example:
        >>> read_listing(Path("lego"), "train").split_rule  # doctest: +SKIP
        'files'
    """
    if path.is_dir():
        if (path / "transforms_train.json").is_file():
            return _read_blender(path, split)
        if (path / "transforms.json").is_file():
            return _read_capture(path / "transforms.json", split)
        raise InputError(_no_poses(path))
    if not path.exists():
        raise InputError(
            f"{path}: does not exist; give a folder that holds transforms.json or "
            "transforms_train.json."
        )
    if path.suffix.lower() in VIDEO_SUFFIXES:
        raise InputError(_no_poses(path))
    if path.suffix.lower() != ".json" or path.name in {f"transforms_{s}.json" for s in SPLITS}:
        raise InputError(
            f"{path}: needs a data set folder, or the transforms.json of a capture, got "
            f"{path.name}; give the folder, which is {path.parent}."
        )
    return _read_capture(path, split)


def _read_blender(folder: Path, split: Split) -> Listing:
    """Each split has a file; what is absent falls back as for a capture."""
    files = {name: folder / f"transforms_{name}.json" for name in SPLITS}
    has_test = files["test"].is_file()
    if split == "val" and not files["val"].is_file():
        split = "test"
    source = files[split] if files[split].is_file() else files["train"]
    shared = read_json(source)
    frames, missing = _frames(source, shared)
    if missing:
        raise InputError(
            f"{source}: lists {missing[0]!r}, which does not exist beside it with or without "
            f"{', '.join(IMAGE_SUFFIXES)} ({len(missing)} of {len(missing) + len(frames)} images "
            "are missing); such a set is complete, so unpack or download it again."
        )
    if split == "val" or has_test:
        return Listing(source, shared, frames, "files", [])
    return Listing(source, shared, _every_8th(source, frames, split), "every 8th", [])


def _read_capture(source: Path, split: Split) -> Listing:
    shared = read_json(source)
    frames, missing = _frames(source, shared)
    n_listed = len(frames) + len(missing)
    if 2 * len(missing) > n_listed:
        raise InputError(
            f"{source}: {len(missing)} of the {n_listed} images it lists do not exist, the first "
            f"is {missing[0]!r}; put the images where file_path says, relative to {source.parent}."
        )
    frames = sorted(frames, key=lambda frame: frame.file_path)
    lists = {
        name: _filenames(source, shared, name, {f.file_path for f in frames} | set(missing))
        for name in SPLITS
    }
    if all(names is None for names in lists.values()):
        return Listing(source, shared, _every_8th(source, frames, split), "every 8th", missing)
    chosen = _listed_split(source, frames, lists, split)
    return Listing(source, shared, chosen, "filenames", missing)


def _every_8th(source: Path, frames: Sequence[Frame], split: Split) -> list[Frame]:
    """Every 8th image by name is the test split, and stands in for an absent val split."""
    by_name = sorted(frames, key=lambda frame: frame.file_path)
    held_out = {frame.file_path for frame in by_name[::HOLD_OUT_EVERY]}
    chosen = [f for f in frames if (f.file_path in held_out) == (split != "train")]
    if not chosen:
        raise InputError(
            f"{source}: has {len(frames)} image and every 8th is held out for testing, which "
            f"leaves none for the {split} split; at least 2 images are needed."
        )
    return chosen


def _listed_split(
    source: Path, frames: Sequence[Frame], lists: dict[Split, set[str] | None], split: Split
) -> list[Frame]:
    """The splits of nerfstudio's `<split>_filenames`.

    What is not listed falls back: test to val or the frames that are not in train; val to test;
    train to the frames that are in neither.
    """
    everything = {frame.file_path for frame in frames}
    train, val, test = lists["train"], lists["val"], lists["test"]
    if test is None:
        test = val if val is not None else everything - (train or set())
    if val is None:
        val = test
    if train is None:
        train = everything - test - val
    seen = sorted(train & (test | val))
    if seen:
        raise InputError(
            f"{source}: {seen[0]!r} is in train_filenames and in the val or test split too; "
            "training must not see what it is scored on, so take it out of one list."
        )
    wanted = {"train": train, "val": val, "test": test}[split]
    chosen = [frame for frame in frames if frame.file_path in wanted]
    if not chosen:
        raise InputError(
            f"{source}: the {split} split has no image; put at least one existing file_path into "
            f"{split}_filenames, or remove the *_filenames keys to hold out every 8th image."
        )
    return chosen


def _filenames(
    source: Path, shared: dict[str, Any], split: Split, known: set[str]
) -> set[str] | None:
    key = f"{split}_filenames"
    names = shared.get(key)
    if names is None:
        return None
    if not isinstance(names, list) or not all(isinstance(name, str) for name in names):
        raise InputError(f"{source}: {key} needs a list of file paths as strings.")
    result = {_normal(name) for name in names}
    unknown = sorted(result - known)
    if unknown:
        raise InputError(
            f"{source}: {key} lists {unknown[0]!r}, which no frame has as its file_path; make "
            "the two agree."
        )
    return result


def _frames(source: Path, shared: dict[str, Any]) -> tuple[list[Frame], list[str]]:
    """The frames whose image exists, checked, in the file's order; and the paths that do not."""
    listed = frames_of(shared, str(source))
    times = frame_times(listed, str(source))
    frames: list[Frame] = []
    missing: list[str] = []
    seen: set[str] = set()
    for index, keys in enumerate(listed):
        where = f"{source}: frames[{index}]"
        file_path = keys.get("file_path")
        if not isinstance(file_path, str) or not file_path:
            raise InputError(f"{where}: needs a file_path (the image, as a string).")
        file_path = _normal(file_path)
        if file_path in seen:
            raise InputError(f"{where}: file_path {file_path!r} is listed twice; keep one frame.")
        seen.add(file_path)
        where = f"{where} ({file_path})"
        matrix = pose(keys, where)
        image = _image_file(source.parent, file_path)
        if image is None:
            missing.append(file_path)
            continue
        dynamic = image.with_name(f"dynamic_mask_{image.stem}.png")
        frames.append(
            Frame(
                file_path,
                where,
                image,
                _mask_file(source.parent, keys, where),
                dynamic if dynamic.is_file() else None,
                matrix,
                None if times is None else times[index],
                keys,
            )
        )
    return frames, missing


def _image_file(folder: Path, file_path: str) -> Path | None:
    """The file, or the one that it names without its extension, as Blender writes it."""
    # os.path.isfile, unlike Path.is_file, is False for names that no file system could hold.
    for suffix in ("", *IMAGE_SUFFIXES):
        candidate = folder / (file_path + suffix)
        if os.path.isfile(candidate):
            return candidate
    return None


def _mask_file(folder: Path, keys: dict[str, Any], where: str) -> Path | None:
    name = keys.get("mask_path")
    if name is None:
        return None
    if not isinstance(name, str) or not os.path.isfile(folder / _normal(name)):
        raise InputError(
            f"{where}: mask_path {name!r} does not exist beside the JSON; put the mask there or "
            "remove the key."
        )
    return folder / _normal(name)


def _normal(file_path: str) -> str:
    """One spelling per path: forward slashes, no leading `./`."""
    return str(PurePosixPath(file_path.replace("\\", "/")))


def _no_poses(path: Path) -> str:
    """Why a folder or video without camera poses cannot be used, and which command makes them."""
    needed = f"{path}: needs transforms.json or transforms_train.json with the camera poses"
    if path.is_file():
        return (
            f"{needed}, got a video; make a data set from it with `ns-process-data video --data "
            f"{path} --output-dir DATA` (nerfstudio with COLMAP), then give DATA."
        )
    folders = [path, path / "images"]
    files = [file for folder in folders if folder.is_dir() for file in sorted(folder.iterdir())]
    videos = [file for file in files if file.suffix.lower() in VIDEO_SUFFIXES]
    images = [file for file in files if file.suffix.lower() in IMAGE_SUFFIXES]
    if images:
        folder = images[0].parent
        if (path / "sparse").is_dir():
            model = path / "sparse" / "0"
            return (
                f"{needed}, got images and a COLMAP model; convert it with `ns-process-data images "
                f"--data {folder} --output-dir DATA --skip-colmap --colmap-model-path "
                f"{model.absolute()}` (nerfstudio), then give DATA."
            )
        return (
            f"{needed}, got only images; reconstruct the poses with `ns-process-data images "
            f"--data {folder} --output-dir DATA` (nerfstudio, runs COLMAP) or with `colmap "
            f"automatic_reconstructor --workspace_path WORK --image_path {folder}` followed by "
            "nerfstudio's ns-process-data or instant-ngp's colmap2nerf.py, then give the folder "
            "with the transforms.json."
        )
    if videos:
        return _no_poses(videos[0]).replace(str(videos[0]), str(path), 1)
    return f"{needed}, got a folder without them; check the path (a data set inside it?)."
