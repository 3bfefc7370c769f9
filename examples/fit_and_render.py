"""Fit a field to posed images, score it and render new views: the whole Python interface.

Teaches `nf.fit.nerf`, `nf.load`, `nf.evaluate` and `nf.render`; writes PNG files.
"""

import sys
from pathlib import Path

from PIL import Image

import neural_fields as nf
from neural_fields import scenes
from neural_fields.rendering.cameras import Cameras

quick = "--quick" in sys.argv
size, steps = (32, 8) if quick else (128, 600)

# Any folder of posed photographs will do; this one renders itself.
folder = scenes.make(
    "shine", Path("shine"), n_train=8 if quick else 60, n_test=4, size=size, reuse=True
)
run = nf.fit.nerf(folder, "shine.nf", steps=steps, seed=1)
print(f"{run.summary['steps']} steps, {run.summary['train_samples']} samples")

scores = nf.evaluate("shine.nf", folder)
for view in scores["views"]:
    print(f"{view['name']}: {view['psnr']:.2f} dB, SSIM {view['ssim']:.3f}")

# A field is a torch module, and any camera will do.
field = nf.load("shine.nf")
camera = Cameras.orbit(field.center, radius=4.0, elevation_deg=25, n=1, width=size, height=size)
for mode in ("rgb", "normal"):
    picture = nf.render(field, camera, mode=mode)
    Image.fromarray((picture * 255).round().byte().numpy()).save(f"shine_{mode}.png")
depth = nf.render(field, camera, mode="depth")
print(
    f"wrote shine_rgb.png and shine_normal.png; the scene begins {depth[depth > 0].min():.2f} away"
)
