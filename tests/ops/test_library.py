"""What all operations share: the choice of device, and the stub of the native module."""

import ast
import inspect
import re
import sys
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch

import neural_fields
from neural_fields import _core, ops
from neural_fields.ops import _library, reference

STUB = Path(neural_fields.__file__).with_name("_core.pyi")


def test_cpu_tensors_go_to_the_core():
    assert _library.native("op", torch.zeros(1)) is _core


def test_cuda_tensors_without_the_cuda_module_say_what_to_do(monkeypatch):
    monkeypatch.setitem(sys.modules, "neural_fields._cuda", None)
    on_cuda = SimpleNamespace(device=torch.device("cuda"))
    with pytest.raises(RuntimeError, match=r"^hash_grid: got CUDA tensors.*run 'make cuda'"):
        _library.native("hash_grid", on_cuda)


def test_cuda_tensors_go_to_the_cuda_module(monkeypatch):
    module = SimpleNamespace()
    monkeypatch.setitem(sys.modules, "neural_fields._cuda", module)
    assert _library.native("op", SimpleNamespace(device=torch.device("cuda"))) is module


def test_other_devices_are_refused():
    with pytest.raises(ValueError, match=r"^mlp: needs CPU or CUDA tensors, got device xla"):
        _library.native("mlp", SimpleNamespace(device=torch.device("xla")))


@pytest.mark.parametrize("name", reference.__all__)
def test_references_take_the_arguments_of_their_operation(name):
    parameters = [
        [
            (p.name, p.kind, p.default)
            for p in inspect.signature(getattr(m, name)).parameters.values()
        ]
        for m in (ops, reference)
    ]
    assert parameters[0] == parameters[1]


def stub_signatures():
    """Names in the stub; for functions, with their parameters."""
    for node in ast.parse(STUB.read_text()).body:
        if isinstance(node, ast.FunctionDef):
            yield node.name, [argument.arg for argument in node.args.args]
        elif isinstance(node, ast.ClassDef):
            yield (
                node.name,
                sorted(
                    n.name for n in node.body if isinstance(n, ast.FunctionDef) and n.name[0] != "_"
                ),
            )


def native_signature(member):
    if isinstance(member, type):
        return sorted(name for name in vars(member) if name[0] != "_")
    return re.findall(r"(?:\(|, )(\w+): ", member.__doc__.splitlines()[0])


def test_the_stub_is_true():
    native = {n: native_signature(getattr(_core, n)) for n in dir(_core) if n[0] != "_"}
    assert dict(stub_signatures()) == native
