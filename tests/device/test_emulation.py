"""The emulated device itself: it refuses what a GPU does, and it runs the CUDA kernels."""

import re
from pathlib import Path

import pytest
import torch

from neural_fields import ops
from neural_fields.ops import _library

KERNELS = Path(__file__).parent / "emulated"


def on(tensor):
    return tensor.to("emulated")


def test_tensors_of_two_devices_do_not_meet(waits):
    with pytest.raises(RuntimeError, match="tensors on two devices"):
        on(torch.ones(3)) + torch.ones(3)
    assert (on(torch.ones(3)) + torch.tensor(1.0)).cpu().tolist() == [2, 2, 2]


def test_numbers_are_not_there_for_numpy(waits):
    with pytest.raises((TypeError, RuntimeError)):
        on(torch.ones(3)).numpy()


@pytest.mark.parametrize(
    "wait",
    [
        lambda x: float(x[0]),
        lambda x: x.tolist(),
        lambda x: x.cpu(),
        lambda x: bool((x > 0).any()),
        lambda x: (x > 0).nonzero(),
        lambda x: x[x > 0],
        lambda x: torch.repeat_interleave(x, x.long()),
        lambda x: torch.unique_consecutive(x),
        lambda x: x + x.new_tensor([1.0, 2.0, 3.0]),
    ],
)
def test_what_a_host_waits_for_is_noted(wait, waits):
    x = on(torch.ones(3))
    del waits[:]
    wait(x)
    assert waits


def test_what_it_does_not_wait_for_is_not(waits):
    x = on(torch.ones(3))
    del waits[:]
    y = torch.where(x > 0, x.cumsum(0), 0.0) + ops.vector((1, 2, 3), x)
    torch.repeat_interleave(y, torch.ones_like(y).long(), output_size=3)
    y[0] = 7
    assert waits == []


def test_operations_run_the_cuda_kernels(waits, monkeypatch):
    called = []
    kernels = type(_library.MODULES["emulated"])

    class Spy:
        def __getattr__(self, name):
            called.append(name)
            return getattr(_library.MODULES["emulated"]._module, name)

    from device.emulation import install

    monkeypatch.setattr(install, "kernels", Spy())
    spec = ops.HashGridSpec(log2_table_size=6, n_levels=2)
    table = on(torch.rand(spec.n_entries, spec.n_features)).requires_grad_()
    ops.hash_grid(on(torch.rand(5, 3)), table, spec).sum().backward()
    assert called.count("hash_grid_forward") == 1
    assert called.count("hash_grid_backward_table") == 1
    assert kernels.__name__ == "_Native"


def test_launches_are_checked_and_nothing_is_allocated_beside_torch():
    """Every kernel is launched by one function, which asks for errors; memory is torch's."""
    root = Path(__file__).resolve().parents[2] / "csrc"
    paths = [*root.rglob("*.cu*"), root / "bind" / "cuda_module.cpp"]
    sources = {path: path.read_text() for path in paths}
    launches = [path.name for path, text in sources.items() if "<<<" in text]
    assert launches == ["cuda.cuh"]
    launch = sources[root / "common" / "cuda.cuh"]
    assert re.search(r"<<<[^;]*;\n#endif\n\s*check_cuda\(op, cudaGetLastError\(\)\)", launch)
    for path, text in sources.items():
        found = re.search(r"cuda(Malloc|Free|Memcpy|\w*Synchronize)", text)
        assert found is None, f"{path.name}: {found}"


def test_barriers_that_not_all_threads_reach_are_errors():
    text = (KERNELS / "runtime.cpp").read_text()
    assert "wait for different barriers" in text
