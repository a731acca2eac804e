"""Connect, store, run, refresh and fail, with every log at DEBUG: no secret lies anywhere afterwards."""

from __future__ import annotations

import json
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.request import ProxyHandler, build_opener

import bson
import pytest

from credentials import sealed
from credentials.vault import EnvelopeRejected, Place
from flow8_core.logging import UNSAFE_DEBUG
from flow8_lab.client import Lab
from flow8_runtime.platform import COLLECTIONS, Foundation, Platform
from tests import sinks
from tests.cli.kit import Home
from tests.core.test_logging import _logging_restored  # noqa: F401  # a fixture: the command sets up logging
from tests.counterparts.receiver import SECRET, Receiver
from tests.counterparts.token_server import Loopback
from tests.flows.deployment import Deployment, deploy
from tests.flows.pair import INVOICE
from tests.processes import until

API_KEY = "canary/key+of=a&request component"
FAULTS: tuple[tuple[tuple[str, str, str, dict[str, Any]], ...], ...] = (
    (
        ("slack", "error", "chat.postMessage", {"error": "invalid_auth", "times": 2}),
        ("microsoft", "html", "events.create", {"status": 502}),
    ),
    (("slack", "drop_answer", "chat.postMessage", {}), ("microsoft", "truncate", "events.create", {})),
    (("s3", "html", "*", {"status": 403}),),
)


class Witness:
    """Runs the command, and keeps whatever it says on stdout and stderr."""

    def __init__(self, deployment: Deployment) -> None:
        who = {"FLOW8_COMPANY": str(deployment.company_id), "FLOW8_USER": str(deployment.user_id)}
        self._home = Home(deployment.folder, {**deployment.environ, **who})
        self._lab = deployment.lab
        self.environ = self._home.environ
        self.said: dict[str, bytes] = {}

    def flow8(self, *arguments: str, text: str = "") -> Any:
        """A command with --json; its answer."""
        done = self._home.flow8(*arguments, "--json", text=text)
        self._keep(arguments, done.said)
        return done.document

    def connect(self, service: str, *options: str) -> str:
        """The real redirect dance; the link's id."""
        arguments = ("link", "connect", service, "--no-browser", *options, "--json")
        with self._home.start(*arguments) as command:
            assert command.stdout is not None
            first = command.stdout.readline()
            callback = self._lab.visit(json.loads(first)["authorize_url"])
            with build_opener(ProxyHandler({})).open(callback, timeout=20) as page:
                self.said[f"the page of {service}"] = page.read()
            rest, stderr = command.communicate(timeout=30)
        self._keep(arguments, first + rest + stderr)
        return str(json.loads(rest)["link"]["id"])

    def _keep(self, arguments: Any, said: str) -> None:
        self.said[f"{len(self.said)}: flow8 {' '.join(arguments[:2])}"] = said.encode()


@pytest.fixture(params=["sqlite", "mongo", "libraries too"])
def talkative(
    request: pytest.FixtureRequest, lab: Lab, redis_url: str, receiver: Receiver, loopback_tls: Loopback
) -> Iterator[Deployment]:
    """A deployment whose processes log all that they can, and that tells a receiver; "libraries too" lets those speak
    that are kept quiet, for tokens and bodies is what they say: only the redaction is left between those and the
    log."""
    folder = Path(tempfile.mkdtemp(dir=loopback_tls.ca_file.parent))
    roots = folder / "roots.pem"
    roots.write_text(Path(lab.egress["ca_file"]).read_text() + loopback_tls.ca_file.read_text())
    egress = {"allow": [*lab.egress["allow"], receiver.place], "ca_file": str(roots)}
    store = request.getfixturevalue("mongo_uri") if request.param == "mongo" else f"sqlite:///{folder / 'flow8.db'}"
    environ = {"FLOW8_LOG_LEVEL": "DEBUG"} | ({UNSAFE_DEBUG: "1"} if request.param == "libraries too" else {})
    deployment = deploy(
        folder, lab, store=store, broker=redis_url, environ=environ, worker={"sweep_s": 0.3},
        egress=egress, events={"url": receiver.url, "secret": SECRET},
    )  # fmt: skip
    yield deployment
    deployment.close()


def stored(deployment: Deployment) -> dict[str, bytes]:
    """Every document, as a database dump would hold it."""
    return {
        f"collection {name}": b"".join(bson.encode(each) for each in deployment.platform.store.find(name, {}))
        for name in (*(name for name, _, _ in COLLECTIONS), "cursors")
    }


def live_through_everything(deployment: Deployment) -> dict[str, bytes]:
    """The whole of the main job, and what goes wrong in it; what was said meanwhile."""
    lab, witness = deployment.lab, Witness(deployment)
    services = lab.services
    web = services["web"]["base_url"]
    s3 = {name: services["s3"][name] for name in ("bucket", "region", "endpoint", "access_key_id", "secret_access_key")}
    storage = {"name": "s3", "kind": "storage", "config": {"provider": "s3", **s3}}
    request = {"name": "echo", "kind": "request", "config": {
        "hosts": [web.removeprefix("https://")], "auth": {"type": "header", "name": "X-Api-Key", "value": API_KEY}
    }}  # fmt: skip
    slack = witness.connect("slack", "--scope", "chat:write")
    microsoft = witness.connect("microsoft", "--scope", "Calendars.ReadWrite")
    witness.flow8("component", "add", "--file", "-", text=json.dumps(storage))
    component = witness.flow8("component", "add", "--file", "-", text=json.dumps(request))["id"]
    deployment.start_worker()
    args = {"billing_url": web, "invoice": "001", "bucket": s3["bucket"]}
    Path(deployment.folder, "invoice.json").write_text(json.dumps(INVOICE))

    def run(name: str = "invoice.json") -> Any:
        return witness.flow8("run", name, "--input", "-", text=json.dumps(args))

    assert run()["status"] == "DONE"
    for link in (slack, microsoft):
        deployment.make_due(link)
    assert run()["status"] == "DONE"  # with two refreshes
    echo = {"url": f"{web}/echo", "method": "POST", "body": {"a": 1}}
    step = {"name": "echo", "module_ref": "http-request", "input_mapping": echo}
    (deployment.folder / "echo.json").write_text(
        json.dumps({"name": "echo", "steps": [{**step, "component_config_ids": {"request": component}}]})
    )
    assert run("echo.json")["status"] == "DONE"  # its answer repeats the key

    for faults in FAULTS:
        for service, kind, operation, details in faults:
            lab.fault(service, kind, operation, **details)
        assert run()["status"] == "FAIL"
    for link, service in ((slack, "slack"), (microsoft, "microsoft")):
        lab.fault(service, "error", "token", error="invalid_grant")
        deployment.make_due(link)
        witness.flow8("link", "test", link)
    witness.connect("slack", "--reconnect", slack)
    twice = {**storage, "config": {**storage["config"], "secret_access_key": f"{s3['secret_access_key']} "}}
    witness.flow8("component", "add", "--file", "-", text=json.dumps(twice))
    witness.flow8("link", "import", "-", text=json.dumps({**lab.grant("slack", scopes=["chat:write"]), "odd": 1}))
    change_the_key(deployment, witness, slack)
    end(deployment, witness, slack)
    for command in (["component", "list"], ["component", "show", component], ["link", "list"], ["plays"], ["doctor"],
                    ["link", "expiring"], ["keys", "check"], ["keys", "status"], ["providers"]):  # fmt: skip
        witness.flow8(*command)
    return witness.said


def change_the_key(deployment: Deployment, witness: Witness, link: str) -> None:
    """A rotation under a worker; the new secret is printed once, which is what `keys add` is for, and not witnessed."""
    added = deployment.flow8("keys", "add", "--json")
    for environ in (deployment.environ, witness.environ):
        environ["ENC_KEY_SECRET_NEXT"] = added["ENC_KEY_SECRET_NEXT"]
    deployment.workers[-1].stop()
    deployment.start_worker()
    assert witness.flow8("keys", "rotate")["unreadable"] == []
    assert witness.flow8("link", "test", link).get("error") is None
    assert witness.flow8("link", "refresh", link)["status"] == "active"
    assert witness.flow8("keys", "retire")["error"]["code"] == "conflict"  # it is the ENC_KEY_SECRET still


def end(deployment: Deployment, witness: Witness, link: str) -> None:
    """A link is revoked whose vendor does not take it back: its tokens wait in the outbox."""
    deployment.lab.fault("slack", "html", "auth.revoke", status=502, times=20)
    assert witness.flow8("link", "revoke", link, "--yes")["links"]
    outbox = deployment.platform.store
    until(lambda: bool(outbox.count("outbox", {"attempts": {"$gt": 0}, "kind": "revocation"})), "a try to revoke")


def misplaced(deployment: Deployment) -> list[str]:
    """Envelopes that a rotation would not find: in a collection that is not declared, or bound to another place."""
    platform, found = Platform(Foundation.lay(deployment.environ, deployment.folder)), []
    for name, _, _ in COLLECTIONS:
        for row in platform.store.find(name, {}):
            for path, envelope in sealed.envelopes(row):
                try:
                    assert name in sealed.COLLECTIONS
                    platform.vault.open(Place(name, row["_id"], row["company_id"], path), envelope)
                except (AssertionError, EnvelopeRejected):
                    found.append(f"{name}.{path}")
    platform.close()
    return found


@pytest.mark.proof
@pytest.mark.timeout(300)
def test_no_secret_lies_anywhere_after_all_that_can_happen(
    talkative: Deployment, redis_url: str, receiver: Receiver
) -> None:
    with sinks.all_commands(redis_url) as commands:
        said = live_through_everything(talkative)
        for worker in talkative.workers:
            worker.stop()
    looked_at = {
        **said,
        **stored(talkative),
        **{name: text for name, text in sinks.files(talkative.folder).items() if name != "flow8.yaml"},
        "the broker": talkative.door.broker_dump(),
        "the broker's commands": bytes(commands),
        "what was told": repr(receiver.received).encode(),
    }

    secrets = [
        *talkative.lab.secrets(),
        API_KEY,
        *(talkative.environ[name] for name in ("ENC_KEY_SECRET", "ENC_KEY_SECRET_NEXT", "ENV_KEY_SALT")),
        SECRET,
    ]

    settings = {"settings": (talkative.folder / "flow8.yaml").read_bytes()}
    assert len(secrets) > 15
    assert len(sinks.found(secrets, settings)) >= 2  # where they do lie, they are found
    assert sinks.found(secrets, looked_at) == []
    assert misplaced(talkative) == []
    assert b"link.needs_reconnect" in looked_at["what was told"]
    assert b"ciphertext" in looked_at["collection outbox"]
    assert b"flow8.drain" in looked_at["the broker's commands"]
