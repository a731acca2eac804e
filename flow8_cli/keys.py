"""`flow8 keys`: make encryption keys, and see whether the present ones open the store."""

from __future__ import annotations

import typer

from flow8_cli.helping import command
from flow8_cli.reporting import reporting
from flow8_cli.session import Json, platform_here

app = typer.Typer(help="Encryption keys.", no_args_is_help=True)


@command(app, "generate", "(umask 077; flow8 keys generate >> .env)")
def generate(as_json: Json = False) -> None:
    """Print fresh keys as lines for .env. They are shown once and stored nowhere."""
    from credentials.kdf import generate as fresh

    with reporting(as_json=as_json) as output:
        secret, salt = fresh()
        if as_json:
            output.document({"ENC_KEY_SECRET": secret, "ENV_KEY_SALT": salt})
        else:
            output.show(f"ENC_KEY_SECRET={secret}\nENV_KEY_SALT={salt}")


@command(app, "check", "flow8 keys check", "flow8 keys check --json")
def check(as_json: Json = False) -> None:
    """Tell whether the configured keys are those that the store was written with."""
    with reporting(as_json=as_json) as output, platform_here() as platform:
        ring = platform.keyring
        kdf = platform.settings.keys.kdf
        output.result(
            {"status": "ok", "kdf": kdf, "primary": ring.primary.kid, "kids": list(ring.keys)},
            ["status", "kdf", "primary key", "keys"],
            [["ok", kdf, ring.primary.kid, ", ".join(ring.keys)]],
        )
