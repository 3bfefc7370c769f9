"""The `.nfv` file: a plain header and independent groups of pictures, each with its checksum.

Layout, all numbers little-endian: 8 bytes of magic; format version and length of the header, 16
and 32 bits; the header, JSON; the CRC-32 of everything so far; then group by group its CRC-32 and
its bytes, whose length the header says.
"""

from __future__ import annotations

import json
import struct
import weakref
import zlib
from collections.abc import Sequence
from dataclasses import asdict, dataclass, fields
from fractions import Fraction
from pathlib import Path
from typing import Any, BinaryIO

from neural_fields.errors import InputError
from neural_fields.fields.file import write_atomically
from neural_fields.fields.image import MAX_SIDE
from neural_fields.fields.video import MAX_FRAMES

MAGIC = b"\x89NFV\r\n\x1a\n"
VERSION = 1
_START = struct.Struct("<8sHI")
_CRC = struct.Struct("<I")
_MOST_HEADER = 1 << 24  # bytes


@dataclass(frozen=True)
class GroupEntry:
    """Where a group is: its first frame, how many it has, and its bytes."""

    first: int
    n_frames: int
    n_bytes: int


@dataclass(frozen=True)
class StreamHeader:
    """What a file says of itself.

    Attributes:
        width: of a frame, pixels.
        height: of a frame, pixels.
        n_frames: in all groups.
        fps: frames per second on average, as numerator and denominator.
        times_ms: when each frame is shown, milliseconds, where that is not at even steps; or None.
        source: the coded video's pixel format and colour tags, as FFmpeg names them.
        made: instruction set, threads and versions of the encoder: where all are the same, pixels
            are bit for bit those that it saw.
        groups: in the order of the file.
    """

    width: int
    height: int
    n_frames: int
    fps: tuple[int, int]
    times_ms: tuple[int, ...] | None
    source: dict[str, Any]
    made: dict[str, Any]
    groups: tuple[GroupEntry, ...]

    def __post_init__(self) -> None:
        limits = {"width": MAX_SIDE, "height": MAX_SIDE, "n_frames": MAX_FRAMES}
        for name, most in limits.items():
            _check_whole(name, getattr(self, name), 1, most)
        for part in self.fps:
            _check_whole("fps", part, 1, 1 << 40)
        if self.times_ms is not None:
            if len(self.times_ms) != self.n_frames:
                raise InputError(f"header: times_ms needs {self.n_frames} numbers.")
            for time in self.times_ms:
                _check_whole("times_ms", time, 0, 1 << 40)
        following = 0
        for group in self.groups:
            if group.first != following:
                raise InputError("header: groups need to follow one another.")
            _check_whole("n_frames of a group", group.n_frames, 1, MAX_FRAMES)
            _check_whole("n_bytes of a group", group.n_bytes, 1, 1 << 40)
            following += group.n_frames
        if following != self.n_frames:
            raise InputError(f"header: groups need {self.n_frames} frames, got {following}.")

    @property
    def rate(self) -> Fraction:
        """Frames per second."""
        return Fraction(*self.fps)

    @property
    def n_pixels(self) -> int:
        """Of all frames."""
        return self.width * self.height * self.n_frames

    def group_of(self, frame: int) -> int:
        """The number of the group that a frame is in."""
        for number, group in enumerate(self.groups):
            if group.first <= frame < group.first + group.n_frames:
                return number
        raise InputError(f"frame {frame}: needs 0 to {self.n_frames - 1}.")


def write_stream(path: Path, header: StreamHeader, groups: Sequence[bytes]) -> int:
    """Write a file, atomically; its number of bytes.

    Raises:
        InputError: the file cannot be written.
    """
    entries = asdict(header)
    entries["groups"] = [[g.first, g.n_frames, g.n_bytes] for g in header.groups]
    text = json.dumps(entries, separators=(",", ":")).encode()
    start = _START.pack(MAGIC, VERSION, len(text)) + text
    parts = [start, _CRC.pack(zlib.crc32(start))]
    for data in groups:
        parts += [_CRC.pack(zlib.crc32(data)), data]
    whole = b"".join(parts)
    write_atomically(path, whole)
    return len(whole)


class StreamFile:
    """A `.nfv` file that is open for reading; use as a context manager.

    Only the header is read at once; groups are read and checked when they are asked for.
    """

    def __init__(self, path: str | Path) -> None:
        """Raises InputError where the file is missing, damaged, or of a newer version."""
        self.path = Path(path)
        if not self.path.is_file():
            raise InputError(f"{path}: needs a .nfv file, but there is none.")
        try:
            self._file: BinaryIO = self.path.open("rb")
        except OSError as error:
            raise InputError(f"{path}: cannot be read ({error.strerror}).") from error
        try:
            self.header = self._read_header()
        except BaseException:
            self._file.close()
            raise
        self._begin = self._file.tell()
        self._close = weakref.finalize(self, self._file.close)  # also where nobody does
        self.n_bytes = self.path.stat().st_size

    def __enter__(self) -> StreamFile:
        return self

    def __exit__(self, *raised: object) -> None:
        self._close()

    def group(self, number: int) -> bytes:
        """A group's bytes; raises InputError where they are damaged or missing."""
        groups = self.header.groups
        before = sum(group.n_bytes + _CRC.size for group in groups[:number])
        self._file.seek(self._begin + before)
        (wanted,) = _CRC.unpack(self._exactly(_CRC.size))
        data = self._exactly(groups[number].n_bytes)
        if zlib.crc32(data) != wanted:
            raise self._damaged(f"the checksum of group {number} does not fit")
        return data

    def _read_header(self) -> StreamHeader:
        start = self._file.read(_START.size)
        if start[: len(MAGIC)] != MAGIC[: len(start)] or len(start) < len(MAGIC):
            raise InputError(f"{self.path}: needs a .nfv file, got something else.")
        if len(start) < _START.size:
            raise self._damaged("it ends inside its header")
        _, version, length = _START.unpack(start)
        if version > VERSION:
            raise InputError(
                f"{self.path}: is of format {version} and this program reads up to {VERSION}; "
                "upgrade neural_fields, or the file is damaged."
            )
        if length > _MOST_HEADER:
            raise self._damaged("its header is too long")
        text = self._exactly(length)
        (wanted,) = _CRC.unpack(self._exactly(_CRC.size))
        if zlib.crc32(start + text) != wanted:
            raise self._damaged("the checksum of its header does not fit")
        try:
            return _header_of(json.loads(text))
        except (ValueError, TypeError, RecursionError) as error:
            raise self._damaged(str(error)) from error

    def _exactly(self, n: int) -> bytes:
        data = self._file.read(n)
        if len(data) < n:
            raise self._damaged("it ends too early")
        return data

    def _damaged(self, how: str) -> InputError:
        return InputError(f"{self.path}: needs a whole .nfv file: {how}; copy or make it again.")


def _header_of(data: Any) -> StreamHeader:
    names = {entry.name for entry in fields(StreamHeader)}
    if not isinstance(data, dict) or set(data) != names:
        raise ValueError(f"its header needs the keys {sorted(names)}")
    parts = dict(data)
    parts["groups"] = tuple(GroupEntry(*group) for group in data["groups"])
    first, second = data["fps"]
    parts["fps"] = (first, second)
    if data["times_ms"] is not None:
        parts["times_ms"] = tuple(data["times_ms"])
    for name in ("source", "made"):
        if not isinstance(data[name], dict):
            raise ValueError(f"{name} of its header needs an object")
    return StreamHeader(**parts)


def _check_whole(name: str, value: object, least: int, most: int) -> None:
    if not isinstance(value, int) or isinstance(value, bool) or not least <= value <= most:
        raise InputError(f"header: {name} needs {least} to {most}, got {value!r}.")
