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
from neural_fields.rendering.slices import Slice
from neural_fields.viewer.frame import State, render_frame
from neural_fields.viewer.procedural import ShownScene
from neural_fields.viewer.server import Viewer
from neural_fields.viewer.shown import Look
from neural_fields.viewer.visitor_camera import camera_of_visitor

CHROMIUM = shutil.which("chromium")
pytestmark = pytest.mark.skipif(CHROMIUM is None, reason="needs chromium")
SIZE = (900, 640)
VIEW = (576, 640)  # of it, beside the panel
FREE = (slice(250, 640), slice(0, 576))  # rows and columns that notices do not cover
TIMEOUT_MS = 90_000
QUIET = ["--no-sandbox", "--disable-quic", "--no-first-run", "--disable-background-networking"]


@pytest.fixture(scope="module")
def viewer(folder):
    with Viewer([folder, Path("clockwork")], port=0) as made:
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


def until(true):
    deadline = time.monotonic() + 30
    while not true():
        assert time.monotonic() < deadline
        time.sleep(0.05)


def window_of(viewer):
    (window,) = viewer._windows.values()
    return window


def photograph(page):
    """What the window shows, without the panel."""
    shot = Image.open(io.BytesIO(page.screenshot(timeout=TIMEOUT_MS))).convert("RGB")
    return torch.from_numpy(np.array(shot))[:, : VIEW[0]].float()


def expected(viewer, field, mode="rgb"):
    """What `nf render` shows from where the visitor stands."""
    # The client asks for fewer pixels where its graphics are slow.
    camera = resized(camera_of_visitor(window_of(viewer)._client.camera), *VIEW)
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
    shot, at = photograph(page), VIEW[0] // 2
    both = torch.cat([expected(viewer, fields[1])[:, :at], expected(viewer, fields[0])[:, at:]], 1)
    line = slice(at - 3, at + 3)
    assert (shot[FREE][:, line] - both[FREE][:, line]).abs().amax() > 60  # it is drawn
    shot[:, line] = both[:, line]
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


def test_plays_what_moves(page, viewer):
    page.get_by_role("button", name="Show clockwork").click()
    at_rest(page)
    window = window_of(viewer)
    asked = []
    show = viewer._service.show
    viewer._service.show = lambda visitor, wish: (
        asked.append(wish.state.look.time),
        show(visitor, wish),
    )
    page.get_by_role("button", name="Play time").click()
    pictures = [photograph(page)]
    deadline = time.monotonic() + 30
    while len(set(asked)) < 30 and time.monotonic() < deadline:
        time.sleep(0.2)
        pictures.append(photograph(page))
    page.get_by_role("button", name="Stop").click()
    viewer._service.show = show
    steps = np.diff(asked)
    assert (steps > 0).mean() > 0.9  # forward, but where it begins anew
    assert np.median(steps) < 0.1
    assert max(psnr(a, pictures[0]) for a in pictures[1:]) < 40  # they differ
    at_rest(page)
    assert 0 < window._timeline.time < 1
    shot, now = quartered(photograph(page)), window._timeline.time
    right, wrong = (quarter_psnr(shot, scene_at(window, at % 1)) for at in (now, now + 0.4))
    assert right > max(28.0, wrong + 8.0)


def quartered(picture):
    """Means of 4x4 pixels of what notices do not cover."""
    rows, columns = (len(range(*part.indices(1000))) // 4 * 4 for part in FREE)
    return picture[FREE][:rows, :columns].reshape(rows // 4, 4, columns // 4, 4, 3).mean((1, 3))


def quarter_psnr(ours, theirs):
    return float(-10 * ((ours - theirs).square().mean() / 255**2).log10())


def scene_at(window, at):
    """What the scene is at a time, from where the visitor stands, quartered."""
    width, height = VIEW[0] // 2, VIEW[1] // 2
    camera = resized(camera_of_visitor(window._client.camera), width, height)
    picture = render_frame(camera, State(ShownScene("clockwork"), Look(time=at)), bool).float()
    return quartered(picture.repeat_interleave(2, 0).repeat_interleave(2, 1))


def test_a_path_through_space_and_time(page, viewer):
    page.get_by_role("button", name="Show clockwork").click()
    at_rest(page)
    window = window_of(viewer)
    page.get_by_text("Camera path").click()
    for at in (0.25, 0.75):
        window._timeline.time = at
        page.get_by_role("button", name="Keep this view").click()
        page.get_by_text(f"{1 if at < 0.5 else 2} view").wait_for()
    window._path._seconds.value = 1.0
    with page.expect_download() as download:
        page.get_by_role("button", name="Save path.json").click()
    path = Cameras.from_json(json.loads(Path(download.value.path()).read_text()))
    torch.testing.assert_close(path.times, torch.linspace(0.25, 0.75, 30))
    page.get_by_role("button", name="Play", exact=True).click()
    deadline = time.monotonic() + 30
    window._timeline.time = 0.0
    while window._timeline.time < 0.75 and time.monotonic() < deadline:
        time.sleep(0.05)
    assert window._timeline.time == pytest.approx(0.75)


def test_cuts_and_paints_the_background(page, viewer, folder):
    window = window_of(viewer)
    choose(page, "Background", "black")
    at_rest(page)
    shot = photograph(page)
    assert psnr(shot, expected(viewer, nf.load(folder / "a.nf"))) < 20  # that is over white
    over = torch.tensor([0.0, 0.0, 0.0])
    assert psnr(shot, looked_at(window, Look(background=tuple(over.tolist())))) > 30
    page.get_by_text("Crop", exact=True).click()
    thumbs = page.locator(".multi-slider-thumb:visible")
    thumbs.first.scroll_into_view_if_needed()
    ends = [thumbs.nth(k).bounding_box() for k in (0, 1)]
    (x, y), last = ((end["x"] + end["width"] / 2, end["y"] + end["height"] / 2) for end in ends)
    page.mouse.move(x, y)
    page.mouse.down()
    page.mouse.move(x + 0.4 * (last[0] - x), y, steps=5)
    page.mouse.up()
    low, high = (corner[0] for corner in window._left.shown.box)
    until(lambda: window._look.box is not None)
    time.sleep(0.5)
    assert window._look.box[0][0] == pytest.approx(low + 0.4 * (high - low), abs=0.06)
    assert window._look.box[1][0] == high
    at_rest(page)
    assert psnr(photograph(page), looked_at(window, window._look)) > 30
    assert psnr(photograph(page), shot) < 30


def test_cuts_a_shape_open(page, viewer):
    page.get_by_role("button", name="Show shape.nf").click()
    at_rest(page)
    choose(page, "Mode", "slice")
    at_rest(page)
    window = window_of(viewer)
    assert psnr(photograph(page), looked_at(window, Look("slice", plane=Slice(1, 0.0)))) > 28
    choose(page, "Slice across", "x")
    at_rest(page)
    assert window._look.plane == Slice(0, 0.0)
    assert psnr(photograph(page), looked_at(window, window._look)) > 28


def looked_at(window, look):
    camera = resized(camera_of_visitor(window._client.camera), *VIEW)
    return render_frame(camera, State(window._left.shown, look), bool).float()


def test_many_fields_have_pages(browser, folder, tmp_path):
    for index in range(8):
        shutil.copy(folder / "a.nf", tmp_path / f"copy{index}.nf")
    with Viewer([tmp_path], port=0) as viewer, visiting(browser, viewer.url) as page:
        page.get_by_text("8 here, page 1 of 2").wait_for()
        assert page.get_by_role("button", name="Show copy5.nf").is_visible()
        assert not page.get_by_role("button", name="Show copy6.nf").count()
        page.get_by_text("next", exact=True).click()
        page.get_by_role("button", name="Show copy7.nf").click()
        at_rest(page)
        assert window_of(viewer)._left.entry.name == "copy7.nf"
        page.get_by_text("next", exact=True).click()  # around
        page.get_by_role("button", name="Show copy0.nf").wait_for()


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
    until(lambda: len(window._overlays._handles["cameras"]) == 3)
    deadline = time.monotonic() + 30
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
        try:
            with contextlib.suppress(OSError):
                while data := await reader.read(1 << 16):
                    writer.write(data)
                    await writer.drain()
        finally:
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
        await asyncio.sleep(0.1)  # until the sockets are closed

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
