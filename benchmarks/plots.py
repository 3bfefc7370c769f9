"""Plots of benchmark rows for the documentation."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

Point = tuple[float, float]  # bytes of the file, dB


def quality_over_size(panels: Mapping[str, Mapping[str, Point]], path: Path) -> None:
    """One panel per data set: PSNR over the size of the file, a labelled point per architecture.

    Args:
        panels: by title, by architecture.
        path: .svg or .png.
    """
    import matplotlib as mpl

    mpl.use("agg")
    from matplotlib import pyplot as plt

    with plt.rc_context({"svg.fonttype": "none", "svg.hashsalt": "nf", "font.size": 9}):
        figure, axes = plt.subplots(
            1, len(panels), figsize=(4.6 * len(panels), 4.2), squeeze=False, layout="constrained"
        )
        for axis, (title, points) in zip(axes[0], panels.items(), strict=True):
            axis.set(title=title, xlabel="bytes of the file", xscale="log")
            axis.grid(alpha=0.3)
            axis.margins(x=0.18, y=0.1)
            ordered = sorted(points.items(), key=lambda point: point[1][1])
            for place, (name, at) in enumerate(ordered):  # neighbours on either side
                axis.plot(*at, "o", markersize=5)
                side, offset = ("left", (6, -3)) if place % 2 else ("right", (-6, -3))
                axis.annotate(name, at, offset, textcoords="offset points", ha=side)
        axes[0, 0].set_ylabel("PSNR, dB")
        figure.savefig(path, metadata={"Date": None} if path.suffix == ".svg" else None)
        plt.close(figure)
