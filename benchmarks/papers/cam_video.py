"""Video compression: fields with coordinate-aware modulation beside x264, x265 and SVT-AV1.

python -m neural_fields.benchmarks.papers.cam_video --data DIR -o video.json
python -m neural_fields.benchmarks.papers.cam_video --data DIR -o video.json --parts modulation

The parts: `codecs` and `ours`, rates and distortions; `modulation` and `frames`, the same steps
with and without modulation, of `pyramid` and of `ffnerv`, the latter at 320x180; `decode`.
DIR holds video/bunny (132 frames, 1280x720), which is averaged to 640x360. Rows that the JSON file
has are not computed again. Rates are bytes on disk, containers included and sound left out; PSNR
and MS-SSIM are of 8-bit RGB, means over frames, of what a decoder shows. The others encode the same
frames as 4:2:0 through the same FFmpeg (PyAV's), x264 and x265 at `medium`, SVT-AV1 at preset 6.
Ours is asked for the rates that x264 has. BD-rate is of four points each, by a cubic of log rate in
PSNR over the PSNR that both have.
"""

from __future__ import annotations

import argparse
import itertools
import math
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as functional
from torch import Tensor

from neural_fields.benchmarks.papers.rows import Rows, markdown
from neural_fields.codec.decoder import CodedVideo
from neural_fields.codec.encoder import compress
from neural_fields.data.video import Video, load_video
from neural_fields.errors import library
from neural_fields.fields import VideoField
from neural_fields.fields.video import modulated_params
from neural_fields.rendering.video import render_frame
from neural_fields.training.evaluate_video import score_frames

CLIP, DOWNSCALE, SECONDS = "video/bunny/bigbuckbunny_1280x720.mp4", 2, 300.0
PARTS = ("codecs", "ours", "modulation", "frames", "decode")
CRF = (26, 32, 38, 44)
PEERS: dict[str, tuple[str, dict[str, str], tuple[int, ...]]] = {
    "x264 medium": ("libx264", {"preset": "medium"}, CRF),
    "x265 medium": ("libx265", {"preset": "medium", "x265-params": "log-level=none"}, CRF),
    "SVT-AV1 6": ("libsvtav1", {"preset": "6", "svtav1-params": "progress=0"}, (35, 45, 54, 62)),
}
SLOWER = ("torch", "torch, sliced")
SEEDS = (0, 1, 2)


def peer_row(video: Video, codec: str, options: dict[str, str], crf: int) -> dict[str, Any]:
    """One encode and decode by FFmpeg."""
    av = library("av", "video")
    n, height, width = video.frames.shape[:3]
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, "a.mp4")
        began = time.perf_counter()
        with av.open(str(path), "w") as container:
            stream = container.add_stream(codec, rate=video.fps)
            stream.width, stream.height, stream.pix_fmt = width, height, "yuv420p"
            stream.options = {**options, "crf": str(crf)}
            for frame in video.frames:
                picture = av.VideoFrame.from_ndarray(frame.numpy(), format="rgb24")
                container.mux(stream.encode(picture))
            container.mux(stream.encode())
        encoded = time.perf_counter() - began
        began = time.perf_counter()
        back = load_video(path).frames
        decoded = time.perf_counter() - began
        scores = score_frames((frame.float() / 255 for frame in back), video)
        return _row(path.stat().st_size, n * height * width, scores, encoded, n / decoded)


def _row(
    n_bytes: int, n_pixels: int, scores: dict[str, Any], encode_s: float, decode_fps: float
) -> dict[str, Any]:
    return {
        "bytes": n_bytes,
        "bpp": n_bytes * 8 / n_pixels,
        "psnr": scores["psnr"],
        "ms_ssim": scores["ms_ssim"],
        "encode_s": encode_s,
        "decode_fps": decode_fps,
    }


def our_row(video: Video, seconds: float | None, **options: Any) -> dict[str, Any]:
    """One run of `nf compress`, and what its decoder does per second."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, "a.nfv")
        began = time.perf_counter()
        result = compress(video, path, seconds=seconds, **options)
        encoded = time.perf_counter() - began
        with CodedVideo(path) as coded:
            began = time.perf_counter()
            n = sum(1 for _ in coded.frames())
            decoded = time.perf_counter() - began
        n_pixels = video.frames[..., 0].numel()
        return _row(result["bytes"], n_pixels, result, encoded, n / decoded)


def bd_rate(ours: list[dict[str, Any]], theirs: list[dict[str, Any]]) -> float:
    """Percent of bits that `ours` takes more than `theirs` at equal PSNR (Bjontegaard 2001).

    NaN where the two have less than 0.5 dB in common.
    """
    curves = [
        sorted((row["psnr"], math.log(row["bpp"])) for row in rows) for rows in (ours, theirs)
    ]
    low = max(curve[0][0] for curve in curves)
    high = min(curve[-1][0] for curve in curves)
    if high - low < 0.5:
        return math.nan
    means = []
    for curve in curves:
        x, y = np.array(curve).T
        whole = np.polyint(np.polyfit(x - low, y, min(3, len(x) - 1)))
        means.append(float(np.polyval(whole, high - low) - np.polyval(whole, 0)) / (high - low))
    return 100 * (math.exp(means[0] - means[1]) - 1)


# ---- decoding, beside plain PyTorch --------------------------------------------------------------


class PlainFrames:
    """A field's frames by PyTorch alone: `grid_sample` and linear layers.

    Grids are looked up by position and time, as a coordinate-wise field is written; `sliced` first
    interpolates each grid in time for the whole frame, as the engine does.
    """

    def __init__(self, field: VideoField, *, sliced: bool) -> None:
        trunk: Any = field.trunk
        self._field, self._trunk, self._sliced, config = field, trunk, sliced, field.config
        y, x = torch.meshgrid(
            (torch.arange(config.height) + 0.5) / config.height,
            (torch.arange(config.width) + 0.5) / config.width,
            indexing="ij",
        )
        self._base = torch.stack([x, y], -1)[None]
        self._covered = torch.tensor(config.covered)
        self._scale = torch.tensor([config.width, config.height]) / self._covered
        self._offset = torch.tensor(config.margin) / self._covered

    @torch.no_grad()
    def frame(self, time: float) -> Tensor:
        """[height, width, 3]."""
        place = self._base * self._scale + self._offset
        if self._field.motion is not None:
            moved = self._look(self._field.motion, self._base, time)
            place = place + moved.permute(0, 2, 3, 1) / self._covered
        levels = [self._trunk.level(k) for k in range(len(self._trunk.sides))]
        features = torch.cat([self._look(level, place, time) for level in levels], 1)
        rows = features[0].flatten(1).T
        return (self._network(rows, time) + 0.5).view(*self._base.shape[1:3], 3)

    def _look(self, grid: Tensor, place: Tensor, time: float) -> Tensor:
        """[1, channels, height, width] of [moments, y, x, channels] at [1, height, width, 2]."""
        at = place * 2 - 1
        if self._sliced:
            between = _between(grid, time).permute(2, 0, 1)[None]
            return functional.grid_sample(between, at, padding_mode="border", align_corners=True)
        whole = grid.permute(3, 0, 1, 2)[None]
        at = torch.cat([at, torch.full_like(at[..., :1], 2 * time - 1)], -1)[:, None]
        found = functional.grid_sample(whole, at, padding_mode="border", align_corners=True)
        return found[:, :, 0]

    def _network(self, rows: Tensor, time: float) -> Tensor:
        network, params = self._trunk.mlp.spec, self._trunk.mlp.params
        if self._field.modulation is not None:
            scale, shift = self._field.modulation(torch.tensor([[time]]))
            params = modulated_params(params, network, scale[0], shift[0])
        at = 0
        for n_in, n_out in itertools.pairwise(network.widths):
            matrix = params[at : at + n_in * n_out].view(n_out, n_in)
            bias = params[at + n_in * n_out : at + (n_in + 1) * n_out]
            rows = functional.linear(rows, matrix, bias)
            at += (n_in + 1) * n_out
            if at < len(params):
                rows = rows.relu_()
        return rows


def _between(moments: Tensor, time: float) -> Tensor:
    at = time * (len(moments) - 1)
    lower = min(int(at), max(0, len(moments) - 2))
    return (
        moments[lower]
        if at == lower
        else torch.lerp(moments[lower], moments[lower + 1], at - lower)
    )


def decode_row(video: Video) -> dict[str, Any]:
    """Frames per second of a field, ours and plain PyTorch's, and how far they differ."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, "a.nfv")
        compress(video, path, steps=60)
        with CodedVideo(path) as coded:
            field = coded.field(0)
    assert isinstance(field, VideoField)
    calls: dict[str, Callable[[float], Tensor]] = {
        "ours": partial(render_frame, field),
        "torch": PlainFrames(field, sliced=False).frame,
        "torch, sliced": PlainFrames(field, sliced=True).frame,
    }
    times = [field.time_of(k) for k in range(0, field.config.n_frames, 4)]
    worst = max(
        float((calls["ours"](moment) - calls[name](moment)).abs().max())
        for name in SLOWER
        for moment in times[:3]
    )
    taken: dict[str, list[float]] = {name: [] for name in calls}
    for moment in times:  # in turns, so that a slow spell of the machine is everybody's
        for name, call in calls.items():
            began = time.perf_counter()
            call(moment)
            taken[name].append(time.perf_counter() - began)
    rates = {name: 1 / float(np.median(each)) for name, each in taken.items()}
    return {**rates, "difference": worst}


# ---- the command ---------------------------------------------------------------------------------


def codecs(rows: Rows, video: Video, seconds: float, *, ours: bool) -> str:
    """Every codec at its four rates, and BD-rates of ours against each."""
    found: dict[str, list[dict[str, Any]]] = {}
    for name, (codec, options, rates) in PEERS.items():
        make = partial(peer_row, video, codec, options)
        found[name] = [rows.get(f"codecs.{name}.{crf}", partial(make, crf)) for crf in rates]
    if ours:
        goals = [row["bpp"] for row in found["x264 medium"]]
        found["ours"] = [
            rows.get(f"codecs.ours.{k}", partial(our_row, video, seconds, bpp=bpp))
            for k, bpp in enumerate(goals)
        ]
    lines = [[name, *cells(row)] for name, each in found.items() for row in each]
    header = ["codec", "bits per pixel", "PSNR", "MS-SSIM", "encode s", "decode frames/s"]
    table = markdown(header, lines)
    if not ours:
        return table
    gaps = [[name, *gap(found["ours"], found[name])] for name in PEERS]
    header = ["against", "BD-rate", "dB at the lowest rate of ours", "at the highest"]
    return f"{table}\n\n{markdown(header, gaps)}"


def cells(row: dict[str, Any]) -> list[str]:
    """A row for people."""
    return [
        f"{row['bpp']:.4f}",
        f"{row['psnr']:.2f}",
        f"{row['ms_ssim']:.4f}",
        f"{row['encode_s']:.1f}",
        f"{row['decode_fps']:.0f}",
    ]


def gap(ours: list[dict[str, Any]], theirs: list[dict[str, Any]]) -> list[str]:
    """BD-rate, and by how many dB ours is above theirs at the ends of its rates."""
    x = np.log([row["bpp"] for row in theirs])
    y = np.array([row["psnr"] for row in theirs])
    order = np.argsort(x)
    rate = bd_rate(ours, theirs)
    said = ["too little in common" if math.isnan(rate) else f"{rate:+.0f} %"]
    by_rate = sorted(ours, key=lambda row: float(row["bpp"]))
    for row in (by_rate[0], by_rate[-1]):
        at = math.log(row["bpp"])
        inside = x.min() <= at <= x.max()
        difference = row["psnr"] - float(np.interp(at, x[order], y[order]))
        said.append(f"{difference:+.2f}" if inside else "outside")
    return said


@dataclass(frozen=True)
class Arm:
    """A field whose modulation is switched on and off, at two prices of a bit.

    Attributes:
        part: of the command, and of the rows' names.
        field: as `nf compress` names it.
        downscale: of the clip.
        steps: of a run.
        options: by modulation: two prices, so that rates and distortions overlap, and what else
            suits it.
    """

    part: str
    field: str
    downscale: int
    steps: int
    options: dict[str, tuple[dict[str, float], dict[str, float]]]


_BOTH = ({"price": 0.02}, {"price": 0.1})
# Without modulation and its normalisation a network of whole frames learns better at higher rates:
# at 0.002 and a price of 0.01 it had 24.0 dB in 75 kB, at 0.005 and 0.02 23.2 dB in 21 kB.
_FASTER = {"learning_rate": 5e-3}
ARMS = (
    Arm("modulation", "pyramid", DOWNSCALE, 1200, {"time": _BOTH, "none": _BOTH}),
    Arm(
        "frames",
        "ffnerv",
        2 * DOWNSCALE,
        1320,
        {
            "time": ({"price": 0.01}, {"price": 0.04}),
            "none": ({"price": 0.003, **_FASTER}, {"price": 0.012, **_FASTER}),
        },
    ),
)


def modulation(rows: Rows, video: Video, arm: Arm, seeds: list[int]) -> str:
    """The same steps with and without modulation, and BD-rates of with against without."""
    lines, rates = [], []
    for seed in seeds:
        curves: dict[str, list[dict[str, Any]]] = {"time": [], "none": []}
        runs = [(modulate, each) for modulate, both in arm.options.items() for each in both]
        for modulate, options in runs:
            price = options["price"]
            make = partial(
                our_row,
                video,
                None,
                field=arm.field,
                steps=arm.steps,
                seed=seed,
                modulate=modulate,
                options=options,
            )
            row = rows.get(f"{arm.part}.{modulate}.{price}.{seed}", make)
            curves[modulate].append(row)
            psnr = f"{row['psnr']:.3f}"
            lines.append([f"{price}", f"{seed}", modulate, f"{row['bpp']:.5f}", psnr])
        rates.append(said_rate(curves["time"], curves["none"]))
    table = markdown(["price", "seed", "modulation", "bits per pixel", "PSNR"], lines)
    return f"{table}\n\n{arm.field}: with modulation against without: {'; '.join(rates)}"


def said_rate(ours: list[dict[str, Any]], theirs: list[dict[str, Any]]) -> str:
    """BD-rate, or a bound where the worse curve ends below the better one."""
    rate = bd_rate(ours, theirs)
    if not math.isnan(rate):
        return f"{rate:+.1f} %"
    ours, theirs = (sorted(rows, key=lambda row: row["psnr"]) for rows in (ours, theirs))
    if ours[0]["psnr"] >= theirs[-1]["psnr"]:
        return f"below {100 * (ours[0]['bpp'] / theirs[-1]['bpp'] - 1):+.1f} %"
    return "too little in common"


def decoding(rows: Rows, video: Video) -> str:
    """Frames per second."""
    row = rows.get("decode", partial(decode_row, video))
    plain = [f"{row[name]:.1f} ({row['ours'] / row[name]:.1f} times)" for name in SLOWER]
    return (
        f"decoding: {row['ours']:.0f} frames/s, plain PyTorch {plain[0]}, slicing grids in time "
        f"first {plain[1]}; largest difference {row['difference']:.1e}"
    )


def main() -> None:
    """Make the tables."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--data", type=Path, required=True, help="folder of the shared data")
    parser.add_argument("-o", "--output", type=Path, required=True, help="JSON file of the rows")
    parser.add_argument("--parts", nargs="*", choices=PARTS, default=[*PARTS])
    parser.add_argument("--seconds", type=float, default=SECONDS, help=f"of a fit ({SECONDS:g})")
    parser.add_argument("--seeds", type=int, nargs="*", default=[*SEEDS], help="of modulation")
    options = parser.parse_args()
    rows = Rows(options.output)
    video = load_video(options.data / CLIP, DOWNSCALE)
    if "codecs" in options.parts or "ours" in options.parts:
        print(codecs(rows, video, options.seconds, ours="ours" in options.parts))
    for arm in ARMS:
        if arm.part in options.parts:
            clip = load_video(options.data / CLIP, arm.downscale)
            print(modulation(rows, clip, arm, options.seeds))
    if "decode" in options.parts:
        print(decoding(rows, video))


if __name__ == "__main__":
    main()
