"""Weights of 8 bits: rounding, straight-through gradients, files."""

import pytest
import torch

import neural_fields as nf
from neural_fields import InputError, architectures
from neural_fields.architectures import Target
from neural_fields.decoders import Mlp, Modulate, Modulation
from neural_fields.fields import RadianceConfig, RadianceField, Samples, read_field_file
from neural_fields.fields.load import build_field
from neural_fields.fields.quantize import packed, quantize_, quantized, unpack_into
from neural_fields.ops import MlpSpec


def one(values):
    module = torch.nn.Module()
    module.w = torch.nn.Parameter(torch.as_tensor(values))
    return module


@pytest.mark.parametrize("scale", [1e-5, 1.0, 300.0])
def test_rounding_has_255_levels_and_half_a_step_of_error(scale):
    w = torch.randn(20_000) * scale
    layer = one(w)
    quantize_(layer)
    rounded = layer.w.detach()
    step = w.abs().max() / 127
    assert len(rounded.unique()) <= 255
    assert (rounded - w).abs().max() <= step / 2 * (1 + 1e-5)
    assert rounded.abs().max() == w.abs().max()
    assert torch.equal(rounded == 0, (w / step).abs().round() == 0)
    quantize_(layer)
    assert torch.equal(layer.w.detach(), rounded)


def test_zeros_stay_zeros():
    layer = one(torch.zeros(3))
    quantize_(layer)
    assert torch.equal(layer.w.detach(), torch.zeros(3))


def test_every_matrix_has_its_own_scale_and_biases_stay():
    network = Mlp(MlpSpec((3, 8, 2), biases=True))
    network.reset(torch.Generator().manual_seed(1))
    with torch.no_grad():
        network.params[24:32] = torch.rand(8)  # the first bias
        network.params[32:48] *= 1e-3  # the second matrix
    before = network.params.detach().clone()
    quantize_(network)
    after = network.params.detach()
    assert torch.equal(after[24:32], before[24:32])
    assert (after[:24] - before[:24]).abs().max() <= before[:24].abs().max() / 254 * 1.0001
    assert (after[32:48] - before[32:48]).abs().max() <= before[32:48].abs().max() / 254 * 1.0001


@pytest.mark.parametrize(("coordinates", "last"), [("xy", 0.25), ("direction", 1.0)])
def test_modulation_starts_small_where_no_sigmoid_follows(coordinates, last):
    for normalize in (True, False):
        cam = Modulation(Modulate(coordinates, (4, 4), normalize), 2)
        cam.reset()
        expected = torch.tensor([1.0, last if normalize else 1.0, 0.0, 0.0]).expand(16, 4)
        assert torch.equal(cam.grid.detach(), expected)


def test_scales_and_shifts_of_a_modulation_do_not_share():
    cam = Modulation(Modulate("xy", (4, 4)), 2)
    cam.reset()
    with torch.no_grad():
        cam.grid[:, 2:] = torch.randn(16, 2) * 1e-4
    before = cam.grid.detach().clone()
    quantize_(cam)
    assert torch.equal(cam.grid[:, :2], before[:, :2])
    error = (cam.grid.detach() - before)[:, 2:].abs().amax(0)
    assert (error <= before[:, 2:].abs().amax(0) / 254 * 1.0001).all()


def test_gradients_pass_straight_through():
    layer = one([1.0, 0.33, -0.2])
    raw = layer.w.detach().clone()
    with quantized(layer, 8):
        assert not torch.equal(layer.w.detach(), raw)
        (gradient,) = torch.autograd.grad((layer.w * torch.tensor([1.0, 2.0, 3.0])).sum(), layer.w)
    assert torch.equal(gradient, torch.tensor([1.0, 2.0, 3.0]))
    assert torch.equal(layer.w.detach(), raw)
    with quantized(layer, 32):
        assert torch.equal(layer.w.detach(), raw)


@pytest.mark.parametrize("name", architectures.names())
def test_every_architecture_is_kept_in_8_bits(name, tmp_path):
    owner = architectures.get(name)
    config = RadianceConfig(
        architecture=owner.sized(Target("radiance", 3, 24)), head=owner.color_head(), weight_bits=8
    )
    field = RadianceField(config, seed=3)
    again = RadianceField(config, seed=4)
    unpack_into(again, packed(field))
    quantize_(field)
    for key, value in field.named_parameters():
        assert torch.equal(value, again.get_parameter(key)), key
    nf.save(field, tmp_path / "a.nf")
    loaded = nf.load(tmp_path / "a.nf")
    samples = Samples(torch.rand(50, 3) * 2 - 1, torch.eye(3)[torch.randint(3, (50,))])
    assert torch.equal(field.evaluate(samples).log_density, loaded.evaluate(samples).log_density)
    content = read_field_file(tmp_path / "a.nf")
    kept = [t for key, t in content.tensors.items() if key.startswith("field.")]
    assert sum(t.numel() * t.element_size() for t in kept) < 1.1 * field.n_params + 8000


def test_damaged_codes_are_refused(tmp_path):
    config = RadianceConfig(architecture=architectures.get("mlp")(), weight_bits=8)
    nf.save(RadianceField(config), tmp_path / "a.nf")
    content = read_field_file(tmp_path / "a.nf")
    content.tensors["field.trunk.last.params.scales"][0] = torch.nan
    with pytest.raises(InputError, match=r"params\.scales holds NaN"):
        build_field(content, "a.nf")
    del content.tensors["field.trunk.last.params.scales"]
    with pytest.raises(InputError, match="lacks the tensor"):
        build_field(content, "a.nf")


def test_other_numbers_of_bits_are_refused():
    with pytest.raises(InputError, match="--bits: needs 8 or 32, got 4"):
        RadianceConfig(weight_bits=4)
