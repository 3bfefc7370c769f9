"""Videos to files and back: bit for bit in another process, and every damage said."""

import contextlib
import hashlib
import os
import random
import signal
import struct
import subprocess
import sys

import numpy as np
import pytest
import torch
from made_videos import write_video

from neural_fields import InputError
from neural_fields.cli.main import run
from neural_fields.codec.decoder import CodedVideo, exactly
from neural_fields.codec.encoder import compress, split
from neural_fields.codec.group import check_size, decode_group
from neural_fields.data.video import load_video

QUICK = {"batch_pixels": 8192}


@pytest.fixture(scope="module")
def clip(tmp_path_factory):
    path = tmp_path_factory.mktemp("clip") / "clip.mkv"
    return write_video(path, n=12, codec="ffv1", pix_fmt="bgr0")


@pytest.fixture(scope="module")
def coded(clip, tmp_path_factory):
    path = tmp_path_factory.mktemp("coded") / "a.nfv"
    return path, compress(clip, path, steps=150, options=QUICK)


def _digest(path):
    with CodedVideo(path) as video:
        return hashlib.sha256(torch.stack(list(video.frames())).numpy().tobytes()).hexdigest()


def test_it_is_small_and_shows_the_video(clip, coded):
    path, result = coded
    assert result["bytes"] == path.stat().st_size < 8000
    assert result["bpp"] == pytest.approx(result["bytes"] * 8 / (12 * 96 * 64))
    assert result["psnr"] > 24
    assert result["frames"] == 12
    truth = load_video(clip)
    with CodedVideo(path) as video:
        errors = [
            np.mean((video.frame(k).numpy().astype(float) - truth.frames[k].numpy()) ** 2)
            for k in range(12)
        ]
        psnr = np.mean([10 * np.log10(255**2 / error) for error in errors])
        assert psnr == pytest.approx(result["psnr"], abs=1e-3)


def test_another_process_decodes_to_the_same_bits(coded):
    path, _ = coded
    program = (
        "import hashlib, sys, torch\n"
        "from neural_fields.codec.decoder import CodedVideo\n"
        "frames = list(CodedVideo(sys.argv[1]).frames())\n"
        "print(hashlib.sha256(torch.stack(frames).numpy().tobytes()).hexdigest())\n"
        "assert not [m for m in sys.modules if m.startswith('neural_fields.training')\n"
        "            or m.startswith('neural_fields.codec.encoder')]\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", program, path], capture_output=True, text=True, check=True
    )
    assert done.stdout.strip() == _digest(path)


def test_frames_come_in_any_order_and_in_parts(coded):
    path, _ = coded
    with CodedVideo(path) as video:
        frames = list(video.frames())
        for index in (11, 0, 7):
            assert torch.equal(video.frame(index), frames[index])
        part = video.frame(5, crop=(30, 10, 20, 16))
        assert torch.equal(part, frames[5][10:26, 30:50])
        with pytest.raises(InputError, match="frame 12: needs 0 to 11"):
            video.frame(12)


def test_the_portable_path_is_within_one_of_255(coded, tmp_path):
    from neural_fields import _core

    path, _ = coded
    with CodedVideo(path) as video:
        fast = torch.stack(list(video.frames())).int()
    before = _core.active_isa()
    with exactly(), CodedVideo(path) as video:
        assert _core.active_isa() == "portable"
        slow = torch.stack(list(video.frames())).int()
    assert _core.active_isa() == before
    assert int((fast - slow).abs().max()) <= 1
    out = tmp_path / "exact.mkv"
    assert run(["decompress", str(path), "-o", str(out), "--exact"]) == 0
    assert _core.active_isa() == before
    assert torch.equal(load_video(out).frames.int(), slow)


def test_damage_is_one_sentence(coded, tmp_path, capsys):
    path, _ = coded
    data = path.read_bytes()
    draw = random.Random(5)
    header = 14 + int.from_bytes(data[10:14], "little") + 4
    places = [*range(header), *(draw.randrange(header, len(data)) for _ in range(25))]
    broken = tmp_path / "broken.nfv"
    for at in places:
        damaged = bytearray(data)
        damaged[at] ^= 1 << draw.randrange(8)
        broken.write_bytes(damaged)
        assert run(["decompress", str(broken), "-o", str(tmp_path / "out.mkv")]) == 2, at
        said = capsys.readouterr().err
        assert "broken.nfv" in said
        assert "Traceback" not in said
    for length in range(0, len(data), 200):
        broken.write_bytes(data[:length])
        assert run(["decompress", str(broken), "-o", str(tmp_path / "out.mkv")]) == 2, length
    assert not (tmp_path / "out.mkv").exists()
    assert [entry.name for entry in tmp_path.iterdir()] == ["broken.nfv"]  # nothing half written


def test_every_thousandth_prefix_of_a_long_file(tmp_path, capsys):
    rng = np.random.default_rng(0)
    noise = [rng.integers(0, 256, (96, 128, 3), dtype=np.uint8) for _ in range(40)]
    clip = write_video(
        tmp_path / "n.mkv", n=40, size=(128, 96), pictures=noise, codec="ffv1", pix_fmt="bgr0"
    )
    path = tmp_path / "a.nfv"
    result = compress(clip, path, steps=20, options={**QUICK, "price": 1e-9, "grid_rate": 2.0})
    assert result["bytes"] > 25_000
    data, broken = path.read_bytes(), tmp_path / "broken.nfv"
    for length in range(0, len(data), 1000):
        broken.write_bytes(data[:length])
        assert run(["info", str(broken)]) == (2 if length < 1000 else 0), length
        assert run(["decompress", str(broken), "-o", str(tmp_path / "out.mkv")]) == 2, length
        assert capsys.readouterr().err.strip().count("\n") <= 1
    assert not (tmp_path / "out.mkv").exists()


def test_what_is_too_large_is_refused_before_it_takes_memory(coded, monkeypatch):
    path, _ = coded
    with CodedVideo(path) as video:
        data, config = video._file.group(0), video.field(0).config
    monkeypatch.setattr("neural_fields.codec.group._MOST_NUMBERS", 1000)
    monkeypatch.setattr("neural_fields.codec.group.field_of", None)  # not reached
    monkeypatch.setattr("neural_fields.codec.group.Reader", None)
    with pytest.raises(InputError, match="at most 1000 numbers"):
        decode_group(data)
    monkeypatch.setattr("neural_fields.codec.group._MOST_PIXELS", 96 * 64 - 1)
    with pytest.raises(InputError, match="a frame of 96x64"):
        check_size(config)


def test_content_that_passes_its_checksum_but_makes_no_sense(coded):
    """What only a hostile writer makes: refused, or decoded to something; never a crash."""
    path, _ = coded
    with CodedVideo(path) as video:
        data = video._file.group(0)
    draw = random.Random(6)
    for at in [*range(40), *(draw.randrange(len(data)) for _ in range(150))]:
        damaged = bytearray(data)
        damaged[at] ^= 1 << draw.randrange(8)
        with contextlib.suppress(InputError):
            decode_group(bytes(damaged))
    for length in range(0, len(data), 50):
        try:
            decode_group(data[:length])
        except InputError:
            continue
        assert length >= 8 + sum(
            struct.unpack_from("<II", data)
        )  # words alone are missing, which read as zeros


def test_steps_repeat_bit_for_bit(clip, tmp_path):
    first, second = tmp_path / "1.nfv", tmp_path / "2.nfv"
    for path in (first, second):
        compress(clip, path, steps=20, options=QUICK)
    assert first.read_bytes() == second.read_bytes()


def test_a_rate_and_a_quality_are_met(clip, tmp_path):
    coarse = compress(clip, tmp_path / "c.nfv", bpp=0.3, steps=400, options=QUICK)
    fine = compress(clip, tmp_path / "f.nfv", bpp=0.9, steps=1200, options=QUICK)
    assert coarse["bpp"] == pytest.approx(0.3, rel=0.25)
    assert fine["bpp"] == pytest.approx(0.9, rel=0.25)
    assert fine["psnr"] > coarse["psnr"] + 1
    wanted = compress(clip, tmp_path / "q.nfv", psnr=24.0, steps=400, options=QUICK)
    assert wanted["psnr"] == pytest.approx(24.0, abs=1.5)


@pytest.mark.parametrize(
    "changes", [{"quantiser": "tanh", "bits": 6}, {"modulate": "time"}, {"bits": 4}]
)
def test_other_ways(clip, tmp_path, changes):
    path = tmp_path / "a.nfv"
    result = compress(clip, path, steps=60, options=QUICK, **changes)
    with CodedVideo(path) as video:
        assert len(list(video.frames())) == 12
    assert result["psnr"] > 15


def test_groups_are_apart(tmp_path, monkeypatch):
    monkeypatch.setattr("neural_fields.codec.encoder._MOST_FRAMES", 5)
    assert split(12) == [(0, 4), (4, 4), (8, 4)]
    clip = write_video(tmp_path / "clip.mkv", n=12, codec="ffv1", pix_fmt="bgr0")
    path = tmp_path / "a.nfv"
    here = compress(clip, tmp_path / "here.nfv", steps=30, options=QUICK, workers=1)
    assert here["groups"] == 3
    seen = set()
    compress(
        clip,
        path,
        steps=30,
        options=QUICK,
        workers=2,
        on_progress=lambda at: seen.add(at.group.group),
    )
    assert seen <= {0, 1, 2}
    with CodedVideo(path) as video, CodedVideo(tmp_path / "here.nfv") as alone:
        assert torch.equal(video.frame(9), alone.frame(9))
    data = bytearray(path.read_bytes())
    data[-1] ^= 1  # in the last group
    path.write_bytes(data)
    with CodedVideo(path) as video:
        assert video.frame(7).shape == (64, 96, 3)
        with pytest.raises(InputError, match="checksum of group 2"):
            video.frame(8)


def test_ctrl_c_leaves_a_whole_coarser_file(clip, tmp_path):
    def stop(at):
        if at.group.share > 0.3:
            os.kill(os.getpid(), signal.SIGINT)

    path = tmp_path / "a.nfv"
    result = compress(clip, path, steps=300, options=QUICK, on_progress=stop)
    assert result["interrupted"]
    with CodedVideo(path) as video:
        assert len(list(video.frames())) == 12


def test_rates_and_times_are_kept(tmp_path):
    uneven = [0, 40, 200, 240, 900]
    for name, times in (("even", None), ("uneven", uneven)):
        clip = write_video(
            tmp_path / f"{name}.mkv", n=5, codec="ffv1", pix_fmt="bgr0", fps=12, times=times
        )
        path = tmp_path / f"{name}.nfv"
        compress(clip, path, steps=3, options=QUICK)
        for suffix, codec in ((".mkv", "ffv1"), (".mp4", "libx264")):
            out = tmp_path / f"{name}{suffix}"
            assert run(["decompress", str(path), "-o", str(out), "--codec", codec]) == 0
            back = load_video(out)
            assert len(back) == 5
            wanted = [t / 1000 for t in uneven] if times else [k / 12 for k in range(5)]
            assert back.times == pytest.approx(wanted, abs=2e-3)
            if codec == "ffv1":
                with CodedVideo(path) as video:
                    assert torch.equal(back.frames, torch.stack(list(video.frames())))


def test_ten_bits_odd_sides_and_sound(tmp_path, capsys):
    deep = write_video(
        tmp_path / "deep.mp4",
        n=3,
        codec="libx265",
        pix_fmt="yuv420p10le",
        audio=True,
        options={"x265-params": "log-level=none"},
    )
    arguments = ["-o", str(tmp_path / "a.nfv"), "--steps", "3"]
    assert run(["compress", str(deep), *arguments]) == 0
    said = capsys.readouterr().out
    assert "its sound is left out" in said
    assert "its 10 bits per value become 8" in said
    odd = write_video(tmp_path / "odd.mkv", n=3, size=(51, 33), codec="ffv1", pix_fmt="bgr0")
    assert run(["compress", str(odd), *arguments]) == 0
    out = tmp_path / "odd.mp4"
    assert run(["decompress", str(tmp_path / "a.nfv"), "-o", str(out), "--codec", "libx264"]) == 0
    assert load_video(out).frames.shape == (3, 33, 51, 3)


def test_what_is_asked_wrongly_is_refused(clip, coded, tmp_path):
    path, _ = coded
    for options, word in (
        ({"bpp": 0.1, "psnr": 30.0}, "not both"),
        ({"bpp": 0.0}, "--bpp: needs a number above 0"),
        ({"psnr": 99.0}, "--psnr: needs"),
        ({"modulate": "xyz"}, "needs time, got xyz"),
        ({"quantiser": "round"}, "--quantiser: needs one of"),
        ({"bits": 3}, "--bits: needs 4 to 8"),
        ({"options": {"speed": 3}}, "options: needs one of"),
    ):
        with pytest.raises(InputError, match=word):
            compress(clip, tmp_path / "a.nfv", steps=1, **options)
    with pytest.raises(InputError, match=r"ends in \.nfv"):
        compress(clip, tmp_path / "a.mp4", steps=1)
    assert not (tmp_path / "a.nfv").exists()
    for arguments, code in (
        (["-o", str(tmp_path / "a.mkv"), "--first", "9", "--last", "3"], 2),
        (["-o", str(tmp_path / "a.mkv"), "--codec", "nothing"], 2),
        (["-o", str(tmp_path / "missing" / "a.mkv")], 2),
        (["-o", str(tmp_path / "a")], 2),
        (["-o", str(tmp_path / "a.webm"), "--codec", "libx264"], 2),
    ):
        assert run(["decompress", str(path), *arguments]) == code, arguments
    assert list(tmp_path.iterdir()) == []
