"""The emulated device itself: it refuses what a GPU does, and it runs the CUDA kernels."""

import re
import shutil
import subprocess
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


PROGRAM = """
#include <cstdio>
#include <stdexcept>
#include "cuda_runtime.h"

template <class F>
void attempt(const char* name, std::size_t shared_bytes, F&& thread) {
  try {
    emulated::run(dim3(2), 64, shared_bytes, nullptr, thread);
    std::printf("%s: ran\\n", name);
  } catch (const std::runtime_error& error) {
    std::printf("%s: %s\\n", name, error.what());
  }
}

int main() {
  attempt("divergent", 0, [] {
    if (threadIdx.x % 2 == 0) __syncthreads();
    else __syncwarp();
  });
  attempt("large", 49 * 1024, [] {});
  int sums = 0;
  unsigned votes = 0;
  float others = 0;
  attempt("together", 48 * 1024, [&] {
    double* shared = emulated::shared_memory();
    shared[threadIdx.x] = threadIdx.x;
    __syncthreads();
    if (shared[63 - threadIdx.x] != 63 - threadIdx.x) sums = -1000;
    const int n = __syncthreads_count(threadIdx.x < 10);
    const unsigned ballot = __ballot_sync(0xffffffffu, threadIdx.x % 32 == 5);
    const float other = __shfl_xor_sync(0xffffffffu, static_cast<float>(threadIdx.x), 1);
    if (threadIdx.x == 40) sums += n, votes += ballot, others += other;
    if (threadIdx.x > 50) return;  // those that are done are not waited for
    __syncwarp();
  });
  std::printf("%d %u %g\\n", sums, votes, others);
}
"""


def test_threads_of_a_block_wait_for_each_other(tmp_path):
    source, program = tmp_path / "main.cpp", tmp_path / "main"
    source.write_text(PROGRAM)
    compiler = shutil.which("g++") or shutil.which("c++") or shutil.which("clang++")
    files = [str(source), str(KERNELS / "runtime.cpp")]
    subprocess.run([compiler, "-std=c++17", f"-I{KERNELS}", *files, "-o", str(program)], check=True)
    done = subprocess.run([str(program)], capture_output=True, text=True, check=True)
    assert done.stdout.splitlines() == [
        "divergent: emulated: threads of a block wait for different barriers.",
        "large: emulated: a block has 48 KB of shared memory.",
        "together: ran",
        "20 64 82",  # of two blocks: 10 each, 1 << 5 each, and thread 41's number
    ]
