"""`nf convert`."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import tyro

from neural_fields.cli.output import Bar, emit_json, say

if TYPE_CHECKING:
    from neural_fields.fields.load import Field
    from neural_fields.training.run import Progress


def convert(
    teacher: tyro.conf.Positional[Path],
    to: str,
    output: Annotated[Path, tyro.conf.arg(aliases=["-o"])],
    preset: str = "default",
    method: Literal["pvd", "pvd-al"] = "pvd",
    modulate: str = "none",
    precision: str = "float32",
    bits: int = 32,
    start: Literal["closed", "paper"] | None = None,
    fresh_head: Annotated[bool, tyro.conf.FlagCreatePairsOff] = False,
    data: Path | None = None,
    split: Literal["train", "val", "test"] = "test",
    seconds: float | None = None,
    steps: int | None = None,
    device: str = "auto",
    seed: int = 0,
    resume: Annotated[bool, tyro.conf.FlagCreatePairsOff] = False,
    save_every: float = 60.0,
    json: str | None = None,
) -> int:
    """Turn a field into one of another architecture, without the data it was fitted to.

    The student learns what the teacher says at samples along rays that both see (Progressive
    Volume Distillation): features first, then densities and colours, then pixels. Beside the
    student lies a picture of both and their difference; the report is kept in its file.

    Args:
        teacher: the .nf file to convert: a radiance field, a shape or a picture.
        to: architecture of the student, as for nf fit --field.
        output: the .nf file to write; OUT.comparison.png beside it shows teacher, student and
            their difference.
        preset: as for nf fit; of radiance fields also paper, PVD's sizes, schedule and start,
            for 30000 steps.
        method: pvd, or pvd-al, which shows hard cameras, rays and samples again.
        modulate: as for nf fit.
        precision: as for nf fit.
        bits: of a kept weight: 32, or 8 for small files.
        start: closed, where the student begins with what the teacher says at its vertices or in
            factors of that, or paper, where it begins as a fit does. Only radiance fields.
        fresh_head: begin with a new colour network instead of the teacher's.
        data: what the teacher was fitted to, to score both against it.
        split: which images of a data set.
        seconds: trained seconds; 30, of pictures 20, if no --steps are given.
        steps: number of steps; such a run repeats bit for bit.
        device: cpu, cuda, cuda:1 and so on, or auto: a GPU where one can be used.
        seed: of every random choice.
        resume: go on from the checkpoint to the same total.
        save_every: trained seconds between checkpoints.
        json: write the report as JSON to this file, or - for stdout.
    """
    from neural_fields import distill
    from neural_fields.api import load_what
    from neural_fields.distill.conversion import default_budget, png
    from neural_fields.fields import read_field_file
    from neural_fields.fields.file import write_atomically
    from neural_fields.fields.load import build_field

    content = read_field_file(teacher)
    field = build_field(content, teacher)
    truth = None if data is None else load_what(field, content.protocol, data, split, teacher)
    if steps is None and seconds is None:
        steps, seconds = default_budget(field.kind, preset)
    view = _View(field, float(steps or seconds or 0), steps is not None, json)
    result = distill.convert(
        teacher,
        output,
        to=to,
        preset=preset,
        method=method,
        modulate=modulate,
        precision=precision,
        bits=bits,
        inherit_head=not fresh_head,
        data=truth,  # type: ignore[arg-type]
        seconds=seconds,
        steps=steps,
        seed=seed,
        resume=resume,
        options={"start": start} if field.kind == "radiance" and start else None,
        save_every=save_every,
        device=device,
        on_start=view.start,
        on_progress=view.progress,
    )
    view.close()
    picture = output.with_name(f"{output.stem}.comparison.png")
    write_atomically(picture, png(result.report.picture))
    _say_report(result.summary, json)
    say(f"wrote {output}, and {picture}: teacher, student and five times their difference", json)
    if result.run.interrupted:
        say("stopped early; go on with the same command and --resume", json)
    emit_json(json, result.summary)
    return 130 if result.run.interrupted else 0


class _View:
    """What a person sees of a conversion."""

    def __init__(self, teacher: Field, total: float, by_steps: bool, json: str | None) -> None:
        self._teacher, self._by_steps, self._json = teacher, by_steps, json
        self._bar = Bar(total, "steps" if by_steps else "s")

    def start(self, trainer: Any) -> None:
        mine, other = trainer.field, self._teacher
        say(
            f"{other.architecture} of {other.n_params / 1e6:.2f}M parameters to "
            f"{mine.architecture} of {mine.n_params / 1e6:.2f}M",
            self._json,
        )
        if getattr(trainer, "inherits", False):
            say("with the teacher's colour network to begin with", self._json)

    def progress(self, at: Progress) -> None:
        done = at.moment.step if self._by_steps else at.moment.seconds
        note = f"psnr {at.psnr:.2f} dB to the teacher, {at.samples_per_s / 1e6:.2f} M samples/s"
        self._bar.update(done, note)

    def close(self) -> None:
        self._bar.close()


_NAMES = {
    "psnr_student_vs_teacher": ("PSNR, student against teacher", "{:.2f} dB"),
    "ssim_student_vs_teacher": ("SSIM, student against teacher", "{:.4f}"),
    "iou_student_vs_teacher": ("IoU, student against teacher", "{:.5f}"),
    "distance_error": ("mean difference of distances", "{:.2e} units"),
    "depth_error": ("mean difference of depths", "{:.2e} units"),
    "psnr_teacher": ("PSNR of the teacher", "{:.2f} dB"),
    "psnr_student": ("PSNR of the student", "{:.2f} dB"),
    "ssim_teacher": ("SSIM of the teacher", "{:.4f}"),
    "ssim_student": ("SSIM of the student", "{:.4f}"),
    "iou_teacher": ("IoU of the teacher", "{:.5f}"),
    "iou_student": ("IoU of the student", "{:.5f}"),
    "params_teacher": ("parameters of the teacher", "{:,}"),
    "params": ("parameters of the student", "{:,}"),
    "bytes": ("bytes of the student's file", "{:,}"),
    "steps": ("steps", "{}"),
    "seconds": ("seconds", "{:.1f}"),
}


def _say_report(summary: dict[str, Any], json: str | None) -> None:
    for key, (name, form) in _NAMES.items():
        value = summary.get(key)
        if value is not None:
            say(f"{name:>30}  {form.format(value)}", json)
    speeds = summary.get("pixels_per_s")
    if speeds:
        ratio = speeds["student"] / speeds["teacher"]
        say(
            f"{'rendering':>30}  {speeds['student'] / 1e6:.2f} M pixels/s, "
            f"{ratio:.2f} times the teacher's",
            json,
        )
