"""The time axis of one window: a slider, and play."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from neural_fields.viewer.ticker import Ticker


class Timeline:
    """A folder of the panel; `on` binds a handle to a call whose errors become notices.

    `change` is called when the time has changed.
    """

    def __init__(
        self,
        gui: Any,
        change: Callable[[], None],
        on: Callable[[Any, Callable[[], None]], None],
    ) -> None:
        self._player = Ticker("nf-time", self._advance)
        self._from = 0.0
        self._folder = gui.add_folder("Time", visible=False)
        with self._folder:
            self._at = gui.add_slider("At", 0.0, 1.0, 0.001, 0.0)
            self._seconds = gui.add_slider("Seconds in all", 0.5, 30.0, 0.5, 4.0)
            self._button = gui.add_button("Play time")
        on(self._at, change)
        on(self._button, self._play)

    @property
    def time(self) -> float:
        """In [0, 1]."""
        return min(1.0, max(0.0, float(self._at.value)))

    @time.setter
    def time(self, time: float) -> None:
        self._at.value = time

    def show(self, wanted: bool) -> None:
        """Whether there is anything that moves."""
        self._folder.visible = wanted
        if not wanted:
            self.stop()

    def stop(self) -> None:
        """Stand still."""
        self._player.stop()
        self._button.label = "Play time"

    def _play(self) -> None:
        """Go on from where it is, over and over; or stand still."""
        if self._player.runs:
            return self.stop()
        self._from = self.time % 1.0
        self._button.label = "Stop"
        self._player.start()

    def _advance(self, seconds: float) -> bool:
        whole = min(30.0, max(0.5, float(self._seconds.value)))
        self.time = round((self._from + seconds / whole) % 1.0, 3)
        return True
