"""Every architecture on the same pictures and the same scene, for the same seconds.

python -m neural_fields.benchmarks.representations --data DIR -o rows.json

DIR holds images/kodak and nerf_synthetic/lego. Rows that the JSON file has are not computed again.
With --plot FILE.svg it draws quality over size from them.
"""

from __future__ import annotations

import argparse
import os
import tempfile
from functools import partial
from pathlib import Path
from typing import Any

from neural_fields import architectures
from neural_fields.benchmarks.papers.rows import Rows, markdown
from neural_fields.benchmarks.plots import Point, quality_over_size


def fit_row(
    kind: str, name: str, data: Path, seconds: float, downscale: int, keep: Path | None
) -> dict[str, Any]:
    """Fit, write, score: PSNR and SSIM by the file's protocol, parameters and bytes."""
    import neural_fields as nf

    with tempfile.TemporaryDirectory() as folder:
        path = (keep or Path(folder)) / f"{name}-{data.stem}.nf"
        fit = nf.fit.image if kind == "image" else nf.fit.nerf
        run = fit(data, path, field=name, seconds=seconds, downscale=downscale)
        scores = nf.evaluate(path, data)
        return {
            "psnr": scores["psnr"],
            "ssim": scores["ssim"],
            "params": run.summary["params"],
            "bytes": path.stat().st_size,
            "steps": run.summary["steps"],
            "samples_per_s": run.summary["train_samples"] / run.summary["seconds"],
        }


def cells(row: dict[str, Any]) -> list[str]:
    """Of the table."""
    return [
        f"{row['psnr']:.2f}",
        f"{row['ssim']:.4f}",
        f"{row['params'] / 1e6:.3f}",
        f"{row['bytes'] / 1e6:.2f}",
        f"{row['steps']}",
        f"{row['samples_per_s'] / 1e6:.2f}",
    ]


def main() -> None:
    """Make the table."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--data", default=os.environ.get("NF_DATA"), help="the folder of data sets")
    parser.add_argument("-o", "--output", type=Path, required=True, help="JSON file of the rows")
    parser.add_argument("--fields", nargs="*", default=architectures.names())
    parser.add_argument("--images", nargs="*", default=["kodim05"], help="names of Kodak pictures")
    parser.add_argument("--image-seconds", type=float, default=20)
    parser.add_argument("--seconds", type=float, default=60, help="per scene; 0 leaves it out")
    parser.add_argument("--downscale", type=int, default=4, help="of the scene's photographs")
    parser.add_argument("--keep", type=Path, help="folder for the fields (not kept)")
    parser.add_argument("--plot", type=Path, help="picture to draw (.svg or .png)")
    options = parser.parse_args()
    if options.data is None:
        parser.error("needs --data or NF_DATA")
    if options.keep is not None:
        options.keep.mkdir(parents=True, exist_ok=True)
    rows, root, lines = Rows(options.output), Path(options.data), []
    panels: dict[str, dict[str, Point]] = {}
    for name in options.fields:
        jobs = [
            ("image", root / "images" / "kodak" / f"{picture}.png", options.image_seconds, 1)
            for picture in options.images
        ]
        if options.seconds:
            scene = root / "nerf_synthetic" / "lego"
            jobs.append(("radiance", scene, options.seconds, options.downscale))
        for kind, data, seconds, downscale in jobs:
            key = f"{name} {data.stem} {seconds:g} s /{downscale}"
            row = rows.get(
                key, partial(fit_row, kind, name, data, seconds, downscale, options.keep)
            )
            title = f"{data.stem}, {seconds:g} s"
            panels.setdefault(title, {})[name] = (row["bytes"], row["psnr"])
            lines.append([name, data.stem, f"{seconds:g}", *cells(row)])
            print(" ".join(lines[-1]), flush=True)
    header = ["field", "of", "s", "dB", "SSIM", "Mparams", "MB", "steps", "M/s"]
    print(markdown(header, lines))
    if options.plot is not None:
        quality_over_size(panels, options.plot)


if __name__ == "__main__":
    main()
