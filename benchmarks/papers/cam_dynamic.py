"""Coordinate-aware modulation by time (Lee et al. 2024) on scenes that move.

python -m neural_fields.benchmarks.papers.cam_dynamic --data DIR -o cam_dynamic.json

DIR holds dynamic/bounce_400, nonrigid_example and dnerf_lego_100. Rows that the JSON file has are
not computed again.

The first table has modulation on and off at equal steps, three seeds each; the second what a field
at rest makes of the same photographs in the same steps; the third the other sets. The paper trains
T-NeRF for 30,000 steps of some 65,536 samples on 800 x 800; `--architectures t-nerf` runs its sizes
in our steps.
"""

from __future__ import annotations

import argparse
import os
import tempfile
from functools import partial
from pathlib import Path
from typing import Any

from neural_fields import evaluate, fit
from neural_fields.benchmarks.papers.rows import Rows, markdown

PUBLISHED = "D-NeRF's eight scenes: T-NeRF 32.22 dB, with CAM 33.78 (+1.56)"
STEPS, SEEDS = 1200, 3
ARCHITECTURES = ("hash", "mlp", "t-nerf")
SETS = {"nonrigid_example": (2, "test"), "dnerf_lego_100": (1, "val")}
BACKDROPS = {"dnerf_lego_100": "black"}  # without alpha, before a plain colour


def row(
    folder: Path,
    downscale: int,
    split: str,
    architecture: str,
    modulate: str,
    steps: int,
    seed: int,
) -> dict[str, Any]:
    """Scores of one field; `modulate` is `rest` for one that does not move."""
    sizes: dict[str, Any] = {"field": architecture}
    if architecture == "t-nerf":
        sizes = {"field": "mlp", "preset": "nerf"}
    options: dict[str, Any] = {"steps": steps, "seed": seed, "downscale": downscale, **sizes}
    options["background"] = BACKDROPS.get(folder.name, "auto")
    with tempfile.TemporaryDirectory() as place:
        path = Path(place) / "field.nf"
        if modulate == "rest":
            run = fit.nerf(folder, path, **options)
        else:
            run = fit.dynamic(folder, path, modulate=modulate, **options)
        scores = evaluate(path, folder, split)
    return {
        "psnr": scores["psnr"],
        "ssim": scores["ssim"],
        "params": run.field.n_params,
        "seconds": run.summary["seconds"],
        "psnr_train": run.summary["psnr_train"],
    }


class _Tables:
    """Rows by what they are of."""

    def __init__(self, rows: Rows, data: Path, steps: int) -> None:
        self._rows, self._data, self._steps = rows, data, steps

    def get(
        self, name: str, downscale: int, split: str, architecture: str, modulate: str, seed: int
    ) -> dict[str, Any]:
        """One row."""
        key = f"{name} {architecture} {modulate} {self._steps} {seed}"
        folder = self._data / "dynamic" / name
        make = partial(row, folder, downscale, split, architecture, modulate, self._steps, seed)
        found = self._rows.get(key, make)
        print(f"{key}: {found['psnr']:.2f} dB, {found['seconds']:.0f} s", flush=True)
        return found

    def bounce(self, architectures: list[str], n_seeds: int) -> str:
        """Modulation on and off, and at rest."""
        lines = []
        for architecture in architectures:
            arms = {
                modulate: [
                    self.get("bounce_400", 4, "test", architecture, modulate, seed)
                    for seed in range(n_seeds)
                ]
                for modulate in ("none", "time")
            }
            means = [sum(x["psnr"] for x in arm) / len(arm) for arm in arms.values()]
            rest = self.get("bounce_400", 4, "test", architecture, "rest", 0)["psnr"]
            each = [", ".join(f"{x['psnr']:.2f}" for x in arm) for arm in arms.values()]
            seconds = f"{arms['time'][0]['seconds']:.0f}"
            gain = f"{means[1] - means[0]:+.2f}"
            cells = [f"{means[0]:.2f} ({each[0]})", f"{means[1]:.2f} ({each[1]})", gain]
            lines.append([architecture, *cells, f"{rest:.2f}", seconds])
        header = ["bounce_400, dB", "no modulation", "by time", "gain", "at rest", "s"]
        return markdown(header, lines)

    def others(self) -> str:
        """The other sets, by the default field."""
        lines = []
        for name, (downscale, split) in SETS.items():
            found = [
                self.get(name, downscale, split, "hash", m, 0) for m in ("none", "time", "rest")
            ]
            lines.append([f"{name} ({split})", *(f"{x['psnr']:.2f}" for x in found)])
        return markdown(["hash, dB", "no modulation", "by time", "at rest"], lines)


def main() -> None:
    """Make the tables."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument(
        "--data", default=os.environ.get("NF_DATA"), help="folder of the shared sets"
    )
    parser.add_argument("-o", "--output", type=Path, required=True, help="JSON file of the rows")
    parser.add_argument("--architectures", nargs="*", choices=ARCHITECTURES, default=["hash"])
    parser.add_argument("--steps", type=int, default=STEPS, help=f"of every field ({STEPS})")
    parser.add_argument("--seeds", type=int, default=SEEDS, help=f"of every arm ({SEEDS})")
    parser.add_argument("--others", action="store_true", help="the other sets as well")
    options = parser.parse_args()
    if options.data is None:
        parser.error("needs --data or NF_DATA")
    tables = _Tables(Rows(options.output), Path(options.data), options.steps)
    print(tables.bounce(options.architectures, options.seeds))
    print(f"published: {PUBLISHED}")
    if options.others:
        print(tables.others())


if __name__ == "__main__":
    main()
