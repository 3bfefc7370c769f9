"""Your own training loop: a radiance field from the public operations and a torch optimiser.

Teaches `hash_grid`, `mlp`, `spherical_harmonics` and `composite`, each with gradients, on a
scene whose colours are known in closed form: a ball coloured by its normals, on white.
"""

import sys

import torch
from torch.nn.functional import normalize, softplus

from neural_fields import ops
from neural_fields.rendering.cameras import Cameras

steps, n_rays, n_bins, near, far = (20 if "--quick" in sys.argv else 300), 512, 64, 2.0, 4.0
torch.manual_seed(0)
cameras = Cameras.orbit((0, 0, 0), radius=3.0, elevation_deg=20, n=24, width=64, height=64)


def ball(origins: torch.Tensor, directions: torch.Tensor) -> torch.Tensor:
    """What rays see: colours [n, 3] of a ball of radius 0.7 around the origin."""
    along = (origins * directions).sum(1)
    inside = along**2 - (origins**2).sum(1) + 0.7**2
    hit = origins + (-along - inside.clamp(min=0).sqrt())[:, None] * directions
    return torch.where(inside[:, None] > 0, normalize(hit, dim=1) / 2 + 0.5, 1.0)


grid = ops.HashGridSpec(n_levels=8, n_features=2, log2_table_size=14, finest_resolution=128)
trunk = ops.MlpSpec((grid.n_output, 32, 16))  # the first of 16 features becomes density
head = ops.MlpSpec((16 + 16, 32, 3), output="sigmoid")
table = torch.nn.Parameter(torch.empty(grid.n_entries, grid.n_features).uniform_(-1e-4, 1e-4))
weights = [torch.nn.Parameter(0.2 * torch.randn(spec.n_params)) for spec in (trunk, head)]
optimizer = ops.Adam([table, *weights], lr=1e-2)

for step in range(1, steps + 1):
    ids = torch.randint(len(cameras), (n_rays,))
    origins, directions = cameras.rays(ids, torch.rand(n_rays, 2) * 64)
    # Every ray gets the same number of samples; `march` would skip what is known to be empty.
    edges = near + (far - near) * (torch.arange(n_bins + 1) + torch.rand(n_rays, 1)) / n_bins
    starts, ends = edges[:, :-1].flatten(), edges[:, 1:].flatten()
    offsets = torch.arange(n_rays + 1) * n_bins
    ray = torch.arange(n_rays).repeat_interleave(n_bins)
    positions = origins[ray] + ((starts + ends) / 2)[:, None] * directions[ray]

    features = ops.mlp(ops.hash_grid(positions / 2 + 0.5, table, grid), weights[0], trunk)
    harmonics = ops.spherical_harmonics(directions)[ray]
    color = ops.mlp(torch.cat([features, harmonics], dim=1), weights[1], head)
    inside = (positions.abs() < 1).all(dim=1)
    density = torch.where(inside, softplus(features[:, 0] * 10), 0.0)
    seen = ops.composite(offsets, starts, ends, density, color)
    picture = seen.color + (1 - seen.opacity)[:, None]  # over white

    error = (picture - ball(origins, directions)).square().mean()
    optimizer.zero_grad()
    error.backward()
    optimizer.step()
    if step % max(steps // 5, 1) == 0:
        print(f"step {step}: {-10 * error.log10():.2f} dB")
