"""`nf view`."""

from __future__ import annotations

import os
from pathlib import Path

import tyro

from neural_fields.cli.output import say
from neural_fields.cli.watching import opened_viewer


def view(
    paths: tyro.conf.Positional[tuple[Path, ...]] = (Path(),),
    port: int = 7007,
    host: str = "127.0.0.1",
    origin: str | None = None,
    data: Path | None = None,
    device: str = "auto",
) -> None:
    """Look at fields in a browser: turn, zoom, compare, crop; also while they are fitted.

    Give .nf files, .nfv videos, and folders, whose fields are listed with all that lies below
    them; nothing means this folder. The names of `nf scenes list` show the scenes themselves. A
    file that changes, such as that of a run in training, is shown anew.

    From another machine: `ssh -L 7007:localhost:7007 HOST`, then open http://localhost:7007.

    Args:
        paths: .nf and .nfv files, folders, and names of scenes.
        port: to listen at; the next free one where it is taken, 0 for any.
        host: address to listen at; 0.0.0.0 lets other machines in, without a password.
        data: what the fields were fitted to, a data set or a picture: adds errors and photographs.
        origin: a site whose pages may connect, such as https://example.org for a proxy there.
        device: cpu, cuda, cuda:1 and so on, or auto: a GPU where one can be used.
    """
    viewer = opened_viewer(
        paths, port, host, () if origin is None else (origin,), data=data, device=device
    )
    with viewer:
        say(f"open {viewer.url} in a browser; Ctrl-C ends")
        if host not in ("127.0.0.1", "localhost", "::1"):
            say(f"note: whoever reaches {host} from the network can look, without a password")
        if os.environ.get("SSH_CONNECTION"):
            port = int(viewer.url.rpartition(":")[2])
            say(f"from your machine: ssh -L {port}:localhost:{port} this-host")
        viewer.wait()
