"""The colour head that radiance fields with features share."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from neural_fields.decoders.mlp import Mlp
from neural_fields.ops import MlpSpec, Precision, spherical_harmonics

N_HARMONICS = 16  # degree 4


class ColorHead(nn.Module):
    """Features and a viewing direction to sRGB in [0, 1].

    n_features + 16 spherical harmonics -> hidden layers of relu -> 3, sigmoid, no biases.

    Example:
        >>> head = ColorHead(16, (64, 64))
        >>> head.reset(torch.Generator().manual_seed(1))
        >>> directions = torch.nn.functional.normalize(torch.randn(5, 3), dim=1)
        >>> head(torch.rand(5, 16), directions).shape
        torch.Size([5, 3])
    """

    def __init__(
        self,
        n_features: int,
        hidden: tuple[int, ...],
        precision: Precision = "float32",
        normalize: bool = False,
    ) -> None:
        super().__init__()
        widths = (n_features + N_HARMONICS, *hidden, 3)
        spec = MlpSpec(widths, output="sigmoid", precision=precision, normalize=normalize)
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
        if directions is None:
            harmonics = features.new_zeros(features.shape[0], N_HARMONICS)
        else:
            harmonics = spherical_harmonics(directions)
        return self.mlp.forward(torch.cat([features, harmonics], dim=1), scale, shift)
