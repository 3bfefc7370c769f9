"""A GPU that is not there: torch's device `emulated`, whose kernels are those of CUDA on the host.

Tensors hold numbers of the CPU and say that they are elsewhere. Operations of torch compute with
those numbers; operations of ours run the CUDA kernels (tests/device/emulated). What a GPU forbids
is an error here: tensors of two devices in one operation, numpy. What makes a GPU's host wait is
counted, copies from the host too: those of ordinary memory wait for all work before them.
"""

import contextlib
import sys
from pathlib import Path

import torch
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_flatten, tree_map
from torch.utils.backend_registration import (
    _DummyBackendModule,
    _setup_privateuseone_for_python_backend,
)

from neural_fields.ops import _library

REPOSITORY = Path(__file__).resolve().parents[2]
BUILT = REPOSITORY / "build" / "emulated"
NAME = "emulated"
WAITS = ("_local_scalar_dense", "nonzero", "masked_select", "unique", "equal", "bincount")
_installed = False


class Emulated(torch.Tensor):
    """A tensor whose numbers are those of `inner`, on the CPU."""

    @staticmethod
    def __new__(cls, inner):
        self = torch.Tensor._make_wrapper_subclass(
            cls,
            inner.shape,
            strides=inner.stride(),
            storage_offset=inner.storage_offset(),
            dtype=inner.dtype,
            device=torch.device(NAME, 0),
        )
        self.inner = inner
        return self

    @classmethod
    def __torch_dispatch__(cls, func, types, args=(), kwargs=None):
        return _compute(func, args, kwargs or {})

    def tolist(self):
        waits.append("tolist")
        return self.inner.tolist()

    def __repr__(self, **_):
        return f"Emulated({self.inner!r})"


class _Backend(_DummyBackendModule):
    """What torch asks of a device: one of them, whose random numbers are the CPU's."""

    def get_rng_state(self, device=None):
        return torch.get_rng_state()

    def set_rng_state(self, state, device=None):
        torch.set_rng_state(state)


class _Mode(TorchDispatchMode):
    """Sees what makes tensors out of none."""

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        return _compute(func, args, kwargs or {})


class _Native:
    """The module of emulated kernels, which takes the inner tensors."""

    def __init__(self, module):
        self._module = module

    def __getattr__(self, name):
        member = getattr(self._module, name)
        if isinstance(member, type):
            return member
        return lambda *args, **kwargs: member(*map(_inner, args), **kwargs)


waits: list[str] = []  # what made the host wait, since it was cleared


@contextlib.contextmanager
def emulation():
    """Inside, tensors can be on the device; raises where its kernels are not built."""
    install()
    waits.clear()
    with _Mode():
        yield waits


def is_built():
    return any(BUILT.glob("_emulated.*.so"))


def install():
    """Once in a process, before torch's first gradient: its engine counts devices then."""
    global _installed
    if _installed:
        return
    if not is_built():
        raise RuntimeError("the emulated kernels are not built; run 'make emulated'.")
    sys.path.append(str(BUILT))
    import _emulated

    _setup_privateuseone_for_python_backend(NAME, backend_module=_Backend())
    library = torch.library.Library("aten", "IMPL")

    # What `torch.tensor(numbers, device=...)` and `new_tensor` do, which modes do not see.
    def empty_strided(size, stride, dtype=None, **_):
        return Emulated(torch.empty_strided(size, stride, dtype=dtype))

    def copy_from(source, target, non_blocking=False):
        waits.append("upload of new numbers")
        target.inner.copy_(source)
        return target

    library.impl("empty_strided", empty_strided, "PrivateUse1")
    library.impl("_copy_from", copy_from, "PrivateUse1")
    install.library = library  # as long as the process
    _library.MODULES[NAME] = _Native(_emulated)
    install.kernels = _emulated
    _installed = True


def _inner(value):
    if isinstance(value, Emulated):
        return value.inner
    return torch.device("cpu") if isinstance(value, torch.device) else value


def _compute(func, args, kwargs):
    flat, _ = tree_flatten((args, kwargs))
    here = [value for value in flat if isinstance(value, Emulated)]
    device = kwargs.get("device")
    target = None if device is None else torch.device(device).type
    name = func.__name__
    copies = name.startswith("copy_")
    if here and not copies:
        for value in flat:
            if isinstance(value, torch.Tensor) and not isinstance(value, Emulated) and value.dim():
                raise RuntimeError(f"{name}: tensors on two devices, {NAME} and {value.device}.")
    _note_wait(name, args, kwargs, here, target, copies)
    known = {id(value.inner): value for value in here}
    on_device = isinstance(args[0], Emulated) if copies else bool(here)
    on_device = target == NAME if target is not None else on_device
    with _own_kernels(func, bool(here)):
        out = func(*tree_map(_inner, args), **tree_map(_inner, kwargs))
    if not on_device:
        return out

    def outer(value):
        if not isinstance(value, torch.Tensor):
            return value
        return known.get(id(value)) if id(value) in known else Emulated(value)

    return tree_map(outer, out)


def _note_wait(name, args, kwargs, here, target, copies):
    uploads = copies and isinstance(args[0], Emulated) and not isinstance(args[1], Emulated)
    if (target == NAME and not here and "copy" in name) or (uploads and args[1].dim()):
        waits.append(f"upload by {name}")
    if not here:
        return
    looks = any(name.startswith(wait) for wait in WAITS)
    leaves = target not in (None, NAME) or (copies and not isinstance(args[0], Emulated))
    by_mask = name.startswith("index") and any(
        isinstance(value, torch.Tensor) and value.dtype == torch.bool
        for value in tree_flatten(args[1:])[0]
    )
    repeats = name.startswith("repeat_interleave") and kwargs.get("output_size") is None
    if looks or leaves or by_mask or repeats:
        waits.append(name)


@contextlib.contextmanager
def _own_kernels(func, here):
    """Inside an operation of ours, inner tensors go to the emulated kernels as well."""
    if not here or func.namespace != "neural_fields":
        yield
        return
    before = _library.MODULES["cpu"]
    _library.MODULES["cpu"] = install.kernels
    try:
        yield
    finally:
        _library.MODULES["cpu"] = before
