"""What is drawn over a scene: the cameras of its photographs, and the cells that rays visit."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np
import torch
import viser
from torch import Tensor
from viser import transforms

from neural_fields.fields import RadianceField
from neural_fields.rendering.cameras import Cameras
from neural_fields.rendering.occupancy import cell_centers, cell_sizes, occupied
from neural_fields.viewer.shown import ShownSolid

_MOST_CAMERAS = 200
_MOST_CELLS = 20_000
_PICTURE_PX = 96  # of a photograph in its frustum
_SHARE = 0.04  # of the box's side that a frustum is long


class Overlays:
    """The overlays of one window; `on_camera` is called with the number of one that is clicked."""

    def __init__(self, client: viser.ClientHandle, on_camera: Callable[[int], None]) -> None:
        self._scene, self._on_camera = client.scene, on_camera
        self._handles: dict[str, list[Any]] = {"cameras": [], "cells": []}

    def show_cameras(self, shown: ShownSolid | None) -> None:
        """A frustum per training camera; None: none."""
        self._remove("cameras")
        cameras = None if shown is None else shown.cameras
        if shown is None or cameras is None:
            return
        data = shown.data  # of the same cameras, or of other ones
        photographs = data.images if data is not None and len(data) == len(cameras) else None
        low, high = shown.box
        scale = _SHARE * max(b - a for a, b in zip(low, high, strict=True))
        every = -(-len(cameras) // _MOST_CAMERAS)
        for index in range(0, len(cameras), every):
            image = None if photographs is None else _small(photographs[index])
            self._handles["cameras"].append(self._frustum(cameras, index, scale, image))

    def _frustum(self, cameras: Cameras, index: int, scale: float, image: Any) -> Any:
        wxyz, position = viser_pose(cameras.camera_to_world[index])
        handle = self._scene.add_camera_frustum(
            f"/cameras/{index}",
            fov=2 * math.atan(cameras.height / 2 / float(cameras.focal[index, 1])),
            aspect=cameras.width / cameras.height,
            scale=scale,
            color=(230, 120, 20),
            image=image,
            wxyz=wxyz,
            position=position,
        )
        handle.on_click(lambda _: self._on_camera(index))
        return handle

    def show_cells(self, shown: ShownSolid | None) -> None:
        """A point per occupied cell, every few of them where there are many; None: none."""
        self._remove("cells")
        if shown is None or not isinstance(shown.field, RadianceField):
            return
        index = occupied(shown.field).cpu().nonzero()[:, 0]
        if not len(index):
            return
        every = -(-len(index) // _MOST_CELLS)
        points = cell_centers(shown.field).cpu()[index][::every]
        size = float(cell_sizes(shown.field).cpu()[index].min())
        cloud = self._scene.add_point_cloud(
            "/cells",
            points=points.numpy().astype(np.float32),
            colors=(40, 120, 220),
            point_size=size / 3,
            point_shape="square",
        )
        self._handles["cells"].append(cloud)

    def _remove(self, name: str) -> None:
        for handle in self._handles[name]:
            handle.remove()
        self._handles[name] = []


def _small(image: Tensor) -> Any:
    """A photograph uint8 [h, w, 3] over white, at most `_PICTURE_PX` a side."""
    every = -(-max(image.shape[:2]) // _PICTURE_PX)
    image = image[::every, ::every]
    if image.shape[2] == 4:
        alpha = image[..., 3:].float() / 255
        image = (image[..., :3] * alpha + 255 * (1 - alpha)).byte()
    return image.numpy()


def viser_pose(camera_to_world: Tensor) -> tuple[Any, Any]:
    """Quaternion and position of a pose [4, 4], in viser's camera axes (x right, y down)."""
    axes = torch.tensor([1.0, -1.0, -1.0], dtype=torch.float64)
    rotation = camera_to_world[:3, :3].double() * axes
    return transforms.SO3.from_matrix(rotation.numpy()).wxyz, camera_to_world[:3, 3].numpy()
