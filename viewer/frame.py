"""One picture of what a visitor looks at, in tiles, so that it can be given up at any time."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace
from typing import Literal, NamedTuple, TypeAlias

import torch
from torch import Tensor

from neural_fields.rendering.cameras import Cameras
from neural_fields.rendering.seen import to_bytes
from neural_fields.viewer.shown import Look, Rays, Shown

Layout = Literal["split", "side by side"]
_TILE_S = 0.03  # seconds that a tile may take
_FIRST_TILE = 2048  # rays
_BORDER, _BORDER_FROM = (240, 140, 20), 250  # sRGB of the line, and the least width to have one


@dataclass(frozen=True)
class State:
    """What is looked at, and how.

    Attributes:
        shown: what is seen, or its left part.
        look: mode, background and crop box.
        beside: what it is compared with, or None.
        layout: `split`: one view, of which `beside` has the part to the right; `side by side`: two
            views of half the width.
        share: of the width that the left part has when split, in [0, 1].
    """

    shown: Shown
    look: Look = field(default_factory=Look)
    beside: Shown | None = None
    layout: Layout = "split"
    share: float = 0.5


class _Part(NamedTuple):
    """What fills the columns from `begin` to `end`."""

    shown: Shown
    camera: Cameras
    begin: int
    end: int


Stopped: TypeAlias = Callable[[], bool]


def render_frame(camera: Cameras, state: State, stopped: Stopped) -> Tensor | None:
    """Render what a camera sees of a state.

    Args:
        camera: one camera.
        state: what is looked at.
        stopped: asked between tiles, some 30 times a second; once it is true, the picture is
            given up.

    Returns:
        uint8 [h, w, 3], or None where it was given up.
    """
    canvas: Tensor | None = None
    for part in _parts(camera, state):
        for begin, end, values in _tiles(part, state.look):
            if canvas is None:
                canvas = values.new_zeros(camera.height, camera.width, *values.shape[2:])
            canvas[begin:end, part.begin : part.end] = values
            if stopped():
                return None
    assert canvas is not None
    return to_bytes(canvas, state.look.mode)


def with_border(picture: Tensor, state: State) -> Tensor:
    """A picture uint8 [h, w, 3] with a line where what is compared begins, unless it is coarse."""
    width = picture.shape[1]
    if state.beside is None or width < _BORDER_FROM:
        return picture
    share = state.share if state.layout == "split" else 0.5
    at = min(width - 1, max(0, round(share * width)))
    result = picture.clone()
    result[:, max(0, at - 1) : at + 1] = torch.tensor(_BORDER, dtype=torch.uint8)
    return result


def _parts(camera: Cameras, state: State) -> list[_Part]:
    width = camera.width
    if state.beside is None:
        return [_Part(state.shown, camera, 0, width)]
    if state.layout == "split":
        at = min(width, max(0, round(state.share * width)))
        both = [_Part(state.shown, camera, 0, at), _Part(state.beside, camera, at, width)]
        return [part for part in both if part.end > part.begin]
    half = width // 2
    offset = camera.principal.new_tensor([width / 4, 0.0])
    left = replace(camera, principal=camera.principal - offset)
    right = replace(camera, principal=camera.principal + offset)
    return [_Part(state.shown, left, 0, half), _Part(state.beside, right, half, width)]


def _tiles(part: _Part, look: Look) -> Iterator[tuple[int, int, Tensor]]:
    """First row, the row after the last one, and their values."""
    width, height = part.end - part.begin, part.camera.height
    n_rows, begin = max(1, _FIRST_TILE // width), 0
    while begin < height:
        end = min(height, begin + n_rows)
        started = time.perf_counter()
        values = part.shown.pixels(_rays(part, begin, end), look)
        seconds = time.perf_counter() - started
        yield begin, end, values.view(end - begin, width, *values.shape[1:])
        share = _TILE_S / max(seconds, 1e-6)
        n_rows = max(1, int((end - begin) * min(4.0, share)))
        begin = end


def _rays(part: _Part, begin: int, end: int) -> Rays:
    rows, columns = torch.arange(begin, end) + 0.5, torch.arange(part.begin, part.end) + 0.5
    pixels = torch.cartesian_prod(rows, columns).flip(1)
    ids = torch.zeros(len(pixels), dtype=torch.int64)
    return Rays(*part.camera.rays(ids, pixels), part.camera.pixel_widths(ids))
