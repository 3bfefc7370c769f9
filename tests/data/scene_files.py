"""Writes tiny data sets whose every pixel is known."""

import json

import numpy as np
from PIL import Image

from neural_fields.rendering.cameras import Cameras

WIDTH, HEIGHT = 12, 16


def make_cameras(n, width=WIDTH, height=HEIGHT):
    return Cameras.orbit((0, 0, 0), 4, 20, n, width=width, height=height)


def picture(index, channels=3, width=WIDTH, height=HEIGHT):
    """A different image for every index; with 4 channels, transparent but for the middle."""
    noise = np.random.default_rng(index)
    image = noise.integers(0, 256, (height, width, channels), dtype=np.uint8)
    if channels == 4:
        image[..., 3] = 0
        image[height // 3 : -(height // 3), width // 3 : -(width // 3), 3] = 255
    return image


def write_image(path, pixels, **options):
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(pixels).save(path, **options)


def write_capture(folder, n=10, channels=3, change=None, skip=(), **top):
    """A capture of n images images/000.png ...; `change` edits the JSON object."""
    for index in range(n):
        if index not in skip:
            write_image(folder / f"images/{index:03d}.png", picture(index, channels))
    paths = [f"images/{index:03d}.png" for index in range(n)]
    data = make_cameras(n).to_json(file_paths=paths) | top
    if change is not None:
        data = change(data) or data
    folder.mkdir(exist_ok=True)
    (folder / "transforms.json").write_text(json.dumps(data))
    return folder


def write_blender(folder, splits=("train", "val", "test"), n=3, channels=4):
    """A Blender set with n images per split and file paths without extension."""
    cameras = make_cameras(n)
    angle = 2 * np.arctan(0.5 * WIDTH / float(cameras.focal[0, 0]))
    for split in splits:
        frames = []
        for index, matrix in enumerate(cameras.camera_to_world.tolist()):
            write_image(folder / split / f"r_{index}.png", picture(index, channels))
            frames.append({"file_path": f"./{split}/r_{index}", "transform_matrix": matrix})
        data = {"camera_angle_x": float(angle), "frames": frames}
        (folder / f"transforms_{split}.json").write_text(json.dumps(data))
    return folder
