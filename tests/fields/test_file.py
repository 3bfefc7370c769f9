import errno
import os
import re
import resource
import subprocess
from pathlib import Path

import pytest
import torch
from bad_files import bad_files, edited
from safetensors import safe_open

import neural_fields as nf
from neural_fields import architectures
from neural_fields.architectures import Target
from neural_fields.fields import (
    FieldFile,
    ImageConfig,
    ImageField,
    RadianceConfig,
    RadianceField,
    file,
    read_field_file,
    write_field_file,
)
from neural_fields.fields.load import field_tensors, load, save
from neural_fields.fields.upgrade import upgraded

FILES = Path(__file__).parents[1] / "files"
STORED = FILES / "radiance_v6.nf"
PACKAGE = Path(nf.__file__).parent
GOOD = STORED.read_bytes()
BAD = bad_files(GOOD)


def test_there_is_a_stored_file_of_every_version():
    stored = {path.name for path in FILES.glob("*.nf")}
    assert stored >= {f"radiance_v{n + 1}.nf" for n in range(file.FORMAT_VERSION)}
    assert all((FILES / name).stat().st_size < 50_000 for name in stored)


@pytest.mark.parametrize("version", range(1, file.FORMAT_VERSION + 1))
def test_stored_files_of_all_versions_give_the_same_values(version):
    path = FILES / f"radiance_v{version}.nf"
    field, content = load(path), read_field_file(path)
    positions = torch.tensor([[0, -1, 1.5], [0.5, -0.5, 2.5], [-0.7, -1.6, 0.3], [5.0, 0, 0]])
    directions = torch.nn.functional.normalize(torch.tensor([[1.0, 2.0, 3.0]] * 4), dim=1)
    assert field.density(positions).tolist() == pytest.approx(
        [0.73009366, 0.63142222, 0.80273372, 0.0], rel=1e-5
    )
    assert field.color(positions, directions)[0].tolist() == pytest.approx(
        [0.40149382, 0.38047311, 0.45933298], rel=1e-5
    )
    assert field.color(positions)[0].tolist() == pytest.approx(
        [0.45456737, 0.41395, 0.5105573], rel=1e-5
    )
    assert field.config.box == ((-1, -2, 0), (1, 0, 3))
    assert field.occupancy.tolist() == [-1, 0] * 4
    assert content.metrics == {"psnr_train": 12.5}
    assert content.provenance == {"seed": 5}


def test_files_keep_every_bit(tmp_path):
    field = load(STORED)
    extra = {"thumbnail": torch.arange(12, dtype=torch.uint8).view(2, 2, 3)}
    scene = {"deep": [{"a": 1.0 / 3}], "text": "ä"}
    save(field, tmp_path / "a.nf", scene=scene, metrics={"x": 1e-300}, extra=extra)
    again, content = load(tmp_path / "a.nf"), read_field_file(tmp_path / "a.nf")
    assert again.config == field.config
    for name, tensor in field_tensors(field).items():
        assert torch.equal(field_tensors(again)[name], tensor)
    assert torch.equal(content.tensors["thumbnail"], extra["thumbnail"])
    assert content.scene == scene
    assert content.metrics == {"x": 1e-300}
    assert content.checkpoint == {}
    save(field, tmp_path / "b.nf", scene=scene, metrics={"x": 1e-300}, extra=extra)
    assert (tmp_path / "a.nf").read_bytes() == (tmp_path / "b.nf").read_bytes()
    assert oct((tmp_path / "a.nf").stat().st_mode)[-3:] == "644"


def test_nothing_in_the_package_unpickles():
    words = re.compile(r"\b(pickle|cPickle|dill|joblib|marshal|shelve|yaml|torch\.(load|save))\b")
    use = re.compile(r"^\s*(import|from)\b|\(")  # prose may name them
    for path in PACKAGE.rglob("*.py"):
        for line in path.read_text().splitlines():
            code = line.split("#")[0]
            found = words.search(re.sub(r'"[^"]*"', "", code))
            assert not (found and use.search(code)), f"{path}: {line}"
    npz = [p for p in PACKAGE.rglob("*.py") if "allow_pickle=True" in p.read_text()]
    assert npz == []


@pytest.mark.parametrize("case", BAD)
def test_bad_files_are_refused_in_one_sentence(case, tmp_path):
    data, message = BAD[case]
    path = tmp_path / "bad.nf"
    path.write_bytes(data)
    with pytest.raises(nf.InputError, match=message) as caught:
        load(path)
    assert str(path) in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("cut", range(8, len(GOOD), len(GOOD) // 23))
def test_truncated_files_are_refused(cut, tmp_path):
    path = tmp_path / "cut.nf"
    path.write_bytes(GOOD[:cut])
    with pytest.raises(nf.InputError, match=str(path)):
        load(path)


def test_missing_files_and_folders(tmp_path):
    for path in (tmp_path / "none.nf", tmp_path):
        with pytest.raises(nf.InputError, match="there is none"):
            load(path)


@pytest.mark.parametrize("case", ["grid of 512", "table of 2^28", "grid of a billion"])
def test_hostile_sizes_take_no_memory(case, tmp_path):
    path = tmp_path / "bad.nf"
    path.write_bytes(BAD[case][0])
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    with pytest.raises(nf.InputError):
        load(path)
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 50_000  # KiB


# ---- atomic writing ------------------------------------------------------------------------------


class Full:
    """A stream that takes some bytes and then fails."""

    def __init__(self, stream, error):
        self._stream, self._error = stream, error

    def write(self, data):
        self._stream.write(data[:100])
        raise self._error

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self._stream.close()


@pytest.mark.parametrize(
    ("error", "raised"),
    [
        (OSError(errno.ENOSPC, "No space left on device"), nf.InputError),
        (KeyboardInterrupt(), KeyboardInterrupt),
        (MemoryError(), MemoryError),
    ],
)
def test_a_failed_write_leaves_the_old_file(error, raised, tmp_path, monkeypatch):
    path = tmp_path / "field.nf"
    path.write_bytes(GOOD)
    real = os.fdopen
    monkeypatch.setattr(file.os, "fdopen", lambda *a: Full(real(*a), error))
    with pytest.raises(raised):
        write_field_file(path, read_field_file(STORED))
    assert path.read_bytes() == GOOD
    assert os.listdir(tmp_path) == ["field.nf"]


def test_a_full_disk_is_named(tmp_path, monkeypatch):
    error = OSError(errno.ENOSPC, "No space left on device")
    real = os.fdopen
    monkeypatch.setattr(file.os, "fdopen", lambda *a: Full(real(*a), error))
    with pytest.raises(nf.InputError, match=r"field\.nf: cannot write .*No space left"):
        write_field_file(tmp_path / "field.nf", read_field_file(STORED))


def test_a_really_full_disk(tmp_path):
    """A file system of 16 KiB: the file of 15 KiB fits once, and not twice."""
    mounted = tmp_path / "small"
    mounted.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", "size=16k", "tmpfs", str(mounted)]
    if os.geteuid() != 0 or subprocess.run(mount, capture_output=True).returncode:
        return  # mounting takes rights that not everybody has; the test above stands in
    try:
        path = mounted / "field.nf"
        write_field_file(path, read_field_file(STORED))
        before = path.read_bytes()
        with pytest.raises(nf.InputError, match="No space left"):
            write_field_file(path, read_field_file(STORED))
        assert path.read_bytes() == before
        assert os.listdir(mounted) == ["field.nf"]
    finally:
        subprocess.run(["umount", str(mounted)], check=True)


def test_missing_folders_are_named(tmp_path):
    content = FieldFile(kind="radiance", config={}, tensors={})
    with pytest.raises(nf.InputError, match="No such file or directory"):
        write_field_file(tmp_path / "none" / "field.nf", content)
    with pytest.raises(nf.InputError, match="cannot write"):
        write_field_file(tmp_path, content)
    assert os.listdir(tmp_path) == []


@pytest.mark.parametrize("name", ["hash", "mlp", "siren", "vm"])
@pytest.mark.parametrize("kind", ["image", "radiance"])
def test_files_of_format_2_open(name, kind, tmp_path):
    """What format 3 added is taken out of a file's description."""
    n_dims = 2 if kind == "image" else 3
    sized = architectures.get(name).sized(Target(kind, n_dims, 24))
    field = (
        ImageField(ImageConfig(24, 18, architecture=sized), seed=3)
        if kind == "image"
        else RadianceField(RadianceConfig(architecture=sized), seed=3)
    )
    save(field, tmp_path / "a.nf")

    def older(header):
        config = header["config"]
        header["format_version"] = 2
        del config["modulate"], config["weight_bits"]
        for key in ("per_level_scale", "grid_type", "convention", "neck", "integrated"):
            config["architecture"].pop(key, None)
        if kind == "radiance":
            head = config.pop("head")
            config |= {"n_features": head["n_features"], "color_hidden": head["hidden"]}

    (tmp_path / "b.nf").write_bytes(edited((tmp_path / "a.nf").read_bytes(), header=older))
    with safe_open(tmp_path / "b.nf", framework="pt") as stream:
        assert '"format_version": 2' in stream.metadata()["neural_fields"]
    again = load(tmp_path / "b.nf")
    assert again.config == field.config
    for key, value in field.state_dict().items():
        assert torch.equal(again.state_dict()[key], value), key


def test_planes_of_format_4_open(tmp_path):
    sized = architectures.get("planes").sized(Target("image", 2, 24))
    save(ImageField(ImageConfig(24, 18, architecture=sized), seed=3), tmp_path / "a.nf")

    def older(header):
        header["format_version"] = 4
        del header["config"]["architecture"]["moments"]

    (tmp_path / "b.nf").write_bytes(edited((tmp_path / "a.nf").read_bytes(), header=older))
    assert load(tmp_path / "b.nf").config == load(tmp_path / "a.nf").config


@pytest.mark.parametrize(
    ("name", "old", "new"),
    [
        ("fourier", {"sigma": 10.0}, {"sigma": 5.0}),
        ("siren", {"first_omega": 60.0}, {"first_omega": 60.0, "beta": 1.0}),
        ("finer", {"first_bias": 0.0}, {"first_bias": None}),
        ("finer", {"first_bias": 0.5}, {"first_bias": 0.5}),
        ("rbf", {"encoding": {"kind": "hash"}}, {"encoding": {"kind": "hash"}}),
        ("rbf", {"encoding": {"kind": "dif"}}, {"encoding": {"kind": "dif", "deviation": 1.0}}),
    ],
)
def test_frequencies_of_version_3_mean_what_they_meant(name, old, new):
    header = {"kind": "image", "config": {"architecture": {"name": name, **old}}}
    made, _ = upgraded(3, header, {})
    assert made["config"]["architecture"] == {"name": name, **new}
    kept, _ = upgraded(4, header, {})
    assert kept == header
