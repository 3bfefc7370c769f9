"""What visitors may open, and nothing else."""

import os
import shutil
from pathlib import Path

import pytest
from viewed import scene

from neural_fields.errors import InputError
from neural_fields.fields.load import save
from neural_fields.viewer import library as library_module
from neural_fields.viewer.cards import card, facts
from neural_fields.viewer.library import Entry, Library


def test_lists_what_lies_below_with_its_facts(folder):
    entries = {entry.name: entry for entry in Library([folder]).entries()}
    assert [*entries] == ["a.nf", "b.nf", "broken.nf", "deep/picture.nf", "shape.nf"]
    a = entries["a.nf"]
    assert (a.kind, a.architecture, a.psnr) == ("radiance", "hash", (31.25, "training data"))
    assert a.n_bytes == (folder / "a.nf").stat().st_size
    assert a.thumbnail.shape == (8, 8, 3)
    assert entries["deep/picture.nf"].kind == "image"
    assert "needs a .nf file" in entries["broken.nf"].problem


def test_several_paths_keep_their_names_apart(folder, tmp_path):
    save(scene(), tmp_path / "a.nf")
    names = [entry.name for entry in Library([folder, tmp_path, folder / "b.nf"]).entries()]
    assert f"{folder.name}/a.nf" in names
    assert f"{tmp_path.name}/a.nf" in names
    assert "b.nf" in names


def test_opens_by_name_and_again_when_the_file_changes(tmp_path):
    save(scene(0), tmp_path / "a.nf")
    library = Library([tmp_path])
    first = library.open("a.nf")
    assert library.open("a.nf") is first
    save(scene(1), tmp_path / "a.nf")
    second = library.open("a.nf")
    assert second is not first
    ours, theirs = (opened.shown.field.trunk.encoding.table for opened in (first, second))
    assert not ours.equal(theirs)


@pytest.mark.parametrize("name", ["../secret.nf", "/etc/passwd", "c.nf", "", "link.nf", "a.nf/"])
def test_other_names_open_nothing(tmp_path, name):
    inside = tmp_path / "inside"
    inside.mkdir()
    save(scene(), inside / "a.nf")
    save(scene(), tmp_path / "secret.nf")
    os.symlink(tmp_path / "secret.nf", inside / "link.nf")
    os.symlink(tmp_path, inside / "up")
    library = Library([inside])
    assert [entry.name for entry in library.entries()] == ["a.nf"]
    with pytest.raises(InputError, match="not among the fields"):
        library.open(name)


def test_checkpoints_are_listed_only_without_their_field(tmp_path):
    for name in ("done.nf", "done.ckpt.nf", "running.ckpt.nf", ".part.nf"):
        save(scene(), tmp_path / name)
    names = [entry.name for entry in Library([tmp_path]).entries()]
    assert names == ["done.nf", "running.ckpt.nf"]


def test_memory_is_bounded(folder, tmp_path, monkeypatch):
    for index in range(4):
        shutil.copy(folder / "a.nf", tmp_path / f"{index}.nf")
    size = (folder / "a.nf").stat().st_size
    monkeypatch.setattr(library_module, "_KEPT_BYTES", 2 * size + 1)
    library = Library([tmp_path])
    for index in range(4):
        library.open(f"{index}.nf")
    assert len(library._opened) == 2
    monkeypatch.setattr(library_module, "_MOST_ENTRIES", 3)
    assert len(library.entries()) == 3


def test_what_is_missing_or_no_field_is_refused(tmp_path):
    (tmp_path / "x.nf").write_bytes(b"hello")
    for path in (tmp_path / "none", tmp_path / "x.nf"):
        with pytest.raises(InputError, match=path.name):
            Library([path])


def test_cards_show_hostile_text_as_text(folder):
    entry = Entry("<script>x</script>.nf", folder, (0, 0), "<b>", "<i>", (1.0, "<u>"))
    html = card(entry, "<left>")
    for tag in ("<script", "<i>&lt;", "<u>", "<left>"):
        assert tag not in html.replace("<i>(&lt;left&gt;)</i>", "")
    assert "&lt;script&gt;" in html
    assert facts(entry)[1] == "1.00 dB against <u>"
    assert "data:image/png;base64," in card(Library([folder]).entries()[0])


def test_scenes_are_listed_by_name(tmp_path, monkeypatch):
    library = Library([tmp_path, Path("clockwork"), Path("shine")])
    entries = {entry.name: entry for entry in library.entries()}
    assert {name: entry.kind for name, entry in entries.items()} == dict.fromkeys(
        ("clockwork", "shine"), "scene"
    )
    assert facts(entries["shine"]) == ["procedural scene"]
    assert entries["shine"].thumbnail.shape == (96, 96, 3)
    opened = library.open("clockwork")
    assert opened.shown.moves
    assert not library.open("shine").shown.moves
    assert library.open("clockwork") is opened
    (tmp_path / "shine").mkdir()
    monkeypatch.chdir(tmp_path)
    assert not Library([Path("shine")]).entries()  # what lies there comes first
