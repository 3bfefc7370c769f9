"""Gaussian RBFNet / GNF (Bouzidi et al. 2025): shapes, pictures and a scene.

python -m neural_fields.benchmarks.papers.rbfnet --data DIR -o rbfnet.json

DIR holds sdf/armadillo.obj, images/kodak and nerf_synthetic/lego. Rows that the JSON file has are
not computed again.

`paper` rows have the paper's sizes, loss, batch and learning rates with fewer steps; its tables
are not public, so what is printed beside ours is what its abstract and its relatives publish. The
other rows compare parts on one encoder: Gaussian neurons against a network, either start of the
neurons, and the readings of the paper's grids.
"""

from __future__ import annotations

import argparse
import os
import tempfile
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

from neural_fields import evaluate, fit
from neural_fields.architectures import Architecture
from neural_fields.architectures.hash import Hash
from neural_fields.architectures.rbf import WHOLE_FIRST, DifSizes, HashSizes, PlanesSizes, Rbf
from neural_fields.benchmarks.papers.rows import Rows, markdown
from neural_fields.training.tcnn import FieldChoice

# IoU of the armadillo where it is published; time on a GPU.
PUBLISHED = [
    ["DiF-Grid (Chen et al. 2023)", "0.98695", "", "", "", "5.34", "10000", "30.7"],
    ["GNF (its page: another shape)", "", "", "", "", "3.5", "", "15"],
]
GRID = HashSizes()  # 16 levels of 2 features, 2^17 entries
PARTS = ["budget", "parts", "paper", "images", "scene"]


def of_network(grid: HashSizes = GRID, n_hidden: int = 2) -> Hash:
    """The same encoder with matrices of width 64 behind it, three by default."""
    return Hash(
        grid.n_levels,
        grid.n_features,
        grid.log2_table_size,
        grid.base_resolution,
        grid.finest_resolution,
        hidden=(64,) * n_hidden,
    )


def paper_shape() -> tuple[Rbf, dict[str, Any]]:
    """Sizes and training of the paper's code: 1/8 of the points on the surface, the rest anywhere.

    Its loss is a weighted square, ours the absolute error that all shapes share.
    """
    options = {
        "batch_points": 1 << 17,
        "surface": 1 / 8,
        "near": 1e-9,
        "learning_rate": 5e-3,
        "grid_rate": 5e-3,
        "final_rate": 0.1,
    }
    return Rbf(DifSizes(deviation=1.0), affine=False, start="paper"), options


ARMS: dict[str, Architecture] = {
    "rbf": Rbf(),
    "3 x 64 network": of_network(),
    "rbf, the paper's start": Rbf(start="paper"),
    "rbf, isotropic": Rbf(isotropic=True),
    "rbf, no linear term": Rbf(affine=False),
    "rbf on planes": Rbf(PlanesSizes()),
    "rbf on DiF": Rbf(DifSizes()),
    "rbf on DiF, first grid not repeated": Rbf(DifSizes(periods=WHOLE_FIRST)),
}


def shape_row(mesh: Path, field: FieldChoice, **budget: Any) -> dict[str, Any]:
    """Fit, write, score."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "shape.nf"
        run = fit.sdf(mesh, path, field=field, **budget)
        scores = evaluate(path, mesh)
    kept = {key: scores[key] for key in ("iou", "chamfer", "normal_error_deg", "f_score")}
    return {**kept, **_kept(run)}


def view_row(
    kind: Callable[..., fit.Run], data: Path, field: FieldChoice, **budget: Any
) -> dict[str, Any]:
    """The same of a picture or a scene."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "view.nf"
        run = kind(data, path, field=field, **budget)
        scores = evaluate(path, data)
    return {"psnr": scores["psnr"], "ssim": scores["ssim"], **_kept(run)}


def _kept(run: fit.Run) -> dict[str, Any]:
    return {key: run.summary[key] for key in ("params", "steps", "seconds")}


def _cells(name: str, row: dict[str, Any]) -> list[str]:
    if "iou" in row:
        quality = [
            f"{row['iou']:.5f}",
            f"{row['chamfer']:.2e}",
            f"{row['normal_error_deg']:.2f}",
            f"{row['f_score']:.4f}",
        ]
    else:
        quality = [f"{row['psnr']:.2f}", f"{row['ssim']:.4f}"]
    sizes = [f"{row['params'] / 1e6:.2f}", f"{row['steps']:g}", f"{row['seconds']:.1f}"]
    return [name, *quality, *sizes]


SIZES = ["parameters, M", "steps", "seconds"]
SHAPE_HEADER = ["field", "IoU", "Chamfer", "normals, deg", "F-score", *SIZES]
VIEW_HEADER = ["field", "PSNR", "SSIM", *SIZES]


def budget_table(rows: Rows, mesh: Path, seconds: list[float]) -> str:
    """Every architecture for the same seconds."""
    from neural_fields import architectures

    lines = [*PUBLISHED]
    for limit in seconds:
        for name in ("rbf", *(other for other in architectures.names() if other != "rbf")):
            label = f"{name}, {limit:g} s"
            make = partial(shape_row, mesh, name, seconds=limit)
            lines.append(_cells(label, rows.get(f"budget {mesh.stem} {label}", make)))
    return markdown(SHAPE_HEADER, lines)


def parts_table(rows: Rows, mesh: Path, steps: int) -> str:
    """One encoder or one decoder at a time, for the same steps."""
    lines = []
    for name, field in ARMS.items():
        make = partial(shape_row, mesh, field, steps=steps)
        lines.append(_cells(name, rows.get(f"parts {mesh.stem} {steps} {name}", make)))
    return markdown(SHAPE_HEADER, lines)


def paper_table(rows: Rows, mesh: Path, steps: int) -> str:
    """The paper's sizes, batch and rates with its two readings of the periods."""
    field, options = paper_shape()
    sizes = DifSizes(deviation=1.0, periods=tuple(map(float, DifSizes().sides)))
    lines = []
    for name, kind in {
        "paper": field,
        "paper, periods as sides": replace(field, encoding=sizes),
    }.items():
        make = partial(shape_row, mesh, kind, steps=steps, options=options)
        lines.append(_cells(name, rows.get(f"paper {mesh.stem} {steps} {name}", make)))
    return markdown(SHAPE_HEADER, lines)


def images_table(rows: Rows, folder: Path, names: list[str], steps: int, n_seeds: int) -> str:
    """Neurons against a network on one encoder, and the paper's small grids; means of seeds."""
    grid = HashSizes("hash", 8, 4, 19, finest_resolution=768)
    arms = {
        "rbf": Rbf(grid),
        "3 x 64 network": of_network(grid),
        "rbf, the paper's start": Rbf(grid, start="paper"),
        "the paper's": Rbf(DifSizes(deviation=1.0), affine=False, start="paper"),
    }
    lines = []
    for picture in names:
        path = folder / f"{picture}.png"
        for name, field in arms.items():
            found = []
            for seed in range(n_seeds):
                make = partial(view_row, fit.image, path, field, steps=steps, seed=seed)
                found.append(rows.get(f"image {picture} {steps} {name} seed {seed}", make))
            mean = {key: sum(row[key] for row in found) / n_seeds for key in found[0]}
            each = ", ".join(f"{row['psnr']:.2f}" for row in found)
            lines.append([*_cells(f"{picture}, {name}", mean), each])
    return markdown([*VIEW_HEADER, "PSNR of each seed"], lines)


def scene_table(rows: Rows, scene: Path, steps: int, downscale: int) -> str:
    """The same of a radiance field, with either head."""
    grid = HashSizes("hash", 8, 4, 18)
    arms = {
        "rbf": Rbf(grid),
        "3 x 64 network": of_network(grid),
        "rbf, the paper's start": Rbf(grid, start="paper"),
        "rbf, harmonics": Rbf(grid, head="sh"),
        "the paper's": Rbf(DifSizes(deviation=1.0), 32, False, False, "sh", "paper"),
    }
    lines = []
    for name, field in arms.items():
        make = partial(view_row, fit.nerf, scene, field, steps=steps, downscale=downscale)
        row = rows.get(f"scene {scene.stem} {steps} /{downscale} {name}", make)
        lines.append(_cells(name, row))
    return markdown(VIEW_HEADER, lines)


def main() -> None:
    """Make the tables."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--data", default=os.environ.get("NF_DATA"), help="the folder of data sets")
    parser.add_argument("-o", "--output", type=Path, required=True, help="JSON file of the rows")
    parser.add_argument("--parts", nargs="*", default=PARTS, choices=PARTS)
    parser.add_argument("--seconds", type=float, nargs="*", default=[60.0])
    parser.add_argument("--steps", type=int, default=1000, help="of the comparisons of parts")
    parser.add_argument("--paper-steps", type=int, default=2600, help="of the paper's own settings")
    parser.add_argument("--images", nargs="*", default=["kodim05", "kodim23"])
    parser.add_argument("--seeds", type=int, default=1, help="of every row of pictures")
    parser.add_argument("--downscale", type=int, default=4, help="of the scene's photographs")
    options = parser.parse_args()
    if options.data is None:
        parser.error("needs --data or NF_DATA")
    rows, root = Rows(options.output), Path(options.data)
    mesh, scene = root / "sdf" / "armadillo.obj", root / "nerf_synthetic" / "lego"
    tables: dict[str, Callable[[], str]] = {
        "budget": lambda: budget_table(rows, mesh, options.seconds),
        "parts": lambda: parts_table(rows, mesh, options.steps),
        "paper": lambda: paper_table(rows, mesh, options.paper_steps),
        "images": lambda: images_table(
            rows, root / "images" / "kodak", options.images, options.steps, options.seeds
        ),
        "scene": lambda: scene_table(rows, scene, options.steps, options.downscale),
    }
    for part in options.parts:
        print(f"\n{part}\n\n{tables[part]()}", flush=True)


if __name__ == "__main__":
    main()
