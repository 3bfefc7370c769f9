"""Edges of photographs."""

import dataclasses

import torch
from scene_files import HEIGHT, WIDTH, write_blender

from neural_fields.data.dataset import load_dataset
from neural_fields.data.edges import edge_pixels


def test_edges_are_the_pixels_beside_a_step(tmp_path):
    data = load_dataset(write_blender(tmp_path / "set"))
    images = torch.full_like(data.images, 255)
    images[1, :, 5:, :3] = 200  # a step of colour between columns 4 and 5
    images[2, 3:, :, 3] = 0  # of alpha between rows 2 and 3
    images[0, :, 5:, :3] = 250  # too small to count
    data = dataclasses.replace(data, images=images)
    n = HEIGHT * WIDTH
    beside = [n + row * WIDTH + column for row in range(HEIGHT) for column in (4, 5)]
    above = [2 * n + row * WIDTH + column for row in (2, 3) for column in range(WIDTH)]
    assert edge_pixels(data).tolist() == beside + above
    masks = torch.zeros(images.shape[:3], dtype=torch.bool)
    masks[1, 0] = True
    assert edge_pixels(dataclasses.replace(data, masks=masks)).tolist() == beside[:2]
    plain = dataclasses.replace(data, images=torch.full_like(images, 9))
    assert len(edge_pixels(plain)) == 0
