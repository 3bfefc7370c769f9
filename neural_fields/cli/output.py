"""What commands print: JSON on request, progress, and where to look next."""

from __future__ import annotations

import json as json_module
import sys
import time
from pathlib import Path
from typing import Any

from neural_fields.errors import InputError
from neural_fields.fields.file import finite, write_atomically


def emit_json(target: str | None, result: dict[str, Any]) -> None:
    """Put one JSON object on the named file or, for `-`, on stdout; None does nothing.

    JSON has no infinity (the PSNR of equal images): such numbers become null.
    """
    if target is None:
        return
    text = json_module.dumps(finite(result), indent=2, allow_nan=False, default=str) + "\n"
    if target == "-":
        sys.stdout.write(text)
    else:
        write_atomically(Path(target), text.encode())


def check_json_target(target: str) -> None:
    """Refuse, before any work is done, a file that `emit_json` could not write."""
    path = Path(target)
    if target != "-" and (not path.parent.is_dir() or path.is_dir()):
        raise InputError(f"--json {target}: needs a file name in a folder that exists, or -.")


def say(message: str, json: str | None = None) -> None:
    """Print a line for people; on stderr where stdout belongs to JSON."""
    print(message, file=sys.stderr if json == "-" else sys.stdout, flush=True)


def parse_size(size: str | None) -> tuple[int, int] | None:
    """Width and height from `WxH`.

    Example:
        >>> parse_size("640x360")
        (640, 360)
    """
    if size is None:
        return None
    parts = size.lower().split("x")
    if len(parts) != 2 or not all(part.isdecimal() and 1 <= int(part) <= 16384 for part in parts):
        raise InputError(f"--size: needs WIDTHxHEIGHT such as 640x360, got {size!r}.")
    return int(parts[0]), int(parts[1])


def named_value(value: float | None) -> str:
    """A parameter's value for people; None is what the architecture does by itself.

    Example:
        >>> named_value(30.0), named_value(None)
        ('30', 'its own')
    """
    return "its own" if value is None else f"{value:g}"


class Bar:
    """A progress bar on a terminal, a plain line every ten seconds elsewhere; on stderr."""

    def __init__(self, total: float, unit: str) -> None:
        self._total = total
        self._unit = unit
        self._bar: Any = None
        self._said_at = time.perf_counter()
        if sys.stderr.isatty():
            from tqdm import tqdm

            form = "{l_bar}{bar}| {n:.0f}/{total:.0f} {unit} [{elapsed}<{remaining}{postfix}]"
            self._bar = tqdm(total=total, unit=unit, bar_format=form)

    def update(self, done: float, note: str = "") -> None:
        """Show that `done` of the total is done."""
        if self._bar is not None:
            self._bar.n = min(done, self._total)
            self._bar.set_postfix_str(note, refresh=False)
            self._bar.update(0)
        elif time.perf_counter() - self._said_at > 10 or done >= self._total:
            self._said_at = time.perf_counter()
            print(f"{done:.0f}/{self._total:.0f} {self._unit}  {note}", file=sys.stderr, flush=True)

    def close(self) -> None:
        """Leave the last state on the screen."""
        if self._bar is not None:
            self._bar.refresh()
            self._bar.close()
