"""Pictures and charts of a report, as text that stands inside one HTML file."""

from __future__ import annotations

import base64
import io
import math
from collections.abc import Sequence

import torch
from torch import Tensor

Ramp = tuple[tuple[int, int, int], ...]

# Perceived lightness changes evenly along both: error from paper to ink, depth from far to near.
ERROR_RAMP: Ramp = (
    (255, 255, 255),
    (254, 227, 145),
    (254, 153, 41),
    (204, 66, 10),
    (110, 18, 12),
    (30, 4, 8),
)
DEPTH_RAMP: Ramp = ((68, 1, 84), (59, 82, 139), (33, 145, 140), (94, 201, 98), (253, 231, 37))
LONGEST_SIDE = 512  # pictures are box-averaged to at most this many pixels


def data_uri(kind: str, content: bytes) -> str:
    """The content as an address that needs no other file.

    Example:
        >>> data_uri("text/plain", b"hi")
        'data:text/plain;base64,aGk='
    """
    return f"data:{kind};base64,{base64.b64encode(content).decode()}"


def png_uri(picture: Tensor) -> str:
    """A picture [h, w, 3] in [0, 1] as a PNG, at most `LONGEST_SIDE` pixels a side."""
    from PIL import Image

    factor = math.ceil(max(picture.shape[:2]) / LONGEST_SIDE)
    if factor > 1:
        channels_first = picture.permute(2, 0, 1)[None]
        pooled = torch.nn.functional.avg_pool2d(channels_first, factor, ceil_mode=True)
        picture = pooled[0].permute(1, 2, 0)
    stream = io.BytesIO()
    pixels = (picture.clamp(0, 1) * 255).round().to(torch.uint8).numpy()
    Image.fromarray(pixels).save(stream, format="PNG", optimize=True)
    return data_uri("image/png", stream.getvalue())


def colored(values: Tensor, ramp: Ramp) -> Tensor:
    """Colours [..., 3] of values [...]; from 0, the ramp's first, to 1, its last, clamped.

    Example:
        >>> colored(torch.tensor([0.0, 0.5, 2.0]), ((0, 0, 0), (255, 255, 255)))[:, 0]
        tensor([0.0000, 0.5000, 1.0000])
    """
    stops = torch.tensor(ramp, dtype=torch.float32) / 255
    place = values.clamp(0, 1) * (len(ramp) - 1)
    lower = place.floor().long().clamp(max=len(ramp) - 2)
    return torch.lerp(stops[lower], stops[lower + 1], (place - lower)[..., None])


def error_picture(picture: Tensor, truth: Tensor, full_scale: float) -> Tensor:
    """Mean absolute colour difference on the error ramp, whose last colour is `full_scale`."""
    return colored((picture - truth).abs().mean(-1) / full_scale, ERROR_RAMP)


def depth_picture(depth: Tensor) -> tuple[Tensor, tuple[float, float] | None]:
    """Depth [h, w] on the depth ramp, white where nothing is seen; and its nearest and farthest."""
    seen = depth > 0
    if not bool(seen.any()):
        return torch.ones(*depth.shape, 3), None
    near, far = float(depth[seen].min()), float(depth[seen].max())
    color = colored(1 - (depth - near) / max(far - near, 1e-6), DEPTH_RAMP)
    return torch.where(seen[..., None], color, 1.0), (near, far)


def css_gradient(ramp: Ramp) -> str:
    """The ramp as a CSS background, from left to right."""
    return f"linear-gradient(90deg, {', '.join(f'rgb{color}' for color in ramp)})"


def ticks(low: float, high: float, about: int) -> list[float]:
    """Round numbers that cover [low, high], roughly `about` of them.

    Example:
        >>> ticks(11.3, 30.2, 5)
        [10.0, 15.0, 20.0, 25.0, 30.0, 35.0]
    """
    raw = max(high - low, 1e-9) / about
    power = 10.0 ** math.floor(math.log10(raw))
    step = min((m * power for m in (1, 2, 5, 10)), key=lambda s: abs(math.log(s / raw)))
    first, last = math.floor(low / step + 1e-9), math.ceil(high / step - 1e-9)
    return [round(index * step, 10) for index in range(first, max(last, first + 1) + 1)]


def curve_svg(points: Sequence[Sequence[float]], level: float, label: str) -> str:
    """PSNR over trained seconds, and a dashed line at `level`; colours come from the page."""
    width, height, left, right, top, bottom = 640, 300, 46, 14, 14, 40
    finite = [(x, y) for x, y in points if math.isfinite(x) and math.isfinite(y)]
    xs, ys = [x for x, _ in finite], [*(y for _, y in finite), level]
    x_ticks, y_ticks = ticks(0, max(xs), 6), ticks(min(ys), max(ys), 5)
    y_low, y_high = y_ticks[0], y_ticks[-1]

    def across(x: float) -> float:
        return left + (width - left - right) * x / max(xs)

    def down(y: float) -> float:
        return top + (height - top - bottom) * (y_high - y) / (y_high - y_low)

    parts = [
        f'<svg viewBox="0 0 {width} {height}" role="img" '
        'aria-label="Training PSNR over trained seconds">'
    ]
    for y in y_ticks:
        at = down(y)
        parts.append(f'<line class="grid" x1="{left}" x2="{width - right}" y1="{at}" y2="{at}"/>')
        parts.append(f'<text x="{left - 8}" y="{at + 4}" text-anchor="end">{y:g}</text>')
    for x in x_ticks:
        if x <= max(xs) * 1.001:
            parts.append(
                f'<text x="{across(x):.1f}" y="{height - bottom + 18}" '
                f'text-anchor="middle">{x:g}</text>'
            )
    line = " ".join(f"{across(x):.1f},{down(y):.1f}" for x, y in finite)
    at = down(level)
    parts += [
        f'<line class="level" x1="{left}" x2="{width - right}" y1="{at:.1f}" y2="{at:.1f}"/>',
        f'<text class="level-label" x="{width - right - 4}" y="{at + 16:.1f}" '
        f'text-anchor="end">{label}</text>',
        f'<polyline class="curve" points="{line}"/>',
        f'<text x="{(left + width - right) / 2}" y="{height - 4}" text-anchor="middle">'
        "trained seconds</text>",
        f'<text x="14" y="{(top + height - bottom) / 2}" text-anchor="middle" '
        f'transform="rotate(-90 14 {(top + height - bottom) / 2})">PSNR, dB</text>',
        "</svg>",
    ]
    return "".join(parts)
