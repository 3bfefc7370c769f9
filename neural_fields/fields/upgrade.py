"""Files of earlier format versions as the present one has them."""

from __future__ import annotations

from typing import Any

from torch import Tensor

_RENAMED_IN_2 = {
    "encoding.table": "trunk.encoding.table",
    "trunk.params": "trunk.mlp.params",
}
# What sizes of an architecture became choices, and what they were.
_NEW_SIZES_IN_3: dict[str, dict[str, Any]] = {
    "hash": {"per_level_scale": None, "grid_type": "hash", "convention": "tiny-cuda-nn"},
    "mlp": {"convention": "nerf", "neck": [], "integrated": 0},
}


def upgraded(
    version: int, header: dict[str, Any], tensors: dict[str, Tensor]
) -> tuple[dict[str, Any], dict[str, Tensor]]:
    """The description and the tensors of a file of an earlier version.

    1 to 2: a radiance field's encoding, the network behind it and their names became one
    architecture; precision became a choice.
    2 to 3: what makes colours became a head; modulation, bits of weights and further sizes of
    `hash` and `mlp` became choices.
    3 to 4: `fourier` counts cycles as published, `siren` has a shape of its first matrix,
    torch's biases of `finer` are None, so that 0 means none, and DiF's grids have a deviation.
    4 to 5: what direction a surface's colours see and `planes` of time became choices.
    5 to 6: how fast a video's time runs became a choice.
    """
    if version < 2 and header["kind"] == "radiance":
        header = {**header, "config": _with_architecture(header["config"])}
        tensors = {_renamed(name): tensor for name, tensor in tensors.items()}
    if version < 3:
        header = {**header, "config": _with_choices(header["kind"], header["config"])}
    if version < 4:
        header = {**header, "config": _with_frequencies(header["config"])}
    if version < 5:
        header = {**header, "config": _with_time_and_directions(header["kind"], header["config"])}
    if version < 6 and header["kind"] == "video":
        header = {**header, "config": {"tempo": 1.0, **header["config"]}}
    return header, tensors


def _with_time_and_directions(kind: str, config: dict[str, Any]) -> dict[str, Any]:
    architecture = config.get("architecture")
    if isinstance(architecture, dict) and architecture.get("name") == "planes":
        config = {**config, "architecture": {"moments": 32, **architecture}}
    return {"color_direction": "ray", **config} if kind == "surface" else config


def _with_frequencies(config: dict[str, Any]) -> dict[str, Any]:
    architecture = config.get("architecture")
    if not isinstance(architecture, dict):
        return config
    name, new = architecture.get("name"), dict(architecture)
    if name == "fourier" and isinstance(new.get("sigma"), int | float):
        new["sigma"] /= 2
    elif name == "siren":
        new["beta"] = 1.0
    elif name == "rbf" and _is_dif(new.get("encoding")):
        new["encoding"] = {**new["encoding"], "deviation": 1.0}
    elif name == "finer" and new.get("first_bias") == 0:
        new["first_bias"] = None
    return {**config, "architecture": new}


def _is_dif(encoding: object) -> bool:
    return isinstance(encoding, dict) and encoding.get("kind") == "dif"


def _with_architecture(config: dict[str, Any]) -> dict[str, Any]:
    encoding = config.get("encoding")
    if not isinstance(encoding, dict):
        return config  # refused later, like any unusable configuration
    rest = {k: v for k, v in config.items() if k not in ("encoding", "trunk_hidden")}
    architecture = {
        **encoding,
        "name": config.get("architecture"),
        "hidden": config.get("trunk_hidden"),
    }
    return {"precision": "float32", **rest, "architecture": architecture}


def _with_choices(kind: str, config: dict[str, Any]) -> dict[str, Any]:
    architecture = config.get("architecture")
    if not isinstance(architecture, dict):
        return config
    sizes = _NEW_SIZES_IN_3.get(str(architecture.get("name")), {})
    new = {"modulate": None, "weight_bits": 32, "architecture": {**sizes, **architecture}}
    if kind != "radiance":
        return {**config, **new}
    rest = {k: v for k, v in config.items() if k not in ("n_features", "color_hidden")}
    head = {
        "n_features": config.get("n_features"),
        "hidden": config.get("color_hidden"),
        "sees_density": True,
        "directions": "harmonics",
        "biases": False,
    }
    return {**rest, **new, "head": head}


def _renamed(name: str) -> str:
    for old, new in _RENAMED_IN_2.items():
        if name.endswith(f".{old}"):  # also the optimiser's, checkpoint.KEY.NAME
            return name.removesuffix(old) + new
    return name
