"""Files of earlier format versions as the present one has them."""

from __future__ import annotations

from typing import Any

from torch import Tensor

_RENAMED_IN_2 = {
    "encoding.table": "trunk.encoding.table",
    "trunk.params": "trunk.mlp.params",
}
_HASH_GRID_OF_1 = {"per_level_scale": None, "grid_type": "hash", "convention": "tiny-cuda-nn"}


def upgraded(
    version: int, header: dict[str, Any], tensors: dict[str, Tensor]
) -> tuple[dict[str, Any], dict[str, Tensor]]:
    """The description and the tensors of a file of an earlier version.

    1 to 2: a radiance field's encoding, the network behind it and their names became one
    architecture, what makes colours a head; precision and the grid's growth, type and convention
    became choices.
    """
    if version < 2 and header["kind"] == "radiance":
        header = {**header, "config": _architecture(header["config"])}
        tensors = {_renamed(name): tensor for name, tensor in tensors.items()}
    return header, tensors


def _architecture(config: dict[str, Any]) -> dict[str, Any]:
    encoding = config.get("encoding")
    if not isinstance(encoding, dict):
        return config  # refused later, like any unusable configuration
    moved = ("encoding", "trunk_hidden", "n_features", "color_hidden")
    rest = {k: v for k, v in config.items() if k not in moved}
    head = {
        "n_features": config.get("n_features"),
        "hidden": config.get("color_hidden"),
        "sees_density": True,
        "directions": "harmonics",
        "biases": False,
    }
    architecture = {
        **_HASH_GRID_OF_1,
        **encoding,
        "name": config.get("architecture"),
        "hidden": config.get("trunk_hidden"),
    }
    parts = {"modulate": None, "weight_bits": 32, "head": head, "architecture": architecture}
    return {"precision": "float32", **rest, **parts}


def _renamed(name: str) -> str:
    for old, new in _RENAMED_IN_2.items():
        if name.endswith(f".{old}"):  # also the optimiser's, checkpoint.KEY.NAME
            return name.removesuffix(old) + new
    return name
