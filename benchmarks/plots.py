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
            1, len(panels), figsize=(4.2 * len(panels), 3.4), squeeze=False, layout="constrained"
        )
        for axis, (title, points) in zip(axes[0], panels.items(), strict=True):
            axis.set(title=title, xlabel="bytes of the file", xscale="log")
            axis.grid(alpha=0.3)
            axis.margins(x=0.18, y=0.1)
            for name, (size, quality) in points.items():
                axis.plot(size, quality, "o", markersize=5)
                axis.annotate(name, (size, quality), (5, 3), textcoords="offset points")
        axes[0, 0].set_ylabel("PSNR, dB")
        figure.savefig(path, metadata={"Date": None} if path.suffix == ".svg" else None)
        plt.close(figure)
