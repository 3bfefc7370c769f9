"""Quality against time: `nf fit nerf` and `nf eval` on real and procedural scenes.

    python -m neural_fields.benchmarks.fit_nerf lego locomotive --seconds 60 300 -o results.json

Names are procedural scenes (rendered to a temporary folder), `lego` and `fox` (the folder that
holds `nerf_synthetic/lego` and `fox` is given by --data or NF_DATA), or paths of data sets. Each
row runs in a process of its own, so that its peak memory is its own.
"""

from __future__ import annotations

import argparse
import json
import os
import resource
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

KNOWN = {"lego": "nerf_synthetic/lego", "fox": "fox"}


def data_folder(name: str, root: Path | None, scratch: Path) -> Path:
    """Where a named data set lies; procedural scenes are rendered on first use."""
    from neural_fields import scenes

    if name in scenes.names():
        return scenes.make(name, scratch / name, reuse=True)
    if name in KNOWN:
        if root is None:
            raise SystemExit(f"{name}: needs --data or NF_DATA, the folder that holds it.")
        return root / KNOWN[name]
    return Path(name)


def measure(data: Path, seconds: float, preset: str) -> dict[str, Any]:
    """One row: fit, score the unseen views, and what it took."""
    import neural_fields as nf

    with tempfile.TemporaryDirectory() as folder:
        run = nf.fit.nerf(data, Path(folder) / "field.nf", seconds=seconds, preset=preset)
        peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
        assert run.output is not None
        score = nf.evaluate(run.output, data)
        size = run.output.stat().st_size
    names = ("steps", "seconds", "train_samples", "psnr_train", "params", "device")
    return {
        "data": data.name,
        "preset": preset,
        **{name: run.summary[name] for name in names},
        "psnr_test": score["psnr"],
        "ssim_test": score["ssim"],
        "n_views": score["n_views"],
        "eval_s_per_view": score["seconds"] / score["n_views"],
        "peak_mb_fit": peak,
        "bytes": size,
        "protocol": score["protocol"],
    }


def main() -> None:
    """Run the rows that the command line names and print them as a table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("names", nargs="+")
    parser.add_argument("--seconds", nargs="+", type=float, default=[60.0])
    parser.add_argument("--preset", default="default")
    parser.add_argument("--data", type=Path, default=os.environ.get("NF_DATA"))
    parser.add_argument("-o", "--output", type=Path)
    parser.add_argument("--row", action="store_true", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.row:
        row = measure(Path(options.names[0]), options.seconds[0], options.preset)
        print(json.dumps(row))
        return
    rows = []
    with tempfile.TemporaryDirectory() as scratch:
        for name in options.names:
            root = None if options.data is None else Path(options.data)
            data = data_folder(name, root, Path(scratch))
            for seconds in options.seconds:
                command = [sys.executable, "-m", __spec__.name, str(data), "--row"]
                command += ["--seconds", str(seconds), "--preset", options.preset]
                out = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True).stdout
                rows.append(json.loads(out.splitlines()[-1]))
                print(table(rows[-1:], header=len(rows) == 1), flush=True)
    if options.output is not None:
        options.output.write_text(json.dumps({"rows": rows}, indent=2) + "\n")


def table(rows: list[dict[str, Any]], header: bool = True) -> str:
    """Rows as a markdown table."""
    head = (
        "| data | budget s | steps | test PSNR | test SSIM | train PSNR | M samples | peak MB |\n"
        "|---|---|---|---|---|---|---|---|"
    )
    lines = [head] if header else []
    for row in rows:
        lines.append(
            f"| {row['data']} | {row['seconds']:.0f} | {row['steps']} | {row['psnr_test']:.2f} | "
            f"{row['ssim_test']:.4f} | {row['psnr_train']:.2f} | "
            f"{row['train_samples'] / 1e6:.0f} | {row['peak_mb_fit']:.0f} |"
        )
    return "\n".join(lines)


if __name__ == "__main__":
    main()
