"""A visitor's camera, as viser has it and as ours."""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
import torch
import viser
from viser import transforms

from neural_fields.rendering.cameras import Cameras
from neural_fields.viewer.shown import Start

MOST_PIXELS = 1_500_000  # of a picture; larger windows stretch it
_LEAST_SIDE, _MOST_SIDE = 16, 8192


def place_camera(client: viser.ClientHandle, start: Start) -> None:
    """Move a visitor's camera."""
    camera = client.camera
    with client.atomic():
        camera.up_direction = np.array(start.up)
        camera.position = np.array(start.position)
        camera.look_at = np.array(start.look_at)
        camera.fov = start.fov_rad


def camera_of_visitor(handle: viser.CameraHandle) -> Cameras | None:
    """A visitor's camera as ours, at most `MOST_PIXELS` large; None where it is none."""
    numbers = np.concatenate([handle.wxyz, handle.position, [handle.fov]]).astype(np.float64)
    width, height = handle.image_width, handle.image_height
    if not np.isfinite(numbers).all() or not 1e-3 < handle.fov < math.pi - 1e-3:
        return None
    if not all(_LEAST_SIDE <= side <= _MOST_SIDE for side in (width, height)):
        return None
    if np.abs(numbers).max() > 1e6 or not 0.5 < np.linalg.norm(handle.wxyz) < 2:
        return None
    scale = min(1.0, math.sqrt(MOST_PIXELS / (width * height)))
    width, height = max(1, int(width * scale)), max(1, int(height * scale))
    pose = torch.eye(4)
    rotation = transforms.SO3(np.asarray(handle.wxyz)).as_matrix() @ np.diag([1.0, -1.0, -1.0])
    pose[:3, :3] = torch.from_numpy(rotation).float()
    pose[:3, 3] = torch.from_numpy(np.asarray(handle.position)).float()
    focal = height / 2 / math.tan(handle.fov / 2)
    cameras = Cameras.orbit((0, 0, 0), 1, 0, 1, focal=focal, width=width, height=height)
    return replace(cameras, camera_to_world=pose[None])
