"""What scenes there are: our own procedural ones, and pointers to the public sets."""

from __future__ import annotations

import difflib
import pkgutil
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING, Literal

from neural_fields.errors import InputError

if TYPE_CHECKING:
    from neural_fields.scenes.model import Scene

DEFAULT = "locomotive"
_PREFIX = "scene_"
_BLENDER = "Blender: transforms_{train,val,test}.json, RGBA pictures"
_TIMED = _BLENDER + ", a time per frame"
_COLMAP = "COLMAP: images/, sparse/0/"


@dataclass(frozen=True)
class SceneInfo:
    """One scene or public set.

    Attributes:
        name: What ``make`` and ``describe`` take.
        kind: "procedural" (rendered here) or "public" (to be downloaded by the user).
        summary: One line.
        homepage: Where a public set lives; empty for our own.
        licence: As stated by its authors, as far as known; "not stated" where it is not.
        layout: The files that a folder of it holds.
    """

    name: str
    kind: Literal["procedural", "public"]
    summary: str
    homepage: str
    licence: str
    layout: str


_PUBLIC = (
    SceneInfo(
        "nerf-synthetic",
        "public",
        "eight path-traced objects (lego, ship, drums, ...), 100 train and 200 test views, 800x800",
        "https://www.matthewtancik.com/nerf",
        "per object: CC-0, CC-BY, CC-BY-SA or CC-BY-NC (lego); see the set's README",
        _BLENDER,
    ),
    SceneInfo(
        "llff",
        "public",
        "eight forward-facing hand-held captures (fern, flower, horns, ...), 20-62 photographs",
        "https://bmild.github.io/llff/",
        "not stated",
        "LLFF: images/, poses_bounds.npy, sparse/0/",
    ),
    SceneInfo(
        "mipnerf360",
        "public",
        "nine unbounded indoor and outdoor scenes (garden, bicycle, room, ...)",
        "https://jonbarron.info/mipnerf360/",
        "not stated",
        "images/, images_{2,4,8}/, poses_bounds.npy, sparse/0/",
    ),
    SceneInfo(
        "tanks-and-temples",
        "public",
        "large laser-scanned scenes (truck, train, barn, ...) filmed by hand",
        "https://www.tanksandtemples.org/",
        "own licence on the home page; read it before use",
        _COLMAP,
    ),
    SceneInfo(
        "d-nerf",
        "public",
        "eight moving synthetic objects, one camera per time",
        "https://www.albertpumarola.com/research/D-NeRF/index.html",
        "not stated",
        _TIMED,
    ),
    SceneInfo(
        "fox",
        "public",
        "the 50 phone photographs of a stuffed fox that come with instant-ngp",
        "https://github.com/NVlabs/instant-ngp",
        "that of the instant-ngp repository (NVIDIA, non-commercial)",
        "transforms.json, images/",
    ),
    SceneInfo(
        "dtu",
        "public",
        "table-top objects with structured-light scans, for surface reconstruction",
        "https://roboimagedata.compute.dtu.dk/?page_id=36",
        "not stated",
        "NeuS / IDR form: image/, mask/, cameras_sphere.npz",
    ),
    SceneInfo(
        "blendedmvs",
        "public",
        "rendered scans of objects and places, for surface reconstruction",
        "https://github.com/YoYo000/BlendedMVS",
        "CC-BY 4.0",
        "NeuS / IDR form: image/, mask/, cameras_sphere.npz",
    ),
)


def names() -> list[str]:
    """The procedural scenes, the default one first.

    Example:
        >>> names()[0]
        'locomotive'
    """
    folder = str(Path(__file__).parent)
    found = [m.name for m in pkgutil.iter_modules([folder]) if m.name.startswith(_PREFIX)]
    own = sorted(name.removeprefix(_PREFIX) for name in found)
    return sorted(own, key=lambda name: name != DEFAULT)


def public_names() -> list[str]:
    """The public sets that ``describe`` knows; none of them is downloaded."""
    return [info.name for info in _PUBLIC]


def describe(name: str) -> SceneInfo:
    """What is known of a scene or public set.

    Raises:
        InputError: There is none of that name.
    """
    for info in _PUBLIC:
        if info.name == name:
            return info
    if name not in names():
        raise _unknown(name, [*names(), *public_names()])
    summary: str = _module(name).SUMMARY
    layout = _TIMED if moves(name) else _BLENDER
    return SceneInfo(name, "procedural", summary, "", "Apache-2.0, as this package", layout)


def moves(name: str) -> bool:
    """Whether that procedural scene has a time axis.

    Raises:
        InputError: There is none, or the name is that of a public set.

    Example:
        >>> [name for name in names() if moves(name)]
        ['clockwork']
    """
    return hasattr(_module(name), "build_at")


def build(name: str, time: float = 0.0) -> Scene:
    """The procedural scene of that name, at a time in [0, 1] where it moves.

    Raises:
        InputError: There is none, or the name is that of a public set.
    """
    module = _module(name)
    scene: Scene = module.build_at(time) if moves(name) else module.build()
    return scene


def _module(name: str) -> ModuleType:
    if name in public_names():
        info = describe(name)
        raise InputError(
            f"scene {name}: is a public set, which is not made here; get it from {info.homepage}."
        )
    if name not in names():
        raise _unknown(name, names())
    return import_module(f"neural_fields.scenes.{_PREFIX}{name}")


def _unknown(name: str, valid: list[str]) -> InputError:
    near = difflib.get_close_matches(name, valid, n=1, cutoff=0.0)
    return InputError(
        f"scene {name!r}: there is none of that name, did you mean {near[0]!r}? "
        f"(there are {', '.join(valid)})"
    )
