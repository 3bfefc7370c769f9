"""What a browser, or a program that says it is one, may do to the server.

viser serves whoever reaches its port. Here are refused: pages of other sites (a browser lets any
page open a socket to this machine, and sends along which page it is), more visitors than there is
room for, messages that are large or come too fast, and all kinds of messages that this viewer has
no use for, uploads and public tunnels among them.
"""

from __future__ import annotations

import contextlib
import http
import logging
import time
from collections.abc import Awaitable, Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any
from urllib.parse import urlsplit

import msgspec
import websockets.asyncio.server
from websockets import Headers
from websockets.asyncio.server import ServerConnection
from websockets.http11 import Request, Response

_LOG = logging.getLogger(__name__)
MOST_VISITORS = 64
MOST_BYTES = 1 << 16  # of a message
MOST_PER_S = 200.0  # messages, on average
_BURST = 400.0
_TOO_MANY, _TOO_FAST = 1013, 1008  # reasons to close a socket (RFC 6455)
_LOOPBACK = ("localhost", "127.0.0.1", "::1")
# What the client sends while people look around and use the panel.
_WANTED = frozenset({
    "ViewerCameraMessage",
    "GuiUpdateMessage",
    "GuiButtonHoldMessage",
    "SceneNodeClickMessage",
    "TransformControlsUpdateMessage",
    "TransformControlsDragStartMessage",
    "TransformControlsDragEndMessage",
    "NotificationCloseMessage",
})  # fmt: skip

Handler = Callable[[ServerConnection], Awaitable[None]]
Check = Callable[[ServerConnection, Request], Response | None]


@dataclass(frozen=True)
class Limits:
    """Who may connect.

    Attributes:
        host: that the server is bound to.
        origins: of pages that may connect besides the server's own, such as https://example.org.
        most_visitors: at once.
    """

    host: str
    origins: Sequence[str] = ()
    most_visitors: int = MOST_VISITORS

    def allows(self, origin: str | None, host: str | None) -> bool:
        """Whether a page of this origin may connect; programs other than browsers name none.

        Example:
            >>> limits = Limits("127.0.0.1", ("https://lab.example",))
            >>> limits.allows("http://localhost:8000", "localhost:7007")
            True
            >>> limits.allows("http://elsewhere.example", "elsewhere.example")
            False
        """
        if origin is None or origin in self.origins:
            return True
        name = urlsplit(origin).hostname
        if name in _LOOPBACK:
            return True
        # A name that somebody pointed at this machine passes only where it is open to all anyway.
        return self.host not in _LOOPBACK and urlsplit(f"//{host}").hostname == name


@contextlib.contextmanager
def guarded(limits: Limits) -> Iterator[None]:
    """Servers that are started inside keep to the limits."""
    started = websockets.asyncio.server.serve

    def serve(handler: Handler, host: str, port: int, **options: Any) -> Any:
        options["max_size"] = MOST_BYTES
        options["process_request"] = _checked(limits, options["process_request"])
        return started(_limited(limits, handler), host, port, **options)

    websockets.asyncio.server.serve = serve  # type: ignore[assignment, misc]
    try:
        yield
    finally:
        websockets.asyncio.server.serve = started  # type: ignore[misc]


def _checked(limits: Limits, inner: Check) -> Check:
    """Refuse sockets of other sites' pages."""

    def check(connection: ServerConnection, request: Request) -> Response | None:
        origin = request.headers.get("Origin")
        is_socket = request.headers.get("Upgrade", "").lower() == "websocket"
        if is_socket and not limits.allows(origin, request.headers.get("Host")):
            _LOG.warning("refused a page of %s; --origin %s lets it in", origin, origin)
            return Response(http.HTTPStatus.FORBIDDEN, "Forbidden", Headers(), b"")
        return inner(connection, request)

    return check


def _limited(limits: Limits, inner: Handler) -> Handler:
    """Turn away whom there is no room for, and drop what nobody here listens to."""
    n_visitors = 0

    async def handle(connection: ServerConnection) -> None:
        nonlocal n_visitors
        if n_visitors >= limits.most_visitors:
            await connection.close(_TOO_MANY, f"there are {n_visitors} visitors already")
            return
        n_visitors += 1
        connection.recv = _wanted_only(connection)  # type: ignore[method-assign, assignment]
        try:
            await inner(connection)
        finally:
            n_visitors -= 1

    return handle


def _wanted_only(connection: ServerConnection) -> Callable[[], Awaitable[Any]]:
    receive, budget = connection.recv, _Budget()

    async def receive_wanted() -> Any:
        while True:
            message = await receive()
            if not budget.spend():
                await connection.close(_TOO_FAST, "too many messages")
            if isinstance(message, bytes) and _kind(message) in _WANTED:
                return message

    return receive_wanted


class _Budget:
    """Messages that may come, refilled as time goes by."""

    def __init__(self) -> None:
        self._left, self._at = _BURST, time.monotonic()

    def spend(self) -> bool:
        """Whether there was one left."""
        now = time.monotonic()
        self._left = min(_BURST, self._left + (now - self._at) * MOST_PER_S) - 1
        self._at = now
        return self._left >= 0


class _Envelope(msgspec.Struct):
    """The one field of a message that says what it is."""

    type: str = ""


def _kind(message: bytes) -> str:
    try:
        return msgspec.msgpack.decode(message, type=_Envelope).type
    except msgspec.MsgspecError:
        return ""
