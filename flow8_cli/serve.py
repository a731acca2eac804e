"""`flow8 serve`: the OAuth2 callback over HTTP."""

from __future__ import annotations

from contextlib import suppress
from typing import Annotated

import typer

from flow8_cli.reporting import end_in_order, reporting
from flow8_cli.session import platform_here

EXAMPLES = ("flow8 serve", "flow8 serve --host 0.0.0.0 --port 4454")


def serve(
    host: Annotated[str, typer.Option("--host", help="Address to listen on.")] = "127.0.0.1",
    port: Annotated[
        int | None, typer.Option("--port", min=1, max=65535, help="Port; that of public_url unless said.")
    ] = None,
) -> None:
    """Serve the OAuth2 callback of `public_url` until Ctrl-C or SIGTERM.

    It is plain HTTP: where others can reach it, put a proxy with TLS in front.
    """
    end_in_order()
    with reporting(as_json=False) as output, suppress(KeyboardInterrupt), platform_here() as platform:
        from flow8_api.app import make_app
        from flow8_api.server import listen, make_server

        _ = platform.connect  # a wrong key or a missing store is told now, not at the first callback
        with listen(host, port or platform.settings.callback_port) as listener:
            output.say(f"The callback is {platform.settings.public_url}/auth/callback/<service>; Ctrl-C ends it.")
            make_server(make_app(platform)).run(sockets=[listener])
