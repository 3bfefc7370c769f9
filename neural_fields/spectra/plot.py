"""A picture of a choice: spectra, and the distances by value."""

from __future__ import annotations

import io
from pathlib import Path
from typing import Any

from torch import Tensor

from neural_fields.errors import InputError, library
from neural_fields.fields.file import write_atomically
from neural_fields.spectra.choice import Choice

FORMATS = (".png", ".svg", ".pdf")
_FEW = 6  # spectra of candidates that are drawn besides the choice and the default


def checked_plot(path: Path) -> None:
    """Raise InputError, before any work is done, for a file that `plot` could not write."""
    if path.suffix.lower() not in FORMATS:
        raise InputError(f"-o {path}: needs a name that ends in {', '.join(FORMATS)}.")
    if not path.parent.is_dir() or path.is_dir():
        raise InputError(f"-o {path}: needs a file name in a folder that exists.")
    library("matplotlib", "plots")


def plot(choice: Choice, path: Path) -> None:
    """Draw the spectra of target and candidates, and the curve of distances.

    Args:
        choice: what to draw.
        path: PNG, SVG or PDF by its name; written atomically.

    Raises:
        InputError: the name has another end, or matplotlib is missing.
    """
    checked_plot(path)
    mpl = library("matplotlib", "plots")
    mpl.use("agg")
    from matplotlib import pyplot as plt

    with plt.rc_context({"font.size": 9}):
        figure, (left, right) = plt.subplots(1, 2, figsize=(10, 4), layout="constrained")
        _spectra(left, choice)
        _distances(right, choice)
        stream = io.BytesIO()
        figure.savefig(stream, format=path.suffix[1:].lower(), dpi=120)
        plt.close(figure)
    write_atomically(path, stream.getvalue())


def _spectra(axis: Any, choice: Choice) -> None:
    bins = range(1, choice.n_bins + 1)
    known = [d.value for d in choice.distances]
    shown = known[:: max(1, len(known) // _FEW)]
    for value in known:
        if value in shown and value not in (choice.value, choice.default):
            label = f"{choice.parameter} {value:g}"
            axis.plot(bins, _list(choice.spectra[value]), lw=0.8, alpha=0.6, label=label)
    if choice.default != choice.value:
        label = "default" + ("" if choice.default is None else f" {choice.default:g}")
        axis.plot(bins, _list(choice.spectra[choice.default]), "k--", lw=1.2, label=label)
    label = "chosen" + ("" if choice.value is None else f" {choice.value:g}")
    axis.plot(bins, _list(choice.spectra[choice.value]), "C3", lw=2, label=label)
    axis.plot(bins, _list(choice.target), "k", lw=2, label="signal")
    axis.set(xlabel="cycles per side", ylabel="share of the spectrum", yscale="log")
    axis.set_title("spectra of the signal and of untrained fields")
    axis.legend(fontsize=7)


def _distances(axis: Any, choice: Choice) -> None:
    curve = [(d.value, d.mean, d.error) for d in choice.distances if d.value is not None]
    x, y, errors = zip(*curve, strict=True)
    axis.errorbar(x, y, errors, fmt="o-", ms=4, capsize=2, color="C0")
    for distance in choice.distances:
        if distance.value is None:
            axis.axhline(distance.mean, color="k", ls="--", lw=1, label="default")
        elif distance.value == choice.default:
            axis.plot(distance.value, distance.mean, "ks", ms=8, mfc="none", label="default")
        if distance.value is not None and distance.value == choice.value:
            axis.plot(distance.value, distance.mean, "C3*", ms=12, label="chosen")
    if min(x) > 0 and max(x) / min(x) >= 32:
        axis.set_xscale("log", base=2)
    axis.set(xlabel=choice.parameter, ylabel="distance, cycles per side", ylim=(0, None))
    axis.set_title(f"distance to the signal's spectrum, {choice.n_bins} cycles")
    axis.legend(fontsize=8)
    axis.grid(alpha=0.3)


def _list(values: Tensor) -> list[float]:
    return [float(value) for value in values]
