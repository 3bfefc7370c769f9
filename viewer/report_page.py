"""The report's HTML: one page, light or dark as the reader's system is."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from dataclasses import dataclass
from html import escape
from typing import Any

from neural_fields.fields import FieldFile
from neural_fields.viewer import report_figures as figures
from neural_fields.viewer.report_style import STYLE


@dataclass(frozen=True)
class ViewRow:
    """A view that is shown: its scores, and pictures as addresses."""

    name: str
    psnr: float
    ssim: float
    truth: str
    ours: str
    error: str
    depth: str
    normal: str
    depth_range: tuple[float, float] | None


@dataclass(frozen=True)
class Report:
    """Everything that the page states.

    Attributes:
        title: of the page.
        command: what made the page.
        again: the command that gives the same scores.
        content: the field's file.
        n_params: trainable numbers.
        n_bytes: size of the file.
        scores: as `nf eval` gives them.
        rows: the views that are shown.
        error_scale: difference that the error map's last colour stands for.
        video: the turntable as an address, or None.
        no_video: why there is none.
        machine: what the page was made on.
    """

    title: str
    command: str
    again: str
    content: FieldFile
    n_params: int
    n_bytes: int
    scores: dict[str, Any]
    rows: list[ViewRow]
    error_scale: float
    video: str | None
    no_video: str
    machine: dict[str, str]


def html(report: Report) -> str:
    """The whole page."""
    title = escape(report.title)
    raw = json.dumps(report.scores).replace("<", "\\u003c")
    return f"""<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<meta name="color-scheme" content="light dark">
<title>{title} - field report</title>
<style>{STYLE}</style>
</head>
<body>
<main>
<header>
<p class="kicker">neural_fields &middot; field report</p>
<h1>{title}</h1>
<p class="lead">{_lead(report)}</p>
<pre class="command"><span>$</span> {escape(report.command)}</pre>
</header>
{_overview(report)}
{_views(report)}
{_charts(report)}
{_details(report)}
<footer>The scores are those of <code>{escape(report.again)}</code>; the page also holds them as
JSON in the element <code>#scores</code>.</footer>
</main>
<script type="application/json" id="scores">{raw}</script>
</body>
</html>
"""


def _lead(report: Report) -> str:
    sizes = report.content.config.get("architecture")
    name = sizes.get("name", "?") if isinstance(sizes, dict) else "?"
    architecture = escape(str(name))
    n, split = report.scores["n_views"], report.scores["protocol"]["eval_split"]
    unseen = " that it has not seen in training" if split != "train" else ""
    return f"A radiance field ({architecture}) scored on {n} {split} views{unseen}."


def _overview(report: Report) -> str:
    metrics, split = report.content.metrics, report.scores["protocol"]["eval_split"]
    cards = [
        (f"PSNR, {split} mean", _psnr(report.scores["psnr"]), "dB"),
        (f"SSIM, {split} mean", f"{report.scores['ssim']:.4f}", ""),
        ("trained", _number(metrics.get("seconds"), "{:.1f}"), "s"),
        ("throughput", _number(_rate(metrics), "{:.2f}", 1e-6), "M samples/s"),
        ("parameters", f"{report.n_params / 1e6:.2f}", "M"),
        ("file", f"{report.n_bytes / 1e6:.1f}", "MB"),
    ]
    tiles = "".join(
        f'<div class="card"><dt>{escape(name)}</dt><dd>{value}'
        f"{f' <small>{unit}</small>' if unit else ''}</dd></div>"
        for name, value, unit in cards
    )
    if report.video is None:
        turn = f'<p class="note">no turntable: {escape(report.no_video)}</p>'
    else:
        turn = f'<video loop autoplay muted playsinline src="{report.video}"></video>'
    return f'<section class="overview"><div>{turn}</div><dl class="cards">{tiles}</dl></section>'


def _views(report: Report) -> str:
    heads = "".join(f"<th>{name}</th>" for name in ("truth", "ours", "error", "depth", "normals"))
    rows = []
    for row in report.rows:
        name = escape(row.name)
        cells = "".join(
            f'<td><img alt="{name}: {label}" src="{getattr(row, label)}">{note}</td>'
            for label, note in (
                ("truth", f'<p class="under">{name}</p>'),
                ("ours", f'<p class="under">{_psnr(row.psnr)} dB, SSIM {row.ssim:.4f}</p>'),
                ("error", ""),
                ("depth", _range(row.depth_range)),
                ("normal", ""),
            )
        )
        rows.append(f"<tr>{cells}</tr>")
    return f"""<section>
<h2>Views</h2>
<div class="scroll"><table class="views"><thead><tr>{heads}</tr></thead>
<tbody>{"".join(rows)}</tbody></table></div>
<div class="legend"><span>error: mean absolute difference of R, G and B, in [0, 1]</span>
<b>0</b><i style="background:{figures.css_gradient(figures.ERROR_RAMP)}"></i>
<b>{report.error_scale:g} and more</b></div>
<div class="legend"><span>depth: along the ray, world units, where opacity is over one half</span>
<b>farthest</b><i style="background:{figures.css_gradient(figures.DEPTH_RAMP)}"></i>
<b>nearest</b></div>
<p class="note">Normals are the directions in which density falls fastest, in world axes, [-1, 1]
shown as [0, 1].</p>
</section>"""


def _range(limits: tuple[float, float] | None) -> str:
    text = "nothing seen" if limits is None else f"{limits[0]:.2f} to {limits[1]:.2f}"
    return f'<p class="under">{text}</p>'


def _charts(report: Report) -> str:
    views, split = report.scores["views"], report.scores["protocol"]["eval_split"]
    finite = [view["psnr"] for view in views if math.isfinite(view["psnr"])]
    most = max(finite, default=1.0)
    bars = "".join(
        f'<tr><th>{escape(view["name"])}</th><td><i style="width:'
        f'{100 * min(view["psnr"] / most, 1):.1f}%"></i></td>'
        f"<td>{_psnr(view['psnr'])}</td><td>{view['ssim']:.4f}</td></tr>"
        for view in views
    )
    history = report.content.metrics.get("history") or []
    if len(history) > 1 and finite:
        level = report.scores["psnr"]
        curve = figures.curve_svg(history, level, f"{split} mean {level:.2f}")
        note = (
            "Training PSNR is of the rays of the last 200 steps, over random backgrounds; the "
            f"{split} mean is by the protocol below and of averaged weights."
        )
    else:
        curve, note = "", "The file holds no training curve."
    return f"""<section class="charts">
<div><h2>Training</h2>{curve}<p class="note">{note}</p></div>
<div><h2>Every {split} view</h2>
<table class="bars"><thead><tr><th>view</th><td></td><td>PSNR, dB</td><td>SSIM</td></tr></thead>
<tbody>{bars}</tbody></table></div>
</section>"""


def _details(report: Report) -> str:
    content, metrics = report.content, report.content.metrics
    provenance = content.provenance
    versions = provenance.get("versions") or {}
    run = {
        "command": provenance.get("command") or "Python interface",
        "preset": provenance.get("preset"),
        "seed": provenance.get("seed"),
        "steps": _number(metrics.get("steps"), "{:,.0f}"),
        "samples": _number(metrics.get("train_samples"), "{:,.0f}"),
        "PSNR on training rays": _number(metrics.get("psnr_train"), "{:.2f} dB"),
        "instruction set": provenance.get("isa"),
        "data": str(provenance.get("fingerprint") or "")[:16],
        **{str(name): version for name, version in versions.items()},
    }
    protocol = {
        **report.scores["protocol"],
        "picture": "clamped to [0, 1], not rounded",
        "PSNR": "of the squared error over all pixels and channels",
        "SSIM": "11x11 Gaussian window, sigma 1.5, data range 1",
        "mean": f"over {report.scores['n_views']} views",
    }
    tables = [("Run", run), ("Protocol", protocol), ("Scored on", report.machine)]
    body = "".join(f"<div><h2>{name}</h2>{_table(values)}</div>" for name, values in tables)
    return f'<section class="details">{body}</section>'


def _table(values: Mapping[str, Any]) -> str:
    rows = "".join(
        f"<tr><th>{escape(str(name).replace('_', ' '))}</th><td>{escape(str(value))}</td></tr>"
        for name, value in values.items()
        if value not in (None, "")
    )
    return f'<table class="facts"><tbody>{rows}</tbody></table>'


def _rate(metrics: Mapping[str, Any]) -> float | None:
    seconds, samples = metrics.get("seconds"), metrics.get("train_samples")
    return samples / seconds if seconds and samples else None


def _number(value: float | None, form: str, factor: float = 1.0) -> str:
    return "-" if value is None else form.format(value * factor)


def _psnr(value: float) -> str:
    return f"{value:.2f}" if math.isfinite(value) else "&infin;"
