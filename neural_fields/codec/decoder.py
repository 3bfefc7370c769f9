"""Videos back from `.nfv` files; needs nothing of what made them."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import torch
from torch import Tensor

from neural_fields import _core
from neural_fields.codec.group import decode_group
from neural_fields.codec.stream import StreamFile, StreamHeader
from neural_fields.errors import InputError
from neural_fields.fields import AnyVideo
from neural_fields.fields.frames import Still
from neural_fields.fields.video import Moment
from neural_fields.ops.threads import one_torch_thread
from neural_fields.rendering.image import Crop
from neural_fields.rendering.video import render_frame


class CodedVideo:
    """A `.nfv` file as frames, in any order; use as a context manager.

    One group at a time is kept decoded.

    Example:
        >>> with CodedVideo("clip.nfv") as video:  # doctest: +SKIP
        ...     frame = video.frame(17)
    """

    def __init__(self, path: str | Path) -> None:
        """Raises InputError where the file is missing, damaged, or of a newer version."""
        self._file = StreamFile(path)
        self._kept: tuple[int, AnyVideo] | None = None

    def __enter__(self) -> CodedVideo:
        return self

    def __exit__(self, *raised: object) -> None:
        self.close()

    def close(self) -> None:
        """Close the file."""
        self._file.__exit__()

    @property
    def header(self) -> StreamHeader:
        """What the file says of itself."""
        return self._file.header

    @property
    def n_bytes(self) -> int:
        """Of the file."""
        return self._file.n_bytes

    def __len__(self) -> int:
        return self.header.n_frames

    def field(self, group: int) -> AnyVideo:
        """The video field of a group.

        Raises:
            InputError: the group is damaged.
        """
        if self._kept is None or self._kept[0] != group:
            entry, header = self.header.groups[group], self.header
            try:
                field = decode_group(self._file.group(group))
            except InputError as error:
                prefix = "" if str(self._file.path) in str(error) else f"{self._file.path}: "
                raise InputError(f"{prefix}{error}") from error
            config = field.config
            if (config.width, config.height, config.n_frames) != (
                header.width,
                header.height,
                entry.n_frames,
            ):
                raise InputError(f"{self._file.path}: group {group} is of another size.")
            self._kept = group, field
        return self._kept[1]

    def frame(self, index: int, crop: Crop | None = None) -> Tensor:
        """A frame, or a part of it, uint8 [height, width, 3]; `crop` as in `render_frame`.

        Raises:
            InputError: there is no such frame, or its group is damaged.
        """
        field, time = self._place(index)
        with one_torch_thread():  # how many there are changes sums of convolutions
            return as_bytes(render_frame(field, time, crop=crop))

    def moment(self, index: int) -> Moment | Still:
        """A frame as a function of position; raises as `frame`."""
        field, time = self._place(index)
        with one_torch_thread():
            return field.at(time)

    def _place(self, index: int) -> tuple[AnyVideo, float]:
        """The field that shows a frame, and at which time."""
        group = self.header.group_of(index)
        field = self.field(group)
        return field, field.time_of(index - self.header.groups[group].first)

    def frames(self) -> Iterator[Tensor]:
        """All frames in order, decoded as they are asked for."""
        for index in range(len(self)):
            yield self.frame(index)


@contextmanager
def exactly() -> Iterator[None]:
    """Frames inside are computed on the portable path and by one thread of torch.

    Example:
        >>> from neural_fields import _core
        >>> with exactly():
        ...     _core.active_isa()
        'portable'
    """
    isa, threads = _core.active_isa(), torch.get_num_threads()
    _core.set_isa("portable")
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(threads)
        _core.set_isa(isa)


def as_bytes(values: Tensor) -> Tensor:
    """Values in [0, 1] as whole numbers of 8 bits, those outside clamped."""
    return values.clamp(0, 1).mul_(255).round_().to(torch.uint8)
