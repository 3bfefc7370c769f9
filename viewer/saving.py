"""What a visitor takes along: the picture as it is, and the surface as a mesh."""

from __future__ import annotations

import io
import logging
import tempfile
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import viser
from PIL import Image

from neural_fields import api
from neural_fields.errors import InputError
from neural_fields.fields import RadianceField, SdfField
from neural_fields.viewer.library import Opened
from neural_fields.viewer.service import Picture, RenderService, Wish
from neural_fields.viewer.shown import ShownSolid

_LOG = logging.getLogger(__name__)
_FORMATS = ("ply", "glb", "obj", "stl")
_MOST_BYTES = 1 << 30  # that one window may save: what it does not fetch stays in memory
_EXPORTING = threading.Lock()  # one mesh at a time, for all visitors


class Saver:
    """A folder of the panel.

    `wish` gives what the visitor sees now, or None; `opened` the field that is shown; `on` binds a
    handle to a call whose errors become notices; `notice` says a sentence.
    """

    def __init__(
        self,
        client: viser.ClientHandle,
        service: RenderService,
        wish: Callable[[], Wish | None],
        opened: Callable[[], Opened | None],
        on: Callable[[Any, Callable[[], None]], None],
        notice: Callable[[str], None],
    ) -> None:
        self._client, self._service, self._notice = client, service, notice
        self._wish, self._opened = wish, opened
        self._n_bytes = 0
        gui = client.gui
        with gui.add_folder("Save", expand_by_default=False):
            on(gui.add_button("Save picture"), self._save_picture)
            self._format = gui.add_dropdown("Mesh format", _FORMATS)
            self._cells = gui.add_slider("Cells per side", 32, 512, 32, 256)
            on(gui.add_button("Save mesh"), self._save_mesh)
            # Any: viser's types forbid what its handles are for.
            self._progress: Any = gui.add_progress_bar(0.0, visible=False)

    @property
    def _visitor(self) -> tuple[int, str]:
        return self._client.client_id, "save"

    def close(self) -> None:
        """The visitor left."""
        self._service.forget(self._visitor)

    def _save_picture(self) -> None:
        seen = self._wish()
        if seen is not None:
            wish = Wish(seen.camera, seen.state, self._send_picture, self._notice)
            self._service.show(self._visitor, wish)

    def _send_picture(self, picture: Picture) -> None:
        if picture.final:
            stream = io.BytesIO()
            Image.fromarray(picture.pixels.numpy()).save(stream, "PNG")
            self._send("view.png", stream.getvalue())

    def _save_mesh(self) -> None:
        opened = self._opened()
        if opened is None:
            return
        if not isinstance(opened.shown, ShownSolid):
            raise InputError("Save mesh: needs a radiance field or a shape; this is neither.")
        if not _EXPORTING.acquire(blocking=False):
            raise InputError("Save mesh: another mesh is being made; try again when it is done.")
        form = str(self._format.value)
        if form not in _FORMATS:
            _EXPORTING.release()
            raise InputError(f"Save mesh: needs one of {', '.join(_FORMATS)}, got {form!r}.")
        n_cells = min(512, max(32, int(self._cells.value)))
        wish = self._wish()
        field = opened.shown.at(0.0 if wish is None else wish.state.look.time)
        arguments = (opened, field, form, n_cells)
        threading.Thread(target=self._export, args=arguments, name="nf-mesh", daemon=True).start()

    def _export(
        self, opened: Opened, field: RadianceField | SdfField, form: str, n_cells: int
    ) -> None:
        self._progress.visible = True
        try:
            with tempfile.TemporaryDirectory() as folder:
                path = Path(folder) / f"mesh.{form}"
                api.export(
                    field,
                    path,
                    resolution=n_cells,
                    scene=opened.content.scene,
                    on_block=self._advance,
                )
                self._send(f"{Path(opened.entry.name).stem}.{form}", path.read_bytes())
        except InputError as error:
            self._notice(str(error))
        except Exception:
            _LOG.exception("a mesh could not be made")
            self._notice("The mesh could not be made; the log says why.")
        finally:
            _EXPORTING.release()
            self._progress.visible = False

    def _advance(self, done: int, total: int) -> None:
        self._progress.value = 100.0 * done / max(total, 1)

    def _send(self, name: str, content: bytes) -> None:
        self._n_bytes += len(content)
        if self._n_bytes > _MOST_BYTES:
            return self._notice("This window has saved a gigabyte; open another one for more.")
        self._client.send_file_download(name, content, save_immediately=True)
