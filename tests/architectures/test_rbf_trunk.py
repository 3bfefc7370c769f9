"""Gaussian neurons behind their grids: sizes, encoders, heads and the start from data."""

import json

import pytest
import torch

import neural_fields as nf
from neural_fields import InputError, architectures, scenes
from neural_fields.architectures import NetworkOptions, Target
from neural_fields.architectures.rbf import START_STEP, DifSizes, HashSizes, PlanesSizes, Rbf
from neural_fields.fields import RadianceConfig, RadianceField, Samples, SdfConfig, SdfField

GRID = HashSizes("hash", 4, 2, 12, finest_resolution=64)
SMALL_DIF = DifSizes("dif", (6, 9), (3, 2), (2.0, 3.2))
SMALL_PLANES = PlanesSizes("planes", (8, 16), 4)


def made(config, n_dims=3, n_output=1, seed=0):
    trunk = config.trunk(n_dims, n_output, NetworkOptions())
    trunk.reset(torch.Generator().manual_seed(seed))
    return trunk


def test_the_default_of_shapes_has_the_size_of_the_papers():
    config = architectures.get("rbf").sized(Target("sdf", 3, 300))
    with torch.device("meta"):
        field = SdfField(SdfConfig(architecture=config), seed=None)
    assert 3_400_000 < field.n_params <= 3_500_000
    # The published decoder, and the linear term that its code does not have.
    assert sum(p.numel() for p in field.trunk.layer.parameters()) == 4_161 + 32


def test_published_numbers_of_the_papers_scene():
    owner = architectures.get("rbf")
    config = RadianceConfig(architecture=owner.sized(Target("radiance", 3, 400), "paper"))
    with torch.device("meta"):
        field = RadianceField(config, seed=None)
    assert field.n_params == 10_157_342 + 2_769
    assert field.color_head is None
    assert field.levels == ("log_density", "color")


@pytest.mark.parametrize("encoding", [GRID, SMALL_DIF, SMALL_PLANES])
@pytest.mark.parametrize("n_dims", [2, 3])
def test_every_encoder_works_in_the_plane_and_in_space(encoding, n_dims):
    config = Rbf(encoding, n_kernels=8)
    assert architectures.from_dict(json.loads(json.dumps(config.to_dict()))) == config
    trunk = made(config, n_dims, 5)
    values = trunk(torch.rand(20, n_dims))
    assert values.shape == (20, 5)
    names = {name for name, _ in trunk.named_parameters() if name.startswith("encoding")}
    assert trunk.grids == names


@pytest.mark.parametrize("options", [{}, {"isotropic": True}, {"affine": True}])
def test_the_start_from_data_keeps_or_finds_values(options):
    coarse = HashSizes("hash", 2, 2, 12, base_resolution=3, finest_resolution=5)
    trunk = made(Rbf(coarse, 64, **options))
    generator = torch.Generator().manual_seed(1)
    with torch.no_grad():
        trunk.encoding.table.normal_(0, 1, generator=generator)
        trunk.layer.centers.normal_(0, 1, generator=generator)
        trunk.layer.log_precision.fill_(-2.0)
    positions = torch.rand(4000, 3, generator=generator)
    before = trunk(positions).detach()
    names = trunk.start(positions, None, generator)
    assert names == {f"layer.{name}" for name, _ in trunk.layer.named_parameters()}
    kept = (trunk(positions) - before).square().mean() / before.var()
    assert kept < 0.2
    wanted = (positions - 0.5).norm(dim=1, keepdim=True)
    trunk.start(positions, wanted, generator)
    assert (trunk(positions) - wanted).square().mean() < 0.5 * wanted.var()


def test_the_papers_start_never_starts_over():
    assert made(Rbf(GRID, start="paper")).start_step is None
    assert made(Rbf(GRID)).start_step == START_STEP


@pytest.mark.parametrize("head", ["shared", "sh"])
def test_scenes_are_learnt_through_the_start(head, tmp_path):
    data = scenes.make("shine", tmp_path / "scene", n_train=12, n_test=3, size=32)
    field = Rbf(HashSizes("hash", 4, 4, 14, finest_resolution=64), head=head)
    options = {"batch_samples": 8192}
    nf.fit.nerf(data, tmp_path / "a.nf", field=field, steps=START_STEP + 80, options=options)
    assert nf.evaluate(tmp_path / "a.nf", data)["psnr"] > 18
    again = nf.load(tmp_path / "a.nf")
    assert again.config.architecture == field
    directions = torch.nn.functional.normalize(torch.randn(9, 3), dim=1)
    color = again.color(torch.zeros(9, 3), directions)
    assert color.std(0).max() > 0  # seen from elsewhere it looks otherwise
    plain = again.evaluate(Samples(torch.zeros(2, 3)), ("color",)).color
    assert ((plain >= 0) & (plain <= 1)).all()


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"encoding": {"kind": "hsh"}}, "needs one of hash, dif, planes, got 'hsh'; did you mean"),
        ({"encoding": {"kind": "dif", "sides": [4]}}, "DifSizes needs the keys"),
        ({"head": "shaerd"}, "did you mean shared"),
        ({"start": "dta"}, "did you mean data"),
    ],
)
def test_unknown_sizes_are_refused(change, said):
    with pytest.raises(InputError, match=said):
        architectures.from_dict({**Rbf(GRID).to_dict(), **change})


def test_the_first_grid_of_dif_tells_the_halves_of_the_box_apart_if_it_is_whole():
    here = torch.rand(50, 3, generator=torch.Generator().manual_seed(1)) / 2
    there = here + torch.tensor([0.5, 0.0, 0.0])
    for preset, repeats in (("dif", True), ("dif-whole", False)):
        trunk = made(Rbf.sized(Target("sdf", 3, 64), preset))
        first, second = (trunk.encoding(x)[:, :4] for x in (here, there))
        assert torch.allclose(first, second, atol=1e-5) == repeats
