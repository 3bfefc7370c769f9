"""Fields of whole frames as bytes: what is coded, what is learnt, and the way back."""

import contextlib
import hashlib
import random
import subprocess
import sys

import pytest
import torch
from made_videos import write_video

from neural_fields import InputError
from neural_fields.cli.main import run
from neural_fields.codec.decoder import CodedVideo
from neural_fields.codec.encoder import compress
from neural_fields.codec.frames_trainer import FramesCodecOptions, FramesCodecTrainer
from neural_fields.codec.group import decode_group, encode_group, field_of, numbers_of
from neural_fields.codec.parts import Rules, parts_of
from neural_fields.codec.quantiser import Quantiser
from neural_fields.data.video import load_video
from neural_fields.decoders import Modulate
from neural_fields.decoders.frames import FrameNetwork
from neural_fields.fields import FramesConfig, FramesField
from neural_fields.ops.threads import one_torch_thread
from neural_fields.training import presets
from neural_fields.training.presets import frames_setup

SIZES = FrameNetwork((3, 4), (2, 4), 16, (2, 2, 2), narrowest=8, compact=True)
CONFIG = FramesConfig(30, 23, 6, SIZES, Modulate("time", (3,)))


@pytest.fixture(scope="module", autouse=True)
def small_networks():
    """What is tested is not how large they are."""
    sizes = FrameNetwork(moments=(1, 4), channels=16, narrowest=12)
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(presets._FRAMES_PRESETS, "default", sizes)
        yield


@pytest.fixture(scope="module")
def clip(tmp_path_factory):
    path = tmp_path_factory.mktemp("clip") / "clip.mkv"
    return write_video(path, n=12, codec="ffv1", pix_fmt="bgr0")


@pytest.fixture(scope="module")
def coded(clip, tmp_path_factory):
    path = tmp_path_factory.mktemp("coded") / "a.nfv"
    return path, compress(clip, path, field="ffnerv", steps=240, options={"price": 1e-3})


def test_every_parameter_is_one_part_and_comes_back():
    field = FramesField(CONFIG)
    parts = parts_of(field, Rules(Quantiser()))
    parameters = [*field.parameters()]
    assert len(parts) == len(parameters)
    for part, parameter in zip(parts, parameters, strict=True):
        assert part.view.dim() == 4
        assert torch.equal(part.back(part.view), parameter)


@pytest.mark.parametrize("rule", ["step", "tanh"])
def test_numbers_are_the_field(rule):
    field = FramesField(CONFIG)
    scales = tuple(0.01 * (k + 1) for k in range(len([*field.parameters()])))
    rules = Rules(Quantiser(rule, 6), scales=scales if rule == "step" else ())
    numbers = numbers_of(field, rules)
    back = decode_group(encode_group(CONFIG, numbers, rules))
    assert back.config == CONFIG
    kept = field_of(CONFIG, numbers, rules)
    for name, value in kept.state_dict().items():
        assert torch.equal(value, back.state_dict()[name]), name
        largest = 127 if name.startswith(("decoder.lookups", "decoder.picture")) else 31
        assert max(abs(part).max() for part in numbers) <= 127
        if rule == "step" and "modulation" not in name:
            place = [*kept.state_dict()].index(name)
            units = value / scales[place]
            assert torch.allclose(units, units.round(), atol=1e-3), name
            assert units.abs().max() <= largest + 1e-3
    at_rest = kept.decoder.blocks[0].modulation
    assert torch.equal(at_rest[:, 0], torch.ones(3, 16))  # the published rule would halve them
    with torch.no_grad():
        assert torch.equal(kept.picture(0.3), back.picture(0.3))


def test_steps_are_learnt_and_rates_fall(clip):
    video = load_video(clip)
    trainer = FramesCodecTrainer(
        frames_setup(video)[0], video, FramesCodecOptions(price=10.0), Rules(Quantiser())
    )
    before = trainer.rules.scales
    trainer.step(0.0)
    bits = trainer.bits_per_pixel
    for _ in range(30):
        trainer.step(0.2)
    after = trainer.rules.scales
    assert all(new != old for new, old in zip(after, before, strict=True))
    assert trainer.bits_per_pixel < 0.8 * bits


def test_what_training_sees_is_what_is_kept(clip):
    """Without noise a step's frame is that of the field which its numbers make."""
    video = load_video(clip)
    for rule in ("step", "tanh"):
        options = FramesCodecOptions(noisy_until=1e-9)
        trainer = FramesCodecTrainer(frames_setup(video)[0], video, options, Rules(Quantiser(rule)))
        trainer._progress = 0.5
        trainer._seen()
        seen = trainer._raw(4).independent
        field = trainer.field
        kept = field_of(field.config, numbers_of(field, trainer.rules), trainer.rules)
        torch.testing.assert_close(seen, kept.raw(4.0).independent, atol=1e-6, rtol=0)


def test_a_file_is_the_video(clip, coded):
    path, result = coded
    assert result["psnr"] > 24
    assert result["bytes"] == path.stat().st_size < 40_000
    program = (
        "import hashlib, sys, torch\n"
        "from neural_fields.codec.decoder import CodedVideo\n"
        "frames = list(CodedVideo(sys.argv[1]).frames())\n"
        "print(hashlib.sha256(torch.stack(frames).numpy().tobytes()).hexdigest())\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", program, path], capture_output=True, text=True, check=True
    )
    with CodedVideo(path) as video, one_torch_thread():  # whatever the number of threads
        frames = torch.stack(list(video.frames()))
        assert torch.equal(video.frame(7), frames[7])  # in any order
    assert done.stdout.strip() == hashlib.sha256(frames.numpy().tobytes()).hexdigest()


def test_modulation_and_rule_can_be_chosen(clip, tmp_path):
    path = tmp_path / "a.nfv"
    result = compress(
        clip,
        path,
        field="ffnerv",
        steps=40,
        modulate="none",
        quantiser="tanh",
        bits=6,
        options={"price": 1e-4},
    )
    assert result["psnr"] > 12
    with CodedVideo(path) as video:
        assert video.field(0).config.modulate is None
    with pytest.raises(InputError, match="--field"):
        compress(clip, path, field="hash")


def test_damage_is_said(coded, tmp_path, capsys):
    path, _ = coded
    data, draw = path.read_bytes(), random.Random(1)
    broken = tmp_path / "broken.nfv"
    for at in (*range(0, 60, 7), *(draw.randrange(len(data)) for _ in range(10))):
        damaged = bytearray(data)
        damaged[at] ^= 0x10
        broken.write_bytes(damaged)
        assert run(["decompress", str(broken), "-o", str(tmp_path / "out.mkv")]) == 2, at
        assert capsys.readouterr().err.count("\n") == 1
    with CodedVideo(path) as video:
        group = video._file.group(0)
    for at in (*range(40), *(draw.randrange(len(group)) for _ in range(60))):
        hostile = bytearray(group)
        hostile[at] ^= 1 << draw.randrange(8)
        with contextlib.suppress(InputError):
            decode_group(bytes(hostile))
