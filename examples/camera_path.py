"""Render a camera path from a JSON file, as `nf render --cameras` does.

Teaches the path's layout (nerfstudio's transforms.json plus `fps`) and `nf.render` in a loop;
writes path.json and path.gif. Name a .nf file to render your own.
"""

import json
import sys
from pathlib import Path

import torch
from PIL import Image

import neural_fields as nf
from neural_fields import scenes
from neural_fields.rendering.cameras import Cameras

quick = "--quick" in sys.argv
names = [word for word in sys.argv[1:] if word.endswith(".nf")]
if names:
    field = nf.load(names[0])
else:
    n_train, size = (8, 32) if quick else (40, 100)
    folder = scenes.make("bridge", Path("bridge"), n_train=n_train, n_test=0, size=size, reuse=True)
    field = nf.fit.nerf(folder, steps=8 if quick else 300).field

# A path is a list of poses: here a turn that rises and comes closer on the way.
n = 4 if quick else 48
turns = [
    Cameras.orbit(field.center, (5 - 2 * at) * field.unit, 10 + 40 * at, n, width=160, height=120)
    for at in torch.linspace(0, 1, n).tolist()
]
frames = [turn[index : index + 1].to_json()["frames"][0] for index, turn in enumerate(turns)]
path = {**turns[0].to_json(fps=24), "frames": frames}
Path("path.json").write_text(json.dumps(path, indent=1))

# From here on any path in that layout will do, wherever it was made.
cameras = Cameras.from_json(json.loads(Path("path.json").read_text()), "path.json")
pictures = [nf.render(field, cameras, index) for index in range(len(cameras))]
images = [Image.fromarray((picture * 255).round().byte().numpy()) for picture in pictures]
images[0].save(
    "path.gif", save_all=True, append_images=images[1:], duration=1000 / path["fps"], loop=0
)
print(f"wrote path.json and path.gif, {len(images)} frames")
