"""What our operations are measured beside on a GPU: plain PyTorch there, and tiny-cuda-nn."""

from __future__ import annotations

import torch
from torch import Tensor

from neural_fields.benchmarks.device_case import Arm, Place
from neural_fields.benchmarks.torch_baseline import Batch, Grid, RadianceBaseline
from neural_fields.errors import InputError
from neural_fields.integrations import tcnn
from neural_fields.ops import HashGridSpec, MlpSpec

HALF = "tiny-cuda-nn in half precision"  # what its rows say


def grid_on(spec: HashGridSpec, device: torch.device) -> Grid:
    """PyTorch's hash grid, whose constants lie on the device."""
    with device:
        return Grid(spec)


class DeviceBaseline(RadianceBaseline):
    """The field in plain PyTorch on a device.

    All samples go through everything at once: pieces that a cache holds are for processors.
    """

    def __init__(
        self,
        spec: HashGridSpec,
        table: Tensor,
        density_params: Tensor,
        color_params: Tensor,
        device: torch.device,
    ) -> None:
        super().__init__(spec, table.cpu(), density_params.cpu(), color_params.cpu())
        self.grid = grid_on(spec, device)
        self.table = self.table.to(device)
        self.table.grad = torch.zeros_like(self.table)
        self.matrices = [matrix.detach().to(device).requires_grad_() for matrix in self.matrices]
        self.optimizer = torch.optim.Adam(
            [self.table, *self.matrices], lr=1e-2, betas=(0.9, 0.99), eps=1e-15, fused=True
        )

    def backward(self, batch: Batch) -> Tensor:
        """The mean loss; adds to the gradients of the table and the matrices."""
        index, weight = self.grid.corners(batch.positions)
        features = self.grid.lookup(self.table, index, weight).requires_grad_()
        t_starts, t_ends = batch.t_starts / batch.unit, batch.t_ends / batch.unit
        rays = (batch.offsets, t_starts, t_ends, batch.directions, batch.background)
        loss = self._loss(features, self.matrices, *rays, batch.target) / (5 * 3 * batch.n_rays)
        loss.backward()  # type: ignore[no-untyped-call]
        assert features.grad is not None
        assert self.table.grad is not None
        self.grid.add_gradient(self.table.grad, index, weight, features.grad)
        return loss.detach()


def has_tcnn(place: Place, *specs: HashGridSpec | MlpSpec) -> bool:
    """Whether tiny-cuda-nn is installed and computes all of these shapes."""
    if not place.is_gpu or not all(tcnn.covers(spec) for spec in specs):
        return False
    try:
        with tcnn.use_tcnn():
            return True
    except InputError:
        return False


def tcnn_hash_grid(
    place: Place, spec: HashGridSpec, positions: Tensor, table: Tensor, grad_output: Tensor
) -> tuple[Arm | None, Arm | None]:
    """Features, and features with the table's gradient, in half precision."""
    if not has_tcnn(place, spec):
        return None, None
    leaf = table.clone().requires_grad_()

    def both() -> object:
        features = tcnn.hash_grid(positions, leaf, spec)
        return torch.autograd.grad(features, leaf, grad_output)

    return lambda: tcnn.hash_grid(positions, table, spec), both


def tcnn_mlp(
    place: Place, spec: MlpSpec, inputs: Tensor, params: Tensor, grad_output: Tensor
) -> tuple[Arm | None, Arm | None]:
    """Values, and values with all gradients, in half precision."""
    if not has_tcnn(place, spec):
        return None, None
    x, weights = (tensor.clone().requires_grad_() for tensor in (inputs, params))

    def both() -> object:
        return torch.autograd.grad(tcnn.mlp(x, weights, spec), (x, weights), grad_output)

    return lambda: tcnn.mlp(inputs, params, spec), both
