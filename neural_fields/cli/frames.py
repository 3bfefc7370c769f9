"""Pictures to a folder of PNG files or to a video."""

from __future__ import annotations

import contextlib
import os
import tempfile
from pathlib import Path
from types import TracebackType
from typing import Any

from neural_fields.errors import InputError
from neural_fields.fields.file import write_atomically


class Writer:
    """Takes uint8 [h, w, 3] pictures in order; use as a context manager.

    A video appears under its name when it is complete. In a folder each PNG is written at once.
    """

    def __init__(self, output: Path, fps: float) -> None:
        self._output = output
        self._video: Any = None
        self._part: Path | None = None
        if output.suffix.lower() == ".mp4":
            self._open_video(output, fps)
        elif output.suffix:
            raise InputError(f"-o {output}: needs a name ending in .mp4, or a folder.")
        else:
            try:
                output.mkdir(parents=True, exist_ok=True)
            except OSError as error:
                raise InputError(f"-o {output}: cannot make the folder ({error}).") from error

    def _open_video(self, output: Path, fps: float) -> None:
        if not output.parent.is_dir() or not os.access(output.parent, os.W_OK):
            raise InputError(f"-o {output}: its folder does not exist or is not writable.")
        handle, name = tempfile.mkstemp(prefix=".", suffix=".mp4", dir=output.parent)
        os.close(handle)
        self._part = Path(name)
        try:
            import imageio

            self._video = imageio.get_writer(
                name, format="FFMPEG", fps=fps, codec="libx264", quality=8, macro_block_size=2
            )
        except (ImportError, ValueError) as error:
            self._part.unlink(missing_ok=True)
            raise InputError(
                f"-o {output}: videos need imageio-ffmpeg (pip install 'neural_fields[video]'); "
                "or give a folder for PNG files."
            ) from error

    def add(self, name: str, picture: Any) -> None:
        """Write the next picture; `name` is the PNG's stem."""
        if self._video is not None:
            self._add_to_video(picture)
            return
        import io

        from PIL import Image

        stream = io.BytesIO()
        Image.fromarray(picture).save(stream, format="PNG")
        write_atomically(self._output / f"{name}.png", stream.getvalue())

    def _add_to_video(self, picture: Any) -> None:
        import numpy as np

        # yuv420p, which browsers play, needs even sides; odd ones get their last line twice.
        height, width = picture.shape[:2]
        even = np.pad(picture, ((0, height % 2), (0, width % 2), (0, 0)), mode="edge")
        try:
            self._video.append_data(even)
        except OSError as error:
            raise InputError(f"-o {self._output}: the video cannot be written there.") from error

    def __enter__(self) -> Writer:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        at: TracebackType | None,
    ) -> None:
        if self._video is None or self._part is None:
            return
        with contextlib.suppress(OSError):
            self._video.close()
        if kind is None:
            os.chmod(self._part, 0o644)
            os.replace(self._part, self._output)
        else:
            self._part.unlink(missing_ok=True)
