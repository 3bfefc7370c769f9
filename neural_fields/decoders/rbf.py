"""Gaussian neurons as a module that owns their parameters."""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn

from neural_fields.ops import rbf

SMALLEST = 1e-9  # of a feature's spread within a cluster, as a share of its spread in all
RIDGE = 1e-4  # of a neuron's sum of squares, added to the least squares of the readout
ROUNDS = 10  # of k-means
# A neuron's variance over its cluster's. Wider ones all answer everywhere, so that values are small
# differences of large sums that a step shakes.
WIDTH = 10.0


class Rbf(nn.Module):
    """One layer of Gaussian neurons in feature space and its linear readout.

    Logarithms of precisions are kept within +-`reach`, beyond which a neuron is blind or flat.

    Example:
        >>> layer = Rbf(n_input=32, n_kernels=64, n_output=16)
        >>> layer.reset(torch.Generator().manual_seed(1))
        >>> layer(torch.rand(5, 32)).shape
        torch.Size([5, 16])
    """

    def __init__(
        self,
        n_input: int,
        n_kernels: int,
        n_output: int,
        *,
        isotropic: bool = False,
        affine: bool = False,
        reach: float = 8.0,
    ) -> None:
        """Parameters without values.

        Args:
            n_input: features.
            n_kernels: neurons.
            n_output: values.
            isotropic: one width per neuron instead of one per neuron and feature.
            affine: whether a matrix times the features is added to the values.
            reach: bound of the logarithms of precisions.
        """
        super().__init__()
        self._reach = reach
        self.centers = nn.Parameter(torch.empty(n_kernels, n_input))
        shape = (n_kernels,) if isotropic else (n_kernels, n_input)
        self.log_precision = nn.Parameter(torch.empty(shape))
        self.weight = nn.Parameter(torch.empty(n_output, n_kernels))
        self.bias = nn.Parameter(torch.empty(n_output))
        self.affine = nn.Parameter(torch.empty(n_output, n_input)) if affine else None

    @torch.no_grad()
    def reset(self, generator: torch.Generator) -> None:
        """The start of the paper's code: centres near 0, widths 1, readout as `nn.Linear`."""
        self.centers.uniform_(-1e-4, 1e-4, generator=generator)
        self.log_precision.zero_()
        bound = 1 / math.sqrt(self.weight.shape[1])
        self.weight.uniform_(-bound, bound, generator=generator)
        self.bias.uniform_(-bound, bound, generator=generator)
        if self.affine is not None:
            self.affine.zero_()

    @torch.no_grad()
    def start_from(self, features: Tensor, targets: Tensor, generator: torch.Generator) -> None:
        """Start where the features are.

        Centres by k-means, widths from the clusters' variances, the readout by ridge regression.

        Args:
            features: [n, n_input] float32, n at least the number of neurons.
            targets: [n, n_output] float32 that the values should take there.
            generator: of the first centres.

        Source: the spec of Gaussian RBFNet leaves the start near 0; this one is our own.
        """
        n_kernels = self.centers.shape[0]
        centers, owner = k_means(features, n_kernels, generator)
        self.centers.copy_(centers)
        self.log_precision.copy_(self._widths(features, owner))
        neurons = rbf(
            features,
            self.centers,
            self._bounded(),
            torch.eye(n_kernels),
            features.new_zeros(n_kernels),
        )
        columns = neurons if self.affine is None else torch.cat([neurons, features], 1)
        weight, bias = ridge(columns, targets)
        self.weight.copy_(weight[:, :n_kernels])
        self.bias.copy_(bias)
        if self.affine is not None:
            self.affine.copy_(weight[:, n_kernels:])

    def _widths(self, features: Tensor, owner: Tensor) -> Tensor:
        """Logarithms of the clusters' precisions: a neuron reaches its neighbours."""
        n_kernels, n_input = self.centers.shape
        square = (features - self.centers[owner]).square()
        count = torch.zeros(n_kernels).index_add_(0, owner, torch.ones(len(owner)))
        total = torch.zeros(n_kernels, n_input).index_add_(0, owner, square)
        overall = square.mean(0)  # where a cluster has too few points to tell
        variance = (total + overall) / (count + 1)[:, None]
        variance = variance.clamp(min=float(overall.max()) * SMALLEST + 1e-30)
        width = WIDTH * (variance.mean(1) if self.log_precision.dim() == 1 else variance)
        return -width.log()

    def _bounded(self) -> Tensor:
        return self.log_precision.clamp(-self._reach, self._reach)

    def forward(self, features: Tensor) -> Tensor:
        """Values [n, n_output] of features [n, n_input]; differentiable as `ops.rbf`."""
        values = rbf(features, self.centers, self._bounded(), self.weight, self.bias)
        return values if self.affine is None else values + features @ self.affine.T


def k_means(
    points: Tensor, n_clusters: int, generator: torch.Generator, rounds: int = ROUNDS
) -> tuple[Tensor, Tensor]:
    """Centres [n_clusters, d] and the cluster [n] of every point [n, d] (Lloyd 1982).

    First centres are drawn far apart (Arthur and Vassilvitskii 2007); a cluster that loses its
    points takes the farthest one.

    Raises:
        ValueError: there are fewer points than clusters.

    Example:
        >>> points = torch.tensor([[0.0], [0.1], [5.0], [5.1]])
        >>> centers, owner = k_means(points, 2, torch.Generator().manual_seed(1))
        >>> sorted(round(float(x), 2) for x in centers)
        [0.05, 5.05]
    """
    n = points.shape[0]
    if n < n_clusters:
        raise ValueError(f"k_means: needs at least {n_clusters} points, got {n}.")
    centers = points[torch.randint(n, (1,), generator=generator)]
    nearest = (points - centers).square().sum(1)
    for _ in range(n_clusters - 1):
        weights = nearest if bool(nearest.sum() > 0) else torch.ones(n)
        chosen = points[torch.multinomial(weights, 1, generator=generator)]
        centers = torch.cat([centers, chosen])
        nearest = torch.minimum(nearest, (points - chosen).square().sum(1))
    owner = torch.zeros(n, dtype=torch.long)
    for _ in range(rounds):
        distance, owner = torch.cdist(points, centers).min(1)
        count = torch.zeros(n_clusters).index_add_(0, owner, torch.ones(n))
        total = torch.zeros_like(centers).index_add_(0, owner, points)
        lost = count == 0
        centers = total / count.clamp(min=1)[:, None]
        if bool(lost.any()):
            centers[lost] = points[distance.topk(int(lost.sum())).indices]
    return centers, torch.cdist(points, centers).argmin(1)


def ridge(columns: Tensor, targets: Tensor) -> tuple[Tensor, Tensor]:
    """Weights [o, k] and biases [o] of the regularised least squares of targets [n, o].

    Example:
        >>> columns = torch.tensor([[0.0], [1.0], [2.0]])
        >>> weight, bias = ridge(columns, 3 * columns + 1)
        >>> round(float(weight), 2), round(float(bias), 2)
        (3.0, 1.0)
    """
    x, y = columns.double(), targets.double()
    mean_x, mean_y = x.mean(0), y.mean(0)
    x, y = x - mean_x, y - mean_y
    scale = x.norm(dim=0).clamp(min=1e-12)
    x = x / scale  # so that no column counts for more than another
    gram = x.T @ x
    gram.diagonal().add_(RIDGE)
    weight = torch.linalg.solve(gram, x.T @ y).T / scale
    return weight.float(), (mean_y - weight @ mean_x).float()
