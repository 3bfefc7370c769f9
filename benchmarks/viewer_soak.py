"""Many visitors beside a training run: nothing may be lost, and memory has to stay flat.

python -m neural_fields.benchmarks.viewer_soak --seconds 300 --visitors 20

A radiance field is fitted to a procedural scene while visitors, in a process of their own, connect,
move and leave; every other one is killed in the middle of a picture. Printed: pictures they got,
steps of the run and its PSNR, the server's memory over time, and what it still holds of visitors
when all have gone.
"""

from __future__ import annotations

import argparse
import asyncio
import logging
import os
import random
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import msgspec
import viser
from websockets.asyncio.client import connect

from neural_fields import fit, scenes
from neural_fields.viewer.server import Viewer

PICTURES = (b"\xff\xd8\xff", b"\x89PNG")  # how a JPEG and a PNG begin
_EVERY_S = 10.0
_VISIT_S = (1.0, 8.0)
_MOVE_S = 0.03


async def _visit(url: str, number: int, until: float) -> int:
    """Visits one after the other; the number of pictures that came."""
    draw, n_pictures = random.Random(number), 0
    while time.monotonic() < until:
        async with connect(
            url, subprotocols=[viser_protocol()], max_size=None, open_timeout=60
        ) as socket:
            leaves = min(until, time.monotonic() + draw.uniform(*_VISIT_S))
            moving = asyncio.create_task(_move(socket, draw))
            while time.monotonic() < leaves:
                try:
                    message = await asyncio.wait_for(socket.recv(), 1.0)
                except TimeoutError:
                    continue
                assert isinstance(message, bytes)
                n_pictures += any(sign in message for sign in PICTURES)
            moving.cancel()
            if draw.random() < 0.5:
                socket.transport.abort()
    return n_pictures


def viser_protocol() -> Any:
    """What a socket has to say that it speaks."""
    return f"viser-v{viser.__version__}"


async def _move(socket: Any, draw: random.Random) -> None:
    while True:
        await socket.send(
            camera_message(draw.uniform(-3, 3), draw.choice([(900, 600), (300, 200)]))
        )
        await asyncio.sleep(_MOVE_S)


def camera_message(x: float, size: tuple[int, int]) -> bytes:
    """A camera at (x, 0, -4) that looks along z, as viser's client sends it."""
    return msgspec.msgpack.encode({
        "type": "ViewerCameraMessage",
        "wxyz": [1.0, 0.0, 0.0, 0.0],
        "position": [x, 0.0, -4.0],
        "fov": 0.8,
        "near": 0.01,
        "far": 100.0,
        "image_width": size[0],
        "image_height": size[1],
        "look_at": [x, 0.0, 0.0],
        "up_direction": [0.0, -1.0, 0.0],
    })  # fmt: skip


async def _visitors(url: str, n: int, seconds: float) -> None:
    until = time.monotonic() + seconds
    counts = await asyncio.gather(*(_visit(url, number, until) for number in range(n)))
    print(f"{sum(counts)} pictures for {n} visitors, the least {min(counts)}", flush=True)


def _resident_bytes() -> int:
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE")


def _watched(seconds: float, on_sample: Callable[[float, int], None]) -> threading.Thread:
    def watch() -> None:
        began = time.monotonic()
        while time.monotonic() - began < seconds:
            on_sample(time.monotonic() - began, _resident_bytes())
            time.sleep(_EVERY_S)

    thread = threading.Thread(target=watch, daemon=True)
    thread.start()
    return thread


def soak(seconds: float, n_visitors: int) -> None:
    """Fit, serve, and say what came of it."""
    with tempfile.TemporaryDirectory() as folder:
        data = scenes.make("locomotive", Path(folder, "scene"), n_train=20, n_test=1, size=100)
        with Viewer([], port=0, run=Path(folder, "field.nf")) as viewer:
            run = viewer.run
            assert run is not None
            own = ["-m", "neural_fields.benchmarks.viewer_soak", "--seconds", str(seconds)]
            url = viewer.url.replace("http", "ws")
            others = ["--visitors", str(n_visitors), "--url", url]
            crowd = subprocess.Popen([sys.executable, *own, *others])
            memory: list[tuple[float, int]] = []
            _watched(seconds, lambda at, size: memory.append((at, size)))
            fitted = fit.nerf(
                data,
                Path(folder, "field.nf"),
                seconds=seconds,
                on_start=lambda trainer, found: run.start(
                    trainer, {"cameras": found.cameras.to_json(), "background": [1.0, 1.0, 1.0]}
                ),
                on_progress=run.step,
                control=run.control,
            )
            crowd.wait()
            time.sleep(3.0)
            left = viewer.n_visitors
        summary = fitted.summary
        print(f"run: {summary['steps']} steps, {summary['psnr_train']:.2f} dB in training")
        print("memory, MB: " + ", ".join(f"{at:.0f} s {size / 1e6:.0f}" for at, size in memory))
        print(f"windows still held: {left}")


def main() -> None:
    """Run the soak, or, with --url, its visitors."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--seconds", type=float, default=300.0)
    parser.add_argument("--visitors", type=int, default=20)
    parser.add_argument("--url", help=argparse.SUPPRESS)
    options = parser.parse_args()
    logging.basicConfig(level=logging.WARNING)
    if options.url:
        asyncio.run(_visitors(options.url, options.visitors, options.seconds))
    else:
        soak(options.seconds, options.visitors)


if __name__ == "__main__":
    main()
