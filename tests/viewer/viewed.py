"""Small fields to look at."""

import msgspec
import torch

from neural_fields.architectures.hash import Hash
from neural_fields.fields import RadianceConfig, RadianceField, Sampling
from neural_fields.rendering.cameras import Cameras

SMALL = Hash(n_levels=2, log2_table_size=10, base_resolution=4, finest_resolution=8)
SAMPLING = Sampling(step=0.1, max_step=0.1, resolution=16)  # quickly rendered


def scene(seed=0):
    """A cloud with colours that depend on the place."""
    field = RadianceField(RadianceConfig(architecture=SMALL, sampling=SAMPLING), seed=seed)
    with torch.no_grad():
        for parameter in field.parameters():
            parameter.mul_(3)
    return field


def cameras(size=40):
    return Cameras.orbit((0, 0, 0), 4, 20, 3, width=size, height=size)


def camera_message(width=80, height=60, **changes):
    """A camera in front of the scene, as viser's client sends it."""
    message = {
        "type": "ViewerCameraMessage",
        "wxyz": [1.0, 0.0, 0.0, 0.0],
        "position": [0.0, 0.0, -4.0],
        "fov": 0.8,
        "near": 0.01,
        "far": 100.0,
        "image_height": height,
        "image_width": width,
        "look_at": [0.0, 0.0, 0.0],
        "up_direction": [0.0, 1.0, 0.0],
    }
    return msgspec.msgpack.encode({**message, **changes})
