"""tiny-cuda-nn's JSON as a field: golden values, what it refuses, and runs from it."""

import itertools
import json
import math
import warnings

import numpy as np
import pytest
import torch
from PIL import Image

import neural_fields as nf
from neural_fields import InputError
from neural_fields.architectures import NetworkOptions
from neural_fields.architectures.hash import Hash
from neural_fields.architectures.mlp import Mlp
from neural_fields.data.picture import load_picture
from neural_fields.fields.load import load
from neural_fields.ops import MlpSpec
from neural_fields.training import presets
from neural_fields.training.tcnn import TcnnConfig, chosen_field

# The values of the samples that tiny-cuda-nn and instant-ngp publish.
ADAM = {
    "otype": "Adam",
    "learning_rate": 1e-2,
    "beta1": 0.9,
    "beta2": 0.99,
    "epsilon": 1e-15,
    "l2_reg": 1e-6,
}
NETWORK = {
    "otype": "FullyFusedMLP",
    "activation": "ReLU",
    "output_activation": "None",
    "n_neurons": 64,
    "n_hidden_layers": 2,
}
CONFIG_HASH = {
    "loss": {"otype": "RelativeL2"},
    "optimizer": ADAM,
    "encoding": {
        "otype": "HashGrid",
        "n_levels": 16,
        "n_features_per_level": 2,
        "log2_hashmap_size": 15,
        "base_resolution": 16,
        "per_level_scale": 1.5,
        "fixed_point_pos": False,
    },
    "network": NETWORK,
}
EMA = {
    "otype": "Ema",
    "decay": 0.95,
    "nested": {"otype": "ExponentialDecay", "decay_base": 0.33, "nested": ADAM},
}
NERF_BASE = {
    "loss": {"otype": "Huber"},
    "optimizer": EMA,
    "encoding": {
        "otype": "HashGrid",
        "n_levels": 8,
        "n_features_per_level": 4,
        "log2_hashmap_size": 19,
        "base_resolution": 16,
    },
    "network": {**NETWORK, "n_hidden_layers": 1},
    "dir_encoding": {"otype": "Composite", "nested": [{"otype": "SphericalHarmonics"}]},
    "rgb_network": NETWORK,
}


def config(encoding=None, network=None, **others):
    encoding = {"otype": "HashGrid", **(encoding or {})}
    return {"encoding": encoding, "network": network or {}, **others}


def architecture(*blocks, **others):
    return chosen_field(config(*blocks, **others)).architecture


def parameters(made, n_dims, n_output):
    """Numbers of (the grid, the network)."""
    with torch.device("meta"):
        trunk = made.trunk(n_dims, n_output, NetworkOptions())
    sizes = [
        sum(p.numel() for name, p in trunk.named_parameters() if (name in trunk.grids) == is_grid)
        for is_grid in (True, False)
    ]
    return tuple(sizes)


# ---- golden values -------------------------------------------------------------------------------


def test_config_hash_json():
    read = chosen_field(CONFIG_HASH)
    grid = read.architecture.grid(2)
    assert [level.resolution for level in grid.levels[:6]] == [16, 24, 36, 54, 81, 122]
    entries = [min(math.ceil((16 * 1.5**i) ** 2 / 8) * 8, 1 << 15) for i in (0, 1, 2, 3)]
    assert [level.n_entries for level in grid.levels[:4]] == entries
    assert [level.indexing for level in grid.levels] == ["dense"] * 6 + ["hash"] * 10
    # tiny-cuda-nn pads the 3 outputs to 16: 32 * 64 + 64 * 64 + 64 * 16 = 7168.
    assert parameters(read.architecture, 2, 3)[1] == 32 * 64 + 64 * 64 + 64 * 3
    assert read.learning_rate == 1e-2
    assert read.unused == ("loss", "optimizer but for learning_rate")


def test_base_json_of_instant_ngp():
    read = chosen_field(NERF_BASE)
    assert [level.resolution for level in read.architecture.grid(3).levels] == [
        16 * 2**i for i in range(8)
    ]
    assert parameters(read.architecture, 3, 16) == (11_681_792, 3072)
    assert read.learning_rate == 1e-2
    said = "--field: not used: loss, dir_encoding, rgb_network, optimizer but for learning_rate."
    assert read.note == said
    assert Hash(finest_resolution=2048).grid(3).levels == read.architecture.grid(3).levels


def test_golden_hash_of_base_json():
    trunk = chosen_field(NERF_BASE).architecture.trunk(3, 16, NetworkOptions())
    trunk.reset(torch.Generator().manual_seed(0))
    last = trunk.encoding.spec.levels[-1]  # 2047 cells; 0.6 of one above the vertex's
    position = torch.tensor([[(v + 0.1) / 2047 for v in (100, 200, 300)]])
    trunk.encoding(position)[:, -1].sum().backward()
    weights = trunk.encoding.table.grad[last.offset :, -1]
    assert weights[110_768] == pytest.approx(0.4**3, rel=1e-3)
    assert weights.count_nonzero() == 8


@pytest.mark.parametrize(
    ("finest", "n_dense", "n_entries"), [(2048, 5, 6_098_120), (512, 7, 5_246_024)]
)
def test_tables_of_16_levels(finest, n_dense, n_entries):
    growth = math.exp(math.log(finest / 16) / 15)
    grid = architecture({"per_level_scale": growth}).grid(3)
    assert grid.n_entries == n_entries
    assert sum(level.indexing == "dense" for level in grid.levels) == n_dense


def test_missing_keys_have_the_defaults_of_tiny_cuda_nn():
    assert architecture() == Hash(
        n_levels=16,
        n_features=2,
        log2_table_size=19,
        base_resolution=16,
        finest_resolution=None,
        per_level_scale=2.0,
        hidden=(128,) * 5,
    )
    assert architecture({"otype": "Frequency"}) == Mlp(12, (128,) * 5, convention="tiny-cuda-nn")


def test_types_of_grids_in_any_case():
    assert architecture({"otype": "hashGRID"}).grid_type == "hash"
    assert architecture({"otype": "Grid"}).grid_type == "hash"
    assert architecture({"otype": "Grid", "type": "tiled"}).grid_type == "tiled"
    assert architecture({"otype": "TiledGrid"}).grid_type == "tiled"
    dense = architecture({"otype": "DenseGrid", "n_levels": 5, "interpolation": "smoothstep"})
    assert (dense.grid_type, dense.interpolation) == ("dense", "smoothstep")
    assert dense.per_level_scale == pytest.approx(2.0)  # 256 vertices on the last level
    assert [level.n_entries for level in dense.grid(2).levels] == [4**i for i in range(4, 9)]
    assert architecture({"otype": "DenseGrid", "n_levels": 1}).per_level_scale == 16.0


def test_values_of_frequency():
    """x = 1/6, y = 1/4: sin, cos of pi x, 2 pi x, 4 pi x, then those of y."""
    made = architecture({"otype": "Frequency", "n_frequencies": 3}, NETWORK)
    trunk = made.trunk(2, 3, NetworkOptions())
    half, root = 0.5, math.sqrt(3) / 2
    x = [half, root, root, half, root, -half]
    y = [math.sqrt(half), math.sqrt(half), 1, 0, 0, -1]
    encoded = trunk.encode(torch.tensor([[1 / 6, 1 / 4], [0, 1 / 4]]))
    torch.testing.assert_close(encoded, torch.tensor([x + y, [0.0, 1.0] * 3 + y]))
    assert trunk.encode(torch.empty(0, 2)).shape == (0, 12)
    # Without biases; tiny-cuda-nn pads 12 inputs and 3 outputs to 16.
    assert parameters(made, 2, 3) == (0, 12 * 64 + 64 * 64 + 64 * 3)
    trunk.reset(torch.Generator().manual_seed(0))
    first = next(iter(trunk.last.layers()))[0]
    assert first.abs().max() == pytest.approx(math.sqrt(6 / (12 + 64)), rel=0.01)


def test_frequency_json_of_instant_ngp():
    network = {"otype": "CutlassMLP", "n_neurons": 256, "n_hidden_layers": 7}
    made = architecture({"otype": "Frequency", "n_frequencies": 16}, network)
    expected = MlpSpec((96, *(256,) * 7, 16)).n_params
    assert expected == 96 * 256 + 6 * 256**2 + 256 * 16
    assert parameters(made, 3, 16) == (0, expected)


# ---- optimizer -----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("optimizer", "rate", "unused"),
    [
        ({}, None, ()),
        ({"otype": "Adam", "learning_rate": 3}, 3.0, ()),
        (ADAM, 1e-2, ("optimizer but for learning_rate",)),
        (EMA, 1e-2, ("optimizer but for learning_rate",)),
        ({"otype": "Adam", "beta1": 0.5}, None, ("optimizer",)),
        ({"otype": "Composite", "nested": [ADAM]}, None, ("optimizer",)),
    ],
)
def test_learning_rates(optimizer, rate, unused, picture):
    read = chosen_field(config(optimizer=optimizer))
    assert (read.learning_rate, read.unused) == (rate, unused)
    _, options = presets.image_setup(load_picture(picture), read)
    assert (options.learning_rate, options.grid_rate) == ((rate, rate) if rate else (1e-2, 1e-2))


@pytest.mark.parametrize("optimizer", [{}, ADAM])
def test_all_is_moved_by_adam(optimizer, data):
    _, options = presets.radiance_setup(data, chosen_field(config(optimizer=optimizer)))
    assert options.matrix_rate == 0
    assert presets.radiance_setup(data, "hash")[1].matrix_rate > 0


# ---- what is refused -----------------------------------------------------------------------------

REFUSED = [
    ([], "needs tiny-cuda-nn's JSON"),
    (3, "needs tiny-cuda-nn's JSON"),
    ({"network": {}}, "blocks encoding and network"),
    (config(parent="base.json"), "parent is not followed"),
    ({"encoding": [1]}, r"encoding needs an object, got \[1\]"),
    ({"encoding": {"otype": "Grid"}, "network": 3}, "network needs an object"),
    ({"encoding": {}}, "encoding.otype: needs one of Grid, .*, got 'OneBlob'"),
    (config({"otype": "SphericalHarmonics"}), "got 'SphericalHarmonics'"),
    (config({"otype": 3}), "got '3'"),
    (config({"n_level": 8}), "encoding: needs one of .* did you mean n_levels?"),
    (config({"interpolation": "Nearest"}), "needs one of Linear, Smoothstep, got 'Nearest'"),
    (config({"type": "Sparse"}), "encoding.type: needs one of Hash, Dense, Tiled"),
    (config({"hash": "Rng"}), "needs one of CoherentPrime"),
    (config({"fixed_point_pos": True}), "needs to be false"),
    (config({"stochastic_interpolation": 1}), "needs to be false"),
    (config({"n_levels": 0}), "n_levels needs a whole number from 1 to 32, got 0"),
    (config({"n_levels": 10**50}), "n_levels needs a whole number from 1 to 32"),
    (config({"n_levels": 8.5}), "whole number"),
    (config({"n_levels": True}), "whole number"),
    (config({"n_levels": None}), "whole number"),
    (config({"log2_hashmap_size": 60}), "needs a whole number from 3 to 28, got 60"),
    (config({"base_resolution": -1}), "base_resolution needs"),
    (config({"per_level_scale": 0.5}), "per_level_scale needs a number of at least 1, got 0.5"),
    (config({"per_level_scale": math.nan}), "per_level_scale needs"),
    (config({"per_level_scale": math.inf}), "per_level_scale needs"),
    (config({"per_level_scale": "2"}), "per_level_scale needs"),
    (config({"per_level_scale": 10**400}), "per_level_scale needs"),
    (config({"otype": "Frequency", "n_frequencies": 25}), "from 1 to 24"),
    (config({"otype": "Frequency", "n_levels": 4}), "encoding: needs one of"),
    (config(network={"otype": "Transformer"}), "needs one of FullyFusedMLP"),
    (config(network={"activation": "Sine"}), "network.activation: needs one of ReLU"),
    (config(network={"output_activation": "Sigmoid"}), "needs one of None, got 'Sigmoid'"),
    (config(network={"n_neurons": 4096}), "n_neurons needs a whole number from 1 to 512"),
    (config(network={"n_hidden_layers": 99}), "n_hidden_layers needs"),
    (config(network={"n_neuron": 64}), "did you mean n_neurons?"),
    (config(optimizer={"learning_rate": "fast"}), "needs a positive number, got 'fast'"),
    (config(optimizer={"learning_rate": 0}), "needs a positive number, got 0"),
    (config(optimizer={"learning_rate": 10**400}), "needs a positive number"),
    (config(optimizer={"nested": {"learning_rate": 1e999}}), "needs a positive number, got inf"),
]


@pytest.mark.parametrize(("data", "message"), REFUSED)
def test_what_the_engine_lacks_is_refused(data, message, tmp_path):
    path = tmp_path / "a.json"
    path.write_text(json.dumps(data))
    with pytest.raises(InputError, match=message) as caught:
        chosen_field(path)
    assert str(caught.value).startswith(f"--field {path}: ")
    assert len(str(caught.value)) < 400
    if isinstance(data, dict):
        with pytest.raises(InputError, match=message):
            chosen_field(data)


@pytest.mark.parametrize(
    ("encoding", "message"),
    [
        ({"per_level_scale": 1e30}, r"finest resolution needs to stay below 2\^24"),
        ({"n_features_per_level": 3}, "n_features needs 1, 2, 4 or 8"),
        ({"otype": "DenseGrid", "base_resolution": 999}, "per_level_scale needs"),
        ({"log2_hashmap_size": 28, "n_features_per_level": 8}, r"at most 2\^30 parameters"),
    ],
)
def test_sizes_that_do_not_fit_together_are_refused(encoding, message, picture):
    with pytest.raises(InputError, match=message):
        nf.fit.image(picture, field=config(encoding), steps=1)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (None, "there is no such file"),
        (b"", "needs to be JSON"),
        (json.dumps(CONFIG_HASH).encode()[:-9], "needs to be JSON"),
        (b"\xff\xfe\x00", "needs to be JSON"),
        (b"[" * 100_000, "needs to be JSON"),
        (b'{"encoding": ' + b"9" * 5000 + b"}", "needs to be JSON"),
    ],
)
def test_files_that_are_no_json_are_refused(content, message, tmp_path):
    path = tmp_path / "a.json"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(InputError, match=message) as caught:
        chosen_field(str(path))
    assert "\n" not in str(caught.value)
    with pytest.raises(InputError, match="needs to be JSON"):
        chosen_field(tmp_path)


# ---- names and files -----------------------------------------------------------------------------


def test_a_name_wins_over_a_file_of_that_name(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "hash").write_text(json.dumps(CONFIG_HASH))
    assert chosen_field("hash") == "hash"
    assert chosen_field("./hash").architecture == chosen_field(CONFIG_HASH).architecture
    (tmp_path / "other").write_text(json.dumps(CONFIG_HASH))
    assert chosen_field("other").name == "--field other"
    with pytest.raises(InputError, match=r"did you mean siren\?"):
        chosen_field("sirn")
    with pytest.raises(InputError, match="needs one of"):
        chosen_field("x" * 5000)


def test_comments_are_skipped(tmp_path):
    text = """// a sample
    { /* blocks: */ "encoding": {"otype": "Grid" /* "n_levels": 3 */, // "n_levels": 4,
      "n_levels": 5}, "loss": {"a\\"// b": "/* no comment */"}}"""
    (tmp_path / "a.json").write_text(text, encoding="utf-8-sig")
    assert chosen_field(tmp_path / "a.json").architecture.n_levels == 5


# ---- runs ----------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def picture(tmp_path_factory):
    y, x = np.mgrid[:24, :32] / 24
    values = np.stack([0.5 + 0.4 * np.sin(9 * x * y), x / 2 + y / 4, y], -1)
    path = tmp_path_factory.mktemp("picture") / "waves.png"
    Image.fromarray((values * 255).astype(np.uint8)).save(path)
    return path


SMALL = {"n_neurons": 16, "n_hidden_layers": 1}


@pytest.mark.parametrize(
    "encoding",
    [
        {"otype": "HashGrid", "n_levels": 4, "log2_hashmap_size": 8, "per_level_scale": 1.3},
        {"otype": "DenseGrid", "n_levels": 3, "base_resolution": 4, "per_level_scale": 2},
        {"otype": "TiledGrid", "n_levels": 3, "base_resolution": 4},
        {"otype": "Frequency", "n_frequencies": 5},
    ],
)
def test_pictures_are_learnt(encoding, picture, tmp_path):
    """A field of one colour scores 12 dB on this one."""
    data = config(encoding, SMALL, optimizer={"learning_rate": 1e-2})
    nf.fit.image(picture, tmp_path / "a.nf", field=data, steps=150)
    assert load(tmp_path / "a.nf").config.architecture == chosen_field(data).architecture
    assert nf.evaluate(tmp_path / "a.nf", picture)["psnr"] > 17


def test_unused_keys_warn_once_and_say_which(picture):
    data = config({"n_levels": 2}, SMALL, loss={"otype": "L2"})
    with pytest.warns(UserWarning, match="not used: loss") as seen:
        nf.fit.image(picture, field=data, steps=1)
    assert len(seen) == 1
    assert seen[0].filename == __file__
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        nf.fit.image(picture, field=chosen_field(data), steps=1)  # who reads it has seen it


def test_presets_and_configurations_exclude_each_other(picture):
    with pytest.raises(InputError, match="--preset ngp: --field has its own sizes"):
        nf.fit.image(picture, field=config(), preset="ngp", steps=1)


def test_values_equal_those_of_the_operations():
    """Positions to numbers, for one grid: encoding and network without biases."""
    from neural_fields.ops import hash_grid, mlp

    read = chosen_field(CONFIG_HASH)
    trunk = read.architecture.trunk(3, 3, NetworkOptions())
    trunk.reset(torch.Generator().manual_seed(1))
    x = torch.rand(9, 3)
    features = hash_grid(x, trunk.encoding.table, read.architecture.grid(3))
    expected = mlp(features, trunk.mlp.params, MlpSpec((32, 64, 64, 3)))
    torch.testing.assert_close(trunk(x), expected)
    assert isinstance(read, TcnnConfig)
    widths = trunk.mlp.spec.widths
    assert trunk.mlp.spec.n_params == sum(a * b for a, b in itertools.pairwise(widths))
