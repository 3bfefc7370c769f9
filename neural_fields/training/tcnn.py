"""tiny-cuda-nn's JSON as an architecture and a learning rate.

Keys that are missing have tiny-cuda-nn's defaults (its DOCUMENTATION.md and encoding.cu); words may
be in any case and comments are skipped, as there.
"""

from __future__ import annotations

import json
import os
import re
import reprlib
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

from neural_fields import architectures
from neural_fields.architectures import Architecture
from neural_fields.architectures.hash import Hash
from neural_fields.architectures.mlp import Mlp
from neural_fields.errors import InputError, unknown_value

_COMMENTS = re.compile(r'("(?:\\.|[^"\\])*")|//[^\n]*|/\*.*?\*/', re.DOTALL)
_GRIDS = {"Grid": "Hash", "HashGrid": "Hash", "DenseGrid": "Dense", "TiledGrid": "Tiled"}
_NETWORKS = ("FullyFusedMLP", "CutlassMLP", "MLP", "MegakernelMLP")


class TcnnConfig(NamedTuple):
    """What a configuration of tiny-cuda-nn says about a field.

    Attributes:
        name: of its file, for messages.
        architecture: `hash` or `mlp`, with the sizes of `encoding` and `network`.
        learning_rate: of `optimizer`, or None.
        unused: what else it says, which has no influence here.
    """

    name: str
    architecture: Architecture
    learning_rate: float | None
    unused: tuple[str, ...]

    @property
    def note(self) -> str:
        """A sentence about what is not used; empty where everything is."""
        return f"{self.name}: not used: {', '.join(self.unused)}." if self.unused else ""


Chosen = str | TcnnConfig | Architecture
FieldChoice = Chosen | os.PathLike[str] | Mapping[str, Any]


def chosen_field(field: FieldChoice, also: tuple[str, ...] = ()) -> Chosen:
    """The name of an architecture, or what a file or a dictionary of tiny-cuda-nn's JSON says.

    A name wins over a file of that name (`./NAME` is the file); an architecture stays as it is.
    `also`: names that are no architecture's.

    Raises:
        InputError: there is neither an architecture nor a file of that name, the file is no JSON
            object, or it asks for what the engine does not have.

    Example:
        >>> chosen_field("siren")
        'siren'
        >>> chosen_field({"encoding": {"otype": "HashGrid", "n_levels": 8}}).architecture.n_levels
        8
    """
    if isinstance(field, TcnnConfig | Architecture):
        return field
    if isinstance(field, Mapping):
        return _config("--field", field)
    if isinstance(field, str):
        known = [*architectures.names(), *also]
        if field in known:
            return field
        if not (field.lower().endswith(".json") or os.path.isfile(field)):
            raise InputError(unknown_value("--field", field, [*known, "FILE.json"]))
    return _config(f"--field {os.fspath(field)}", _read(Path(field)))


def _read(path: Path) -> object:
    try:
        text = path.read_text(encoding="utf-8-sig")
        return json.loads(_COMMENTS.sub(lambda found: found[1] or " ", text))
    except FileNotFoundError:
        raise InputError(f"--field {path}: there is no such file.") from None
    except (OSError, ValueError, RecursionError) as error:
        raise InputError(f"--field {path}: needs to be JSON ({error}).") from error


def _config(name: str, data: object) -> TcnnConfig:
    if not isinstance(data, Mapping) or "encoding" not in data:
        raise InputError(
            f"{name}: needs tiny-cuda-nn's JSON, an object with the blocks encoding and network."
        )
    if "parent" in data:
        raise InputError(f"{name}: parent is not followed; put that file's blocks into this one.")
    rate, unused = _learning_rate(name, data.get("optimizer", {}))
    network = _Block(name, "network", data.get("network", {}))
    architecture = _architecture(_Block(name, "encoding", data["encoding"]), _hidden(network))
    others = [str(key) for key in data if key not in ("encoding", "network", "optimizer")]
    return TcnnConfig(name, architecture, rate, (*others, *unused))


def _learning_rate(name: str, optimizer: object) -> tuple[float | None, list[str]]:
    """The innermost optimizer's rate, and what of the block that leaves out."""
    block, rate = optimizer, None
    while isinstance(block, Mapping) and rate is None:
        rate, block = block.get("learning_rate"), block.get("nested")
    if rate is None:
        return None, ["optimizer"] if optimizer else []
    if not _is_number(rate) or rate <= 0:
        raise InputError(
            f"{name}: optimizer.learning_rate needs a positive number, got {reprlib.repr(rate)}."
        )
    plain = isinstance(optimizer, Mapping) and set(optimizer) <= {"otype", "learning_rate"}
    return float(rate), [] if plain else ["optimizer but for learning_rate"]


def _hidden(block: _Block) -> tuple[int, ...]:
    """Widths of the hidden layers."""
    block.word("otype", "MLP", _NETWORKS)
    block.word("activation", "ReLU", ("ReLU",))
    block.word("output_activation", "None", ("None",))
    width = block.whole("n_neurons", 128, 1, 512)
    n_layers = block.whole("n_hidden_layers", 5, 0, 11)
    block.finish()
    return (width,) * n_layers


def _architecture(block: _Block, hidden: tuple[int, ...]) -> Architecture:
    otype = block.word("otype", "OneBlob", (*_GRIDS, "Frequency"))
    if otype == "Frequency":
        octaves = block.whole("n_frequencies", 12, 1, 24)
        block.finish()
        return Mlp(octaves, hidden, convention="tiny-cuda-nn")
    kind = block.word("type", _GRIDS[otype], ("Hash", "Dense", "Tiled"))
    block.word("hash", "CoherentPrime", ("CoherentPrime",))
    for option in ("fixed_point_pos", "stochastic_interpolation"):
        block.off(option)
    n_levels = block.whole("n_levels", 16, 1, 32)
    base = block.whole("base_resolution", 16, 1, 65535)
    growth = (256 / base) ** (1 / max(1, n_levels - 1)) if kind == "Dense" else 2.0
    made = Hash(
        n_levels=n_levels,
        n_features=block.whole("n_features_per_level", 2, 1, 8),
        log2_table_size=block.whole("log2_hashmap_size", 19, 3, 28),
        base_resolution=base,
        finest_resolution=None,
        per_level_scale=block.number("per_level_scale", growth, at_least=1.0),
        grid_type=kind.lower(),  # type: ignore[arg-type]
        interpolation=block.word("interpolation", "Linear", ("Linear", "Smoothstep")).lower(),  # type: ignore[arg-type]
        hidden=hidden,
    )
    block.finish()
    return made


def _is_number(value: Any) -> bool:
    """Whether it is one that float can hold."""
    if isinstance(value, bool) or not isinstance(value, int | float):
        return False
    return abs(value) <= sys.float_info.max


class _Block:
    """A JSON object of which every key has to be asked for."""

    def __init__(self, name: str, key: str, data: object) -> None:
        self._where = f"{name}: {key}"
        self._asked: list[str] = []
        if not isinstance(data, Mapping):
            raise InputError(f"{self._where} needs an object, got {reprlib.repr(data)}.")
        self._data = data

    def _value(self, key: str, default: Any) -> Any:
        self._asked.append(key)
        return self._data.get(key, default)

    def word(self, key: str, default: str, choices: tuple[str, ...]) -> str:
        """One of the choices, as it is spelt there."""
        value = self._value(key, default)
        for choice in choices:
            if isinstance(value, str) and value.lower() == choice.lower():
                return choice
        text = value if isinstance(value, str) else reprlib.repr(value)
        raise InputError(unknown_value(f"{self._where}.{key}", text[:60], choices))

    def whole(self, key: str, default: int, low: int, high: int) -> int:
        """A whole number from low to high."""
        value = self._value(key, default)
        if isinstance(value, bool) or not isinstance(value, int) or not low <= value <= high:
            raise InputError(
                f"{self._where}.{key} needs a whole number from {low} to {high}, "
                f"got {reprlib.repr(value)}."
            )
        return value

    def number(self, key: str, default: float, at_least: float) -> float:
        """A finite number that is not too small."""
        value = self._value(key, default)
        if not _is_number(value) or value < at_least:
            raise InputError(
                f"{self._where}.{key} needs a number of at least {at_least:g}, "
                f"got {reprlib.repr(value)}."
            )
        return float(value)

    def off(self, key: str) -> None:
        """Refuse what the engine does not have."""
        if self._value(key, False) is not False:
            raise InputError(f"{self._where}.{key} needs to be false or left out.")

    def finish(self) -> None:
        """Refuse keys that nobody asked for."""
        for key in self._data:
            if key not in self._asked:
                raise InputError(unknown_value(self._where, str(key)[:60], self._asked))
