"""The viewer: one port that shows what lies in some files and folders."""

from __future__ import annotations

import contextlib
import io
import logging
import socket
import threading
import warnings
from collections.abc import Sequence
from pathlib import Path

import torch
import viser

from neural_fields.viewer.guard import Limits, guarded
from neural_fields.viewer.library import Library
from neural_fields.viewer.live import LiveRun
from neural_fields.viewer.service import RenderService
from neural_fields.viewer.window import Window

_LOG = logging.getLogger(__name__)
# Whoever leaves while a picture of theirs is on its way is no reason for a line.
warnings.filterwarnings("ignore", message=r"Queued a \w+ on a closed connection")
PORT = 7007
_LOOK_AGAIN_S, _LOOK_AT_RUN_S = 3.0, 0.5  # between looks at folders, and at a run


class Viewer:
    """A server that runs until it is closed.

    Args:
        paths: `.nf` files and folders of them.
        host: address to listen at; the default is reached from this machine only.
        port: 0 for any; where it is taken, the next free one.
        origins: of other sites whose pages may connect, such as https://example.org.
        data: what the fields were fitted to: a data set or a picture, for errors and photographs.
        run: the file that a run in this program will write, whose `run` is shown first.

    Raises:
        InputError: a path is at fault.
        OSError: there is no such address.

    Example:
        >>> with Viewer([], port=0) as viewer:
        ...     viewer.url.startswith("http://127.0.0.1:")
        True
    """

    def __init__(
        self,
        paths: Sequence[Path],
        *,
        host: str = "127.0.0.1",
        port: int = PORT,
        origins: Sequence[str] = (),
        data: Path | None = None,
        run: Path | None = None,
        device: torch.device | str = "cpu",
    ) -> None:
        _check_address(host)
        self.run = None if run is None else LiveRun(run, lambda: self.n_visitors > 0)
        self._library = Library(paths, data, device)
        self._service = RenderService()
        self._windows: dict[int, Window] = {}
        self._windows_lock = threading.Lock()
        # viser announces itself on stdout, which may belong to a program's output.
        with guarded(Limits(host, origins)), contextlib.redirect_stdout(io.StringIO()):
            self._server = _Server(host=host, port=port, verbose=False)
        self._server.on_client_connect(self._enter)
        self._server.on_client_disconnect(self._leave)
        self._host = host
        self._ended = threading.Event()
        self._watch = threading.Thread(target=self._look_again, name="nf-watch", daemon=True)
        self._watch.start()

    @property
    def url(self) -> str:
        """Where a browser finds it."""
        host = "localhost" if self._host in ("0.0.0.0", "::") else self._host
        return f"http://{host}:{self._server.get_port()}"

    @property
    def n_visitors(self) -> int:
        """Windows that are open."""
        return len(self._windows)

    def wait(self) -> None:
        """Until Ctrl-C."""
        self._ended.wait()

    def wait_for_visitors(self) -> None:
        """Until nobody looks, or Ctrl-C."""
        while self._all_windows() and not self._ended.wait(0.2):
            pass

    def close(self) -> None:
        """End the server and its threads."""
        self._ended.set()
        self._watch.join(timeout=5.0)
        for window in self._all_windows():
            window.close()
        self._service.close()
        with contextlib.redirect_stdout(io.StringIO()):
            self._server.stop()

    def __enter__(self) -> Viewer:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _enter(self, client: viser.ClientHandle) -> None:
        window = Window(client, self._library, self._service, self.run)
        with self._windows_lock:
            self._windows[client.client_id] = window
        if client.client_id not in self._server.get_clients():  # gone before its window was there
            self._leave(client)

    def _leave(self, client: viser.ClientHandle) -> None:
        with self._windows_lock:
            window = self._windows.pop(client.client_id, None)
        if window is not None:
            window.close()

    def _all_windows(self) -> list[Window]:
        with self._windows_lock:
            return [*self._windows.values()]

    def _look_again(self) -> None:
        """Keep windows up to date with folders and with runs that are in training."""
        while not self._ended.wait(_LOOK_AGAIN_S if self.run is None else _LOOK_AT_RUN_S):
            for window in self._all_windows():
                try:
                    window.refresh()
                except Exception:
                    _LOG.exception("a window could not be brought up to date")


def _check_address(host: str) -> None:
    """Raise OSError where there is no such address; viser would try port after port."""
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    with socket.socket(family, socket.SOCK_STREAM) as probe:
        probe.bind((host, 0))


class _Server(viser.ViserServer):
    """viser's server without its tunnel to a public address."""

    def request_share_url(self, verbose: bool = True) -> str | None:
        """Never: what is shown here leaves this machine only by the port that it listens at."""
        return None
