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
from neural_fields.spectra import Choice, choose, spectrum, wasserstein
from neural_fields.spectra.choice import Search
from neural_fields.spectra.signals import PictureSignal
from neural_fields.training.evaluate import evaluate_image
from neural_fields.training.presets import image_setup

# Whether training brings a spectrum to the signal's that did not start there.
DRIFT: dict[str, tuple[float, ...]] = {"siren": (30, 150), "hash": (256, 2048)}
DRIFT_STEPS, BINS = (0, 10, 30, 100, 300), 64
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
        PictureSignal(picture, config), architecture, search=search, n_bins=bins
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

    def best(self) -> float | None:
        """The value of the sweep with the highest PSNR."""
        return max(self._sweep, key=self.psnr)

    def default(self) -> float | None:
        """The value without a choice."""
        return self._default

    def distance(self, value: float, steps: int) -> float:
        """From the field after so many steps to the picture, in bins."""
        architecture = self._architecture.with_value(self._path, value)
        make = partial(drifted, self._picture, architecture, steps)
        return float(self._rows.get(f"{self._key} {value:g} after {steps}", make)["distance"])


def drifted(picture: Picture, architecture: Architecture, steps: int) -> dict[str, float]:
    """How far a field's spectrum is from the picture's after some training."""
    options = {"batch_pixels": BATCH}
    run = fit.image(picture, field=architecture, steps=max(steps, 1), options=options)
    signal = PictureSignal(picture, image_setup(picture, architecture)[0])
    if steps:
        values = signal.of(cast(ImageField, run.field), None)
    else:
        values = signal.untrained(architecture, 0, architecture.spectral()[0].gain, None)
    found = (spectrum(of, BINS) for of in (values, signal.target(0, None)))
    return {"distance": wasserstein(*found)}


def table(pictures: dict[str, Callable[[], Picture]], rows: Rows, field: str) -> str:
    """PSNR with the default, with the best of the sweep and with each way's choice, and means."""
    lines, all_psnr = [], []
    for name, load in pictures.items():
        of = Comparison(rows, name, field, load())
        values = [of.default(), of.best(), *(of.choice(way)["value"] for way in WAYS)]
        psnr = [of.psnr(value) for value in values]
        all_psnr.append(psnr)
        cells = [
            f"{found:.2f} ({'default' if value is None else f'{value:g}'})"
            for found, value in zip(psnr, values, strict=True)
        ]
        lines.append([name, *cells, f"{of.choice('quick')['seconds']:.1f}"])
    means = [f"{sum(column) / len(column):.2f}" for column in zip(*all_psnr, strict=True)]
    lines.append(["mean", *means, ""])
    return markdown([field, "default", "best of the sweep", *WAYS, "seconds of quick"], lines)


def drift_table(picture: Picture, rows: Rows, name: str) -> str:
    """Distances to the picture while fields are trained: who learns the spectrum, who keeps his."""
    lines = []
    for field, values in DRIFT.items():
        of = Comparison(rows, name, field, picture)
        for value in values:
            cells = [f"{of.distance(value, steps):.2f}" for steps in DRIFT_STEPS]
            lines.append([f"{field} {value:g}", *cells])
    return markdown([name, *(f"{steps} steps" for steps in DRIFT_STEPS)], lines)


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
    parser.add_argument("--drift", action="store_true", help="spectra while the first image trains")
    options = parser.parse_args()
    if options.data is None:
        parser.error("needs --data or NF_DATA")
    rows = Rows(options.output)
    pictures = _pictures(Path(options.data), options.images)
    if options.drift:
        name = options.images[0]
        print(f"\n{drift_table(pictures[name](), rows, name)}", flush=True)
        return
    for field in options.fields:
        print(f"\n{table(pictures, rows, field)}", flush=True)


if __name__ == "__main__":
    main()
