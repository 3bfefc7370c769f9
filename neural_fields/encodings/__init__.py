"""Positions to features."""

from neural_fields.encodings.hash import HashConfig, HashEncoding

__all__ = ["HashConfig", "HashEncoding"]
