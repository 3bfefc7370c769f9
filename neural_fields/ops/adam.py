"""Adam in the form that hash grids need."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

import torch
from torch import Tensor
from torch.autograd.graph import increment_version

from neural_fields.ops._library import FLOATS, native


def adam_step(
    params: Tensor,
    grads: Tensor,
    first: Tensor,
    second: Tensor,
    *,
    step: int,
    rate: float,
    beta1: float = 0.9,
    beta2: float = 0.99,
    eps: float = 1e-15,
    l2: float = 0.0,
    skip_zero: bool = False,
    clear: bool = False,
    touched: Tensor | None = None,
) -> None:
    """Take one step of Adam, in place.

    Args:
        params: float32 or float64 of any shape, contiguous, as are the next three.
        grads: like params.
        first: like params, the running mean of the gradient; zeros before the first step.
        second: like params, the running mean of its square; zeros before the first step.
        step: 1 for the first step.
        rate: how far a parameter moves, about.
        beta1: decay of `first`, in [0, 1).
        beta2: decay of `second`, in [0, 1).
        eps: added to the root of `second`.
        l2: times the parameter is added to its gradient.
        skip_zero: leave numbers whose gradient is exactly 0 alone, moments and all.
        clear: set the gradients to 0 afterwards.
        touched: [ceil(n / 16)] uint8, one byte per 16 numbers in memory order: only blocks whose
            byte is not 0 are visited, and the byte is set to 0. None = visit all.

    Not differentiable.

    Raises:
        TypeError: a tensor is of the wrong type.
        ValueError: a shape is wrong, a tensor is not contiguous, or step is below 1.

    Source: Kingma and Ba, 2015, algorithm 1, with the choices of tiny-cuda-nn (Mueller et al.,
    2022): eps is added before the bias correction, which is folded into the rate; L2 is added to
    the gradient. Deviation from it: one step counter for all numbers. torch.optim.Adam adds
    eps * sqrt(1 - beta2^step) instead.

    Example:
        >>> w, moments = torch.ones(3), torch.zeros(2, 3)
        >>> adam_step(w, torch.tensor([5.0, 0.0, -1e-6]), *moments, step=1, rate=0.1)
        >>> w
        tensor([0.9000, 1.0000, 1.1000])
    """
    tensors = {"params": params, "grads": grads, "first": first, "second": second}
    for name, tensor in tensors.items():
        if tensor.shape != params.shape:
            raise ValueError(
                f"adam: {name} needs the shape of params {list(params.shape)}, "
                f"got {list(tensor.shape)}."
            )
        if not tensor.is_contiguous():
            raise ValueError(f"adam: {name} needs contiguous memory, since it is changed in place.")
    if params.dtype not in FLOATS:
        raise TypeError(f"adam: params needs float32 or float64, got {params.dtype}.")
    native("adam", params).adam(
        *(tensor.detach().view(-1) for tensor in tensors.values()),
        rate,
        beta1,
        beta2,
        eps,
        l2,
        step,
        skip_zero,
        clear,
        touched,
    )
    increment_version([params, first, second, *([grads] if clear else [])])


class Adam(torch.optim.Optimizer):
    """Adam for any training loop, with `adam_step`'s conventions and arithmetic.

    Args:
        params: tensors or groups of them, as every torch optimiser takes.
        lr: the rate.
        betas: decays of the two running means.
        eps: added to the root of the second, before the bias correction.
        weight_decay: L2, added to the gradient.
        skip_zero: leave numbers whose gradient is exactly 0 alone, moments and all, as suits the
            tables of hash grids. May differ between groups, as all of these.

    Example:
        >>> table = torch.nn.Parameter(torch.zeros(8, 2))
        >>> optimizer = Adam([table], lr=0.01, skip_zero=True)
        >>> table[3].sum().backward()
        >>> optimizer.step()
        >>> table.detach()[2:4]
        tensor([[ 0.0000,  0.0000],
                [-0.0100, -0.0100]])
    """

    def __init__(
        self,
        params: Iterable[Tensor] | Iterable[dict[str, Any]],
        lr: float = 1e-2,
        betas: tuple[float, float] = (0.9, 0.99),
        eps: float = 1e-15,
        weight_decay: float = 0.0,
        *,
        skip_zero: bool = False,
    ) -> None:
        if not (lr >= 0 and eps >= 0 and weight_decay >= 0):
            raise ValueError("Adam: needs lr, eps and weight_decay of at least 0.")
        if not all(0 <= beta < 1 for beta in betas):
            raise ValueError(f"Adam: betas needs two numbers in [0, 1), got {betas}.")
        defaults = {
            "lr": lr,
            "betas": betas,
            "eps": eps,
            "weight_decay": weight_decay,
            "skip_zero": skip_zero,
        }
        super().__init__(params, defaults)

    @torch.no_grad()
    def step(self, closure: Callable[[], float] | None = None) -> float | None:  # type: ignore[override]
        """Move all parameters that have a gradient; returns what `closure` does."""
        loss = None
        if closure is not None:
            with torch.enable_grad():
                loss = closure()
        for group in self.param_groups:
            for param in group["params"]:
                if param.grad is not None:
                    self._move(param, param.grad, group)
        return loss

    def _move(self, param: Tensor, grad: Tensor, group: dict[str, Any]) -> None:
        if grad.is_sparse:
            raise TypeError("Adam: needs dense gradients, got a sparse one.")
        state = self.state[param]
        if not state:
            state["step"] = 0
            for name in ("exp_avg", "exp_avg_sq"):
                state[name] = torch.zeros_like(param, memory_format=torch.contiguous_format)
        state["step"] += 1
        values = param.contiguous()
        adam_step(
            values,
            grad.contiguous(),
            state["exp_avg"],
            state["exp_avg_sq"],
            step=state["step"],
            rate=group["lr"],
            beta1=group["betas"][0],
            beta2=group["betas"][1],
            eps=group["eps"],
            l2=group["weight_decay"],
            skip_zero=group["skip_zero"],
        )
        if values is not param:
            param.copy_(values)
