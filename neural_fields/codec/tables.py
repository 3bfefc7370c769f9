"""Integer tables of how likely magnitudes are: what an entropy coder works with.

A table is a list of bytes u_k, one per magnitude k from 0: its weight is 2^(20 - u_k / 8) rounded
down, computed with whole numbers alone, so that every machine has the same.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from numpy.typing import NDArray

from neural_fields.errors import library

Numbers = NDArray[np.int64]
_STEPS = 8  # per octave
_RARE = 160  # the largest byte: weight 1
MOST = 1 << 12  # symbols of a table


def _weights() -> list[int]:
    """Weights by byte: the integer eighth root of 2^(8 * 20 - u)."""
    roots = []
    for u in range(_RARE + 1):
        power = 1 << (_STEPS * 20 - u)
        roots.append(math.isqrt(math.isqrt(math.isqrt(power))))
    return roots


_WEIGHTS = np.array(_weights(), dtype=np.float64)  # exact: below 2^53


def fitted_table(counts: Numbers) -> bytes:
    """The table for symbols that occur so often; empty where none does.

    Example:
        >>> list(fitted_table(np.array([1000, 250, 1])))
        [0, 16, 80]
    """
    used = np.flatnonzero(counts)
    if len(used) == 0:
        return b""
    counts = counts[: used[-1] + 1]
    with np.errstate(divide="ignore"):
        octaves = np.log2(counts.max() / counts.astype(np.float64))
    levels: NDArray[np.uint8] = np.minimum(np.rint(octaves * _STEPS), _RARE).astype(np.uint8)
    return levels.tobytes()


def model_of(table: bytes) -> Any:
    """The entropy coder's model of a table.

    Raises:
        ValueError: the table is empty or holds a byte above 160.
    """
    levels = np.frombuffer(table, np.uint8)
    if not 0 < len(levels) <= MOST or int(levels.max()) > _RARE:
        raise ValueError("a table needs bytes of at most 160")
    weights = _WEIGHTS[levels]
    if len(weights) == 1:  # nothing to say; the library wants two symbols at least
        weights = np.array([weights[0], 0.0])
    constriction = library("constriction", "video")
    return constriction.stream.model.Categorical(weights, perfect=False)


def bits_of(counts: Numbers, table: bytes) -> float:
    """Bits that symbols with these counts take under a table."""
    if not table:
        return 0.0
    weights = _WEIGHTS[np.frombuffer(table, np.uint8)]
    return float((counts[: len(weights)] * -np.log2(weights / weights.sum())).sum())
