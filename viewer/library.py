"""The fields that visitors may look at, by name: files, and what lies in folders."""

from __future__ import annotations

import os
import threading
from collections import OrderedDict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from neural_fields.api import load_what
from neural_fields.codec.decoder import CodedVideo
from neural_fields.data.dataset import Dataset
from neural_fields.data.kind import data_kind
from neural_fields.data.picture import Picture
from neural_fields.errors import InputError
from neural_fields.fields import FieldFile, RadianceField, SdfField, read_field_file
from neural_fields.fields.load import Field, build_field
from neural_fields.scenes import catalog
from neural_fields.viewer.procedural import ShownScene, thumbnail
from neural_fields.viewer.shown import Shown, ShownVideo, shown

_MOST_ENTRIES = 1000
_MOST_FOLDERS = 4000
_KEPT_BYTES = 1 << 30  # of opened files
SCENE = ShownScene.kind
CODED = ".nfv"


@dataclass(frozen=True)
class Entry:
    """A file that can be opened.

    Attributes:
        name: what visitors call it by: its path below the folder that was given.
        path: where it is.
        stamp: changes when the file does.
        kind: radiance, dynamic, image, sdf or scene; empty where the file cannot be read.
        architecture: such as hash.
        psnr: dB, and what it is of; or None.
        n_bytes: size of the file.
        thumbnail: uint8 [h, w, 3], or None.
        problem: why it cannot be opened; empty where it can.
    """

    name: str
    path: Path
    stamp: tuple[int, int]
    kind: str = ""
    architecture: str = ""
    psnr: tuple[float, str] | None = None
    n_bytes: int = 0
    thumbnail: Tensor | None = None
    problem: str = ""


@dataclass(frozen=True)
class Opened:
    """An entry that was opened; of a scene, `content` says nothing."""

    entry: Entry
    content: FieldFile
    shown: Shown


class Library:
    """Files and folders of fields, and procedural scenes, which are given by their names.

    A folder is looked through again at every call.

    `data` is what they were fitted to, a data set or a picture, where it is to be shown beside.
    Fields are opened on `device`, where they are rendered.

    Raises:
        InputError: a path is neither there nor a scene's name, or is a file of another kind.
    """

    def __init__(
        self,
        paths: Sequence[Path],
        data: Path | None = None,
        device: torch.device | str = "cpu",
    ) -> None:
        self._device = device
        if data is not None and not data.exists():
            raise InputError(f"--data {data}: needs a data set or a picture, but there is none.")
        self._data = data
        self._scenes = [str(x) for x in paths if not x.exists() and str(x) in catalog.names()]
        self._paths = []
        for path in paths:
            if str(path) in self._scenes:
                continue
            if not path.exists():
                raise InputError(
                    f"{path}: needs a .nf or .nfv file, a folder, or one of the scenes "
                    f"{', '.join(catalog.names())}; there is none."
                )
            if path.is_file() and path.suffix == CODED:
                CodedVideo(path).close()
            elif path.is_file():
                read_field_file(path, only=())
            self._paths.append(path.resolve())
        self._listing, self._opening = threading.Lock(), threading.Lock()
        self._known: dict[Path, Entry] = {}
        self._opened: OrderedDict[Path, Opened] = OrderedDict()

    def entries(self) -> list[Entry]:
        """What there is now, by name."""
        with self._listing:
            found: dict[str, Entry] = {}
            for path, name in self._files():
                if len(found) >= _MOST_ENTRIES:
                    break
                entry = self._entry(path, name)
                if entry is not None:
                    found.setdefault(entry.name, entry)
            for name in self._scenes:
                found.setdefault(name, _scene_entry(name))
            self._known = {entry.path: entry for entry in found.values()}
            return [found[name] for name in sorted(found)]

    def _find(self, name: str) -> Entry:
        """The entry of a name; raises InputError where none has it, whatever else lies there."""
        for entry in self.entries():
            if entry.name == name:
                return entry
        raise InputError(f"{name}: is not among the fields here any more.")

    def open(self, name: str) -> Opened:
        """The field of a name, as the file is now; the last ones stay in memory.

        Raises:
            InputError: there is no such name, or the file is damaged.
        """
        entry = self._find(name)
        with self._opening:
            opened = self._opened.get(entry.path)
            if opened is None or opened.entry.stamp != entry.stamp:
                opened = self._open_scene(entry) if entry.kind == SCENE else self._open_file(entry)
            self._opened[entry.path] = opened
            self._opened.move_to_end(entry.path)
            while len(self._opened) > 1 and self._n_bytes() > _KEPT_BYTES:
                self._opened.popitem(last=False)
            return opened

    def _open_file(self, entry: Entry) -> Opened:
        if entry.path.suffix == CODED:
            return Opened(entry, FieldFile("video", {}, {}), ShownVideo(CodedVideo(entry.path)))
        content = read_field_file(entry.path)
        field = build_field(content, entry.path)
        if getattr(field.config, "precision", "float32") == "float32":  # others are the CPU's
            field = field.to(self._device)
        slim = FieldFile(**{**vars(content), "tensors": {}})
        return Opened(entry, slim, shown(field, slim, self._truth(field, content, entry)))

    @staticmethod
    def _open_scene(entry: Entry) -> Opened:
        return Opened(entry, FieldFile(SCENE, {}, {}), ShownScene(entry.name))

    def _truth(self, field: Field, content: FieldFile, entry: Entry) -> Dataset | Picture | None:
        """What the field was fitted to, where it was given; None where it is of another kind."""
        if self._data is None or isinstance(field, SdfField):
            return None
        wanted = "nerf" if isinstance(field, RadianceField) else "image"
        if data_kind(self._data) != wanted:
            return None
        truth = load_what(field, content.protocol, self._data, "train", entry.path)
        return truth if isinstance(truth, Dataset | Picture) else None

    def _n_bytes(self) -> int:
        return sum(opened.entry.n_bytes for opened in self._opened.values())

    def _files(self) -> Iterator[tuple[Path, str]]:
        """Paths and names. A folder's links that lead out of it are not followed."""
        several = len(self._paths) > 1
        for root in self._paths:
            if root.is_file():
                yield root, root.name
                continue
            for n_folders, (folder, inside, files) in enumerate(os.walk(root)):
                inside[:] = sorted(name for name in inside if not name.startswith("."))
                if n_folders > _MOST_FOLDERS:
                    break
                for name in sorted(files):
                    path = Path(folder, name)
                    if name.startswith(".") or _is_other(path, files):
                        continue
                    if not path.resolve().is_relative_to(root):
                        continue
                    below = str(path.relative_to(root))
                    yield path, f"{root.name}/{below}" if several else below

    def _entry(self, path: Path, name: str) -> Entry | None:
        try:
            status = path.stat()
        except OSError:  # gone meanwhile
            return None
        stamp = (status.st_mtime_ns, status.st_size)
        known = self._known.get(path)
        if known is not None and known.stamp == stamp and known.name == name:
            return known
        return _described(Entry(name, path, stamp, n_bytes=status.st_size))


def _scene_entry(name: str) -> Entry:
    return Entry(name, Path(name), (0, 0), SCENE, thumbnail=thumbnail(name))


def _is_other(path: Path, files: Sequence[str]) -> bool:
    return path.suffix not in (".nf", CODED) or _is_spare(path, files)


def _is_spare(path: Path, files: Sequence[str]) -> bool:
    """Whether this is the checkpoint of a run whose field lies beside it."""
    stem, dot, rest = path.name.partition(".ckpt.nf")
    return bool(dot) and not rest and f"{stem}.nf" in files


def _described(entry: Entry) -> Entry:
    if entry.path.suffix == CODED:
        return _described_video(entry)
    try:
        content = read_field_file(entry.path, only=("thumbnail",))
    except InputError as error:
        return Entry(**{**vars(entry), "problem": str(error)})
    architecture = content.config.get("architecture")
    name = architecture.get("name") if isinstance(architecture, dict) else None
    return Entry(
        **{
            **vars(entry),
            "kind": content.kind,
            "architecture": name if isinstance(name, str) else "",
            "psnr": _psnr(content.metrics),
            "thumbnail": _thumbnail(content),
        }
    )


def _described_video(entry: Entry) -> Entry:
    try:
        with CodedVideo(entry.path):
            return Entry(**{**vars(entry), "kind": "nfv"})
    except InputError as error:
        return Entry(**{**vars(entry), "problem": str(error)})


def _psnr(metrics: dict[str, Any]) -> tuple[float, str] | None:
    conversion = metrics.get("conversion")
    conversion = conversion if isinstance(conversion, dict) else {}
    for value, of in (
        (conversion.get("psnr_student"), "photographs"),
        (conversion.get("psnr_student_vs_teacher"), "its teacher"),
        (metrics.get("psnr_train"), "training data"),
    ):
        if isinstance(value, int | float):
            return float(value), of
    return None


def _thumbnail(content: FieldFile) -> Tensor | None:
    picture = content.tensors.get("thumbnail")
    if picture is None or picture.dim() != 3 or picture.shape[2] != 3:
        return None
    if picture.dtype != torch.uint8 or not 1 <= min(picture.shape) <= max(picture.shape) <= 512:
        return None
    return picture
