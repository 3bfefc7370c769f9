"""The camera path of one window: views that were kept, a preview, and the file for `nf render`."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import viser

from neural_fields.errors import InputError
from neural_fields.rendering.camera_path import smooth_path
from neural_fields.rendering.cameras import Cameras
from neural_fields.rendering.orbits import resized
from neural_fields.viewer.ticker import Ticker

_MOST_KEYS = 200
FPS = 30


class PathEditor:
    """A folder of the panel.

    `here` gives the visitor's camera, or None; `go` moves the visitor to one; `on` binds a handle
    to a call whose errors become notices.
    """

    def __init__(
        self,
        client: viser.ClientHandle,
        here: Callable[[], Cameras | None],
        go: Callable[[Cameras], None],
        on: Callable[[Any, Callable[[], None]], None],
    ) -> None:
        self._client, self._here, self._go = client, here, go
        self._keys: list[Cameras] = []
        self._path: Cameras | None = None  # that is played
        self._preview = Ticker("nf-preview", self._step)
        gui = client.gui
        with gui.add_folder("Camera path", expand_by_default=False):
            self._said = gui.add_markdown("No view is kept yet.")
            on(gui.add_button("Keep this view"), self._keep)
            on(gui.add_button("Drop the last view"), self._drop)
            self._seconds = gui.add_slider("Seconds", 1.0, 60.0, 0.5, 6.0)
            self._closed = gui.add_checkbox("Return to the first", False)
            on(gui.add_button("Play"), self._play)
            on(gui.add_button("Save path.json"), self._save)

    def close(self) -> None:
        """End a preview."""
        self._preview.stop()

    def path(self) -> Cameras:
        """The cameras of the path; raises InputError where fewer than two views are kept."""
        if len(self._keys) < 2:
            raise InputError("Camera path: keep two views or more first.")
        first = self._keys[0]
        keys = Cameras.joined([resized(key, first.width, first.height) for key in self._keys])
        seconds = min(60.0, max(1.0, float(self._seconds.value)))
        n = max(len(keys), round(seconds * FPS))
        return smooth_path(keys, n, closed=bool(self._closed.value))

    def _keep(self) -> None:
        camera = self._here()
        if camera is None:
            return
        if len(self._keys) >= _MOST_KEYS:
            raise InputError(f"Camera path: there is room for {_MOST_KEYS} views.")
        self._keys.append(camera)
        self._say()

    def _drop(self) -> None:
        self._keys = self._keys[:-1]
        self._say()

    def _say(self) -> None:
        n = len(self._keys)
        self._said.content = f"{n} {'view is' if n == 1 else 'views are'} kept."

    def _save(self) -> None:
        content = json.dumps(self.path().to_json(fps=FPS), indent=1)
        self._client.send_file_download("path.json", content.encode(), save_immediately=True)

    def _play(self) -> None:
        """Start a preview, or end the one that runs."""
        if self._preview.runs:
            return self._preview.stop()
        self._path = self.path()
        self._preview.start()

    def _step(self, seconds: float) -> bool:
        assert self._path is not None
        index = min(int(seconds * FPS), len(self._path) - 1)
        self._go(self._path[index])
        return index < len(self._path) - 1
