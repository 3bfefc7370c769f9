"""Scenes: procedural ones that render themselves to data sets, and pointers to public sets."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

from neural_fields.scenes.catalog import SceneInfo, describe, moves, names, public_names

if TYPE_CHECKING:
    from neural_fields.scenes.model import Array
    from neural_fields.scenes.render import View

__all__ = ["SceneInfo", "describe", "make", "moves", "names", "public_names", "render_view"]


def make(
    name: str,
    out: Path,
    *,
    n_train: int = 100,
    n_test: int = 20,
    size: int = 400,
    seed: int = 0,
    depth: bool = True,
    progress: Callable[[int, int], None] | None = None,
    overwrite: bool = False,
    reuse: bool = False,
) -> Path:
    """Renders a procedural scene to a data set in Blender's layout.

    Of a scene that moves, every view is of another moment: ``time`` in [0, 1] per frame, train
    views from 0 to 1 and test views between them. The set appears under ``out`` only when it is
    complete. The same arguments give the same bytes.

    Args:
        name: One of ``names()``.
        out: The folder to make.
        n_train: Train views, at least 1.
        n_test: Test views, placed between the train views.
        size: Side of the square pictures in pixels.
        seed: Turns and shifts the cameras.
        depth: Whether test views get ``test/r_<i>_geometry.npz`` with ``depth`` [size, size]
            (along the ray to the first surface, 0 where nothing) and ``normal`` [size, size, 3].
        progress: Called with (views done, views in all).
        overwrite: Replace what is at ``out``.
        reuse: Return at once if the same set is there already.

    Returns:
        ``out``.

    Raises:
        InputError: Unknown name, bad number, ``out`` exists, or it cannot be written.

    Example:
        >>> make("locomotive", Path("demo"), size=200)  # doctest: +SKIP
    """
    from neural_fields.scenes.dataset import make_dataset  # torch, only when it is needed

    return make_dataset(
        name,
        out,
        n_train=n_train,
        n_test=n_test,
        size=size,
        seed=seed,
        depth=depth,
        progress=progress,
        overwrite=overwrite,
        reuse=reuse,
    )


def render_view(
    name: str,
    camera_to_world: Array,
    focal: float,
    width: int,
    height: int,
    time: float | None = None,
) -> View:
    """Renders one view of a procedural scene.

    Args:
        name: One of ``names()``.
        camera_to_world: [4, 4], OpenGL axes.
        focal: Focal length in pixels.
        width: Pixels.
        height: Pixels.
        time: In [0, 1], of a scene that moves; None: its first moment.

    Returns:
        Premultiplied sRGB ``rgba`` [h, w, 4], ``depth`` [h, w], ``normal`` [h, w, 3] and part
        numbers ``ids`` [h, w] (-1 where nothing).
    """
    from neural_fields.scenes import dataset

    return dataset.render_view(name, camera_to_world, focal, width, height, time)
