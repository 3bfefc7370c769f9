"""Orthogonal steps for the matrices of networks (Muon, Jordan et al. 2024)."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from neural_fields.decoders import Mlp
from neural_fields.ops import adam_step
from neural_fields.training.adam import AdamState

MOMENTUM = 0.9
_ITERATIONS = 4
_FAINT = 1e-18
_QUINTIC = (3.4445, -4.7750, 2.0315)  # Jordan's, which carry singular values to 0.7 .. 1.2


class MuonState(AdamState):
    """Matrices of a network step along an orthogonal matrix, its biases by Adam.

    Adam's steps on matrices have few directions that matter; here all
    singular values of a step are about the same. `first` is the momentum, `second` is not used by
    matrices, which have no weight decay. Deviations from Jordan's: momentum 0.9 instead of 0.95,
    four iterations instead of five, all matrices, first and last as well, and steps whose root
    mean square is the learning rate whatever the shape.

    Source: Jordan et al., Muon: An optimizer for hidden layers in neural networks, 2024.
    """

    def __init__(self, network: Mlp, l2: float, matrix_share: float) -> None:
        """`matrix_share`: learning rate of matrices as a share of that of the biases."""
        super().__init__(network.params, sparse=False, l2=l2)
        self._matrix_share = matrix_share
        # Views of layers: a matrix and its bias or None.
        buffers = (self.parameter, self.grad, self.first, self.second)
        self._layers = [[*network.layers(buffer)] for buffer in buffers]

    def step(self, rate: float, number: int) -> None:
        """One update with the gradients in `grad`; `number` counts from 1."""
        for values, gradients, first, second in zip(*self._layers, strict=True):
            (matrix, bias), (gradient, of_bias), (momentum, _) = values, gradients, first
            momentum.lerp_(gradient, 1 - MOMENTUM)
            length = math.sqrt(max(matrix.shape))  # so many times an orthogonal one: an rms of 1
            along = orthogonal(gradient.lerp(momentum, MOMENTUM))
            matrix.add_(along, alpha=-rate * self._matrix_share * length)
            if bias is not None:
                moments = first[1], second[1]
                adam_step(bias, of_bias, *moments, step=number, rate=rate, l2=self.l2)


def orthogonal(matrix: Tensor) -> Tensor:
    """About the orthogonal factor [m, n] of a matrix [m, n]: singular values of 0.7 to 1.2.

    Singular values below a hundredth of the Frobenius norm stay smaller; a matrix of zeros stays
    one. Not differentiable. Jordan's quintic iteration of Newton and Schulz.

    Example:
        >>> found = orthogonal(torch.tensor([[3.0, 0.0], [0.0, -1.0]]))
        >>> bool((found.abs().diagonal() > 0.6).all())
        True
    """
    tall = matrix.shape[0] > matrix.shape[1]
    x = matrix.T if tall else matrix
    norm, largest = x.norm(), x.abs().max().clamp(min=torch.finfo(x.dtype).tiny)
    sound = (norm > _FAINT) & (norm < math.inf)  # else squares under- or overflow: what fades
    x = x / torch.where(sound, 1.0, largest)
    x = x / x.norm().clamp(min=torch.finfo(x.dtype).tiny)
    a, b, c = _QUINTIC
    for _ in range(_ITERATIONS):
        square = x @ x.T
        x = torch.addmm(x, torch.addmm(square, square, square, beta=b, alpha=c), x, beta=a)
    return x.T if tall else x
