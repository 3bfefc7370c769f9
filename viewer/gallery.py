"""The list of fields in the panel, some at a time."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from neural_fields.viewer.cards import card
from neural_fields.viewer.library import Entry

PAGE = 6  # entries at a time


class Gallery:
    """Cards with a button each.

    `on_choice` is called with the name of an entry; `on` binds a handle to a call whose errors
    become notices.
    """

    def __init__(
        self,
        gui: Any,
        on_choice: Callable[[str], None],
        on: Callable[[Any, Callable[[], None]], None],
    ) -> None:
        self._gui, self._on_choice, self._on = gui, on_choice, on
        self._entries: Sequence[Entry] = ()
        self._page = 0
        self._handles: list[Any] = []
        self._container = gui.add_folder("Here", expand_by_default=True)
        self._pager = gui.add_button_group("Page", ("previous", "next"), visible=False)
        on(self._pager, lambda: self._turn(1 if self._pager.value == "next" else -1))

    def show(self, entries: Sequence[Entry]) -> None:
        """Draw the list anew where it changed."""
        if [_key(entry) for entry in entries] == [_key(entry) for entry in self._entries]:
            return
        self._entries = list(entries)
        self._draw()

    def _turn(self, by: int) -> None:
        self._page += by
        self._draw()

    def _draw(self) -> None:
        n_pages = max(1, -(-len(self._entries) // PAGE))
        self._page %= n_pages
        for handle in self._handles:
            handle.remove()
        self._handles = []
        self._pager.visible = n_pages > 1
        self._container.label = f"{len(self._entries)} here" + (
            f", page {self._page + 1} of {n_pages}" if n_pages > 1 else ""
        )
        with self._container:
            for entry in self._entries[self._page * PAGE : (self._page + 1) * PAGE]:
                self._handles.append(self._gui.add_html(card(entry)))
                if not entry.problem:
                    self._handles.append(self._button(entry.name))

    def _button(self, name: str) -> Any:
        button = self._gui.add_button(f"Show {name}")
        self._on(button, lambda: self._on_choice(name))
        return button


def _key(entry: Entry) -> tuple[object, ...]:
    """What a card shows; a run in training changes without its card."""
    picture = None if entry.thumbnail is None else id(entry.thumbnail)
    return entry.name, entry.architecture, entry.n_bytes, entry.psnr, entry.problem, picture
