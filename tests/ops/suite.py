"""The suite that every operation passes. An operation lists its cases; see `Case`."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import pytest
import tolerances
import torch

SIZES = [0, 1, 31, 32, 33, 1000]
FINITE_DIFFERENCES = {
    "rtol": tolerances.FINITE_DIFFERENCES,
    "atol": tolerances.FINITE_DIFFERENCES_OF_SMALL,
    "fast_mode": True,
}


@dataclass(frozen=True)
class Case:
    """One operation with one specification.

    `inputs(n, generator)` makes float32 tensors for n points, away from kinks; `arguments` names
    them. `twice` are the inputs whose gradients can be differentiated again.
    """

    name: str
    function: Callable[..., torch.Tensor]
    reference: Callable[..., torch.Tensor]
    inputs: Callable[[int, torch.Generator], list[torch.Tensor]]
    arguments: tuple[str, ...]
    tolerance: float
    twice: tuple[int, ...] = (0,)

    def make(self, n, dtype=torch.float32, device="cpu"):
        tensors = self.inputs(n, torch.Generator().manual_seed(n))
        return [tensor.to(device, dtype) for tensor in tensors]


def weights_like(tensor, seed):
    generator = torch.Generator().manual_seed(seed)
    return torch.rand(tensor.shape, generator=generator).to(tensor.device, tensor.dtype) - 0.5


def derivatives(function, inputs, twice=()):
    """Values, the gradients of a weighted sum, and the gradients of a weighted sum of those."""
    inputs = [tensor.detach().requires_grad_() for tensor in inputs]
    values = function(*inputs)
    weights = weights_like(values, 1).requires_grad_()
    first = torch.autograd.grad(values, inputs, weights, create_graph=bool(twice))
    results = [values, *first]
    if twice:
        chosen = [first[i] for i in twice]
        tangents = [weights_like(tensor, 2 + i) for i, tensor in enumerate(chosen)]
        variables = [*inputs, weights]
        second = torch.autograd.grad(chosen, variables, tangents, allow_unused=True)
        pairs = zip(second, variables, strict=True)
        results += [torch.zeros_like(v) if s is None else s for s, v in pairs]
    return [result.detach() for result in results]


def assert_near(actual, expected, tolerance):
    for i, (a, b) in enumerate(zip(actual, expected, strict=True)):
        assert a.shape == b.shape
        a, b = a.cpu().double(), b.cpu().double()
        scale = max(1.0, b.abs().max().item()) if b.numel() else 1.0
        error = (a - b).abs().max().item() if b.numel() else 0.0
        assert error <= tolerance * scale, f"result {i}: error {error:.3g}, numbers to {scale:.3g}"


def assert_equal(actual, expected):
    for a, b in zip(actual, expected, strict=True):
        assert torch.equal(a, b)


def with_gaps(tensor):
    """The same numbers, with memory between them."""
    wide = torch.empty((*tensor.shape, 2), dtype=tensor.dtype, device=tensor.device)
    wide[..., 0] = tensor
    return wide[..., 0]


class OpSuite:
    """Derived classes set `cases` and `name`, and may override `registered`."""

    cases: tuple[Case, ...]
    name: str

    @pytest.mark.parametrize("n", SIZES)
    def test_equals_the_reference_in_float64(self, case, n):
        inputs = case.make(n, torch.float64)
        expected = derivatives(case.reference, inputs, case.twice)
        assert_near(derivatives(case.function, inputs, case.twice), expected, tolerances.FLOAT64)

    @pytest.mark.parametrize("n", SIZES)
    def test_equals_the_reference_in_float32(self, case, n, device):
        expected = derivatives(case.reference, case.make(n, torch.float64), case.twice)
        actual = derivatives(case.function, case.make(n, device=device), case.twice)
        assert actual[0].dtype == torch.float32
        assert actual[0].device.type == device
        assert_near(actual, expected, case.tolerance)

    @pytest.mark.parametrize("n", [33, 1000])
    def test_instruction_sets_agree(self, case, n, isa, restored_core):
        inputs = case.make(n)
        restored_core.set_isa("portable")
        expected = derivatives(case.function, inputs, case.twice)
        restored_core.set_isa(isa)
        assert_near(derivatives(case.function, inputs, case.twice), expected, case.tolerance)

    def test_first_derivatives_are_right(self, case):
        inputs = [tensor.requires_grad_() for tensor in case.make(5, torch.float64)]
        assert torch.autograd.gradcheck(case.function, inputs, **FINITE_DIFFERENCES)

    def test_second_derivatives_are_right(self, case):
        inputs = [tensor.requires_grad_() for tensor in case.make(5, torch.float64)]
        weights = weights_like(case.function(*inputs), 1).requires_grad_()

        def gradients(*tensors):
            *tensors, weights = tensors
            values = case.function(*tensors)
            chosen = [tensors[i] for i in case.twice]
            return torch.autograd.grad(values, chosen, weights, create_graph=True)

        assert torch.autograd.gradcheck(gradients, [*inputs, weights], **FINITE_DIFFERENCES)

    def test_takes_tensors_with_gaps(self, case, device):
        inputs = case.make(33, device=device)
        gaps = [with_gaps(tensor) for tensor in inputs]
        assert not any(tensor.is_contiguous() for tensor in gaps if tensor.numel() > 1)
        expected = derivatives(case.function, inputs, case.twice)
        assert_equal(derivatives(case.function, gaps, case.twice), expected)

    def test_repeats_bit_for_bit(self, case, restored_core):
        inputs = case.make(5000)
        runs = []
        for n_threads in (1, 1, 2, 3):
            restored_core.set_num_threads(n_threads)
            runs.append(derivatives(case.function, inputs, case.twice))
        for run in runs[1:]:
            assert_equal(run, runs[0])

    def test_compiles_without_a_break(self, case):
        torch._dynamo.reset()
        inputs = case.make(33)
        compiled = torch.compile(case.function, fullgraph=True, backend="aot_eager")
        assert_equal(derivatives(compiled, inputs), derivatives(case.function, inputs))

    def test_works_under_torch_func(self, case):
        inputs = case.make(33, torch.float64)
        positions = tuple(range(len(inputs)))
        values, *first = derivatives(case.function, inputs)
        weights = weights_like(values, 1)

        def loss(*tensors):
            return (case.function(*tensors) * weights).sum()

        assert_equal(torch.func.grad(loss, positions)(*inputs), first)
        same_values, pull_back = torch.func.vjp(case.function, *inputs)
        assert_equal([same_values, *pull_back(weights)], [values, *first])

        def slope(*tensors):
            return torch.func.grad(loss)(*tensors).pow(2).sum()

        def slope_of_reference(*tensors):
            def of_reference(*tensors):
                return (case.reference(*tensors) * weights).sum()

            return torch.func.grad(of_reference)(*tensors).pow(2).sum()

        actual = torch.func.grad(slope, positions)(*inputs)
        expected = torch.func.grad(slope_of_reference, positions)(*inputs)
        assert_near(actual, expected, tolerances.FLOAT64)

    def test_vmap_is_refused(self, case):
        with pytest.raises(RuntimeError, match="vmap"):
            torch.func.vmap(case.function)(*(t[None] for t in case.make(2)))

    def test_third_order_names_the_reference(self, case):
        def third(function):
            first, *rest = case.make(3, torch.float64)
            first.requires_grad_()
            weights = weights_like(function(first, *rest), 1)
            result = (function(first, *rest) * weights).sum()
            for _ in range(3):
                if not result.requires_grad:  # a derivative that is constant
                    return result
                options = {"create_graph": True, "materialize_grads": True}
                (slope,) = torch.autograd.grad(result, first, **options)
                result = slope.pow(2).sum()
            return result

        message = rf"^{self.name}: third-order .*neural_fields\.ops\.reference\.{self.name}"
        with pytest.raises(RuntimeError, match=message):
            third(case.function)
        assert third(case.reference).isfinite().all()

    def test_wrong_inputs_are_refused(self, case):
        inputs = case.make(4)
        for i, argument in enumerate(case.arguments):
            start = f"^{self.name}: {argument} needs "
            for wrong, error, message in [
                (inputs[i].half(), TypeError, "float32 or float64, got torch.float16"),
                (inputs[i].int(), TypeError, "float32 or float64, got torch.int32"),
                (inputs[i][None], ValueError, "shape .*, got "),
                (inputs[i][..., :-1].contiguous(), ValueError, "shape .*, got "),
            ]:
                if "shape" in message and self.any_shape(argument, wrong):
                    continue
                with pytest.raises(error, match=start + message):
                    case.function(*inputs[:i], wrong, *inputs[i + 1 :])
            if i > 0:
                with pytest.raises(TypeError, match=start + "torch.float32 like the first"):
                    case.function(*inputs[:i], inputs[i].double(), *inputs[i + 1 :])
                with pytest.raises(ValueError, match=start + "to be on cpu like the first"):
                    case.function(*inputs[:i], inputs[i].to("meta"), *inputs[i + 1 :])

    def any_shape(self, argument, wrong):
        """Whether the operation takes this shape after all."""
        return False

    def registered(self, case):
        """Yield (name of a registered operation, its arguments)."""
        raise NotImplementedError

    def test_registration_is_sound(self, case):
        for name, arguments in self.registered(case):
            torch.library.opcheck(getattr(torch.ops.neural_fields, name).default, arguments)
