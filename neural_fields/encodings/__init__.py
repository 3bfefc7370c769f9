"""Positions to features."""

from neural_fields.encodings.dif import DifEncoding
from neural_fields.encodings.hash import HashEncoding
from neural_fields.encodings.ipe import integrated_frequency
from neural_fields.encodings.planes import PlanesEncoding

__all__ = ["DifEncoding", "HashEncoding", "PlanesEncoding", "integrated_frequency"]
