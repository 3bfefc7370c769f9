"""The viewer in a real browser: headless Chromium, driven by Playwright."""

import asyncio
import contextlib
import io
import json
import re
import shutil
import threading
import time
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

import neural_fields as nf
from neural_fields.data.mesh import load_mesh
from neural_fields.rendering.cameras import Cameras
from neural_fields.rendering.orbits import resized
from neural_fields.rendering.seen import to_bytes
from neural_fields.viewer.server import Viewer
from neural_fields.viewer.window import camera_of_visitor

CHROMIUM = shutil.which("chromium")
pytestmark = pytest.mark.skipif(CHROMIUM is None, reason="needs chromium")
SIZE = (900, 640)
FREE = (slice(250, 640), slice(0, 540))  # rows and columns that neither panel nor notices cover
TIMEOUT_MS = 90_000
QUIET = ["--no-sandbox", "--disable-quic", "--no-first-run", "--disable-background-networking"]


@pytest.fixture(scope="module")
def viewer(folder):
    with Viewer([folder], port=0) as made:
        yield made


@pytest.fixture(scope="module")
def browser():
    from playwright.sync_api import sync_playwright

    with sync_playwright() as playwright:
        made = playwright.chromium.launch(executable_path=CHROMIUM, args=QUIET)
        yield made
        made.close()


@pytest.fixture
def page(browser, viewer):
    with visiting(browser, viewer.url) as opened:
        yield opened


@contextlib.contextmanager
def visiting(browser, url):
    page = browser.new_page(viewport={"width": SIZE[0], "height": SIZE[1]})
    page.set_default_timeout(TIMEOUT_MS)
    asked = []
    page.on("request", lambda request: asked.append(request.url))
    page.goto(url)
    at_rest(page)
    yield page
    page.close()
    outside = [x for x in asked if not re.match(r"(data|blob):|http://127\.0\.0\.1[:/]", x)]
    assert not outside  # all that it needs comes through the one port


def at_rest(page):
    """Wait until the picture has all its pixels."""
    page.get_by_text(re.compile(r"^\d+x\d+ pixels in")).wait_for()
    time.sleep(0.3)  # the picture follows its text
    page.get_by_text(re.compile(r"^\d+x\d+ pixels in")).wait_for()


def window_of(viewer):
    (window,) = viewer._windows.values()
    return window


def photograph(page):
    return torch.from_numpy(np.array(
        Image.open(io.BytesIO(page.screenshot(timeout=TIMEOUT_MS))).convert("RGB")
    )).float()  # fmt: skip


def expected(viewer, field, mode="rgb"):
    """What `nf render` shows from where the visitor stands."""
    # The client asks for fewer pixels where its graphics are slow.
    camera = resized(camera_of_visitor(window_of(viewer)._client.camera), *SIZE)
    return to_bytes(nf.render(field, camera, mode=mode), mode).float()


def psnr(ours, theirs):
    error = (ours[FREE] - theirs[FREE]).square().mean() / 255**2
    return float(-10 * error.log10())


def choose(page, label, option):
    page.get_by_label(label, exact=True).first.click()
    page.get_by_role("option", name=option, exact=True).click()


def test_shows_the_fields_pixels(page, viewer, folder):
    shot = photograph(page)
    field = nf.load(folder / "a.nf")
    assert psnr(shot, expected(viewer, field)) > 30
    other = nf.load(folder / "b.nf")
    assert psnr(shot, expected(viewer, other)) < 25  # it can tell fields apart
    for text in ("a.nf", "hash, radiance field", "31.25 dB against training data"):
        assert page.get_by_text(text).first.is_visible()


def test_moves_with_the_mouse(page, viewer, folder):
    before = photograph(page)
    start = camera_of_visitor(window_of(viewer)._client.camera)
    drag(page, (200, 400), (340, 435))
    deadline = time.monotonic() + 30
    while time.monotonic() < deadline:
        now = camera_of_visitor(window_of(viewer)._client.camera)
        if not torch.allclose(now.camera_to_world, start.camera_to_world, atol=0.05):
            break
        time.sleep(0.1)
    time.sleep(2.0)  # until damping has ended
    at_rest(page)
    after = photograph(page)
    assert psnr(after, before) < 25
    assert psnr(after, expected(viewer, nf.load(folder / "a.nf"))) > 30


def test_switches_modes_and_fields_and_compares(page, viewer, folder):
    fields = [nf.load(folder / name) for name in ("a.nf", "b.nf")]
    choose(page, "Mode", "normal")
    at_rest(page)
    assert psnr(photograph(page), expected(viewer, fields[0], "normal")) > 30
    choose(page, "Mode", "rgb")
    page.get_by_role("button", name="Show b.nf").click()
    at_rest(page)
    assert psnr(photograph(page), expected(viewer, fields[1])) > 30
    page.get_by_text("Compare").click()
    choose(page, "With", "a.nf")
    at_rest(page)
    shot, at = photograph(page), SIZE[0] // 2
    both = torch.cat([expected(viewer, fields[1])[:, :at], expected(viewer, fields[0])[:, at:]], 1)
    assert psnr(shot, both) > 30
    assert page.get_by_text("(right)").first.is_visible()


def test_refuses_in_words_what_cannot_be_compared(page):
    page.get_by_text("Compare").click()
    choose(page, "With", "deep/picture.nf")
    page.get_by_text("is of kind image").wait_for()


def test_pictures_are_sheets(page, viewer, folder):
    page.get_by_role("button", name="Show deep/picture.nf").click()
    at_rest(page)
    time.sleep(1.0)
    at_rest(page)
    window = window_of(viewer)
    assert window._left.shown.kind == "image"
    shot = photograph(page)
    assert shot[FREE].std() > 5


def test_records_a_path_that_render_plays(page, viewer, tmp_path):
    page.get_by_text("Camera path").click()
    for first in (200, 320):
        page.get_by_role("button", name="Keep this view").click()
        drag(page, (first, 400), (first + 100, 430))
    page.get_by_text("2 views are kept.").wait_for()
    window_of(viewer)._path._seconds.value = 1.0
    with page.expect_download() as download:
        page.get_by_role("button", name="Save path.json").click()
    data = json.loads(Path(download.value.path()).read_text())
    path = Cameras.from_json(data)
    assert data["fps"] == 30
    assert len(path) == 30
    assert (path.camera_to_world[0] - path.camera_to_world[-1]).abs().max() > 0.1
    start = camera_of_visitor(window_of(viewer)._client.camera)
    page.get_by_role("button", name="Play").click()
    deadline = time.monotonic() + 30
    goal = path.camera_to_world[-1][:3, 3]
    while time.monotonic() < deadline:
        now = camera_of_visitor(window_of(viewer)._client.camera).camera_to_world[0, :3, 3]
        if float((now - goal).norm()) < 0.4:
            break
        time.sleep(0.1)
    assert float((now - goal).norm()) < 0.4
    assert float((start.camera_to_world[0, :3, 3] - goal).norm()) > 0.4  # it was elsewhere


def test_saves_the_picture_and_the_surface(page, viewer, folder):
    page.get_by_text("Save", exact=True).click()
    with page.expect_download() as download:
        page.get_by_role("button", name="Save picture").click()
    camera = camera_of_visitor(window_of(viewer)._client.camera)
    saved = torch.from_numpy(np.array(Image.open(download.value.path())))
    assert torch.equal(saved, to_bytes(nf.render(nf.load(folder / "a.nf"), camera), "rgb"))
    window_of(viewer)._saver._cells.value = 32
    page.get_by_role("button", name="Save mesh").click()
    page.get_by_text("needs values that pass").wait_for()  # a fog has no surface
    page.get_by_role("button", name="Show shape.nf").click()
    at_rest(page)
    with page.expect_download() as download:
        page.get_by_role("button", name="Save mesh").click()
    assert download.value.suggested_filename == "shape.ply"
    mesh = folder / "saved.ply"
    mesh.write_bytes(Path(download.value.path()).read_bytes())
    assert len(load_mesh(mesh).faces) > 100


def test_enters_a_photographs_camera(page, viewer):
    page.get_by_text("Overlays").click()
    page.get_by_text("Training cameras").click()
    window = window_of(viewer)
    deadline = time.monotonic() + 20
    while not window._overlays._handles["cameras"] and time.monotonic() < deadline:
        time.sleep(0.05)
    assert len(window._overlays._handles["cameras"]) == 3
    window._go_to_photograph(2)
    wanted = window._left.shown.cameras.camera_to_world[2]
    while time.monotonic() < deadline:
        pose = camera_of_visitor(window._client.camera).camera_to_world[0]
        if torch.allclose(pose, wanted, atol=0.02):
            break
        time.sleep(0.1)
    torch.testing.assert_close(pose, wanted, rtol=0, atol=0.02)


def drag(page, begin, end):
    page.mouse.move(*begin)
    page.mouse.down()
    for step in range(1, 9):
        page.mouse.move(*(a + (b - a) * step / 8 for a, b in zip(begin, end, strict=True)))
    page.mouse.up()
    time.sleep(1.5)  # until damping has ended


def test_through_a_proxy_under_a_path(browser, viewer, folder):
    with proxied(viewer, "/lab/user/") as url, visiting(browser, url) as page:
        assert psnr(photograph(page), expected(viewer, nf.load(folder / "a.nf"))) > 30


@contextlib.contextmanager
def proxied(viewer, prefix):
    """A reverse proxy in a thread; each connection has one request, whose path loses the prefix."""
    port = int(viewer.url.rpartition(":")[2])
    loop = asyncio.new_event_loop()

    async def pipe(reader, writer):
        with contextlib.suppress(OSError):
            while data := await reader.read(1 << 16):
                writer.write(data)
                await writer.drain()
        writer.close()

    async def serve(reader, writer):
        line = (await reader.readline()).decode()
        if f" {prefix.rstrip('/')}" not in line:
            writer.write(b"HTTP/1.1 404 Not Found\r\nContent-Length: 0\r\n\r\n")
            writer.close()
            return
        path = line.split(" ")[1].removeprefix(prefix.rstrip("/")) or "/"
        inner_reader, inner_writer = await asyncio.open_connection("127.0.0.1", port)
        inner_writer.write(f"GET {path} HTTP/1.1\r\n".encode())
        await asyncio.gather(pipe(reader, inner_writer), pipe(inner_reader, writer))

    async def ended():
        server.close()
        tasks = asyncio.all_tasks() - {asyncio.current_task()}
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    thread = threading.Thread(target=loop.run_forever, daemon=True)
    thread.start()
    starting = asyncio.start_server(serve, "127.0.0.1", 0)
    server = asyncio.run_coroutine_threadsafe(starting, loop).result(10)
    try:
        yield f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}{prefix}"
    finally:
        asyncio.run_coroutine_threadsafe(ended(), loop).result(10)
        loop.call_soon_threadsafe(loop.stop)
        thread.join(10)
        loop.close()
