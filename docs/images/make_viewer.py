"""Makes the picture of the viewer: a field of the demo's scene beside its student of voxels.

make demo
.venv/bin/nf convert demo/locomotive.nf --to voxels -o demo/locomotive-voxels.nf
.venv/bin/python docs/images/make_viewer.py demo
"""

from __future__ import annotations

import argparse
import io
import re
import shutil
import time
from pathlib import Path

from PIL import Image
from playwright.sync_api import Page, sync_playwright

from neural_fields.viewer.server import Viewer

_QUIET = ["--no-sandbox", "--disable-quic", "--no-first-run", "--disable-background-networking"]


def main() -> None:
    """Write viewer.jpg beside this script."""
    parser = argparse.ArgumentParser(description="make the picture of the viewer")
    parser.add_argument("folder", type=Path, help="of the two fields")
    parser.add_argument("--size", type=int, nargs=2, default=(1280, 720))
    arguments = parser.parse_args()
    width, height = arguments.size
    with Viewer([arguments.folder], port=0) as viewer, sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=shutil.which("chromium"), args=_QUIET)
        page = browser.new_page(viewport={"width": width, "height": height})
        page.set_default_timeout(120_000)
        page.goto(viewer.url)
        arrange(page)
        shot = Image.open(io.BytesIO(page.screenshot())).convert("RGB")
        browser.close()
    output = Path(__file__).parent / "viewer.jpg"
    shot.save(output, quality=85, optimize=True)
    print(f"wrote {output}: {shot.width}x{shot.height}, {output.stat().st_size / 1000:.0f} KB")


def arrange(page: Page) -> None:
    """Compare both fields, split in the middle, and close what covers them."""
    at_rest(page)
    page.get_by_role("button", name="Show locomotive.nf").click()
    page.get_by_text("Compare").click()
    page.get_by_label("With", exact=True).first.click()
    page.get_by_role("option", name="locomotive-voxels.nf", exact=True).click()
    for notice in page.locator(".mantine-Notification-closeButton").all():
        notice.click()
    time.sleep(1.0)
    at_rest(page)


def at_rest(page: Page) -> None:
    """Wait until the picture has all its pixels."""
    page.get_by_text(re.compile(r"^\d+x\d+ pixels in")).wait_for()
    time.sleep(0.5)


if __name__ == "__main__":
    main()
