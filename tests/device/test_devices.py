"""The device that is asked for, and what is said where it cannot be had."""

import contextlib
import sys
from types import SimpleNamespace

import pytest
import torch

from neural_fields import InputError
from neural_fields.ops import chosen_device, device_of, device_text, devices, vector


@pytest.fixture
def machine(monkeypatch):
    """A machine with two GPUs; what a test changes of it is missing."""
    monkeypatch.delenv("NF_DEVICE", raising=False)
    module = SimpleNamespace(
        device_status=lambda: "",
        runtime_version=lambda: "13.0",
        architectures=lambda: "75-real 90-real",
    )
    cuda = SimpleNamespace(
        is_available=lambda: True,
        device_count=lambda: 2,
        device=contextlib.nullcontext,
        get_device_capability=lambda index: (7, 0),
        get_device_name=lambda index: "An Old One",
    )
    version = SimpleNamespace(cuda="13.0")
    facts = SimpleNamespace(version=version, cuda=cuda, module=module)
    named = {"version": version, "cuda": cuda, "device": torch.device, "__version__": "2.13.0"}
    monkeypatch.setattr(devices, "torch", SimpleNamespace(**named))
    monkeypatch.setitem(sys.modules, "neural_fields._cuda", module)
    return facts


def test_names(machine):
    assert chosen_device("cpu") == torch.device("cpu")
    assert chosen_device("auto") == chosen_device("cuda") == torch.device("cuda", 0)
    assert chosen_device("cuda:1") == torch.device("cuda", 1)


def test_the_environment_says_what_auto_is(machine, monkeypatch):
    for name, device in (("cpu", "cpu"), ("cuda:1", "cuda:1"), ("", "cuda:0")):
        monkeypatch.setenv("NF_DEVICE", name)
        assert chosen_device("auto") == torch.device(device)
    monkeypatch.setenv("NF_DEVICE", "gpu")
    with pytest.raises(InputError, match="got 'gpu'"):
        chosen_device()


def test_names_that_are_none(machine):
    for name in ("gpu", "cuda:", "cuda:x", "cuda:-1", "", "cpu:0", "cpu:"):
        with pytest.raises(InputError, match="--device: needs auto, cpu, cuda or cuda:NUMBER"):
            chosen_device(name)


def refusal(name="cuda"):
    with pytest.raises(InputError) as caught:
        chosen_device(name)
    assert chosen_device("auto") == torch.device("cpu") or name == "cuda:7"
    return str(caught.value)


def test_a_torch_for_the_cpu(machine):
    machine.version.cuda = None
    assert "needs a PyTorch with CUDA" in refusal()


def test_no_gpu_or_no_driver(machine):
    machine.cuda.is_available = lambda: False
    assert "nvidia-smi" in refusal()


def test_too_few_gpus(machine):
    assert "needs one of 2 GPUs, which are cuda:0 to cuda:1" in refusal("cuda:7")


def test_no_module(machine, monkeypatch):
    monkeypatch.setitem(sys.modules, "neural_fields._cuda", None)
    assert "run 'make cuda'" in refusal()


def test_an_architecture_that_the_module_was_not_built_for(machine):
    machine.module.device_status = lambda: "no kernel image is available"
    said = refusal()
    for part in ("An Old One", "no kernel image", "75-real 90-real", "7.0", "make cuda"):
        assert part in said


def test_here_it_says_why(tmp_path):
    if not torch.cuda.is_available():
        with pytest.raises(InputError, match=r"^--device cuda: "):
            chosen_device("cuda")
        assert chosen_device("auto") == torch.device("cpu")


def test_small_things():
    assert device_text(torch.device("cpu")).startswith("cpu (")
    assert device_of(torch.nn.Linear(1, 1)) == torch.device("cpu")
    assert vector((1, 2.5), torch.zeros(1, dtype=torch.float64)).tolist() == [1, 2.5]


def test_small_things_of_a_device(waits):
    like = torch.zeros(1).to("emulated")
    del waits[:]
    found = vector((1, 2.5), like)
    assert waits == []
    assert found.cpu().tolist() == [1, 2.5]
