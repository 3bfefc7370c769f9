"""From nothing to a report: makes a scene, fits a field to it, scores it and writes one page.

python examples/demo.py            about 3 minutes on two idle cores; writes demo/report.html
python examples/demo.py --quick    the same at toy size, in seconds
"""

from __future__ import annotations

import argparse
import shlex
import sys
import time
from dataclasses import dataclass
from pathlib import Path

import neural_fields as nf
from neural_fields import scenes
from neural_fields.cli.output import Bar
from neural_fields.cli.report import write_report


@dataclass(frozen=True)
class Size:
    """How much of everything; minutes on two idle cores."""

    minutes: float
    n_train: int
    n_test: int
    pixels: int
    orbit: int
    seconds: float | None = None
    steps: int | None = None


FULL = Size(minutes=3, n_train=100, n_test=20, pixels=400, orbit=72, seconds=60.0)
QUICK = Size(minutes=0.2, n_train=12, n_test=4, pixels=48, orbit=6, steps=20)


def main() -> int:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--quick", action="store_true", help="toy size, for a test")
    parser.add_argument("-o", "--output", type=Path, default=Path("demo"), help="folder to write")
    arguments = parser.parse_args()
    size, folder = QUICK if arguments.quick else FULL, arguments.output
    print(f"this takes about {size.minutes:g} minutes on two idle cores", flush=True)
    folder.mkdir(parents=True, exist_ok=True)
    began = time.perf_counter()

    scene = make_scene(folder / "scene", size)
    rendered = time.perf_counter()

    path = folder / "locomotive.nf"
    if not fit_field(scene, path, size):
        print(f"stopped early; {path} is usable")
        return 130
    fitted = time.perf_counter()

    scores = score(path, scene, folder / "report.html", size)
    done = time.perf_counter()
    print(
        f"\n{scores['psnr']:.2f} dB, SSIM {scores['ssim']:.4f} over {scores['n_views']} test views"
    )
    print(
        f"scene {rendered - began:.0f} s, fit with loading {fitted - rendered:.0f} s, "
        f"report {done - fitted:.0f} s"
    )
    print(f"open {folder / 'report.html'} in a browser")
    return 0


def make_scene(folder: Path, size: Size) -> Path:
    """Render the data set, or take the one of an earlier run."""
    print("1/3  scene: a locomotive that renders itself to training and test views", flush=True)
    bar = Bar(size.n_train + size.n_test, "views")
    scenes.make(
        "locomotive",
        folder,
        n_train=size.n_train,
        n_test=size.n_test,
        size=size.pixels,
        progress=lambda done, _total: bar.update(done),
        overwrite=True,
        reuse=True,
    )
    bar.close()
    return folder


def fit_field(scene: Path, path: Path, size: Size) -> bool:
    """Fit the field; False where Ctrl-C ended it early."""
    print("2/3  fit: a radiance field from the training views", flush=True)
    total = size.seconds or float(size.steps or 0)
    bar = Bar(total, "s" if size.seconds else "steps")

    def show(at: nf.fit.Progress) -> None:
        done = at.moment.seconds if size.seconds else at.moment.step
        bar.update(done, f"psnr {at.psnr:.2f} dB, {at.samples_per_s / 1e6:.2f} M samples/s")

    run = nf.fit.nerf(scene, path, seconds=size.seconds, steps=size.steps, on_progress=show)
    bar.close()
    return not run.interrupted


def score(path: Path, scene: Path, page: Path, size: Size) -> dict[str, float]:
    """Score all test views and write the page."""
    print("3/3  report: every test view scored, four of them shown, and a turntable", flush=True)
    bar = Bar(size.n_test + size.orbit, "pictures")
    command = shlex.join(["python", "examples/demo.py", *sys.argv[1:]])
    scores = write_report(
        path,
        scene,
        page,
        orbit=size.orbit,
        command=command,
        progress=lambda done, _total: bar.update(done),
    )
    bar.close()
    return scores


if __name__ == "__main__":
    sys.exit(main())
