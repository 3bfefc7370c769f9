"""Quality against time: `nf fit nerf` and `nf eval` on real and procedural scenes.

    python -m neural_fields.benchmarks.fit_nerf lego locomotive --seconds 60 300 -o results.json
    python -m neural_fields.benchmarks.fit_nerf lego --precision float32 bf16 --seeds 0 1 2
    python -m neural_fields.benchmarks.fit_nerf lego --steps 900 --set coarse_step=1

Names are procedural scenes (rendered to a temporary folder), `lego` and `fox` (the folder that
holds `nerf_synthetic/lego` and `fox` is given by --data or NF_DATA), or paths of data sets. Each
row runs in a process of its own, so that its peak memory is its own.
"""

from __future__ import annotations

import argparse
import itertools
import json
import os
import resource
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

_SHOWN = ("preset", "precision", "seconds", "steps")
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


def measure(data: str, arguments: dict[str, Any]) -> dict[str, Any]:
    """One row: fit, score the unseen views, and what it took."""
    import neural_fields as nf

    with tempfile.TemporaryDirectory() as folder:
        run = nf.fit.nerf(data, Path(folder) / "field.nf", **arguments)
        peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
        assert run.output is not None
        score = nf.evaluate(run.output, data)
        size = run.output.stat().st_size
    names = ("steps", "seconds", "train_samples", "psnr_train", "params", "device")
    return {
        "data": Path(data).name,
        "arguments": arguments,
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
    budget = parser.add_mutually_exclusive_group()
    budget.add_argument("--seconds", nargs="+", type=float, default=[60.0])
    budget.add_argument("--steps", nargs="+", type=int)
    parser.add_argument("--preset", default="default")
    parser.add_argument("--precision", nargs="+", default=["float32"])
    parser.add_argument("--seeds", nargs="+", type=int, default=[0])
    parser.add_argument("--set", action="append", metavar="OPTION=NUMBER", help="of NerfOptions")
    parser.add_argument("--data", type=Path, default=os.environ.get("NF_DATA"))
    parser.add_argument("-o", "--output", type=Path)
    parser.add_argument("--row", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.row:
        print(json.dumps(measure(options.names[0], json.loads(options.row))))
        return
    rows = []
    with tempfile.TemporaryDirectory() as scratch:
        for name in options.names:
            root = None if options.data is None else Path(options.data)
            data = data_folder(name, root, Path(scratch))
            for arguments in rows_of(options):
                command = [sys.executable, "-m", __spec__.name, str(data)]
                command += ["--row", json.dumps(arguments)]
                out = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True).stdout
                rows.append(json.loads(out.splitlines()[-1]))
                print(table(rows[-1:], header=len(rows) == 1), flush=True)
    if options.output is not None:
        options.output.write_text(json.dumps({"rows": rows}, indent=2) + "\n")


def rows_of(options: argparse.Namespace) -> Iterator[dict[str, Any]]:
    """The arguments of every row: all combinations of what was asked for."""
    budgets = [("seconds", value) for value in options.seconds]
    if options.steps:
        budgets = [("steps", value) for value in options.steps]
    settings = [item.partition("=") for item in options.set or [""]]
    for (kind, amount), precision, (key, _, value), seed in itertools.product(
        budgets, options.precision, settings, options.seeds
    ):
        arguments = {"preset": options.preset, "precision": precision, "seed": seed, kind: amount}
        yield {**arguments, "options": {key: json.loads(value)}} if key else arguments


def table(rows: list[dict[str, Any]], header: bool = True) -> str:
    """Rows as a markdown table."""
    head = (
        "| data | what | s | steps | test PSNR | test SSIM | train PSNR | M samples | peak MB |\n"
        "|---|---|---|---|---|---|---|---|---|"
    )
    lines = [head] if header else []
    for row in rows:
        what = dict(row["arguments"])
        what.update(what.pop("options", {}))
        shown = " ".join(str(what[key]) for key in ("preset", "precision"))
        extra = [f"{key}={value}" for key, value in what.items() if key not in _SHOWN]
        cells = (
            row["data"],
            " ".join([shown, *extra]),
            f"{row['seconds']:.0f}",
            row["steps"],
            f"{row['psnr_test']:.2f}",
            f"{row['ssim_test']:.4f}",
            f"{row['psnr_train']:.2f}",
            f"{row['train_samples'] / 1e6:.0f}",
            f"{row['peak_mb_fit']:.0f}",
        )
        lines.append(f"| {' | '.join(map(str, cells))} |")
    return "\n".join(lines)


if __name__ == "__main__":
    main()
