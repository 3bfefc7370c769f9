"""Positions to features."""

from neural_fields.encodings.hash import HashEncoding

__all__ = ["HashEncoding"]
