"""FreSh (Kania et al. 2025): the default, its choice, and the best of a sweep at equal steps.

python -m neural_fields.benchmarks.papers.fresh --data DIR -o fresh.json

DIR holds images/kodak and video/bunny. Pictures are taken at half size, as are frames of the clip.
Networks have the paper's sizes, 3 x 256 behind the first layer or behind 128 frequencies; the hash
grid has ours. Every row is 500 steps of 8192 pixels. Rows that the JSON file has are not computed
again.
"""

from __future__ import annotations

import argparse
import os
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Any, cast

from neural_fields import fit
from neural_fields.architectures import Architecture, Target
from neural_fields.architectures.finer import Finer
from neural_fields.architectures.fourier import Fourier
from neural_fields.architectures.hash import Hash
from neural_fields.architectures.siren import Siren
from neural_fields.benchmarks.papers.rows import Rows, markdown
from neural_fields.data.picture import Picture, load_picture
from neural_fields.fields import ImageField
from neural_fields.spectra import Choice, choose
from neural_fields.spectra.choice import Search
from neural_fields.spectra.signals import PictureSignal
from neural_fields.training.evaluate import evaluate_image
from neural_fields.training.presets import image_setup

KODAK = ["kodim01", "kodim05", "kodim08", "kodim13", "kodim19", "kodim23"]
STEPS, BATCH = 500, 8192
SWEEPS: dict[str, tuple[float | None, ...]] = {
    "siren": (10, 30, 50, 70, 90, 110, 130, 150, 170, 200),
    "hash": (32, 64, 128, 256, 512, 1024, 2048),
    "fourier": (1, 2, 3, 5, 7, 9, 11, 14, 17, 20),
    "finer": (None, 0.0, 0.3, 0.6, 1.0, 1.3, 1.6, 2.0, 2.5, 3.0),
}
# Where the choice is made: as `nf fit --fresh` does, with the other number of bins, and as the
# paper's code does, with all candidates at all pixels.
WAYS: dict[str, tuple[Search, int | None]] = {
    "quick": ("quick", None),
    "quick, other bins": ("quick", 0),
    "all": ("all", None),
}


def untouched(name: str, picture: Picture) -> Architecture:
    """The architecture with its defaults, in the sizes of the paper."""
    height, width = picture.pixels.shape[:2]
    made: dict[str, Architecture] = {
        "siren": Siren(hidden=(256,) * 4),
        "finer": Finer(hidden=(256,) * 4),
        "fourier": Fourier(n_frequencies=128, hidden=(256,) * 3),
        "hash": Hash.sized(Target("image", 2, max(height, width))),
    }
    return made[name]


def quality(picture: Picture, architecture: Architecture) -> dict[str, Any]:
    """PSNR of all pixels after the steps."""
    run = fit.image(picture, field=architecture, steps=STEPS, options={"batch_pixels": BATCH})
    psnr = evaluate_image(cast(ImageField, run.field), picture)["psnr"]
    return {"psnr": psnr, "seconds": run.summary["seconds"]}


def chosen(picture: Picture, architecture: Architecture, way: str) -> dict[str, Any]:
    """What FreSh chooses, and how long that takes."""
    search, bins = WAYS[way]
    if bins == 0:
        bins = 64 if architecture.spectral()[0].n_bins == 128 else 128
    config, _ = image_setup(picture, architecture)
    choice: Choice = choose(
        PictureSignal([picture], config), architecture, search=search, n_bins=bins
    )
    return choice.to_dict()


class Comparison:
    """Rows of one picture and one architecture."""

    def __init__(self, rows: Rows, name: str, field: str, picture: Picture) -> None:
        self._rows, self._picture = rows, picture
        self._key = f"{name} {field}"
        self._architecture = untouched(field, picture)
        self._sweep = SWEEPS[field]
        spectral = self._architecture.spectral()[0]
        self._path, self._default, self._whole = spectral.path, spectral.default, spectral.whole

    def psnr(self, value: float | None) -> float:
        """With a value of the parameter."""
        kept = int(value) if self._whole and value is not None else value
        architecture = self._architecture.with_value(self._path, kept)
        label = "default" if value is None else f"{value:g}"
        make = partial(quality, self._picture, architecture)
        return float(self._rows.get(f"{self._key} {label}", make)["psnr"])

    def choice(self, way: str) -> dict[str, Any]:
        """See `chosen`."""
        make = partial(chosen, self._picture, self._architecture, way)
        return self._rows.get(f"{self._key} chosen {way}", make)

    def line(self) -> dict[str, float]:
        """PSNR with the default, with each way's choice and with the best of the sweep."""
        sweep = {value: self.psnr(value) for value in self._sweep}
        best = max(sweep, key=lambda value: sweep[value])
        found = {way: self.choice(way)["value"] for way in WAYS}
        return {
            "default": self.psnr(self._default),
            "best": sweep[best],
            "best at": -1.0 if best is None else best,
            **{f"{way} at": -1.0 if value is None else value for way, value in found.items()},
            **{way: self.psnr(value) for way, value in found.items()},
            "seconds": self.choice("quick")["seconds"],
        }


def table(pictures: dict[str, Callable[[], Picture]], rows: Rows, field: str) -> str:
    """One architecture on all pictures, and the means."""
    lines, found = [], []
    for name, load in pictures.items():
        line = Comparison(rows, name, field, load()).line()
        found.append(line)
        lines.append([name, *_cells(line)])
    mean = {key: sum(line[key] for line in found) / len(found) for key in found[0]}
    psnr = [f"{mean[key]:.2f}" for key in ("default", "best")]
    blank = [f"{mean[way]:.2f}" for way in WAYS]
    lines.append(["mean", *psnr, *blank, f"{mean['seconds']:.1f}"])
    header = [field, "default", "best of the sweep", *WAYS, "seconds of quick"]
    return markdown(header, lines)


def _cells(line: dict[str, float]) -> list[str]:
    def at(key: str) -> str:
        value = line[f"{key} at"]
        return f"{line[key]:.2f} ({'default' if value < 0 else f'{value:g}'})"

    return [f"{line['default']:.2f}", at("best"), *map(at, WAYS), f"{line['seconds']:.1f}"]


def _pictures(root: Path, names: Sequence[str]) -> dict[str, Callable[[], Picture]]:
    paths = {name: root / "images" / "kodak" / f"{name}.png" for name in KODAK}
    frames = sorted((root / "video" / "bunny" / "png_640x360_first16").glob("*.png"))
    if frames:
        paths["bunny"] = frames[0]
    return {name: partial(load_picture, paths[name], 2) for name in names}


def main() -> None:
    """Make the tables."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--data", default=os.environ.get("NF_DATA"), help="the folder of data sets")
    parser.add_argument("-o", "--output", type=Path, required=True, help="JSON file of the rows")
    parser.add_argument("--fields", nargs="*", default=[*SWEEPS], choices=[*SWEEPS])
    parser.add_argument("--images", nargs="*", default=[*KODAK, "bunny"])
    options = parser.parse_args()
    if options.data is None:
        parser.error("needs --data or NF_DATA")
    rows = Rows(options.output)
    pictures = _pictures(Path(options.data), options.images)
    for field in options.fields:
        print(f"\n{table(pictures, rows, field)}", flush=True)


if __name__ == "__main__":
    main()
