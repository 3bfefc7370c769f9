"""Who may connect to a real server, and what is done with what they send."""

import asyncio
import contextlib
import http.client
import time

import msgspec
import pytest
import viser
import websockets
from viewed import camera_message
from websockets.asyncio.client import connect

from neural_fields.viewer import guard
from neural_fields.viewer.guard import Limits
from neural_fields.viewer.server import Viewer

PROTOCOL = f"viser-v{viser.__version__}"
TIMEOUT = 20


@pytest.fixture(scope="module")
def viewer(folder):
    with Viewer([folder], port=0, origins=["https://lab.example"]) as made:
        yield made


PICTURES = (b"\xff\xd8\xff", b"\x89PNG")  # how a JPEG and a PNG begin


def address(viewer):
    return viewer.url.replace("http", "ws")


def run(coroutine):
    return asyncio.run(asyncio.wait_for(coroutine, TIMEOUT))


async def pictures(socket, n=1):
    """Wait until so many messages with a picture came."""
    while n:
        message = await socket.recv()
        n -= any(sign in message for sign in PICTURES)
    return True


def test_a_program_is_served(viewer):
    async def go():
        async with connect(address(viewer), subprotocols=[PROTOCOL], max_size=None) as socket:
            await socket.send(camera_message())
            return await pictures(socket)

    assert run(go())


@pytest.mark.parametrize(
    ("origin", "allowed"),
    [
        ("http://localhost:9", True),
        ("http://127.0.0.1:7007", True),
        ("https://lab.example", True),
        ("http://lab.example", False),
        ("https://evil.example", False),
        ("null", False),
    ],
)
def test_pages_of_other_sites_are_refused(viewer, origin, allowed):
    async def go():
        url = address(viewer)
        async with connect(url, subprotocols=[PROTOCOL], origin=origin, max_size=None) as socket:
            await socket.send(camera_message())
            return await pictures(socket)

    if allowed:
        assert run(go())
    else:
        with pytest.raises(websockets.exceptions.InvalidStatus, match="403"):
            run(go())


def test_a_name_that_points_here_passes_only_where_all_may_come():
    own = ("http://box.lan:7007", "box.lan:7007")
    assert not Limits("127.0.0.1").allows(*own)
    assert Limits("0.0.0.0").allows(*own)
    assert not Limits("0.0.0.0").allows("http://evil.example", "box.lan:7007")
    assert Limits("127.0.0.1").allows(None, "anything")


@pytest.mark.parametrize("path", ["/../../etc/passwd", "/%2e%2e/%2e%2e/etc/passwd", "/a.nf", "/x"])
def test_the_web_server_gives_out_its_page_only(viewer, path):
    connection = http.client.HTTPConnection(viewer.url.removeprefix("http://"), timeout=TIMEOUT)
    with contextlib.closing(connection):
        connection.request("GET", path)
        assert connection.getresponse().status == 404


HOSTILE = [
    b"",
    b"\xc1",
    b"\x00" * 1000,
    b"text",
    msgspec.msgpack.encode({"type": "FileTransferStartUpload", "part_count": 1 << 40}),
    msgspec.msgpack.encode({"type": "ShareUrlRequest"}),
    msgspec.msgpack.encode({"type": "RunJavascriptMessage", "source": "alert(1)"}),
    msgspec.msgpack.encode({"type": ["ViewerCameraMessage"]}),
    msgspec.msgpack.encode([[[[[]]]]]),
    camera_message(width=10**9, height=10**9),
    camera_message(width=-5),
    camera_message(fov=float("nan")),
    camera_message(position=[1e300, 0.0, float("inf")]),
    camera_message(wxyz=[0.0, 0.0, 0.0, 0.0]),
]


@pytest.mark.parametrize("message", HOSTILE, ids=range(len(HOSTILE)))
def test_hostile_messages_leave_the_server_as_it_was(viewer, message):
    async def go():
        async with connect(address(viewer), subprotocols=[PROTOCOL], max_size=None) as socket:
            await socket.send(camera_message())
            with contextlib.suppress(websockets.exceptions.ConnectionClosed):
                await socket.send(message)
                await asyncio.sleep(0.05)

    run(go())
    test_a_program_is_served(viewer)


def test_large_and_fast_messages_end_the_connection(viewer):
    async def send(messages):
        async with connect(address(viewer), subprotocols=[PROTOCOL], max_size=None) as socket:
            for message in messages:
                await socket.send(message)
            await asyncio.gather(socket.wait_closed(), drain(socket))
            return socket.close_code

    async def drain(socket):
        with contextlib.suppress(websockets.exceptions.ConnectionClosed):
            while True:
                await socket.recv()

    assert run(send([b"x" * (guard.MOST_BYTES + 1)])) == 1009
    assert run(send([camera_message()] * 2000)) == 1008


def test_there_is_room_for_so_many(folder, monkeypatch):
    monkeypatch.setattr(guard, "MOST_VISITORS", 3)

    async def go(url):
        async with contextlib.AsyncExitStack() as stack:
            sockets = [
                await stack.enter_async_context(connect(url, subprotocols=[PROTOCOL]))
                for _ in range(4)
            ]
            await asyncio.wait_for(sockets[3].wait_closed(), TIMEOUT)
            return sockets[3].close_code

    limits = Limits("127.0.0.1", most_visitors=3)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("neural_fields.viewer.server.Limits", lambda *_: limits)
        viewer = Viewer([folder], port=0)
    with viewer:
        assert run(go(address(viewer))) == 1013


def test_visitors_who_come_and_go_leave_nothing(viewer):
    async def visit(index):
        async with connect(address(viewer), subprotocols=[PROTOCOL], max_size=None) as socket:
            await socket.send(camera_message(width=200 + index, height=200))
            await pictures(socket)
            if index % 2:
                socket.transport.abort()  # killed, in the middle of a picture

    async def many():
        for first in range(0, 20, 5):
            await asyncio.gather(*(visit(first + i) for i in range(5)))

    run(many())
    deadline = time.monotonic() + TIMEOUT
    while viewer._windows and time.monotonic() < deadline:
        time.sleep(0.02)
    assert not viewer._windows
    assert not viewer._service._jobs
