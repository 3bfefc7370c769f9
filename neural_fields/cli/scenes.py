"""`nf scenes`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import tyro

from neural_fields.cli.output import Bar, emit_json, say


def scenes_list(json: str | None = None) -> None:
    """List our own scenes, which render themselves, and the public data sets.

    Args:
        json: write the list as JSON to this file, or - for stdout.
    """
    from dataclasses import asdict

    from neural_fields import scenes

    entries = [scenes.describe(name) for name in (*scenes.names(), *scenes.public_names())]
    say("scenes that render themselves (nf scenes make NAME -o DIR):", json)
    for entry in entries:
        if entry.kind == "procedural":
            say(f"  {entry.name:<14} {entry.summary}", json)
    say("public data sets (to be had from their home pages):", json)
    for entry in entries:
        if entry.kind != "procedural":
            say(f"  {entry.name:<14} {entry.summary}", json)
            say(f"  {'':<14} {entry.homepage}  licence: {entry.licence}", json)
            say(f"  {'':<14} layout: {entry.layout}", json)
    emit_json(json, {"scenes": [asdict(entry) for entry in entries]})


def scenes_make(
    name: tyro.conf.Positional[str],
    output: Annotated[Path, tyro.conf.arg(aliases=["-o"])],
    n_train: int = 100,
    n_test: int = 20,
    size: int = 400,
    seed: int = 0,
    overwrite: Annotated[bool, tyro.conf.FlagCreatePairsOff] = False,
    json: str | None = None,
) -> None:
    """Render one of our scenes to a data set in the Blender layout.

    Args:
        name: one of the names that nf scenes list shows.
        output: the folder to make.
        n_train: training views.
        n_test: test views.
        size: pixels per side.
        seed: of the cameras.
        overwrite: replace an existing folder.
        json: write a summary as JSON to this file, or - for stdout.
    """
    from neural_fields import scenes

    bar = Bar(n_train + n_test, "views")
    path = scenes.make(
        name,
        output,
        n_train=n_train,
        n_test=n_test,
        size=size,
        seed=seed,
        overwrite=overwrite,
        progress=lambda done, _total: bar.update(done),
    )
    bar.close()
    say(f"wrote {path}", json)
    say(f"fit it:  nf fit nerf {path} -o {name}.nf", json)
    emit_json(json, {"output": str(path), "name": name, "train": n_train, "test": n_test})
