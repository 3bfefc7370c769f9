"""The two kinds of failure that a caller can act on."""

from __future__ import annotations


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
