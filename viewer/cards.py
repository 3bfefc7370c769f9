"""A field in a few words and a small picture, as HTML; everything in it may be hostile text."""

from __future__ import annotations

from html import escape

from neural_fields.viewer.library import Entry
from neural_fields.viewer.report_figures import png_uri

_KINDS = {
    "dynamic": "radiance field that moves",
    "surface": "surface from photographs",
    "radiance": "radiance field",
    "sdf": "signed distance field",
    "image": "image field",
    "video": "video field",
    "frames": "video field of whole frames",
    "nfv": "compressed video",
    "scene": "procedural scene",
}


def card(entry: Entry, place: str = "") -> str:
    """HTML of an entry; `place` is where it is seen, such as left."""
    picture = ""
    if entry.thumbnail is not None:
        picture = (
            f'<img alt="" src="{png_uri(entry.thumbnail / 255)}" '
            'style="width:64px;height:64px;object-fit:contain;flex:none;border-radius:4px">'
        )
    lines = [entry.problem] if entry.problem else facts(entry)
    text = "<br>".join(escape(line) for line in lines)
    title = escape(entry.name) + (f" <i>({escape(place)})</i>" if place else "")
    return (
        '<div style="display:flex;gap:8px;align-items:center;margin:4px 8px;font-size:0.8em;'
        'line-height:1.35">'
        f'{picture}<div style="min-width:0;overflow-wrap:anywhere"><b>{title}</b><br>{text}</div>'
        "</div>"
    )


def facts(entry: Entry) -> list[str]:
    """Kind, architecture, PSNR and size.

    Example:
        >>> from pathlib import Path
        >>> facts(Entry("a.nf", Path("a.nf"), (0, 0), "sdf", "hash", n_bytes=1_500_000))
        ['hash, signed distance field', '1.5 MB']
    """
    kind = _KINDS.get(entry.kind, entry.kind)
    lines = [f"{entry.architecture}, {kind}" if entry.architecture else kind]
    if entry.psnr is not None:
        lines.append(f"{entry.psnr[0]:.2f} dB against {entry.psnr[1]}")
    return [*lines, f"{entry.n_bytes / 1e6:.1f} MB"] if entry.n_bytes else lines
