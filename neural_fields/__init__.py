"""Neural fields on any CPU: fit, evaluate and render them.

    >>> import neural_fields as nf
    >>> run = nf.fit.nerf("lego", "lego.nf", seconds=60)  # doctest: +SKIP
    >>> field = nf.load("lego.nf")  # doctest: +SKIP

Names are loaded when they are first used, so that importing the package stays light.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

__version__ = "0.1.0.dev0"

if TYPE_CHECKING:
    from neural_fields import fit
    from neural_fields.api import evaluate, export, fresh, load, render, save
    from neural_fields.distill import convert
    from neural_fields.errors import InputError, TrainingError
    from neural_fields.fields import derivatives

_HOMES = {
    "InputError": "neural_fields.errors",
    "TrainingError": "neural_fields.errors",
    "convert": "neural_fields.distill",
    "evaluate": "neural_fields.api",
    "export": "neural_fields.api",
    "fresh": "neural_fields.api",
    "load": "neural_fields.api",
    "render": "neural_fields.api",
    "save": "neural_fields.api",
}
_MODULES = {"derivatives": "neural_fields.fields.derivatives", "fit": "neural_fields.fit"}

__all__ = [
    "InputError",
    "TrainingError",
    "convert",
    "derivatives",
    "evaluate",
    "export",
    "fit",
    "fresh",
    "load",
    "render",
    "save",
]


def __getattr__(name: str) -> Any:
    if name in _HOMES:
        return getattr(importlib.import_module(_HOMES[name]), name)
    if name in _MODULES:
        return importlib.import_module(_MODULES[name])
    raise AttributeError(f"module 'neural_fields' has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted([*globals(), *_HOMES, *_MODULES])
