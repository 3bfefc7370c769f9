"""Positions to features."""

from neural_fields.encodings.hash import HashEncoding
from neural_fields.encodings.ipe import integrated_frequency

__all__ = ["HashEncoding", "integrated_frequency"]
