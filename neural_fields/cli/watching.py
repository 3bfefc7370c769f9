"""`--viewer` of the commands that fit, and what `nf view` shares with it."""

from __future__ import annotations

import contextlib
import importlib.util
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from neural_fields.cli.output import say
from neural_fields.errors import InputError

if TYPE_CHECKING:
    from neural_fields.fit import Progress, Run
    from neural_fields.viewer.server import Viewer


def opened_viewer(
    paths: Sequence[Path],
    port: int,
    host: str = "127.0.0.1",
    origins: Sequence[str] = (),
    *,
    data: Path | None = None,
    run: Path | None = None,
    device: str = "cpu",
) -> Viewer:
    """A viewer that listens; raises InputError where it cannot."""
    if importlib.util.find_spec("viser") is None:
        raise InputError("the viewer needs the package viser; pip install 'neural_fields[viewer]'.")
    if not 0 <= port <= 65535:
        raise InputError(f"port: needs 0 to 65535, got {port}.")
    from neural_fields.ops import chosen_device
    from neural_fields.viewer.server import Viewer

    place = chosen_device(device)

    try:
        return Viewer(
            paths, host=host, port=port, origins=origins, data=data, run=run, device=place
        )
    except OSError as error:
        raise InputError(f"--host {host}: cannot listen there ({error}).") from error


class Watch:
    """Whether and where a run is shown, and what `nf.fit` needs for that.

    `on_start` and `on_progress` are called besides.
    """

    def __init__(
        self,
        wanted: bool,
        port: int,
        output: Path,
        on_start: Callable[[Any, Any], None],
        on_progress: Callable[[Progress], None],
        json: str | None,
    ) -> None:
        self._viewer = opened_viewer([], port, run=output) if wanted else None
        self._on_start, self._on_progress, self._json = on_start, on_progress, json
        if self._viewer is not None:
            say(f"watch it at {self._viewer.url}", json)

    @property
    def calls(self) -> dict[str, Any]:
        """Arguments of `nf.fit`."""
        if self._viewer is None or self._viewer.run is None:
            return {"on_start": self._on_start, "on_progress": self._on_progress}
        return {
            "on_start": self._start,
            "on_progress": self._progress,
            "control": self._viewer.run.control,
        }

    def _start(self, trainer: Any, data: Any) -> None:
        self._on_start(trainer, data)
        assert self._viewer is not None
        assert self._viewer.run is not None
        self._viewer.run.start(trainer, _scene(data))

    def _progress(self, at: Progress) -> None:
        self._on_progress(at)
        assert self._viewer is not None
        assert self._viewer.run is not None
        self._viewer.run.step(at)

    def stay(self, run: Run) -> None:
        """Go on while somebody looks at the finished field; Ctrl-C ends that."""
        if self._viewer is None or run.interrupted or not self._viewer.n_visitors:
            return
        say("the viewer goes on while somebody looks; Ctrl-C ends it", self._json)
        with contextlib.suppress(KeyboardInterrupt):
            self._viewer.wait_for_visitors()

    def __enter__(self) -> Watch:
        return self

    def __exit__(self, *_: object) -> None:
        if self._viewer is not None:
            self._viewer.close()


def _scene(data: Any) -> dict[str, Any]:
    """What the file will say of a scene; nothing of other kinds."""
    if not hasattr(data, "cameras"):
        return {}
    background = data.background
    shown = None if background is None else background.tolist()
    return {"cameras": data.cameras.to_json(), "background": shown}
