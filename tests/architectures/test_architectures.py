"""What holds for every architecture, found by name: a new one is part of these tests by itself."""

import dataclasses
import itertools
import json

import numpy as np
import pytest
import torch
from PIL import Image

import neural_fields as nf
from neural_fields import InputError, architectures
from neural_fields.architectures import Architecture, NetworkOptions, Rates, Target, Trunk
from neural_fields.decoders import Modulate
from neural_fields.fields import (
    ImageConfig,
    ImageField,
    RadianceConfig,
    RadianceField,
    Samples,
)
from neural_fields.fields.load import build_field, field_tensors, load
from neural_fields.ops import MlpSpec

NAMES = architectures.names()
SMALL = Target("image", 2, 32), Target("radiance", 3, 32)


def sized(name, target):
    return architectures.get(name).sized(target)


def made(name, target, n_output=3, seed=0):
    trunk = sized(name, target).trunk(target.n_dims, n_output, NetworkOptions())
    trunk.reset(torch.Generator().manual_seed(seed))
    return trunk


@pytest.fixture(scope="module")
def picture(tmp_path_factory):
    y, x = np.mgrid[:48, :64] / 48
    planes = [0.5 + 0.4 * np.sin(9 * x * y), x / 2 + y / 4, 0.5 + 0.4 * np.cos(5 * x - 7 * y)]
    path = tmp_path_factory.mktemp("picture") / "waves.png"
    Image.fromarray((np.stack(planes, -1) * 255).astype(np.uint8)).save(path)
    return path


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("target", SMALL)
def test_trunks_are_functions_of_position_alone(name, target):
    trunk = made(name, target)
    positions = torch.rand(33, target.n_dims, generator=torch.Generator().manual_seed(1))
    values = trunk(positions)
    assert values.shape == (33, 3)
    assert torch.isfinite(values).all()
    torch.testing.assert_close(trunk(positions[7:9]), values[7:9])
    assert trunk(positions[:0]).shape == (0, 3)
    assert not torch.allclose(values, made(name, target, seed=1)(positions))
    assert torch.equal(values, made(name, target)(positions))


@pytest.mark.parametrize("name", NAMES)
def test_positions_outside_are_clamped(name):
    trunk = made(name, SMALL[0])
    outside = torch.tensor([[-0.5, 0.3], [0.4, 1.7], [2.0, -2.0]])
    torch.testing.assert_close(trunk(outside), trunk(outside.clamp(0, 1)))


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("target", SMALL)
def test_gradients_reach_every_parameter_and_the_positions(name, target):
    trunk = made(name, target)
    positions = torch.rand(500, target.n_dims, generator=torch.Generator().manual_seed(1))
    positions.requires_grad_()
    trunk(positions).square().sum().backward()
    for parameter_name, parameter in trunk.named_parameters():
        assert parameter.grad.abs().max() > 0, parameter_name
    assert positions.grad.abs().max() > 0


@pytest.mark.parametrize("name", NAMES)
def test_files_keep_every_bit_and_only_shapes_take_no_memory(name, tmp_path):
    config = ImageConfig(40, 24, architecture=sized(name, SMALL[0]))
    scene = RadianceConfig(architecture=sized(name, SMALL[1]))
    for field in (ImageField(config, seed=3), RadianceField(scene, seed=3)):
        nf.save(field, tmp_path / "a.nf")
        again = load(tmp_path / "a.nf")
        assert again.config == field.config
        for key, tensor in field_tensors(field).items():
            assert torch.equal(field_tensors(again)[key], tensor), key
        with torch.device("meta"):
            shapes = type(field)(field.config, seed=None).state_dict()
        assert all(value.is_meta for value in shapes.values())
        assert {k: v.shape for k, v in shapes.items()} == {
            k: v.shape for k, v in field.state_dict().items()
        }


@pytest.mark.parametrize("name", NAMES)
def test_configurations_are_plain_data(name):
    owner = architectures.get(name)
    for target in SMALL:
        for preset in ("default", *owner.presets):
            config = owner.sized(target, preset)
            data = json.loads(json.dumps(config.to_dict()))
            assert data["name"] == name
            assert architectures.from_dict(data) == config
            assert dataclasses.asdict(config)
            rates = owner.rates(target.kind, preset)
            assert 0 < rates.final <= 1
            with pytest.raises(InputError, match="needs the keys"):
                architectures.from_dict({**data, "colour": 1})


@pytest.mark.parametrize("name", NAMES)
def test_pictures_are_learnt(name, picture, tmp_path):
    """A field of one colour scores 11 dB on this one."""
    nf.fit.image(picture, tmp_path / "a.nf", field=name, steps=120, options={"batch_pixels": 1024})
    assert nf.evaluate(tmp_path / "a.nf", picture)["psnr"] > 24


@pytest.mark.parametrize("name", NAMES)
def test_radiance_fields_answer_their_levels(name):
    field = RadianceField(RadianceConfig(architecture=sized(name, SMALL[1])), seed=1)
    positions = torch.rand(20, 3) * 2 - 1
    directions = torch.nn.functional.normalize(torch.randn(20, 3), dim=1)
    levels = field.evaluate(Samples(positions, directions), field.levels)
    assert levels.log_density.shape == (20,)
    assert levels.color.shape == (20, 3)
    assert ((levels.color > 0) & (levels.color < 1)).all()
    assert (levels.features is None) == ("features" not in field.levels)
    assert field.color(positions).shape == (20, 3)  # without directions


@pytest.mark.parametrize("name", NAMES)
def test_default_radiance_fields_cost_at_most_70k_multiply_adds(name):
    """Matrices of networks; what a grid's look-up costs is memory's to say."""
    config = RadianceConfig(architecture=sized(name, Target("radiance", 3, 512)))
    with torch.device("meta"):
        field = RadianceField(config, seed=None)
    specs = [part.spec for part in field.modules() if isinstance(getattr(part, "spec", 0), MlpSpec)]
    cost = sum(a * b for spec in specs for a, b in itertools.pairwise(spec.widths))
    assert cost <= 70_000
    assert cost > 0 or name == "voxels"


@pytest.mark.parametrize("name", NAMES)
def test_modulation_starts_as_the_normalised_network_or_is_refused(name, picture, tmp_path):
    from neural_fields.decoders import Modulate

    base = ImageConfig(64, 48, architecture=sized(name, SMALL[0]))
    config = dataclasses.replace(base, modulate=Modulate("xy", (6, 5), normalize=False))
    if ImageField(base).trunk.n_modulated == 0:
        with pytest.raises(InputError, match="no hidden layers"):
            ImageField(config)
        return
    plain, modulated = ImageField(base, seed=2), ImageField(config, seed=2)
    positions = torch.rand(40, 2) * 48
    # Weights of interpolated ones sum to 1 but for rounding.
    torch.testing.assert_close(
        modulated.encoded(positions), plain.encoded(positions), rtol=1e-4, atol=1e-5
    )
    normalized = ImageField(dataclasses.replace(config, modulate=Modulate("xy", (6, 5))), seed=2)
    assert not torch.allclose(normalized.encoded(positions), plain.encoded(positions))
    nf.save(modulated, tmp_path / "a.nf")
    assert load(tmp_path / "a.nf").config == config


# ---- one from outside ----------------------------------------------------------------------------


class QuadraticTrunk(Trunk):
    def __init__(self, n_dims, n_output):
        super().__init__()
        self.coefficients = torch.nn.Parameter(torch.empty(1 + 2 * n_dims, n_output))

    @torch.no_grad()
    def reset(self, generator):
        self.coefficients.normal_(0, 0.1, generator=generator)

    def forward(self, positions, scale=None, shift=None):
        x = positions.clamp(0, 1)
        return torch.cat([torch.ones_like(x[:, :1]), x, x * x], 1) @ self.coefficients


@pytest.fixture
def quadratic(monkeypatch):
    @dataclasses.dataclass(frozen=True)
    class Quadratic(Architecture):
        name = "quadratic"
        summary = "a parabola"

        def trunk(self, n_dims, n_output, network):
            return QuadraticTrunk(n_dims, n_output)

        @classmethod
        def sized(cls, target, preset="default"):
            return cls()

        @classmethod
        def rates(cls, kind, preset="default"):
            return Rates(1e-2, 1e-2, final=0.1)

    architectures.register(Quadratic)
    yield Quadratic
    del architectures._registered["quadratic"]


def test_a_class_from_outside_is_found_by_its_name(quadratic, picture, tmp_path, capsys):
    from neural_fields.cli.main import run

    assert "quadratic" in architectures.names()
    out = tmp_path / "a.nf"
    arguments = ["fit", "image", str(picture), "-o", str(out), "--steps=30", "--field"]
    assert run([*arguments, "quadratic"]) == 0
    assert load(out).architecture == "quadratic"
    assert run(["info", str(out)]) == 0
    assert "quadratic" in capsys.readouterr().out
    assert run(["render", str(out), "-o", str(tmp_path / "a.png")]) == 0
    assert run([*arguments, "quadratc"]) == 2
    assert "did you mean quadratic?" in capsys.readouterr().err


def test_a_file_of_an_unknown_architecture_is_refused(quadratic, tmp_path):
    from neural_fields.fields import read_field_file

    nf.save(ImageField(ImageConfig(16, 12, architecture=quadratic())), tmp_path / "a.nf")
    content = read_field_file(tmp_path / "a.nf")
    content.config["architecture"]["name"] = "cubic"
    with pytest.raises(InputError, match="needs one of"):
        build_field(content, tmp_path / "a.nf")


# ---- published sizes -----------------------------------------------------------------------------


def test_presets_of_hash_reach_as_far_as_the_scene():
    for preset in ("ngp", "ngp16", "pvd"):
        made = architectures.get("hash").sized(Target("radiance", 3, 32, scale=4), preset)
        assert made.finest_resolution == 4 * 2048
        assert made.convention == ("torch-ngp" if preset == "pvd" else "tiny-cuda-nn")


def test_unknown_conventions_are_refused():
    data = sized("mlp", SMALL[0]).to_dict()
    with pytest.raises(InputError, match=r"needs one of nerf, tiny-cuda-nn, got 'nrf'; did"):
        architectures.from_dict({**data, "convention": "nrf"})


@pytest.mark.parametrize(
    ("name", "preset", "count"),
    [
        ("vm", "pvd", 17_346_032),
        ("voxels", "pvd", 58_720_256),
        ("hash", "pvd", 10_607_408 + 2_816 + 6_272),
        ("mlp", "pvd", 434_460 + 2_816 + 6_272),
        ("mlp", "nerf", 595_844),
        ("mlp", "paper", 612_740),
    ],
)
def test_published_numbers_of_parameters(name, preset, count):
    owner = architectures.get(name)
    sized = owner.sized(SMALL[1], preset)
    with torch.device("meta"):
        field = RadianceField(
            RadianceConfig(architecture=sized, head=owner.color_head(preset)), None
        )
    assert field.n_params == count


def test_published_numbers_with_modulation():
    owner = architectures.get("mlp")
    config = RadianceConfig(
        architecture=owner.sized(SMALL[1], "paper"),
        head=owner.color_head("paper"),
        modulate=Modulate("direction-trunk", (10, 3)),
    )
    with torch.device("meta"):
        assert RadianceField(config, None).n_params == 612_740 + 480
        options = NetworkOptions()
        ffn = architectures.get("fourier").sized(Target("image", 2, 512)).trunk(2, 3, options)
    assert sum(p.numel() for p in ffn.parameters()) == 263_683  # FFN of CAM's images
    assert ffn.n_modulated == 3
