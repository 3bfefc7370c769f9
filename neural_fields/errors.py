"""The two kinds of failure that a caller can act on, and sentences that many need."""

from __future__ import annotations

import difflib
import importlib
from collections.abc import Sequence
from typing import Any


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


def library(name: str, extra: str) -> Any:
    """A module of a package that one of our extras brings.

    Raises:
        InputError: it is not installed, or lacks a library of the system.

    Example:
        >>> library("json", "mesh").loads("[1]")
        [1]
    """
    try:
        return importlib.import_module(name)
    except ImportError as error:
        advice = f"pip install 'neural_fields[{extra}]'"
        if "libusb" in str(error):  # which Open3D's wheels expect of the system
            advice = "install the system's package libusb-1.0-0"
        package = name.partition(".")[0]
        raise InputError(f"needs the package {package} ({error}); {advice}.") from error
