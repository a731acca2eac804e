"""`flow8 demo`: the main job on embedded parts, from nothing to what landed at each vendor."""

from __future__ import annotations

import os
import socket
import tempfile
import time
from collections.abc import Iterator
from contextlib import ExitStack, closing, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from flow8_cli import landed
from flow8_cli.callback import awaited
from flow8_cli.output import Output
from flow8_cli.own_worker import own_worker
from flow8_cli.plays import STEP_COLUMNS, step_rows
from flow8_cli.reporting import FAILED, STOPPED, end_in_order, reporting
from flow8_cli.session import Json, Session, log_to_stderr
from flow8_cli.watching import watch

if TYPE_CHECKING:
    from flow8_lab.client import Lab
    from flow8_runtime.door import Door

EXAMPLES = ("flow8 demo", "flow8 demo --json | jq .effects", "flow8 demo --keep")

FLOW = Path("fixtures", "flows", "invoice.yaml")
SCOPES = {"slack": ("chat:write",), "microsoft": ("Calendars.ReadWrite",)}
SHORT_LIFE_S = 61  # a token that lives this long is due for its refresh after a second
CONNECT_S = 30.0


def demo(
    timeout: Annotated[
        float, typer.Option("--timeout", min=1, metavar="SECONDS", help="How long to wait for the play.")
    ] = 60.0,
    keep: Annotated[bool, typer.Option("--keep", help="Leave the demo's folder behind, to look into.")] = False,
    as_json: Json = False,
) -> None:
    """See the main job run, on this machine alone: nothing leaves it, nothing has to be set up.

    Starts a bundled Valkey, the laboratory (stand-ins for Slack, Microsoft and a web service, and a real S3 server) and
    a worker; connects accounts through the vendors' pages, one of them due for its refresh at once; runs a flow of four
    modules; and shows what landed at each vendor, and that no secret can be read in what is left behind.
    """
    end_in_order()
    with reporting(as_json=as_json) as output:
        try:
            with ExitStack() as stack:
                described, readable = _Demo(output, _folder(stack, keep=keep), stack).play(timeout)
        except KeyboardInterrupt:
            output.say("Stopped; nothing of the demo runs any more.")
            raise typer.Exit(STOPPED) from None
        if as_json:
            output.document(described)
        if described["status"] != "DONE" or readable:
            raise typer.Exit(FAILED)


@dataclass(frozen=True)
class _Deployment:
    """What the demo runs on."""

    lab: Lab
    door: Door
    session: Session
    environ: dict[str, str]


class _Demo:
    """One demo, step by step."""

    def __init__(self, output: Output, folder: Path, stack: ExitStack) -> None:
        self._output = output
        self._folder = folder
        self._stack = stack
        self._began = time.monotonic()

    def play(self, timeout: float) -> tuple[dict[str, Any], int]:
        """The play as described, with `effects` by vendor, and how many secrets lay readable anywhere."""
        here = self._open()
        self._connect(here)
        self._store_keys(here)
        described = self._run(here, timeout)
        readable = self._look_for_secrets(here)
        if not self._output.as_json:
            self._output.table(landed.COLUMNS, landed.rows(here.lab), title="What landed")
        return {**described, "effects": landed.count_effects(here.lab)}, readable

    def _open(self) -> _Deployment:
        """A deployment of its own in an empty folder."""
        from flow8_lab.client import start
        from flow8_runtime.door import Door
        from flow8_runtime.foundation import Foundation
        from flow8_runtime.platform import Platform

        log_to_stderr()
        lab = self._stack.enter_context(start("--auto-approve"))
        self._tell("laboratory", "Slack, Microsoft, a web service and S3 (moto) answer on loopback")
        environ = self._environ(lab)
        door = self._stack.enter_context(closing(Door(Platform(Foundation.lay(environ, self._folder)))))
        session = Session(door.platform, *door.platform.identity())
        _ = door.platform.vault
        self._tell("store", "SQLite; every credential in it is sealed with a key that is not")
        return _Deployment(lab, door, session, environ)

    def _environ(self, lab: Lab) -> dict[str, str]:
        import yaml

        from credentials.kdf import generate

        config = self._folder / "flow8.yaml"
        settings = {
            "public_url": f"http://127.0.0.1:{_free_port()}",
            "home": str(self._folder / "home"),
            "oauth2": {name: lab.oauth2[name] for name in SCOPES},
            "services": {name: lab.services[name] for name in SCOPES},
            "egress": lab.egress,
        }
        config.write_text(yaml.safe_dump(settings))
        secret, salt = generate()
        keys = {"ENC_KEY_SECRET": secret, "ENV_KEY_SALT": salt}
        return {**_foreign(os.environ), **keys, "FLOW8_CONFIG": str(config)}

    def _connect(self, here: _Deployment) -> None:
        """Both services through authorize page, redirect and callback; Microsoft's token is to be due at once."""
        here.lab.configure("microsoft", expires_in=SHORT_LIFE_S)
        for service, scopes in SCOPES.items():
            session = here.session
            begun = session.platform.connect.begin(
                service, company_id=session.company_id, user_id=session.user_id, scopes=scopes
            )
            with awaited(session, begun, service) as waiting:
                _arrive(here.lab.visit(begun.authorize_url))
                link = waiting.link(CONNECT_S)
            due = "; its token is due for a refresh in a second" if service == "microsoft" else ""
            self._tell(service, f"connected as {link.account}{due}")
        here.lab.configure("microsoft", expires_in=3600)

    def _store_keys(self, here: _Deployment) -> None:
        s3 = here.lab.services["s3"]
        config = {name: s3[name] for name in ("bucket", "region", "endpoint", "access_key_id", "secret_access_key")}
        components = here.session.platform.components(here.session.company_id, user_id=here.session.user_id)
        components.add({"name": "demo-s3", "kind": "storage", "config": {"provider": "s3", **config}})
        self._tell("s3", "its keys are stored as the component demo-s3")

    def _run(self, here: _Deployment, timeout: float) -> dict[str, Any]:
        """The play, by a worker of its own."""
        from flow8_runtime import notation
        from flow8_runtime.definition import Flow

        flow = Flow.parse(notation.read(_flow_file().read_bytes()))
        company_id, user_id = here.session.company_id, here.session.user_id
        play_id = here.door.submit(flow, self._args(here.lab), company_id=company_id, user_id=user_id)
        self._tell("play", f"{flow.name}: {len(flow.steps)} steps are in the ledger; a worker starts")
        log = self._folder / "worker.log"
        worker = self._stack.enter_context(
            own_worker(environ=here.environ, cwd=self._folder, log=log, queues=("default",))
        )
        described = watch(
            self._output, here.door, play_id, company_id=company_id, timeout=timeout, alive=worker.require
        )
        if not self._output.as_json and self._output.live is None:
            self._output.table(STEP_COLUMNS, step_rows(described))
        return described

    def _args(self, lab: Lab) -> dict[str, Any]:
        services = lab.services
        return {"billing_url": services["web"]["base_url"], "invoice": "001", "bucket": services["s3"]["bucket"]}

    def _look_for_secrets(self, here: _Deployment) -> int:
        """How many of the secrets that the laboratory ever gave out lie readable in store, logs or broker."""
        secrets = [secret.encode() for secret in here.lab.secrets()]
        home = here.door.platform.settings.home
        files = [path for path in (*home.rglob("*"), self._folder / "worker.log") if path.is_file()]
        places = [here.door.broker_dump()]
        here.door.platform.close()  # reading a SQLite file beside an open connection would drop that one's locks
        places += [path.read_bytes() for path in files]
        found = sum(secret in place for secret in secrets for place in places)
        self._tell(
            "secrets",
            f"{len(secrets)} were given out; looked into {len(files)} files and the broker: "
            + ("none can be read" if not found else f"{found} CAN BE READ"),
        )
        return found

    def _tell(self, what: str, text: str) -> None:
        from rich.text import Text

        if not self._output.as_json:
            seconds = time.monotonic() - self._began
            head = ((f"{seconds:5.1f} s ", "dim"), (" ✓ ", "green"), (f"{what:<11}", "bold"))
            self._output.show(Text.assemble(*head, text))


def _flow_file() -> Path:
    """The demo's flow: beside this file in an installed package, beside the packages in a checkout."""
    places = [folder / FLOW for folder in Path(__file__).parents[:2]]
    return next((path for path in places if path.is_file()), places[-1])


def _foreign(environ: os._Environ[str]) -> dict[str, str]:
    """The environment without any configuration of flow8's: the demo has its own."""
    ours = ("FLOW8_", "ENC_KEY_", "ENV_KEY_")
    return {name: value for name, value in environ.items() if not name.startswith(ours)}


def _arrive(url: str) -> None:
    """The browser's last step: come to our callback."""
    from urllib.request import ProxyHandler, build_opener

    with build_opener(ProxyHandler({})).open(url, timeout=CONNECT_S) as answer:
        answer.read()


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


def _folder(stack: ExitStack, *, keep: bool) -> Path:
    return Path(tempfile.mkdtemp(prefix="flow8-demo-")) if keep else stack.enter_context(_temporary())


@contextmanager
def _temporary() -> Iterator[Path]:
    with tempfile.TemporaryDirectory(prefix="flow8-demo-", ignore_cleanup_errors=True) as folder:
        yield Path(folder)
