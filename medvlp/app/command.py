"""`medvlp app`: serves the page."""

from __future__ import annotations

import contextlib
import socket
from pathlib import Path

from rich.console import Console

from medvlp.config.options import split_commas
from medvlp.errors import UserError

LOCAL = ("127.0.0.1", "localhost")


def app(
    *, weights: Path, port: int = 7860, host: str = "127.0.0.1", device: str | None = None, trust: str = ""
) -> None:
    """Serve a page on this machine: drop an image, name findings, see their scores, tags and heat maps.

    With the default host nothing leaves the machine. No image stays on disk. Ctrl-C ends the server. Not for clinical
    use.

    Args:
        weights: A checkpoint of `medvlp fit`, a folder of `medvlp export`, or a published pair of encoders, such as
            biomedclip, biovil-t, medsiglip, chexzero:FILE, open_clip:... or hf:...
        port: Port of the page; 0 for any free port.
        host: Address to listen at. Only this machine can reach the default. With 0.0.0.0 anybody in the network can,
            without a password and unencrypted.
        device: Device to compute on; by default a GPU if there is one.
        trust: Packages other than medvlp whose classes the weights may name, separated by commas.

    Raises:
        UserError: If the server cannot listen at host and port, the weights cannot be read, or the extra `app` is not
            installed.
    """
    try:
        import uvicorn

        from medvlp.app.server import make_server
    except ModuleNotFoundError as error:
        raise UserError(
            f"the page needs the package '{error.name}': pip install 'medvlp[app]' (in a checkout: 'make install')."
        ) from error
    from medvlp.app.desk import Desk
    from medvlp.inference.model import Model

    local = host in LOCAL
    console = Console()
    with listen(host, port) as listening, contextlib.suppress(KeyboardInterrupt):
        desk = Desk(Model.load(weights, device, split_commas(trust)), weights.name)
        application = make_server(desk, LOCAL if local else ["*"])
        server = uvicorn.Server(uvicorn.Config(application, log_level="warning", access_log=False, server_header=False))
        address = f"[{host}]" if ":" in host else host
        console.print(f"The page is http://{address}:{listening.getsockname()[1]} (Ctrl-C ends it).")
        if not local:
            console.print(
                "Anyone who can reach this address can use the page, and images are sent unencrypted.", style="red"
            )
        server.run(sockets=[listening])


def listen(host: str, port: int) -> socket.socket:
    """Return a socket that listens at an address.

    Raises:
        UserError: If the address does not exist, or its port is in use or not permitted.
    """
    try:
        return socket.create_server((host, port), family=socket.AF_INET6 if ":" in host else socket.AF_INET)
    except (OSError, OverflowError) as error:
        raise UserError(
            f"--host {host} --port {port}: the server cannot listen there ({error}). Pass another --port."
        ) from error
