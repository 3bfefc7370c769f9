"""The table of commands. Each lives in a module that imports what it needs when it runs."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from neural_fields.cli.bench import bench
from neural_fields.cli.compress import compress, decompress
from neural_fields.cli.convert import convert
from neural_fields.cli.evaluate import evaluate
from neural_fields.cli.export import export
from neural_fields.cli.fit import (
    fit_dynamic,
    fit_image,
    fit_nerf,
    fit_sdf,
    fit_surface,
    fit_video,
)
from neural_fields.cli.fresh import fresh
from neural_fields.cli.inspect import doctor, info
from neural_fields.cli.render import render
from neural_fields.cli.report import report
from neural_fields.cli.scenes import scenes_list, scenes_make
from neural_fields.cli.view import view

COMMANDS: dict[str, Callable[..., Any]] = {
    "fit nerf": fit_nerf,
    "fit surface": fit_surface,
    "fit dynamic": fit_dynamic,
    "fit sdf": fit_sdf,
    "fit image": fit_image,
    "fit video": fit_video,
    "fresh": fresh,
    "convert": convert,
    "compress": compress,
    "decompress": decompress,
    "eval": evaluate,
    "render": render,
    "export": export,
    "view": view,
    "report": report,
    "info": info,
    "scenes list": scenes_list,
    "scenes make": scenes_make,
    "doctor": doctor,
    "bench": bench,
}


def _modulations() -> Sequence[str]:
    from neural_fields.training.presets import MODULATIONS

    return ("none", *MODULATIONS)


# Options whose values are words from a list.
CHOICES: dict[str, Callable[[], Sequence[str]]] = {
    "--modulate": _modulations,
    "--precision": lambda: ("float32", "bf16"),
    "--density": lambda: ("volsdf", "neus"),
    "--masks": lambda: ("use", "object"),
    "--backend": lambda: ("native", "tcnn"),
    "--mode": lambda: ("rgb", "depth", "normal", "opacity"),
    "--quantiser": lambda: ("step", "tanh"),
    "--method": lambda: ("pvd", "pvd-al"),
    "--kind": lambda: ("mesh",),
    "--search": lambda: ("quick", "all"),
    "--frame": lambda: ("input", "field"),
    "--split": lambda: ("train", "val", "test"),
}
