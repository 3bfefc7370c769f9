"""Where things are computed: the device that is asked for, and small tensors on it."""

from __future__ import annotations

import importlib
import os
from collections.abc import Sequence
from types import ModuleType

import torch
from torch import Tensor, nn

from neural_fields import _core
from neural_fields.errors import InputError
from neural_fields.ops._library import MODULES


def chosen_device(name: str = "auto") -> torch.device:
    """The device of a name, which can be used here.

    Args:
        name: `cpu`, `cuda` (the first GPU), `cuda:1` and so on, or `auto`: what the environment
            variable NF_DEVICE says, else the first GPU where there is one and the CUDA module was
            built for it, else the CPU.

    Raises:
        InputError: the name is none of these, or the GPU cannot be used; the sentence says why.

    Example:
        >>> chosen_device("cpu")
        device(type='cpu')
    """
    if name == "auto":
        name = os.environ.get("NF_DEVICE") or name
    if name == "auto":
        return torch.device("cpu" if _obstacle(0) else "cuda:0")
    kind, _, number = name.partition(":")
    if name in MODULES and name != "cuda":  # the CPU, and what tests add
        return torch.device(name)
    if kind != "cuda" or (":" in name and not number.isdigit()):
        raise InputError(f"--device: needs auto, cpu, cuda or cuda:NUMBER, got {name!r}.")
    index = int(number or 0)
    obstacle = _obstacle(index)
    if obstacle:
        raise InputError(f"--device {name}: {obstacle}")
    return torch.device("cuda", index)


def _obstacle(index: int) -> str:
    """Why a GPU cannot be used, and what to do; empty where it can."""
    if torch.version.cuda is None:
        return (
            f"needs a PyTorch with CUDA, got {torch.__version__}, which is for the CPU; install "
            "one (pytorch.org says how) and build the CUDA module with 'make cuda'."
        )
    if not torch.cuda.is_available():
        return (
            f"PyTorch {torch.__version__} finds no GPU that it can use; check with 'nvidia-smi' "
            f"that there is one and that its driver is new enough for CUDA {torch.version.cuda}."
        )
    n = torch.cuda.device_count()
    if index >= n:
        return f"needs one of {n} GPUs, which are cuda:0 to cuda:{n - 1}."
    try:
        module: ModuleType = importlib.import_module("neural_fields._cuda")
    except ImportError as error:
        return f"the CUDA module is not built or cannot be loaded ({error}); run 'make cuda'."
    with torch.cuda.device(index):
        status = module.device_status()
    if not status:
        return ""
    major, minor = torch.cuda.get_device_capability(index)
    return (
        f"the CUDA module cannot run on {torch.cuda.get_device_name(index)} ({status}); it was "
        f"built with CUDA {module.runtime_version()} for the architectures "
        f"{module.architectures()}, and the GPU is {major}.{minor}: update the driver where that "
        "is too old, else run 'make cuda' on this machine."
    )


def device_text(device: torch.device) -> str:
    """What computes, for people.

    Example:
        >>> device_text(torch.device("cpu")).startswith("cpu (")
        True
    """
    if device.type == "cuda":
        return f"{device} ({torch.cuda.get_device_name(device)})"
    if device.type != "cpu":
        return device.type
    return f"cpu ({_core.active_isa()}, {_core.num_threads()} threads)"


def device_of(module: nn.Module) -> torch.device:
    """Where a module's parameters are; the CPU where it has none.

    Example:
        >>> device_of(nn.Linear(2, 2))
        device(type='cpu')
    """
    parameter = next(module.parameters(), None)
    return torch.device("cpu") if parameter is None else parameter.device


def generator(device: torch.device, seed: int) -> torch.Generator:
    """Random numbers of a seed, for tensors on the device; every device has its own.

    Example:
        >>> draw = generator(torch.device("cpu"), 7)
        >>> torch.rand(2, generator=draw).shape
        torch.Size([2])
    """
    made = torch.Generator(device) if device.type == "cuda" else torch.Generator()
    return made.manual_seed(seed)


def vector(values: Sequence[float], like: Tensor) -> Tensor:
    """A few numbers [n] of the type and on the device of a tensor.

    On a GPU each is written by a kernel: a copy from the host would wait for all work before it.

    Example:
        >>> vector((1, 2), torch.zeros(3))
        tensor([1., 2.])
    """
    if like.device.type == "cpu":
        return like.new_tensor(values)
    return torch.cat([like.new_full((1,), float(value)) for value in values])
