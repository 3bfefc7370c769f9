"""Architectures by name: one module each, found by its file's name or registered from outside.

Importing this package loads none of them; `get` loads the one that is asked for.
"""

from __future__ import annotations

import importlib
import importlib.metadata
import pkgutil
from typing import Any

from neural_fields.architectures._base import (
    Answer,
    Architecture,
    Ask,
    FrameTrunk,
    FusedTrunk,
    Kind,
    NetworkOptions,
    Rates,
    Smoothness,
    Spectral,
    Target,
    Trunk,
    checked_keys,
    lattice,
    octave_candidates,
)
from neural_fields.errors import InputError, unknown_value

__all__ = [
    "Answer",
    "Architecture",
    "Ask",
    "FrameTrunk",
    "FusedTrunk",
    "Kind",
    "NetworkOptions",
    "Rates",
    "Smoothness",
    "Spectral",
    "Target",
    "Trunk",
    "checked_keys",
    "from_dict",
    "get",
    "lattice",
    "names",
    "octave_candidates",
    "register",
]

_GROUP = "neural_fields.architectures"  # of entry points in other packages
_registered: dict[str, type[Architecture]] = {}


def register(architecture: type[Architecture]) -> type[Architecture]:
    """Make an architecture known by its `name`; usable as a decorator.

    An installed package needs no call: an entry point of the group `neural_fields.architectures`
    with the architecture's name leads to its class.
    """
    _registered[architecture.name] = architecture
    return architecture


def names() -> list[str]:
    """All names: of this package's modules, of installed packages, and registered ones."""
    own = [module.name for module in pkgutil.iter_modules(__path__) if module.name[0] != "_"]
    outside = [entry.name for entry in importlib.metadata.entry_points(group=_GROUP)]
    return [*own, *sorted({*outside, *_registered} - {*own})]


def get(name: str) -> type[Architecture]:
    """The class of an architecture.

    Raises:
        InputError: there is none of that name.

    Example:
        >>> get("hash").sized(Target("image", 2, 512)).n_levels
        8
    """
    if name not in _registered and name in names():
        outside = importlib.metadata.entry_points(group=_GROUP, name=name)
        if outside:
            register(next(iter(outside)).load())
        else:
            importlib.import_module(f"{__name__}.{name}")
    if name not in _registered:
        raise InputError(unknown_value("--field", name, names()))
    return _registered[name]


def from_dict(data: object) -> Architecture:
    """The inverse of `Architecture.to_dict`.

    Raises:
        InputError: the name is unknown, or keys are unknown or missing.
    """
    if not isinstance(data, dict) or not isinstance(data.get("name"), str):
        raise InputError("config: architecture needs a name and its sizes.")
    owner = get(data["name"])
    sizes: dict[str, Any] = {key: value for key, value in data.items() if key != "name"}
    return owner(**checked_keys(owner, sizes))
