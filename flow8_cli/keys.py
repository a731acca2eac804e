"""`flow8 keys`: make encryption keys, see whether the present ones open the store, and change them meanwhile."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any

import typer

from flow8_cli.bar import bar
from flow8_cli.helping import command
from flow8_cli.reporting import FAILED, reporting
from flow8_cli.session import Json, platform_here

if TYPE_CHECKING:
    from credentials.key_status import Status
    from credentials.keyring import Keyring
    from flow8_runtime.platform import Platform

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


@command(app, "add", "flow8 keys add", "(umask 077; flow8 keys add >> .env)", "flow8 keys add --json")
def add(as_json: Json = False) -> None:
    """Begin a rotation: announce the key that will write next, so that every process can read it first.

    Prints a fresh secret as a line for the environment of all processes, shown once and stored nowhere; embedded mode
    puts it into its own keys file. Where ENC_KEY_SECRET_NEXT is set already, that key is announced.
    """
    with reporting(as_json=as_json) as output, platform_here() as platform:
        from credentials.keyring import NEXT
        from flow8_runtime.key_changes import announce

        made = announce(platform)
        line = None if made.secret is None or made.file else f"{NEXT}={made.secret}"
        step = _status(platform, made.ring).next_step
        if as_json:
            given = {"file": str(made.file) if made.file else None, NEXT: made.secret if line else None}
            output.document({"kid": made.kid, **given, "next_step": step})
            return
        if line:
            output.show(line)
        where = f"; its secret is in {made.file}" if made.file else ""
        output.say(f"Key {made.kid} is announced{where}.")
        output.say(step, mark="next")


@command(app, "status", "flow8 keys status", "flow8 keys status --json")
def status(as_json: Json = False) -> None:
    """Count what needs which key, and tell the next step of a rotation.

    Reads everything that is sealed. Of the living processes it knows the workers alone: `flow8 serve` and programs of
    your own have to be restarted with new keys as well.
    """
    with reporting(as_json=as_json) as output, platform_here() as platform:
        found = _status(platform, platform.keyring)
        if as_json:
            output.document(_document(found))
            return
        rows = [[key.kid, key.state, key.variable, key.total, _counts(key.envelopes), len(key.primary_of),
                 len(key.missing_at)] for key in found.keys]  # fmt: skip
        if found.unreadable:
            rows.append(["none", "unreadable", "", sum(found.unreadable.values()), _counts(found.unreadable), "", ""])
        output.table(["key", "state", "from", "needed by", "of these", "workers with it", "without it"], rows)
        output.say(found.next_step, mark="next")


@command(app, "rotate", "flow8 keys rotate", "flow8 keys rotate --json")
def rotate(as_json: Json = False) -> None:
    """Seal everything anew with ENC_KEY_SECRET_NEXT, or with ENC_KEY_SECRET where that is not set.

    Goes on while flows run and links are refreshed; processes that have the new key write with it from now on. Broken
    off at any point, it is simply run again. Ends with 1 where a record does not open: it is named, and stays as it is.
    """
    with reporting(as_json=as_json) as output, platform_here() as platform:
        from credentials import rotation
        from flow8_runtime.key_changes import rotate as turn

        with bar("re-sealing", rotation.size(platform.store)) as step:
            report, ring = turn(platform, step)
        found = _status(platform, ring)
        left = sum(key.total for key in found.keys if key.kid != report.kid)
        unreadable = [each._asdict() for each in report.unreadable]
        if as_json:
            counts = {"records": report.records, "envelopes": report.envelopes, "audit_logs": report.logs}
            answer = {"kid": report.kid, **counts, "left": left, "unreadable": unreadable}
            output.document({**answer, "next_step": found.next_step})
        else:
            for each in report.unreadable:
                output.say(f"{each.collection} {each.id}: {each.field} does not open; store it again", mark="failed")
            output.show(
                f"{report.envelopes} envelopes in {report.records} records are sealed anew with key {report.kid}, and "
                f"{report.logs} audit logs signed; {left} still need another key."
            )
            output.say(found.next_step, mark="next")
        if left or unreadable:
            raise typer.Exit(FAILED)


@command(
    app, "retire", "flow8 keys retire", "flow8 keys retire 0b1c2d3e4f506172", "flow8 keys retire --abandon-unreadable"
)
def retire(
    kid: Annotated[
        str | None, typer.Argument(metavar="KEY", help="The key's id; that of the old one, if unsaid.")
    ] = None,
    settle: Annotated[
        float,
        typer.Option("--settle", min=5, metavar="SECONDS", help="How long writes under way may take to arrive."),
    ] = 60.0,
    abandon: Annotated[
        bool,
        typer.Option("--abandon-unreadable", help="Leave behind what names the key and does not open with it."),
    ] = False,
    as_json: Json = False,
) -> None:
    """End a rotation: make sure that nothing needs the old key, and that no process writes with it.

    Refused, with nothing changed, while any envelope, connect under way or audit log needs it.
    """
    with reporting(as_json=as_json) as output, platform_here() as platform:
        from flow8_runtime.key_changes import retire as end

        if not as_json:
            output.say(f"Writes under way get {settle:g} s to arrive.")
        retired = end(platform, kid, settle_s=settle, abandon=abandon)
        step = _status(platform, platform.keyring).next_step
        if as_json:
            output.document({"kid": retired.kid, "abandoned": retired.abandoned, "next_step": step})
        else:
            output.show(f"Key {retired.kid} is retired: nothing needs it.")
            output.say(step, mark="next")


def _status(platform: Platform, ring: Keyring) -> Status:
    from credentials import key_status

    return key_status.look(platform.store, ring, platform.key_holders(), platform.spools)


def _document(found: Status) -> dict[str, Any]:
    keys = [
        {
            "kid": key.kid,
            "state": key.state,
            "from": key.variable,
            "total": key.total,
            "envelopes": dict(key.envelopes),
            "workers": {"with": len(key.primary_of), "without": len(key.missing_at)},
        }
        for key in found.keys
    ]
    return {"writes": found.writes, "keys": keys, "unreadable": dict(found.unreadable), "next_step": found.next_step}


def _counts(counts: Any) -> str:
    return ", ".join(f"{number} {name}" for name, number in sorted(counts.items()))
