"""`flow8 serve`: the OAuth2 callback over HTTP."""

from __future__ import annotations

from typing import Annotated

import typer

from flow8_cli.session import foundation, reporting


def serve(
    host: Annotated[str, typer.Option("--host", help="Address to listen on.")] = "127.0.0.1",
    port: Annotated[
        int | None, typer.Option("--port", min=1, max=65535, help="Port; that of public_url by default.")
    ] = None,
) -> None:
    """Serve the OAuth2 callback of `public_url`.

    Example: flow8 serve --host 0.0.0.0 --port 4454
    """
    import uvicorn

    from flow8_api.app import make_app
    from flow8_runtime.platform import Platform

    with reporting(as_json=False) as output:
        platform = Platform(foundation())
        try:
            platform.connect  # noqa: B018  # a wrong key or a missing store is told now, not at the first callback
            output.say(f"Callback at {platform.settings.public_url}/auth/callback/<service>")
            uvicorn.run(
                make_app(platform),
                host=host,
                port=port or platform.settings.callback_port,
                log_config=None,
                access_log=False,  # an access log would hold authorization codes
                server_header=False,
            )
        finally:
            platform.close()
