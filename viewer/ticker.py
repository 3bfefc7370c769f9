"""Something that goes on by itself until it is stopped: a preview, a timeline."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable

from neural_fields.viewer.wake import sent_from_a_thread

_TICK_S = 1 / 20


class Ticker:
    """Calls `tick` with the seconds since it was started, some 20 times a second.

    It ends when `tick` returns False, or by `stop`. At most one is under way.
    """

    def __init__(self, name: str, tick: Callable[[float], bool]) -> None:
        self._name, self._tick = name, tick
        self._ended: threading.Event | None = None  # set to end the one that runs

    @property
    def runs(self) -> bool:
        """Whether it is under way."""
        return self._ended is not None and not self._ended.is_set()

    def start(self) -> None:
        """From the beginning."""
        self.stop()
        self._ended = threading.Event()
        threading.Thread(
            target=self._run, args=(self._ended,), name=self._name, daemon=True
        ).start()

    def stop(self) -> None:
        """At once, except for a tick that is in work."""
        if self._ended is not None:
            self._ended.set()

    def _run(self, ended: threading.Event) -> None:
        started = time.monotonic()
        while not ended.wait(_TICK_S):
            goes_on = True
            with sent_from_a_thread():
                goes_on = self._tick(time.monotonic() - started)
            if not goes_on:
                break
        ended.set()
