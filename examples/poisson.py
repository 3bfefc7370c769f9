"""Poisson's equation: a picture from its Laplacian and its border, by two kinds of smooth fields.

Teaches `nf.derivatives.laplacian`, of a formula and as a loss, which has derivatives of third order
and so needs `reference=True`; fits a sine network and Gaussian neurons placed in the plane, and
writes poisson.png: the picture, its Laplacian, and what each field makes of that.
"""

import argparse
import math
import time
from pathlib import Path

import torch
from PIL import Image

import neural_fields as nf
from neural_fields import ops
from neural_fields.architectures import NetworkOptions
from neural_fields.architectures.siren import Siren
from neural_fields.training.metrics import psnr

parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
parser.add_argument("--quick", action="store_true", help="toy size, for a test")
parser.add_argument("--size", type=int, default=64, help="pixels per side")
parser.add_argument("--steps", type=int, default=150, help="of each fit")
parser.add_argument("--seed", type=int, default=0)
parser.add_argument("-o", "--output", type=Path, default=Path("."), help="folder to write")
arguments = parser.parse_args()
size, steps = (16, 3) if arguments.quick else (arguments.size, arguments.steps)


def picture(x: torch.Tensor) -> torch.Tensor:
    """Values [n, 1] in [0, 1] at positions [n, 2] in the unit square: blobs and soft edges."""

    def blob(at: tuple[float, float], width: float) -> torch.Tensor:
        return (-(x - x.new_tensor(at)).square().sum(1) / (2 * width**2)).exp()

    disc = torch.sigmoid((0.05 - (x - x.new_tensor((0.66, 0.62))).square().sum(1)) / 0.012)
    slope = torch.sigmoid((x @ x.new_tensor((0.8, -0.6)) - 0.05) / 0.04)
    value = 0.2 + 0.3 * slope + 0.4 * disc - 0.3 * blob((0.6, 0.68), 0.07)
    return (value + 0.4 * blob((0.22, 0.3), 0.09) + 0.3 * blob((0.25, 0.75), 0.13))[:, None]


class Gaussians(torch.nn.Module):
    """A sum of Gaussians, which begin side by side."""

    def __init__(self, side: int) -> None:
        super().__init__()
        places = (torch.arange(side) + 0.5) / side
        self.centers = torch.nn.Parameter(torch.cartesian_prod(places, places))
        self.log_precision = torch.nn.Parameter(torch.full((side**2,), 2 * math.log(side)))
        self.weight = torch.nn.Parameter(0.1 * torch.randn(1, side**2))
        self.bias = torch.nn.Parameter(torch.zeros(1))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Values [n, 1] at positions [n, 2]."""
        return ops.rbf(x, self.centers, self.log_precision, self.weight, self.bias)


places = (torch.arange(size) + 0.5) / size
pixels = torch.cartesian_prod(places, places).flip(1)  # rows downwards, x first
edge = torch.arange(4 * size) / (4 * size)
zero, one = torch.zeros_like(edge), torch.ones_like(edge)
sides = ((edge, zero), (edge, one), (zero, edge), (one, edge))
border = torch.cat([torch.stack(side, 1) for side in sides])
laplacian = nf.derivatives.laplacian(picture, pixels)
known = picture(border)


def recover(model: torch.nn.Module) -> torch.Tensor:
    """Fit the Laplacian inside and the values on the border; what the model then shows."""
    optimizer = torch.optim.LBFGS(
        model.parameters(), max_iter=steps, history_size=50, line_search_fn="strong_wolfe"
    )

    def loss() -> torch.Tensor:
        optimizer.zero_grad()
        bent = nf.derivatives.laplacian(model, pixels, differentiable=True, reference=True)
        error = (bent - laplacian).square().mean() / laplacian.square().mean()
        error = error + 100 * (model(border) - known).square().mean()
        error.backward()
        return error

    optimizer.step(loss)
    with torch.no_grad():
        return model(pixels)


torch.manual_seed(arguments.seed)
siren = Siren(first_omega=10.0, hidden=(64, 64, 64)).trunk(2, 1, NetworkOptions())
siren.reset(torch.Generator().manual_seed(arguments.seed))
shown = [picture(pixels), 0.5 + 0.5 * laplacian / laplacian.abs().max()]
for name, model in (("siren", siren), ("gaussians", Gaussians(12))):
    began = time.perf_counter()
    shown.append(recover(model))
    seconds = time.perf_counter() - began
    n_params = sum(parameter.numel() for parameter in model.parameters())
    quality = psnr(shown[-1].clamp(0, 1), shown[0])
    print(f"{name}: {quality:.2f} dB, {n_params} parameters, {seconds:.0f} s", flush=True)

arguments.output.mkdir(parents=True, exist_ok=True)
row = torch.cat([values.view(size, size) for values in shown], 1)
image = Image.fromarray((row.clamp(0, 1) * 255).round().byte().numpy())
zoom = max(1, 256 // size)
path = arguments.output / "poisson.png"
image.resize((zoom * image.width, zoom * image.height), Image.Resampling.NEAREST).save(path)
print(f"wrote {path}: the picture, its Laplacian, siren, gaussians")
