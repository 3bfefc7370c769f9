"""Features, and where needed directions, to values."""

from neural_fields.decoders.color import ColorHead, Head
from neural_fields.decoders.mlp import Mlp
from neural_fields.decoders.modulation import (
    Modulate,
    Modulation,
    camera_coordinates,
    direction_coordinates,
)
from neural_fields.decoders.rbf import Rbf

__all__ = [
    "ColorHead",
    "Head",
    "Mlp",
    "Modulate",
    "Modulation",
    "Rbf",
    "camera_coordinates",
    "direction_coordinates",
]
