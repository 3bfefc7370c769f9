"""Adam."""

import copy
import math

import pytest
import tolerances
import torch

from neural_fields import ops
from neural_fields.ops import reference

DTYPES = {torch.float32: tolerances.ADAM_FLOAT32, torch.float64: tolerances.FLOAT64}


def make(n, dtype=torch.float32, seed=0):
    """Params, gradients and moments; a third of the gradients are zero."""
    generator = torch.Generator().manual_seed(seed)
    params, grads, first, second = (
        torch.rand(n, generator=generator, dtype=dtype) - 0.5 for _ in range(4)
    )
    grads[torch.rand(n, generator=generator) < 0.3] = 0.0
    return [params, grads, first, second.abs()]


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("n", [0, 1, 15, 16, 17, 31, 32, 33, 500])
@pytest.mark.parametrize(
    "options", [{}, {"skip_zero": True, "clear": True}, {"l2": 0.1, "eps": 1e-3}], ids=str
)
def test_equals_the_reference(n, dtype, options, any_isa):
    actual, expected = make(n, dtype), make(n, dtype)
    touched = [(torch.arange((n + 15) // 16) % 3 > 0).byte() for _ in range(2)]
    for maps in ({}, {"touched": 1}):
        calls = [(ops.adam_step, actual), (reference.adam_step, expected)]
        for (step, tensors), blocks in zip(calls, touched, strict=True):
            given = {"touched": blocks} if maps else {}
            step(*tensors, step=3, rate=0.05, beta1=0.8, beta2=0.95, **options, **given)
        for a, b in zip(actual, expected, strict=True):
            torch.testing.assert_close(a, b, rtol=DTYPES[dtype], atol=DTYPES[dtype])
    assert not touched[0].any()


@pytest.mark.parametrize("scale", [1e6, 1.0, 1e-6, 1e-12])
@pytest.mark.parametrize("sign", [1, -1])
def test_first_step_is_the_rate_for_any_scale_of_the_gradient(scale, sign, any_isa):
    params, grads = torch.zeros(20), torch.full((20,), sign * scale)
    ops.adam_step(params, grads, torch.zeros(20), torch.zeros(20), step=1, rate=0.01)
    expected = torch.full((20,), -0.01 * sign)
    # eps = 1e-15 counts as 1e-14 in the first step: one percent of a gradient of 1e-12
    torch.testing.assert_close(params, expected, rtol=1e-5 + 1.01e-14 / scale, atol=0)


def test_numbers_without_gradient_stay_bit_for_bit(any_isa):
    tensors = make(100)
    before = [tensor.clone() for tensor in tensors]
    still = before[1] == 0
    ops.adam_step(*tensors, step=5, rate=0.1, l2=0.3, skip_zero=True)
    for a, b in zip(tensors, before, strict=True):
        assert torch.equal(a[still], b[still])
    assert (tensors[0][~still] != before[0][~still]).all()
    ops.adam_step(*tensors, step=6, rate=0.1)
    assert (tensors[0][still] != before[0][still]).all()


@pytest.mark.parametrize("skip_zero", [False, True])
def test_only_touched_blocks_are_visited(skip_zero, any_isa):
    tensors = make(50)
    before = [tensor.clone() for tensor in tensors]
    touched = torch.tensor([0, 1, 0, 1], dtype=torch.uint8)
    visited = torch.tensor([False, True, False, True]).repeat_interleave(16)[:50]
    options = {"clear": True, "skip_zero": skip_zero, "touched": touched}
    ops.adam_step(*tensors, step=1, rate=0.1, **options)
    assert not touched.any()
    for a, b in zip(tensors, before, strict=True):
        assert torch.equal(a[~visited], b[~visited])
    assert (tensors[1][visited] == 0).all()
    moved = visited & (before[1] != 0) if skip_zero else visited
    assert (tensors[0][moved] != before[0][moved]).all()


def test_does_not_depend_on_the_number_of_threads(restored_core):
    runs = []
    for n_threads in (1, 2, 3):
        restored_core.set_num_threads(n_threads)
        tensors = make(100_003)
        ops.adam_step(*tensors, step=1, rate=0.1, skip_zero=True)
        runs.append(tensors)
    for run in runs[1:]:
        assert all(torch.equal(a, b) for a, b in zip(run, runs[0], strict=True))


def test_any_shape_and_autograd_is_told():
    tensors = [tensor.view(5, 4) for tensor in make(20)]
    flat = make(20)
    versions = [tensor._version for tensor in tensors]
    ops.adam_step(*tensors, step=1, rate=0.1)
    ops.adam_step(*flat, step=1, rate=0.1)
    assert torch.equal(tensors[0].flatten(), flat[0])
    changed = [t._version > v for t, v in zip(tensors, versions, strict=True)]
    assert changed == [True, False, True, True]


@pytest.mark.parametrize(
    ("index", "wrong", "error", "message"),
    [
        (1, torch.zeros(3), ValueError, r"grads needs the shape of params \[4\], got \[3\]"),
        (2, torch.zeros(4).double(), TypeError, "first: needs float32, got float64"),
        (3, torch.zeros(8)[::2], ValueError, "second needs contiguous memory"),
        (0, torch.zeros(4).half(), TypeError, "params needs float32 or float64, got torch.float16"),
    ],
)
def test_wrong_tensors_are_refused(index, wrong, error, message):
    tensors = make(4)
    tensors[index] = wrong
    with pytest.raises(error, match=message):
        ops.adam_step(*tensors, step=1, rate=0.1)


def test_wrong_numbers_are_refused():
    with pytest.raises(ValueError, match="step: needs 1 for the first step, got 0"):
        ops.adam_step(*make(4), step=0, rate=0.1)
    with pytest.raises(ValueError, match=r"touched: needs shape \[2\], got \[1\]"):
        ops.adam_step(*make(17), step=1, rate=0.1, touched=torch.zeros(1, dtype=torch.uint8))
    parameter = [torch.nn.Parameter(torch.zeros(1))]
    with pytest.raises(ValueError, match="at least 0"):
        ops.Adam(parameter, lr=-1.0)
    with pytest.raises(ValueError, match=r"betas needs two numbers in \[0, 1\)"):
        ops.Adam(parameter, betas=(0.9, 1.0))


# ---- the optimiser -------------------------------------------------------------------------------


def quadratic(parameters):
    return sum(((p - i - 1) ** 2).sum() for i, p in enumerate(parameters))


def parameters(dtype=torch.float32):
    generator = torch.Generator().manual_seed(0)
    shapes = [(7,), (3, 4), (4, 3)]
    made = [torch.rand(shape, generator=generator, dtype=dtype) for shape in shapes]
    made[2] = made[2].T  # not contiguous
    return [torch.nn.Parameter(tensor) for tensor in made]


@pytest.mark.parametrize("weight_decay", [0.0, 0.1])
def test_equals_torch_where_the_conventions_for_eps_meet(weight_decay):
    ours, theirs = parameters(torch.float64), parameters(torch.float64)
    options = {"lr": 0.05, "betas": (0.8, 0.95), "weight_decay": weight_decay}
    optimizer = ops.Adam(ours, eps=1e-3, **options)
    peer = torch.optim.Adam(theirs, eps=1e-3, **options)
    for step in range(1, 11):
        # torch adds its eps after the correction of the second moment, ours comes before it
        peer.param_groups[0]["eps"] = 1e-3 / math.sqrt(1 - 0.95**step)
        for optim, tensors in ((optimizer, ours), (peer, theirs)):
            optim.zero_grad()
            quadratic(tensors).backward()
            optim.step()
        torch.testing.assert_close(ours, theirs, rtol=1e-12, atol=1e-12)


def run(optimizer, tensors, n_steps):
    for _ in range(n_steps):
        optimizer.zero_grad()
        quadratic(tensors).backward()
        optimizer.step()


def test_state_survives_a_round_trip():
    straight = parameters()
    run(ops.Adam(straight, lr=0.1), straight, 6)
    first = parameters()
    optimizer = ops.Adam(first, lr=0.1)
    run(optimizer, first, 3)
    second = [torch.nn.Parameter(p.detach().clone()) for p in first]
    resumed = ops.Adam(second, lr=0.7)
    resumed.load_state_dict(copy.deepcopy(optimizer.state_dict()))
    run(resumed, second, 3)
    assert all(torch.equal(a, b) for a, b in zip(second, straight, strict=True))


def test_groups_have_their_own_options():
    moving, still = parameters()[:2]
    groups = [{"params": [moving], "lr": 0.1}, {"params": [still], "skip_zero": True}]
    optimizer = ops.Adam(groups, lr=0.0)
    before = still.detach().clone()
    moving.grad, still.grad = torch.ones_like(moving), torch.zeros_like(still)
    assert optimizer.step(lambda: 3.0) == 3.0
    assert (moving.detach() != parameters()[0]).all()
    assert torch.equal(still, before)
    assert (optimizer.state[still]["exp_avg"] == 0).all()


def test_parameters_without_gradient_are_left_alone():
    tensors = parameters()
    optimizer = ops.Adam(tensors)
    optimizer.step()
    assert optimizer.state == {}
    table = torch.nn.Parameter(torch.zeros(4, 2))
    table.grad = torch.sparse_coo_tensor([[1]], [[1.0, 1.0]], (4, 2), check_invariants=True)
    with pytest.raises(TypeError, match="needs dense gradients, got a sparse one"):
        ops.Adam([table]).step()


# ---- devices -------------------------------------------------------------------------------------


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("n", [0, 1, 15, 17, 33, 500])
@pytest.mark.parametrize("options", [{}, {"skip_zero": True, "clear": True, "l2": 0.1}], ids=str)
def test_devices_agree(n, dtype, options, device):
    here, there = make(n, dtype), [part.to(device) for part in make(n, dtype)]
    touched = (torch.arange((n + 15) // 16) % 3 > 0).byte()
    for blocks in (None, touched):
        for tensors in (here, there):
            given = None if blocks is None else blocks.to(tensors[0].device, copy=True)
            ops.adam_step(*tensors, step=3, rate=0.05, touched=given, **options)
            assert given is None or not bool(given.any())
    for a, b in zip(there, here, strict=True):
        torch.testing.assert_close(a.cpu(), b, rtol=DTYPES[dtype], atol=DTYPES[dtype])
