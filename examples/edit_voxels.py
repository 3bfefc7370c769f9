"""Cut a scene in half: a field becomes voxels, half of them are deleted, and a field again.

Teaches `nf.convert`, a file's scene and protocol, and how an edited field's occupancy grid is made
to know of the edit. Writes edit.png: the scene, its edited voxels, and the hash grid made of them.
"""

import argparse
from pathlib import Path

import torch
from PIL import Image

import neural_fields as nf
from neural_fields import scenes
from neural_fields.architectures import lattice
from neural_fields.fields import read_field_file
from neural_fields.rendering.cameras import Cameras
from neural_fields.rendering.occupancy import OccupancyGrid, occupied

parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
parser.add_argument("--quick", action="store_true", help="toy size, for a test")
arguments = parser.parse_args()
steps, size = (40, 40) if arguments.quick else (600, 200)

data = scenes.make("locomotive", Path("scene"), n_train=24, n_test=2, size=size)
nf.fit.nerf(data, "whole.nf", steps=steps)
nf.convert("whole.nf", "voxels.nf", to="voxels", steps=steps // 2)

# Every vertex in the half with x below 0 becomes empty.
field, content = nf.load("voxels.nf"), read_field_file("voxels.nf")
vertices = lattice(field.trunk.spec.resolution)
gone = vertices[:, 0] < 0.5
with torch.no_grad():
    field.trunk.grid[gone, 0] = -100.0
# Cells that were visited and are empty now need no visit.
OccupancyGrid(field, occupied(field)).update(0)
nf.save(field, "edited.nf", scene=content.scene, protocol=content.protocol)

# Log-densities below clip_low count as it: low enough here that what was cut stays away.
found = nf.convert(
    "edited.nf", "back.nf", to="hash", steps=steps, options={"clip_low": -10.0, "density": 0.02}
)
print(f"{found.summary['psnr_student_vs_teacher']:.1f} dB to the edited voxels")

center, radius = field.center, 2.2 * field.unit
camera = Cameras.orbit(center, radius, 25, 1, width=size, height=size)
fields = [nf.load(f"{name}.nf") for name in ("whole", "edited", "back")]
seen = [float(nf.render(field, camera, mode="opacity").mean()) for field in fields]
print("mean opacity: " + ", ".join(f"{value:.3f}" for value in seen))
assert seen[1] < seen[0]
pictures = torch.cat([nf.render(field, camera) for field in fields], 1)
Image.fromarray((pictures * 255).round().byte().numpy()).save("edit.png")
