"""Coordinate-aware modulation of a field's trunk."""

from __future__ import annotations

from neural_fields.architectures import Trunk
from neural_fields.decoders import Modulate, Modulation
from neural_fields.errors import InputError


def trunk_modulation(config: Modulate | None, trunk: Trunk, name: str) -> Modulation | None:
    """The grid for a trunk's hidden layers.

    Raises:
        InputError: the architecture has no layers that can be modulated.
    """
    if config is None:
        return None
    if trunk.n_modulated == 0:
        raise InputError(
            f"--modulate {config.coordinates}: {name} has no hidden layers that could be "
            "modulated; choose another --field or leave it out."
        )
    return Modulation(config, trunk.n_modulated)
