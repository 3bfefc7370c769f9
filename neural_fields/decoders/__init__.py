"""Features, and where needed directions, to values."""

from neural_fields.decoders.color import ColorHead
from neural_fields.decoders.mlp import Mlp

__all__ = ["ColorHead", "Mlp"]
