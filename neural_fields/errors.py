"""The two kinds of failure that a caller can act on, and a sentence that many need."""

from __future__ import annotations

import difflib
from collections.abc import Sequence


class InputError(ValueError):
    """The input is at fault: a sentence saying which, what was needed, what came, what to do.

    The command line prints it without a traceback and exits with code 2.

    Example:
        >>> raise InputError("size: needs WxH such as 400x400, got '400'.")
        Traceback (most recent call last):
        neural_fields.errors.InputError: size: needs WxH such as 400x400, got '400'.
    """


class TrainingError(RuntimeError):
    """A loss or a parameter became non-finite; the last good file is kept."""


def unknown_value(option: str, value: str, choices: Sequence[str]) -> str:
    """The sentence about a value that is not among the choices.

    Example:
        >>> unknown_value("--mode", "dpeth", ("rgb", "depth"))
        "--mode: needs one of rgb, depth, got 'dpeth'; did you mean depth?"
    """
    near = difflib.get_close_matches(value, choices, n=1, cutoff=0.5)
    hint = f"; did you mean {near[0]}?" if near else "."
    return f"{option}: needs one of {', '.join(choices)}, got {value!r}{hint}"
