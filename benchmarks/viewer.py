"""How soon the viewer answers: the first coarse picture, frames while moving, the whole picture.

    python -m neural_fields.benchmarks.viewer hash.nf mlp.nf shape.nf -o viewer.json

Each field is looked at from its first view, through the render service, as a window does; a JPEG
is made of every picture. Columns: the first picture after a field was opened and the first after a
move, of a window of 1000 x 700; frames per second while moving in a window of 256 x 256, and how
many pixels they have; frames per second of all 256 x 256 pixels; seconds from a move to all
1000 x 700 pixels.
"""

from __future__ import annotations

import argparse
import io
import json
import math
import queue
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from PIL import Image

from neural_fields.benchmarks.papers.rows import markdown
from neural_fields.rendering.cameras import Cameras
from neural_fields.viewer.frame import State, render_frame
from neural_fields.viewer.library import Library
from neural_fields.viewer.service import Picture, RenderService, Wish
from neural_fields.viewer.shown import Shown, camera_of

_WINDOW, _SMALL = (1000, 700), (256, 256)
_MOVING_S = 5.0
_PATIENCE_S = 300.0


class _Visitor:
    """One window."""

    def __init__(self, service: RenderService, shown: Shown) -> None:
        self._service, self._shown = service, shown
        self._pictures: queue.Queue[Picture] = queue.Queue()
        self._n_moves = 0

    def move(self, size: tuple[int, int]) -> None:
        """Ask for a view that is a little further around."""
        self._n_moves += 1
        camera = turned(camera_of(self._shown.start, *size), 0.02 * self._n_moves)
        self._service.show("visitor", Wish(camera, State(self._shown), self._take, _refuse))

    def next(self) -> Picture:
        """Wait for a picture."""
        return self._pictures.get(timeout=_PATIENCE_S)

    def _take(self, picture: Picture) -> None:
        Image.fromarray(picture.pixels.numpy()).save(io.BytesIO(), "JPEG", quality=75)
        self._pictures.put(picture)


def _refuse(sentence: str) -> None:
    raise SystemExit(sentence)


def turned(camera: Cameras, angle_rad: float) -> Cameras:
    """The same camera turned around the world's z axis."""
    turn = torch.eye(4)
    turn[0, 0] = turn[1, 1] = math.cos(angle_rad)
    turn[1, 0], turn[0, 1] = math.sin(angle_rad), -math.sin(angle_rad)
    return replace(camera, camera_to_world=turn @ camera.camera_to_world)


def measured(shown: Shown) -> dict[str, Any]:
    """One row."""
    service = RenderService()
    visitor = _Visitor(service, shown)
    first = _seconds(lambda: visitor.move(_WINDOW), visitor.next)
    while not visitor.next().final:
        pass
    coarse = _seconds(lambda: visitor.move(_WINDOW), visitor.next)
    began = time.perf_counter()
    visitor.move(_WINDOW)
    while not visitor.next().final:
        pass
    whole = time.perf_counter() - began
    n_frames, n_pixels, began = 0, 0, time.perf_counter()
    while time.perf_counter() - began < _MOVING_S:
        visitor.move(_SMALL)
        n_pixels += visitor.next().pixels.numel() // 3
        n_frames += 1
    moving = n_frames / (time.perf_counter() - began)
    service.close()
    camera, state = camera_of(shown.start, *_SMALL), State(shown)
    n, began = 0, time.perf_counter()
    while n < 3 or time.perf_counter() - began < _MOVING_S:
        render_frame(turned(camera, 0.02 * n), state, bool)
        n += 1
    return {
        "first_ms": 1000 * first,
        "coarse_ms": 1000 * coarse,
        "moving_fps": moving,
        "moving_pixels": n_pixels // n_frames,
        "whole_256_fps": n / (time.perf_counter() - began),
        "whole_s": whole,
    }


def _seconds(ask: Callable[[], None], wait: Callable[[], Picture]) -> float:
    began = time.perf_counter()
    ask()
    wait()
    return time.perf_counter() - began


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("fields", type=Path, nargs="+", help=".nf files")
    parser.add_argument("-o", "--output", type=Path, help="JSON file of the rows")
    options = parser.parse_args()
    rows, lines = {}, []
    for path in options.fields:
        opened = Library([path]).open(path.name)
        row = rows[path.stem] = measured(opened.shown)
        lines.append([
            f"{path.stem} ({opened.entry.architecture or opened.shown.kind})",
            f"{row['first_ms']:.0f}",
            f"{row['coarse_ms']:.0f}",
            f"{row['moving_fps']:.1f}",
            str(row["moving_pixels"]),
            f"{row['whole_256_fps']:.2f}",
            f"{row['whole_s']:.2f}",
        ])  # fmt: skip
    titles = ["first, ms", "coarse, ms", "moving, frames/s", "their pixels", "256 x 256, frames/s"]
    print(markdown(["field", *titles, "whole picture, s"], lines))
    if options.output is not None:
        options.output.write_text(json.dumps(rows, indent=1))


if __name__ == "__main__":
    main()
