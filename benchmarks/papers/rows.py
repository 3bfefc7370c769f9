"""Rows of a table that are kept as they are made, so that a long run can stop and go on."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

from neural_fields.fields.file import write_atomically


class Rows:
    """A JSON file of named rows; a row that is there is not computed again."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._rows: dict[str, Any] = json.loads(path.read_text()) if path.is_file() else {}

    def get(self, name: str, make: Callable[[], dict[str, Any]]) -> dict[str, Any]:
        """The row of this name, made and written if it is not there."""
        if name not in self._rows:
            self._rows[name] = make()
            write_atomically(self._path, (json.dumps(self._rows, indent=1) + "\n").encode())
        row: dict[str, Any] = self._rows[name]
        return row


def markdown(header: list[str], lines: list[list[str]]) -> str:
    """A Markdown table.

    Example:
        >>> print(markdown(["a", "b"], [["1", "2"]]))
        | a | b |
        |---|---|
        | 1 | 2 |
    """
    rule = ["---"] * len(header)
    rows = ["| " + " | ".join(cells) + " |" for cells in (header, *lines)]
    return "\n".join([rows[0], "|" + "|".join(rule) + "|", *rows[1:]])
