"""Coordinate-aware modulation (Lee et al. 2024): the 1-D toy, images, and a scene at 8 bits.

python -m neural_fields.benchmarks.papers.cam --data DIR -o cam.json

DIR holds images/kodak and nerf_synthetic/lego. Rows that the JSON file has are not computed again.

Images are the middle 512 x 512 pixels; 2000 steps of 16,384 random pixels, Adam, learning rate 1e-3
(grid 1e-2), a tenth of it from step 1000 and again from 1500, error over all pixels. Deviations
from the paper: other images, and random pixels instead of all of them in every step.

The scene is fitted by `--field mlp`, 4 layers of 128 instead of Mip-NeRF's 8 of 256, with steps
that two cores make in minutes.
"""

from __future__ import annotations

import argparse
import math
import os
import tempfile
import time
from functools import partial
from pathlib import Path
from typing import Any, Literal

import torch
from torch import Tensor

from neural_fields import evaluate, fit
from neural_fields.architectures.fourier import Fourier
from neural_fields.benchmarks.papers.rows import Rows, markdown
from neural_fields.data.picture import load_picture
from neural_fields.decoders import Modulate
from neural_fields.fields import ImageConfig, ImageField
from neural_fields.ops import MlpSpec, ModulationSpec, frequency, mlp, modulation
from neural_fields.training.metrics import psnr
from neural_fields.training.state import stream_seed

PUBLISHED_TOY = {"MLP": 4.97, "MLP+PE": 3.34, "MLP+CAM": 0.07, "MLP+PE+CAM": 0.03}
SIDE, BATCH, STEPS, SCENE_STEPS = 512, 16_384, 2000, 6000
PARTS = ["toy", "scene", "images"]
MODULATIONS = ("none", "xyz", "direction", "direction-trunk")


# ---- the toy -------------------------------------------------------------------------------------


def toy_row(name: str, seed: int, hidden: Literal["none", "relu"] = "none") -> dict[str, Any]:
    """Mean squared error of one arm: 200 points of ten sines, 1500 steps.

    The published nets have no activation, which makes the first two arms affine in their inputs.
    """
    generator = torch.Generator().manual_seed(seed)
    x = torch.linspace(0, 1, 200)[:, None]
    cycles = 5.0 * torch.arange(1, 11)
    phases = torch.rand(10, generator=generator) * 2 * math.pi
    target = torch.sin(2 * math.pi * cycles * x + phases).sum(1, keepdim=True)
    inputs = frequency(x, 16) if "PE" in name else x
    spec = MlpSpec((inputs.shape[1], 64, 64, 64, 64, 1), hidden=hidden, biases=True)
    params = torch.nn.Parameter(_linear_start(spec, generator))
    grid_spec = ModulationSpec((64,), n_layers=4)
    grid = grid_spec.initial().requires_grad_("CAM" in name)
    trained = [params, grid] if "CAM" in name else [params]
    adam = torch.optim.Adam(trained, lr=1e-3)
    for _ in range(1500):
        modulated = modulation(x, grid, grid_spec) if "CAM" in name else (None, None)
        loss = (mlp(inputs, params, spec, *modulated) - target).square().mean()
        gradients = torch.autograd.grad(loss, trained)
        for parameter, gradient in zip(trained, gradients, strict=True):
            parameter.grad = gradient
        adam.step()
    return {"mse": float(loss.detach()), "params": sum(p.numel() for p in trained)}


def _linear_start(spec: MlpSpec, generator: torch.Generator) -> Tensor:
    """As `torch.nn.Linear` starts."""
    parts = []
    for n_in, n_out in zip(spec.widths[:-1], spec.widths[1:], strict=True):
        bound = 1 / math.sqrt(n_in)
        parts.append(torch.empty(n_in * n_out + n_out).uniform_(-bound, bound, generator=generator))
    return torch.cat(parts)


# ---- images --------------------------------------------------------------------------------------


def image_row(path: Path, modulated: bool, steps: int) -> dict[str, Any]:
    """FFN of 3 x 256 over 256 frequencies of deviation 10, with or without 32 x 32 grids."""
    picture = load_picture(path)
    values = picture.values(picture.pixels)
    top, left = (values.shape[0] - SIDE) // 2, (values.shape[1] - SIDE) // 2
    values = values[top : top + SIDE, left : left + SIDE].contiguous()
    config = ImageConfig(
        SIDE,
        SIDE,
        architecture=Fourier(10.0, 256, (256, 256, 256)),
        modulate=Modulate("xy", (32, 32)) if modulated else None,
    )
    field = ImageField(config, seed=0)
    grids = []
    if field.modulation is not None:
        grids.append(field.modulation.grid)
        grids[0].data.copy_(field.modulation.spec.initial())  # the paper's start
    network = {"params": [*field.trunk.parameters()], "lr": 1e-3}
    adam = torch.optim.Adam([network, *({"params": [grid], "lr": 1e-2} for grid in grids)])
    schedule = torch.optim.lr_scheduler.MultiStepLR(adam, [steps // 2, steps * 3 // 4])
    flat = values.view(-1, 3)

    def colors(index: Tensor) -> Tensor:
        positions = torch.stack([index % SIDE, index // SIDE], 1).float() + 0.5
        return torch.sigmoid(field.encoded(positions) - 0.5)  # the paper's last layer

    began = time.perf_counter()
    for step in range(steps):
        generator = torch.Generator().manual_seed(stream_seed(0, step))
        index = torch.randint(flat.shape[0], (BATCH,), generator=generator).sort().values
        loss = 0.5 * (colors(index) - flat[index]).square().mean()
        adam.zero_grad()
        loss.backward()  # type: ignore[no-untyped-call]
        adam.step()
        schedule.step()
    seconds = time.perf_counter() - began
    with torch.no_grad():
        shown = torch.cat([colors(piece) for piece in torch.split(torch.arange(len(flat)), BATCH)])
    return {"psnr": psnr(shown, flat), "params": field.n_params, "seconds": seconds}


# ---- a scene -------------------------------------------------------------------------------------


def scene_row(folder: Path, modulate: str, bits: int, steps: int) -> dict[str, Any]:
    """Scores on the scene's test views, and the size of the file."""
    with tempfile.TemporaryDirectory() as place:
        path = Path(place) / "scene.nf"
        run = fit.nerf(folder, path, field="mlp", modulate=modulate, bits=bits, steps=steps)
        scores = evaluate(path, folder)
        return {
            "psnr": scores["psnr"],
            "ssim": scores["ssim"],
            "params": run.field.n_params,
            "bytes": path.stat().st_size,
            "seconds": run.summary["seconds"],
        }


# ---- the tables ----------------------------------------------------------------------------------


def toy_table(rows: Rows) -> str:
    """Ours, the mean of three seeds, beside the published numbers."""
    lines = []
    for name, published in PUBLISHED_TOY.items():
        ours = [rows.get(f"toy {name} {s}", partial(toy_row, name, s)) for s in range(3)]
        relu = [rows.get(f"toy {name} relu {s}", partial(toy_row, name, s, "relu")) for s in (0, 1)]
        means = [f"{sum(row['mse'] for row in arm) / len(arm):.3f}" for arm in (ours, relu)]
        lines.append([name, f"{ours[0]['params']:,}", means[0], f"{published:.2f}", means[1]])
    return markdown(["1-D toy", "parameters", "ours, MSE", "published", "ours with relu"], lines)


def image_table(rows: Rows, folder: Path, names: list[str], steps: int) -> str:
    """One line per image, and the mean."""
    lines, gains = [], []
    for name in names:
        path = folder / f"{name}.png"
        plain, cam = (
            rows.get(f"{name} cam={m} {steps}", partial(image_row, path, m, steps))
            for m in (False, True)
        )
        gains.append(cam["psnr"] - plain["psnr"])
        more = 100 * (cam["params"] / plain["params"] - 1)
        cells = [f"{plain['psnr']:.2f}", f"{cam['psnr']:.2f}", f"{gains[-1]:+.2f}", f"{more:.1f} %"]
        lines.append([name, *cells, f"{plain['seconds']:.0f} / {cam['seconds']:.0f}"])
        print(lines[-1], flush=True)
    lines.append(["mean", "", "", f"{sum(gains) / len(gains):+.2f}", "", ""])
    return markdown(["image", "FFN, dB", "with CAM", "gain", "parameters", "s"], lines)


def scene_table(rows: Rows, folder: Path, steps: int) -> str:
    """One line per modulation and number of bits."""
    lines = []
    for modulate, bits in (*((m, 32) for m in MODULATIONS), ("none", 8), ("xyz", 8)):
        name = f"{folder.name} {modulate} {bits} {steps}"
        row = rows.get(name, partial(scene_row, folder, modulate, bits, steps))
        cells = [f"{row['psnr']:.2f}", f"{row['ssim']:.4f}", f"{row['params']:,}"]
        lines.append([modulate, str(bits), *cells, f"{row['bytes']:,}", f"{row['seconds']:.0f}"])
        print(lines[-1], flush=True)
    header = ["modulated by", "bits", "dB", "SSIM", "parameters", "bytes of the file", "s"]
    return markdown(header, lines)


def main() -> None:
    """Make the tables."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument(
        "--data", default=os.environ.get("NF_DATA"), help="folder of the shared sets"
    )
    parser.add_argument("-o", "--output", type=Path, required=True, help="JSON file of the rows")
    parser.add_argument("--images", nargs="*", help="names such as kodim05 (all)")
    parser.add_argument("--steps", type=int, default=STEPS, help="per image (2000)")
    parser.add_argument("--scene-steps", type=int, default=SCENE_STEPS, help="(6000)")
    parser.add_argument("--parts", nargs="*", default=PARTS, choices=PARTS)
    options = parser.parse_args()
    rows = Rows(options.output)
    if "toy" in options.parts:
        print(toy_table(rows), flush=True)
    if options.data is None:
        print("images and scene skipped: --data or NF_DATA names no folder")
        return
    if "scene" in options.parts:
        lego = Path(options.data) / "nerf_synthetic" / "lego"
        print(scene_table(rows, lego, options.scene_steps), flush=True)
    if "images" not in options.parts:
        return
    folder = Path(options.data) / "images" / "kodak"
    names = options.images or sorted(path.stem for path in folder.glob("*.png"))
    print(image_table(rows, folder, names, options.steps))


if __name__ == "__main__":
    main()
