"""`nf view` and `--viewer`, as commands."""

import re
import signal
import subprocess
import sys
import threading
import urllib.request

import pytest

RUN = "from neural_fields.cli.main import main; main()"


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (("nowhere.nf",), "nowhere.nf"),
        ((".", "--port", "99999"), "0 to 65535"),
        ((".", "--port", "0", "--host", "203.0.113.1"), "cannot listen"),
        ((".", "--data", "nowhere"), "--data nowhere"),
        ((".", "--colour"), "no option --colour"),
    ],
)
def test_refusals(refused, arguments, words, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert words in refused("view", *arguments)


def test_serves_its_page_until_interrupted(fitted):
    command = [sys.executable, "-c", RUN, "view", str(fitted), "--port", "0"]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    limit = threading.Timer(60, process.kill)
    limit.start()
    try:
        line = process.stdout.readline()
        url = re.search(r"http://127\.0\.0\.1:\d+", line)[0]
        with urllib.request.urlopen(url, timeout=20) as page:
            assert b"<html" in page.read()[:500].lower()
    finally:
        process.send_signal(signal.SIGINT)
        out, err = process.communicate(timeout=30)
        limit.cancel()
    assert process.returncode == 130
    assert "Traceback" not in err + out


@pytest.mark.parametrize("kind", ["nerf", "image"])
def test_a_watched_fit_ends_where_nobody_looks(nf, scene, tmp_path, kind):
    data = scene if kind == "nerf" else scene / "train" / "r_0.png"
    arguments = ("fit", kind, data, "-o", tmp_path / "a.nf", "--steps", 3)
    outcome = nf(*arguments, "--viewer", "--viewer-port", 0)
    assert outcome.code == 0, outcome
    assert "watch it at http://127.0.0.1:" in outcome.out
    assert (tmp_path / "a.nf").is_file()
