"""The thread that renders for all visitors: coarse first, finer while their cameras rest.

A visitor's newest wish replaces the one before. Coarse pictures come first, the longest waiting
one of them first, and are never given up, so that whoever moves sees something. Finer ones follow
while nobody waits for a coarse one, and are given up at the next tile where somebody does.
"""

from __future__ import annotations

import logging
import math
import threading
import time
from collections.abc import Callable, Hashable
from dataclasses import dataclass, replace
from typing import TypeAlias

import torch
from torch import Tensor

from neural_fields.errors import InputError
from neural_fields.rendering.cameras import Cameras
from neural_fields.viewer.frame import State, Stopped, render_frame

_LOG = logging.getLogger(__name__)
COARSE_S = 0.06  # what the first picture may take, with what a browser needs within 0.1
_FINER = 4.0  # times the pixels, from picture to picture
_FIRST_RATE = 40_000.0  # pixels per second of what has not been rendered yet
_LEAST = 24  # pixels of the shorter side
_KEPT_RATES = 64

Render: TypeAlias = Callable[[Cameras, State, Stopped], Tensor | None]


@dataclass(frozen=True)
class Picture:
    """What a visitor gets.

    Attributes:
        pixels: uint8 [h, w, 3], stretched over the window where smaller than it.
        seconds: that it took.
        final: whether it has as many pixels as was asked for.
    """

    pixels: Tensor
    seconds: float
    final: bool


@dataclass(frozen=True)
class Wish:
    """What a visitor wants to see.

    Attributes:
        camera: one camera, of the size that is wanted in the end.
        state: what is looked at.
        deliver: called with each picture, on the service's thread.
        fail: called with a sentence where there is none.
    """

    camera: Cameras
    state: State
    deliver: Callable[[Picture], None]
    fail: Callable[[str], None]


@dataclass
class _Job:
    """A wish, when it came, the pixels of the last picture of it, and whether one is in work."""

    wish: Wish
    number: int
    pixels: int = 0
    in_work: bool = False


class RenderService:
    """Renders one picture at a time for any number of visitors.

    Example:
        >>> service = RenderService()
        >>> service.close()
    """

    def __init__(self, render: Render = render_frame) -> None:
        self._render = render
        self._jobs: dict[Hashable, _Job] = {}
        self._changed = threading.Condition()
        self._closed = False
        self._count = 0
        self._rates: dict[Hashable, float] = {}  # pixels per second
        self._thread = threading.Thread(target=self._run, name="nf-render", daemon=True)
        self._thread.start()

    def show(self, visitor: Hashable, wish: Wish) -> None:
        """Replace what a visitor wants to see; returns at once."""
        with self._changed:
            if self._closed:
                return
            waiting = self._jobs.get(visitor)
            self._count += 1
            # Whoever still waits for a coarse picture keeps the place in the queue.
            keeps_place = waiting is not None and not waiting.pixels and not waiting.in_work
            number = waiting.number if waiting is not None and keeps_place else self._count
            self._jobs[visitor] = _Job(wish, number)
            self._changed.notify()

    def forget(self, visitor: Hashable) -> None:
        """A visitor left."""
        with self._changed:
            self._jobs.pop(visitor, None)

    def close(self) -> None:
        """End the thread, at the next tile."""
        with self._changed:
            self._closed = True
            self._jobs.clear()
            self._changed.notify()
        self._thread.join(timeout=5.0)

    def _run(self) -> None:
        # Torch has one number of threads for some of its libraries: what this thread puts back
        # after a picture must not be more than a training run beside it has.
        torch.set_num_threads(1)
        while True:
            with self._changed:
                while not self._closed and not self._next():
                    self._changed.wait()
                if self._closed:
                    return
                found = self._next()
                assert found is not None
                found[1].in_work = True
            self._serve(*found)
            found[1].in_work = False

    def _next(self) -> tuple[Hashable, _Job] | None:
        """The longest waiting coarse picture, else the coarsest of the others."""
        if not self._jobs:
            return None
        return min(self._jobs.items(), key=lambda item: (item[1].pixels, item[1].number))

    def _serve(self, visitor: Hashable, job: _Job) -> None:
        """Render the next picture of a job; nothing that goes wrong ends the thread."""
        try:
            picture = self._picture(visitor, job)
        except Exception as error:
            self._drop(visitor, job)
            _failed(job.wish, error)
            return
        if picture is None:
            return
        if picture.final:
            self._drop(visitor, job)
        try:
            job.wish.deliver(picture)
        except Exception:
            _LOG.exception("a picture could not be delivered")

    def _picture(self, visitor: Hashable, job: _Job) -> Picture | None:
        """The next one of a job, or None where it was given up."""
        wish, work = job.wish, _kind_of_work(job.wish.state)
        camera = self._sized(wish.camera, job.pixels, self._rates.get(work, _FIRST_RATE))
        started = time.perf_counter()
        pixels = self._render(camera, wish.state, self._stop(visitor, job, job.pixels == 0))
        seconds = time.perf_counter() - started
        if pixels is None:
            return None
        first, job.pixels = not job.pixels, camera.width * camera.height
        if first:  # only small pictures tell of small ones: some work comes once per tile
            self._note(work, job.pixels / max(seconds, 1e-6))
        final = (camera.width, camera.height) == (wish.camera.width, wish.camera.height)
        return Picture(pixels, seconds, final)

    def _stop(self, visitor: Hashable, job: _Job, first: bool) -> Stopped:
        """Whether the picture in work is to be given up."""

        def stopped() -> bool:
            if self._closed or first:
                return self._closed
            with self._changed:
                replaced = self._jobs.get(visitor) is not job
                return replaced or any(not other.pixels for other in self._jobs.values())

        return stopped

    def _drop(self, visitor: Hashable, job: _Job) -> None:
        with self._changed:
            if self._jobs.get(visitor) is job:
                del self._jobs[visitor]

    def _note(self, key: Hashable, rate: float) -> None:
        before = self._rates.pop(key, rate)
        self._rates[key] = math.sqrt(before * rate)
        while len(self._rates) > _KEPT_RATES:
            del self._rates[next(iter(self._rates))]

    @staticmethod
    def _sized(camera: Cameras, before: int, rate: float) -> Cameras:
        """The camera of the next picture after one of `before` pixels."""
        whole = camera.width * camera.height
        wanted = before * _FINER if before else rate * COARSE_S
        scale = math.sqrt(min(1.0, wanted / whole))
        scale = max(scale, min(1.0, _LEAST / min(camera.width, camera.height)))
        if scale > 0.75:  # hardly less work
            return camera
        width, height = (max(1, round(side * scale)) for side in (camera.width, camera.height))
        return _stretched(camera, width, height)


def _stretched(camera: Cameras, width: int, height: int) -> Cameras:
    """The same view with other pixels, a little wider or higher than square where need be."""
    factor = camera.focal.new_tensor([width / camera.width, height / camera.height])
    focal, principal = camera.focal * factor, camera.principal * factor
    return replace(camera, width=width, height=height, focal=focal, principal=principal)


def _kind_of_work(state: State) -> Hashable:
    """What costs about the same per pixel."""
    return state.look.mode, *(x.work for x in (state.shown, state.beside) if x is not None)


def _failed(wish: Wish, error: Exception) -> None:
    """Say it in the window; what is our fault goes to the log with its traceback, too."""
    if not isinstance(error, InputError):
        _LOG.error("a picture could not be rendered", exc_info=error)
    sentence = str(error) or type(error).__name__
    try:
        wish.fail(sentence)
    except Exception:
        _LOG.exception("an error could not be shown")
