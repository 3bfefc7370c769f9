"""Every way in which a `.nf` file can be bad: names of files that `write_bad` makes."""

import io
import json
import pickle
import struct
import zipfile

import torch
from safetensors.torch import load, save

KEY = "neural_fields"


def parts(data):
    """Tensors and description of a good file."""
    size = struct.unpack("<Q", data[:8])[0]
    metadata = json.loads(data[8 : 8 + size])["__metadata__"]
    return load(data), json.loads(metadata[KEY])


def edited(data, *, tensors=None, header=None, metadata=None):
    old_tensors, old_header = parts(data)
    for name, tensor in (tensors or {}).items():
        if tensor is None:
            del old_tensors[name]
        else:
            old_tensors[name] = tensor
    if header is not None:
        old_header = header(old_header) or old_header
    return save(old_tensors, {KEY: json.dumps(old_header)} if metadata is None else metadata)


def _config(**changes):
    def change(header):
        for path, value in changes.items():
            owner, *rest = path.split("__")
            target = header["config"]
            for name in [owner, *rest][:-1]:
                target = target[name]
            target[[owner, *rest][-1]] = value

    return change


def _top(key, value):
    return lambda header: header.__setitem__(key, value)


def _zipped():
    stream = io.BytesIO()
    torch.save({"a": torch.zeros(2)}, stream)
    assert zipfile.is_zipfile(stream)
    return stream.getvalue()


def _hollow(length):
    """A header that declares a tensor of this many numbers and holds none."""
    entry = {"dtype": "F32", "shape": [length], "data_offsets": [0, 4 * length]}
    header = json.dumps({"field.trunk.encoding.table": entry}).encode()
    return struct.pack("<Q", len(header)) + header


def bad_files(good):
    """Name of the case -> (bytes, what the sentence says)."""
    table = load(good)["field.trunk.encoding.table"]
    nan = table.clone()
    nan[3, 1] = float("nan")
    return {
        "empty": (b"", "empty file"),
        "one byte": (good[:1], "truncated"),
        "half a header": (good[:200], "truncated"),
        "half the tensors": (good[: len(good) // 2], "truncated"),
        "all but the last byte": (good[:-1], "truncated"),
        "one byte too many": (good + b"x", "needs a .nf file"),
        "pickle": (pickle.dumps({"a": 1}), "pickle, which is never opened"),
        "old pickle": (pickle.dumps([1], 2), "pickle, which is never opened"),
        "torch file": (_zipped(), "zip archive"),
        "text": (b"hello, this is no field at all", "something else"),
        "zeros": (bytes(1000), "something else"),
        "foreign safetensors": (save({"a": torch.zeros(2)}), "another program"),
        "header of 2^63 bytes": (struct.pack("<Q", 2**63) + b"{}", "something else"),
        "tensor without data": (_hollow(10**12), "something else"),
        "negative size": (_hollow(-5), "something else"),
        "deep safetensors header": (
            struct.pack("<Q", 200_000) + b"[" * 200_000,
            "something else",
        ),
        "deep description": (edited(good, metadata={KEY: "[" * 100_000}), "is not JSON"),
        "description is no JSON": (edited(good, metadata={KEY: "{oops"}), "is not JSON"),
        "NaN in the description": (
            edited(good, metadata={KEY: '{"format_version": NaN}'}),
            "is not JSON",
        ),
        "description is a list": (edited(good, metadata={KEY: "[]"}), "no format version"),
        "no version": (edited(good, header=lambda h: h.pop("format_version") and None), "version"),
        "version 0": (edited(good, header=_top("format_version", 0)), "version"),
        "version true": (edited(good, header=_top("format_version", True)), "version"),
        "newer version": (edited(good, header=_top("format_version", 7)), "upgrade"),
        "no config": (edited(good, header=lambda h: {**h, "config": None}), "config"),
        "lacks scene": (edited(good, header=lambda h: h.pop("scene") and None), "lacks scene"),
        "scene is a list": (edited(good, header=_top("scene", [])), "scene .* wrong type"),
        "another kind": (edited(good, header=_top("kind", "audio")), "needs a field of kind"),
        "unknown config key": (edited(good, header=_config(extra=1)), "not usable"),
        "box of words": (edited(good, header=_config(box="ab")), "not usable"),
        "box inside out": (edited(good, header=_config(box=[[1] * 3, [0] * 3])), "not usable"),
        "huge box number": (
            edited(good, header=_config(box=[[0, 0, 0], [10**400, 1, 1]])),
            "not usable",
        ),
        "grid of a billion": (edited(good, header=_config(sampling__resolution=10**9)), "not us"),
        "grid of 512": (
            edited(good, header=_config(sampling__resolution=512, sampling__n_cascades=8)),
            "occupancy.words needs shape",
        ),
        "table of 2^28": (
            edited(
                good,
                header=_config(
                    architecture__log2_table_size=28, architecture__finest_resolution=4096
                ),
            ),
            "field.trunk.encoding.table needs shape",
        ),
        "wide network": (edited(good, header=_config(architecture__hidden=[10**9])), "not usable"),
        "missing tensor": (
            edited(good, tensors={"field.trunk.mlp.params": None}),
            "lacks the tensor field.trunk.mlp.params",
        ),
        "misshapen tensor": (
            edited(good, tensors={"field.trunk.encoding.table": table[:-1].contiguous()}),
            "needs shape",
        ),
        "other type": (
            edited(good, tensors={"field.trunk.encoding.table": table.double()}),
            "needs torch.float32",
        ),
        "float occupancy": (edited(good, tensors={"occupancy.words": torch.zeros(8)}), "int64"),
        "NaN weights": (edited(good, tensors={"field.trunk.encoding.table": nan}), "holds NaN"),
    }
