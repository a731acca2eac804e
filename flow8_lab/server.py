"""The laboratory as a whole: one process, one event loop, one port a vendor."""

from __future__ import annotations

import asyncio
import ctypes
import signal
import socket
import sys
import tempfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from ssl import SSLContext
from typing import Any

from flow8_lab import certificates, description
from flow8_lab.bexio import Bexio
from flow8_lab.clio import Clio
from flow8_lab.clock import Clock
from flow8_lab.control import Control
from flow8_lab.effects import Journal
from flow8_lab.faults import Faults
from flow8_lab.google import Google
from flow8_lab.http import App, Connection, Reply, Request, json_reply
from flow8_lab.microsoft import Microsoft
from flow8_lab.origin import Origin
from flow8_lab.quickbooks import QuickBooks
from flow8_lab.s3 import REGION, S3, Mode
from flow8_lab.slack import Slack
from flow8_lab.validate import build
from flow8_lab.web import Web, WebSettings

# The first six stand where they always did; the later ones follow.
PORTS = (
    *("slack", "login", "graph", "web", "s3", "control"),
    *("google", "googleapis", "clio_us", "clio_eu", "clio_ca", "clio_au"),
    *("intuit", "quickbooks", "quickbooks_sandbox", "bexio", "bexio_api"),
)
PR_SET_PDEATHSIG = 1


@dataclass(frozen=True)
class Options:
    """`port_base` 0 takes free ports; else the vendors get it and the next ones, in the order of PORTS."""

    port_base: int = 0
    auto_approve: bool = False
    bucket: str = "flow8-artifacts"
    s3: Mode = "eager"
    die_with_parent: bool = False


class Lab:
    """All vendors, what they share, and the sockets that they listen on."""

    def __init__(self, options: Options, *, ca_file: Path) -> None:
        self._ca_file = ca_file
        self._clock = Clock()
        self._faults = Faults()
        self._sockets = {name: _listen(options.port_base and options.port_base + n) for n, name in enumerate(PORTS)}
        self._hosts = {name: f"127.0.0.1:{held.getsockname()[1]}" for name, held in self._sockets.items()}
        self._urls = {name: f"https://{host}" for name, host in self._hosts.items()}
        self.journal = Journal(self._clock)
        self._auto_approve = options.auto_approve
        self._slack = Slack(clock=self._clock, journal=self.journal)
        self._microsoft = Microsoft(
            authority=self._urls["login"], graph_origin=self._urls["graph"], clock=self._clock, journal=self.journal
        )
        self._google = Google(
            accounts=self._urls["google"], apis=self._urls["googleapis"], clock=self._clock, journal=self.journal
        )
        self._clio = Clio(clock=self._clock, journal=self.journal)
        self._quickbooks = QuickBooks(
            login=self._urls["intuit"],
            api=self._urls["quickbooks"],
            sandbox=self._urls["quickbooks_sandbox"],
            clock=self._clock,
            journal=self.journal,
        )
        self._bexio = Bexio(login=self._urls["bexio"], clock=self._clock, journal=self.journal)
        self._web = Web(origin=self._urls["web"], journal=self.journal)
        self._s3 = S3(self._sockets["s3"], bucket=options.bucket, mode=options.s3)
        self._oauth: tuple[Any, ...] = (
            *(self._slack, self._microsoft, self._google, self._clio, self._quickbooks, self._bexio),
        )
        self._origins = self._make_origins()
        self._control = Control(
            vendors=(self._web,),
            oauth_vendors=self._oauth,
            s3=self._s3,
            journal=self.journal,
            faults=self._faults,
            clock=self._clock,
            describe=self.describe,
            reset=self.reset,
        )
        self.reset()

    def _make_origins(self) -> dict[str, Origin]:
        places: dict[str, tuple[str, Any]] = {
            "slack": ("slack", self._slack),
            "login": ("microsoft", self._microsoft),
            "graph": ("microsoft", self._microsoft.graph),
            "web": ("web", self._web),
            "google": ("google", self._google),
            "googleapis": ("google", self._google.apis),
            **{f"clio_{name}": ("clio", region) for name, region in self._clio.regions.items()},
            "intuit": ("quickbooks", self._quickbooks),
            "quickbooks": ("quickbooks", self._quickbooks.apis["production"]),
            "quickbooks_sandbox": ("quickbooks", self._quickbooks.apis["sandbox"]),
            "bexio": ("bexio", self._bexio),
            "bexio_api": ("bexio", self._bexio.api),
        }
        return {
            name: Origin(service, place.routes(), vendor=place, journal=self.journal, faults=self._faults)
            for name, (service, place) in places.items()
        }

    def reset(self) -> None:
        """Everything as at the start, but for client ids, secrets and keys. S3 is reset by the control API."""
        for origin in self._origins.values():
            origin.cancel()
        self._clock.offset_s = 0.0
        self._faults.clear()
        self.journal.reset()
        for vendor in self._oauth:
            vendor.reset(build(type(vendor.settings), {"auto_approve": self._auto_approve}))
        self._web.reset(WebSettings())

    def describe(self) -> dict[str, Any]:
        """What a deployment needs in order to use the laboratory: `services` and `oauth2` of the OAuth2 vendors, and
        `egress`, are sections of flow8.yaml as they stand. `regions` are other `services` for the same vendors, `oidc`
        says where id_tokens come from."""
        web, s3 = self._web, self._s3
        return {
            "services": {
                **description.services(self._urls),
                "s3": {
                    "endpoint": s3.endpoint,
                    "region": REGION,
                    "bucket": s3.bucket,
                    "access_key_id": s3.access_key_id,
                    "secret_access_key": s3.secret_access_key,
                },
                "web": {
                    "base_url": self._urls["web"],
                    "api_key": web.api_key,
                    "bearer": web.bearer,
                    "username": web.username,
                    "password": web.password,
                },
            },
            "oauth2": {
                vendor.service: {"client_id": vendor.client_id, "client_secret": vendor.client_secret}
                for vendor in self._oauth
            },
            "regions": description.regions(self._urls),
            "oidc": description.oidc(self._urls),
            "egress": {
                "allow": [host for name, host in self._hosts.items() if name != "control"],
                "ca_file": str(self._ca_file),
            },
            "control_url": f"http://{self._hosts['control']}",
            "ca_file": str(self._ca_file),
        }

    async def run(self, context: SSLContext, *, ready: Callable[[], None], until: asyncio.Event) -> None:
        """Serve until `until` is set; `ready` is called when every port answers."""
        loop = asyncio.get_running_loop()
        apps: dict[str, App] = {**self._origins, "control": self._control}
        try:
            for name, app in apps.items():
                tls = None if name == "control" else context
                await loop.create_server(self._factory(app), sock=self._sockets[name], ssl=tls)
            self._s3.open()
            ready()
            await until.wait()
        finally:
            self._s3.stop()
            for held in self._sockets.values():
                held.close()

    def _factory(self, app: App) -> Callable[[], Connection]:
        return lambda: Connection(app, crashed=self._crashed)

    def _crashed(self, request: Request, error: Exception) -> Reply:
        self.journal.crashed(f"{request.method} {request.path}", error)
        sys.stderr.write(self.journal.crashes[-1])
        return json_reply({"error": "lab_crashed", "message": "A fault of the laboratory: see its stderr."}, status=500)


def serve(options: Options, *, announce: Callable[[dict[str, Any]], None]) -> None:
    """Run a laboratory until SIGTERM or SIGINT; `announce` gets its description once every port answers."""
    if options.die_with_parent:
        die_with_parent()
    with tempfile.TemporaryDirectory(prefix="flow8-lab-") as folder:
        asyncio.run(_serve(options, Path(folder), announce))


async def _serve(options: Options, folder: Path, announce: Callable[[dict[str, Any]], None]) -> None:
    stopping = asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(number, stopping.set)
    made = certificates.make(folder)
    lab = Lab(options, ca_file=made.ca_file)
    await lab.run(made.context, ready=lambda: announce(lab.describe()), until=stopping)


def die_with_parent() -> None:
    """Ask Linux for SIGTERM when the thread that started this process ends; elsewhere, nothing."""
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGTERM)


def _listen(port: int) -> socket.socket:
    held = socket.socket()
    held.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    held.bind(("127.0.0.1", port))
    held.listen(512)
    held.setblocking(False)
    return held
