"""`flow8 demo`: the main job on embedded parts, from nothing to what landed at each vendor."""

from __future__ import annotations

import os
import signal
import socket
import tempfile
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from flow8_cli import children
from flow8_cli.output import FAILED, Output
from flow8_cli.session import Json, Session, reporting

if TYPE_CHECKING:
    from flow8_lab.client import Lab
    from flow8_runtime.door import Door

FLOW = Path(__file__).parents[1] / "fixtures" / "flows" / "invoice.yaml"
SCOPES = {"slack": ("chat:write",), "microsoft": ("Calendars.ReadWrite",)}
SHORT_LIFE_S = 61  # a token that lives this long is due for its refresh after a second
VENDORS = ("web", "s3", "slack", "microsoft")


def demo(
    flow: Annotated[Path, typer.Option("--flow", help="The flow to run.")] = FLOW,
    timeout: Annotated[float, typer.Option("--timeout", min=1, help="Seconds to wait for the play.")] = 60.0,
    keep: Annotated[bool, typer.Option("--keep", help="Leave the demo's folder behind, to look into.")] = False,
    as_json: Json = False,
) -> None:
    """Run the main job on embedded parts: bundled Valkey, SQLite, the laboratory, a worker of its own.

    Connects Slack and Microsoft through the real redirect dance, stores an S3 component, runs a flow of four modules
    with one link already due for refresh, and shows what landed at each vendor. Nothing leaves this machine.

    Example: flow8 demo
    """
    signal.signal(signal.SIGTERM, signal.default_int_handler)  # either way of ending leaves no process behind
    with reporting(as_json=as_json) as output, ExitStack() as stack:
        folder = _folder(stack, keep=keep)
        try:
            described, effects, readable = _Demo(output, folder, stack).play(flow, timeout)
        except KeyboardInterrupt:
            output.say("Stopped; all of the demo's processes are being ended.")
            raise typer.Exit(130) from None
        if as_json:
            output.document({**described, "effects": effects, "readable_secrets": readable})
        if described["status"] != "DONE" or readable:
            raise typer.Exit(FAILED)


class _Demo:
    """One demo, step by step."""

    def __init__(self, output: Output, folder: Path, stack: ExitStack) -> None:
        self._output = output
        self._folder = folder
        self._stack = stack
        self._began = time.monotonic()

    def play(self, flow: Path, timeout: float) -> tuple[dict[str, Any], dict[str, int], int]:
        """The play as described, effects by vendor, and how many secrets lay readable anywhere."""
        from flow8_lab.client import start

        lab = self._stack.enter_context(start("--auto-approve"))
        self._tell(
            "laboratory", f"Slack, Microsoft, a web service and S3 (moto) on loopback; control {lab.control_url}"
        )
        door, session = self._open(lab)
        self._connect(lab, session)
        self._store_keys(lab, session)
        self._start_worker()
        described = self._run(flow, lab, door, session, timeout)
        effects = {vendor: lab.effects(vendor) for vendor in VENDORS}
        if not self._output.as_json:
            self._show_effects(effects)
        readable = self._look_for_secrets(lab, door)
        return described, {vendor: seen["count"] for vendor, seen in effects.items()}, readable

    def _open(self, lab: Lab) -> tuple[Door, Session]:
        """A deployment of its own: settings, store, bundled Valkey."""
        from flow8_core import logging
        from flow8_runtime.door import Door
        from flow8_runtime.platform import Foundation, Platform

        logging.configure(level="WARNING")
        platform = Platform(Foundation.lay(self._environ(lab), self._folder))
        door = Door(platform)
        self._stack.callback(door.close)
        company_id, user_id = platform.identity()
        self._tell("broker and store", "bundled Valkey on loopback, SQLite in WAL mode; keys made and kept 0600")
        return door, Session(platform, company_id, user_id)

    def _environ(self, lab: Lab) -> dict[str, str]:
        import yaml

        settings = {
            "public_url": f"http://127.0.0.1:{_free_port()}",
            "home": str(self._folder / "home"),
            "oauth2": lab.oauth2,
            "services": {name: lab.services[name] for name in ("slack", "microsoft")},
            "egress": lab.egress,
        }
        (self._folder / "flow8.yaml").write_text(yaml.safe_dump(settings))
        inherited = {
            name: value for name, value in os.environ.items() if not name.startswith(("FLOW8_", "ENC_", "ENV_KEY"))
        }
        self._environment = {**inherited, "FLOW8_CONFIG": str(self._folder / "flow8.yaml")}
        return self._environment

    def _connect(self, lab: Lab, session: Session) -> None:
        """Both services through authorize page, redirect and callback; Microsoft's token is to be due at once."""
        from flow8_cli.callback import connected

        lab.configure("microsoft", expires_in=SHORT_LIFE_S)
        for service, scopes in SCOPES.items():
            begun = session.platform.connect.begin(
                service, company_id=session.company_id, user_id=session.user_id, scopes=scopes
            )
            with connected(session, begun, service) as waiting:
                _follow(lab.visit(begun.authorize_url))
                link = waiting.link(timeout=30)
            self._tell(f"connected {service}", f"as {link.account}, allowed {', '.join(sorted(link.scopes))}")
        lab.configure("microsoft", expires_in=3600)

    def _store_keys(self, lab: Lab, session: Session) -> None:
        s3 = lab.services["s3"]
        config = {name: s3[name] for name in ("bucket", "region", "endpoint", "access_key_id", "secret_access_key")}
        session.platform.components(session.company_id, user_id=session.user_id).add(
            {"name": "demo-s3", "kind": "storage", "config": {"provider": "s3", **config}, "is_default": True}
        )
        self._tell("component demo-s3", "S3 keys sealed; no answer will ever show them")

    def _start_worker(self) -> None:
        log = self._folder / "worker.log"
        child = children.start(["flow8_cli.main", "worker"], environ=self._environment, cwd=self._folder, log=log)
        self._stack.callback(children.stop, child)
        self._tell("worker", f"a process of its own, {os.cpu_count()} pool processes")

    def _run(self, flow: Path, lab: Lab, door: Door, session: Session, timeout: float) -> dict[str, Any]:
        from flow8_cli.run import follow
        from flow8_runtime.definition import Flow

        args = {
            "billing_url": lab.services["web"]["base_url"],
            "invoice": "001",
            "bucket": lab.services["s3"]["bucket"],
        }
        definition = Flow.load(flow)
        play_id = door.submit(definition, args, company_id=session.company_id, user_id=session.user_id)
        self._tell("play", f"{definition.name}: {len(definition.steps)} steps are in the ledger")
        if self._output.console.is_terminal and not self._output.as_json:
            return follow(door, play_id, session.company_id, timeout, self._output)
        described = door.wait(play_id, company_id=session.company_id, timeout=timeout)
        if not self._output.as_json:
            from flow8_cli.plays import steps_table

            self._output.table(*steps_table(described))
        return described

    def _show_effects(self, effects: dict[str, dict[str, Any]]) -> None:
        rows = [
            [vendor, seen["count"], _landed(item)] for vendor, seen in effects.items() for item in seen["items"] or [{}]
        ]
        self._output.table(["vendor", "effects", "what landed"], rows, title="What landed")

    def _look_for_secrets(self, lab: Lab, door: Door) -> int:
        """Look for every secret that the laboratory ever gave out: in the store's files, logs and broker."""
        secrets = [secret.encode() for secret in lab.secrets()]
        files = [path for path in (self._folder / "home").rglob("*") if path.is_file() and path.name != "broker.json"]
        places = [path.read_bytes() for path in [*files, self._folder / "worker.log"]]
        places.append(door.broker_dump())
        found = sum(secret in place for secret in secrets for place in places)
        verdict = "none is readable" if not found else f"[red]{found} are readable[/red]"
        self._tell(
            "secrets", f"{len(secrets)} were given out; looked into {len(files) + 1} files and the broker: {verdict}"
        )
        return found

    def _tell(self, what: str, text: str) -> None:
        seconds = time.monotonic() - self._began
        if not self._output.as_json:
            self._output.console.print(f"[dim]{seconds:5.1f} s[/dim]  [green]✓[/green] [bold]{what}[/bold]  {text}")


def _landed(item: dict[str, Any]) -> str:
    detail = item.get("detail", item)
    return ", ".join(f"{name}: {value}" for name, value in detail.items() if name not in ("at", "key", "operation"))[
        :300
    ]


def _follow(url: str) -> None:
    """The browser's last step: arrive at our callback."""
    from urllib.request import ProxyHandler, build_opener

    with build_opener(ProxyHandler({})).open(url, timeout=30) as answer:
        answer.read()


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


def _folder(stack: ExitStack, *, keep: bool) -> Path:
    if keep:
        return Path(tempfile.mkdtemp(prefix="flow8-demo-"))
    return Path(stack.enter_context(_temporary()))


@contextmanager
def _temporary() -> Iterator[str]:
    with tempfile.TemporaryDirectory(prefix="flow8-demo-", ignore_cleanup_errors=True) as folder:
        yield folder
