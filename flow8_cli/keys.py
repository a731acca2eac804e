"""`flow8 keys`: make encryption keys, and see whether the present ones open the store."""

from __future__ import annotations

import typer

from flow8_cli.session import Json, foundation, reporting

app = typer.Typer(help="Encryption keys.", no_args_is_help=True)


@app.command("generate")
def generate(as_json: Json = False) -> None:
    """Print fresh keys as lines for .env. They are shown once and stored nowhere.

    Example: flow8 keys generate >> .env
    """
    from credentials.kdf import generate as fresh

    with reporting(as_json=as_json) as output:
        secret, salt = fresh()
        if as_json:
            output.document({"ENC_KEY_SECRET": secret, "ENV_KEY_SALT": salt})
        else:
            output.console.print(f"ENC_KEY_SECRET={secret}\nENV_KEY_SALT={salt}", soft_wrap=True, markup=False)


@app.command("check")
def check(as_json: Json = False) -> None:
    """Tell whether the configured keys are those that the store was written with. Changes nothing.

    Example: flow8 keys check --json
    """
    from flow8_runtime.platform import Platform

    with reporting(as_json=as_json) as output:
        platform = Platform(foundation().with_keys())
        try:
            ring = platform.foundation.keyring
            assert ring is not None  # noqa: S101  # with_keys() has derived it
            ring.verify(platform.store)
            answer = {
                "status": "ok",
                "kdf": platform.settings.keys.kdf,
                "primary": ring.primary.kid,
                "kids": list(ring.keys),
            }
        finally:
            platform.close()
        if as_json:
            output.document(answer)
        else:
            output.table(
                ["status", "kdf", "primary key", "keys"],
                [[answer["status"], answer["kdf"], answer["primary"], ", ".join(ring.keys)]],
            )
