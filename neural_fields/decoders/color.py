"""The colour head that radiance fields with features share."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor, nn

from neural_fields.decoders.mlp import Mlp
from neural_fields.errors import InputError
from neural_fields.ops import MlpSpec, Precision, frequency, spherical_harmonics

N_HARMONICS = 16  # degree 4
N_OCTAVES = 4
_WIDTHS = {"harmonics": N_HARMONICS, "frequency": 3 + 6 * N_OCTAVES}


@dataclass(frozen=True)
class Head:
    """The colour branch of a radiance field, as plain data.

    Attributes:
        n_features: of the trunk; the first is log-density.
        hidden: widths of the hidden layers, relu.
        sees_density: whether the first feature is given to it like the others.
        directions: 16 spherical `harmonics`, or `frequency`: directions and 4 octaves of them.
        biases: whether its layers have them.
    """

    n_features: int = 16
    hidden: tuple[int, ...] = (64, 64)
    sees_density: bool = True
    directions: Literal["harmonics", "frequency"] = "harmonics"
    biases: bool = False

    def __post_init__(self) -> None:
        if self.directions not in _WIDTHS:
            raise InputError(
                f"config: directions needs one of {sorted(_WIDTHS)}, got {self.directions!r}."
            )

    @property
    def widths(self) -> tuple[int, ...]:
        """Of the network, from its inputs to the three colours."""
        n_seen = self.n_features - (not self.sees_density)
        return (n_seen + _WIDTHS[self.directions], *self.hidden, 3)


class ColorHead(nn.Module):
    """Features and a viewing direction to sRGB in [0, 1].

    Example:
        >>> head = ColorHead(Head())
        >>> head.reset(torch.Generator().manual_seed(1))
        >>> directions = torch.nn.functional.normalize(torch.randn(5, 3), dim=1)
        >>> head(torch.rand(5, 16), directions).shape
        torch.Size([5, 3])
    """

    def __init__(
        self, config: Head, precision: Precision = "float32", normalize: bool = False
    ) -> None:
        super().__init__()
        self.config = config
        spec = MlpSpec(
            config.widths,
            output="sigmoid",
            biases=config.biases,
            precision=precision,
            normalize=normalize,
        )
        self.mlp = Mlp(spec)

    def reset(self, generator: torch.Generator) -> None:
        """Draw the network's parameters."""
        self.mlp.reset(generator)

    def forward(
        self,
        features: Tensor,
        directions: Tensor | None,
        scale: Tensor | None = None,
        shift: Tensor | None = None,
    ) -> Tensor:
        """Colours [n, 3] of features [n, n_features] seen along unit directions [n, 3].

        Without directions their encoding is zero. Scale and shift [n, hidden layers] as in `mlp`.
        """
        if not self.config.sees_density:
            features = features[:, 1:]
        encoded = self._encoded(features, directions)
        return self.mlp.forward(torch.cat([features, encoded], dim=1), scale, shift)

    def _encoded(self, features: Tensor, directions: Tensor | None) -> Tensor:
        if directions is None:
            return features.new_zeros(features.shape[0], _WIDTHS[self.config.directions])
        if self.config.directions == "harmonics":
            return spherical_harmonics(directions)
        return frequency(directions, N_OCTAVES)
