"""What one visitor sees: the panel, the camera, and the pictures that come back."""

from __future__ import annotations

import functools
import logging
import threading
from collections.abc import Callable
from dataclasses import replace
from typing import Any, Literal

import torch
import viser

from neural_fields.errors import InputError
from neural_fields.rendering.cameras import Cameras
from neural_fields.rendering.slices import Slice
from neural_fields.viewer.cards import card
from neural_fields.viewer.frame import Layout, State, with_border
from neural_fields.viewer.gallery import Gallery
from neural_fields.viewer.library import Entry, Library, Opened
from neural_fields.viewer.live import NAME, LiveRun
from neural_fields.viewer.overlays import Overlays
from neural_fields.viewer.path_editor import PathEditor
from neural_fields.viewer.saving import Saver
from neural_fields.viewer.service import Picture, RenderService, Wish
from neural_fields.viewer.shown import Look, ShownSolid, start_at
from neural_fields.viewer.timeline import Timeline
from neural_fields.viewer.visitor_camera import camera_of_visitor, place_camera
from neural_fields.viewer.wake import sent_from_a_thread

_LOG = logging.getLogger(__name__)
_QUALITY, _MOVING_QUALITY = 95, 80  # of JPEG
_FEW_PIXELS = 10_000
_BACKGROUNDS = {"own": None, "white": (1.0, 1.0, 1.0), "black": (0.0, 0.0, 0.0)}
_NOTHING = "nothing"


class Window:
    """One visitor's window."""

    def __init__(
        self,
        client: viser.ClientHandle,
        library: Library,
        service: RenderService,
        run: LiveRun | None = None,
    ) -> None:
        self._client, self._library, self._service = client, library, service
        self._run = run
        self._lock = threading.RLock()
        self._closed = False
        self._left: Opened | None = None
        self._right: Opened | None = None
        self._beside: Any  # viser's types forbid what its handles are for
        self._crops: list[Any]
        self._look = Look()
        self._layout: Layout = "split"
        self._share = 0.5
        self._build()
        client.camera.on_update(lambda _: self._guarded(self._ask)())
        self.refresh()

    def close(self) -> None:
        """The visitor left."""
        with self._lock:
            self._closed = True
            self._service.forget(self._client.client_id)
            self._path.close()
            self._timeline.stop()
            self._saver.close()

    def refresh(self) -> None:
        """Show what there is now, and fields whose files changed as they are now."""
        self._guarded(self._refresh)()

    def _refresh(self) -> None:
        entries = self._entries()
        self._say_run()
        self._gallery.show(entries)
        names = [_NOTHING, *(entry.name for entry in entries)]
        if tuple(self._beside.options) != tuple(names):
            self._beside.options = tuple(names)
        if self._left is None:
            self._guarded(self._open_first)()
        stamps = {entry.name: entry.stamp for entry in entries}
        for opened, reopen in ((self._left, self._open), (self._right, self._compare)):
            if opened is not None and stamps.get(opened.entry.name, opened.entry.stamp) != (
                opened.entry.stamp
            ):
                self._guarded(functools.partial(reopen, opened.entry.name))()

    def _entries(self) -> list[Entry]:
        live = None if self._run is None else self._run.entry()
        return ([] if live is None else [live]) + self._library.entries()

    def _opened(self, name: str) -> Opened:
        live = self._run.open() if self._run is not None and name == NAME else None
        return self._library.open(name) if live is None else live

    # ---- the panel -------------------------------------------------------------------------------

    def _build(self) -> None:
        gui = self._client.gui
        gui.configure_theme(show_logo=False, show_share_button=False, control_width="medium")
        gui.set_panel_label("neural_fields")
        gui.main_panel.dock_right()  # beside the picture, not over it
        self._about = gui.add_html("")
        self._status = gui.add_markdown("")
        if self._run is not None:
            self._build_run(self._run)
        with gui.add_folder("Fields"):
            self._gallery = Gallery(gui, self._open, self._on)
        with gui.add_folder("View"):
            self._mode = gui.add_dropdown("Mode", ("rgb",), hint="What is shown of the field")
            self._on(self._mode, self._change_mode)
            self._axis = gui.add_dropdown("Slice across", ("x", "y", "z"), initial_value="y")
            self._depth = gui.add_slider("Slice at", 0.0, 1.0, 0.01, 0.5)
            for handle in (self._axis, self._depth):
                self._on(handle, self._change_slice)
            self._background = gui.add_dropdown("Background", tuple(_BACKGROUNDS))
            self._on(self._background, self._change_background)
            self._on(gui.add_button("Reset camera"), self._reset_camera)
        self._timeline = Timeline(gui, self._change_time, self._on)
        with gui.add_folder("Compare", expand_by_default=False):
            self._beside = gui.add_dropdown("With", (_NOTHING,))
            self._on(self._beside, lambda: self._compare(str(self._beside.value)))
            self._layouts = gui.add_dropdown("Layout", ("split", "side by side"))
            self._on(self._layouts, self._change_layout)
            self._slider = gui.add_slider("Split at", 0.0, 1.0, 0.01, 0.5)
            self._on(self._slider, self._change_share)
        self._build_crop()
        self._build_overlays()
        self._path = PathEditor(self._client, self._camera, self._guarded(self._go), self._on)
        self._saver = Saver(
            self._client, self._service, self._wish, lambda: self._left, self._on, self._notice
        )

    def _build_run(self, run: LiveRun) -> None:
        gui, control = self._client.gui, run.control
        with gui.add_folder("Training"):
            self._progress = gui.add_markdown(run.about)
            self._on(gui.add_button("Pause"), control.pause)
            self._on(gui.add_button("Resume"), control.resume)
            self._on(gui.add_button("Save checkpoint"), control.save)

    def _say_run(self) -> None:
        if self._run is not None:
            paused = "**paused** at " if self._run.control.paused else ""
            self._progress.content = paused + self._run.about

    def _build_overlays(self) -> None:
        gui = self._client.gui
        self._overlays = Overlays(self._client, self._guarded(self._go_to_photograph))
        with gui.add_folder("Overlays", expand_by_default=False):
            self._with_cameras = gui.add_checkbox("Training cameras", False, hint="Click to enter")
            self._with_cells = gui.add_checkbox("Occupied cells", False)
            for handle in (self._with_cameras, self._with_cells):
                self._on(handle, self._draw_overlays)

    def _build_crop(self) -> None:
        gui = self._client.gui
        with gui.add_folder("Crop", expand_by_default=False):
            self._crops = [
                gui.add_multi_slider(axis, 0.0, 1.0, 0.01, (0.0, 1.0)) for axis in ("x", "y", "z")
            ]
            for slider in self._crops:
                self._on(slider, self._change_crop)

    def _on(self, handle: Any, call: Callable[[], None]) -> None:
        """Call when a visitor changes something; errors become notices."""
        guarded = self._guarded(call)
        if isinstance(handle, viser.GuiButtonHandle | viser.GuiButtonGroupHandle):
            handle.on_click(lambda _: guarded())
        else:
            handle.on_update(lambda _: guarded())

    def _guarded(self, call: Callable[..., None]) -> Callable[..., None]:
        @functools.wraps(call)
        def guarded(*arguments: Any) -> None:
            try:
                with self._lock, sent_from_a_thread():
                    call(*arguments)
            except InputError as error:
                self._notice(str(error))
            except Exception:
                _LOG.exception("a visitor's wish failed")
                self._notice("That did not work; the log says why.")

        return guarded

    def _notice(self, sentence: str) -> None:
        if not self._closed:
            self._client.add_notification("neural_fields", sentence, color="red")

    # ---- what is looked at -----------------------------------------------------------------------

    def _open_first(self) -> None:
        entries = [entry for entry in self._entries() if not entry.problem]
        if entries:
            self._open(entries[0].name)
        else:
            self._status.content = "There is no field here yet."

    def _open(self, name: str) -> None:
        before, self._left = self._left, self._opened(name)
        modes = self._left.shown.modes
        if tuple(self._mode.options) != modes:
            self._mode.options = modes
        if self._look.mode not in modes:
            self._look = replace(self._look, mode=modes[0])
        if self._right is not None and self._unlike(self._right) is not None:
            self._compare(_NOTHING)
        same_place = before is not None and before.shown.box == self._left.shown.box
        if not same_place:
            self._look = replace(self._look, box=None, plane=None)
            for slider in self._crops:
                slider.value = (0.0, 1.0)
            self._reset_camera()
        self._describe()
        self._draw_overlays()
        self._ask()

    def _compare(self, name: str) -> None:
        right = None if name == _NOTHING else self._opened(name)
        problem = None if right is None else self._unlike(right)
        if problem is not None:
            self._beside.value = _NOTHING
            raise InputError(f"{name}: {problem}.")
        self._right = right
        if self._beside.value != name:
            self._beside.value = name
        self._describe()
        self._ask()

    def _unlike(self, right: Opened) -> str | None:
        """Why a field cannot be shown beside the first one, or None."""
        ours, theirs = "" if self._left is None else self._left.shown.kind, right.shown.kind
        if ours != theirs and {ours, theirs} & {"image", "video"}:
            return f"is of kind {theirs}, and what is shown of kind {ours}"
        if self._look.mode not in right.shown.modes:
            return f"has no mode {self._look.mode}; choose another one first"
        return None

    def _describe(self) -> None:
        both = self._right is not None
        cards = []
        if self._left is not None:
            cards.append(card(self._left.entry, "left" if both else ""))
        if self._right is not None:
            cards.append(card(self._right.entry, "right"))
        self._about.content = "".join(cards)
        self._show_what_applies()

    def _change_look(self, **changes: Any) -> None:
        self._look = replace(self._look, **changes)
        self._ask()

    def _change_mode(self) -> None:
        self._change_look(mode=str(self._mode.value))
        self._show_what_applies()

    def _show_what_applies(self) -> None:
        cuts = self._look.mode == "slice"
        self._axis.visible = self._depth.visible = cuts
        self._timeline.show(self._moves())

    def _moves(self) -> bool:
        return any(x is not None and x.shown.moves for x in (self._left, self._right))

    def _change_time(self) -> None:
        self._change_look(time=self._timeline.time)

    def _change_slice(self) -> None:
        """The slider's share of the box along the axis."""
        if self._left is None:
            return
        axis = "xyz".index(str(self._axis.value))
        share = min(1.0, max(0.0, float(self._depth.value)))
        low, high = (corner[axis] for corner in self._left.shown.box)
        self._change_look(plane=Slice(axis, low + share * (high - low)))

    def _change_background(self) -> None:
        self._change_look(background=_BACKGROUNDS[str(self._background.value)])

    def _change_layout(self) -> None:
        self._layout = "split" if self._layouts.value == "split" else "side by side"
        self._ask()

    def _change_share(self) -> None:
        self._share = min(1.0, max(0.0, float(self._slider.value)))
        self._ask()

    def _change_crop(self) -> None:
        """The sliders' shares of the field's box; all of them open: no crop at all."""
        if self._left is None:
            return
        shares = [sorted(min(1.0, max(0.0, float(x))) for x in s.value) for s in self._crops]
        if all(share == [0.0, 1.0] for share in shares):
            return self._change_look(box=None)
        low, high = (torch.tensor(corner) for corner in self._left.shown.box)
        first, last = torch.tensor(shares).unbind(1)
        corners = (low + first * (high - low), low + last * (high - low))
        self._change_look(box=tuple(tuple(corner.tolist()) for corner in corners))

    # ---- cameras and pictures --------------------------------------------------------------------

    def _reset_camera(self) -> None:
        if self._left is not None:
            place_camera(self._client, self._left.shown.start)
            self._ask()

    def _draw_overlays(self) -> None:
        solid = self._left.shown if self._left is not None else None
        solid = solid if isinstance(solid, ShownSolid) else None
        self._overlays.show_cameras(solid if self._with_cameras.value else None)
        self._overlays.show_cells(solid if self._with_cells.value else None)

    def _go_to_photograph(self, index: int) -> None:
        solid = None if self._left is None else self._left.shown
        if isinstance(solid, ShownSolid) and solid.cameras is not None:
            self._go(solid.cameras[index])

    def _go(self, camera: Cameras) -> None:
        """Move the visitor to a camera, and a time; to turn around the middle of what is there."""
        if self._left is None or self._closed:
            return
        if camera.times is not None:
            self._timeline.time = float(camera.times[0])
        place_camera(self._client, start_at(camera, self._left.shown.box))

    def _camera(self) -> Cameras | None:
        """The visitor's, with the time where anything moves."""
        camera = camera_of_visitor(self._client.camera)
        if camera is None or not self._moves():
            return camera
        return replace(camera, times=torch.tensor([self._timeline.time]))

    def _wish(self) -> Wish | None:
        """What is looked at now."""
        camera = self._camera()
        if self._left is None or self._closed or camera is None:
            return None
        right = None if self._right is None else self._right.shown
        state = State(self._left.shown, self._look, right, self._layout, self._share)
        return Wish(camera, state, functools.partial(self._deliver, camera, state), self._notice)

    def _ask(self) -> None:
        """Have the service render it."""
        wish = self._wish()
        if wish is not None:
            self._service.show(self._client.client_id, wish)

    def _deliver(self, camera: Cameras, state: State, picture: Picture) -> None:
        if self._closed:
            return
        pixels = with_border(picture.pixels, state).numpy()
        height, width = pixels.shape[:2]
        # JPEG spreads the colours of pixels that are shown this large.
        form: Literal["png", "jpeg"] = "png" if height * width <= _FEW_PIXELS else "jpeg"
        quality = _QUALITY if picture.final else _MOVING_QUALITY
        with sent_from_a_thread():
            self._client.scene.set_background_image(pixels, format=form, jpeg_quality=quality)
        size = f"{width}x{height}" + (
            "" if picture.final else f" of {camera.width}x{camera.height}"
        )
        with sent_from_a_thread():
            self._status.content = f"{size} pixels in {picture.seconds * 1000:.0f} ms"
