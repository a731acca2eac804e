"""Every module from 64 threads at once, for companies with credentials of their own, comes to what one thread does.

The real engine drains a real ledger; each call waits until 64 are about to be made. What is compared: the output for
each input, the effects at the vendors, whose credential each was made with, and what each line of the log is about.
"""

from __future__ import annotations

import json
import logging
import threading
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from contextlib import closing
from dataclasses import dataclass, field
from typing import Any

import pytest
from bson import ObjectId

from flow8_core.log_lines import FIELDS
from flow8_lab.client import Lab
from flow8_modules.catalogue import Catalogue, ModuleSettings
from flow8_runtime.claims import Claim, Outcome
from flow8_runtime.engine import Engine
from flow8_runtime.owners import Owner
from flow8_runtime.process import parts_of
from flow8_runtime.runner import Runner
from tests.environment import rounds
from tests.flows.deployment import SCOPES, Deployment, deploy
from tests.runtime.kit import Silent
from tests.sinks import found

THREADS = 64
COMPANIES = 4
SCHEMES = ("header", "query", "basic", "bearer")  # of the web service's four credentials, one a company
LONG = 4_001  # characters of a message, from which on a line of the log tells how many there are

Result = tuple[dict[Any, Any], Any]


@dataclass(frozen=True)
class Case:
    """How a company gets its credential, what its steps ask for ({{ $prev.args.n }} tells them apart), what of an
    output is the same each time, and what the vendor tells of the effects: for each of them whose it was, and its n."""

    service: str
    connect: Callable[[Deployment, int], None]
    inputs: Callable[[Lab, int], dict[str, Any]]
    stable: Callable[[Mapping[str, Any]], Any]
    effects: Callable[[Lab], Iterator[tuple[int, int]]]


def connect_web(deployment: Deployment, company: int) -> None:
    web = deployment.lab.services["web"]
    auth = {
        "header": {"type": "header", "name": "X-Api-Key", "value": web.get("api_key")},
        "query": {"type": "query", "name": "api_key", "value": web.get("api_key")},
        "basic": {"type": "basic", "username": web.get("username"), "password": web.get("password")},
        "bearer": {"type": "bearer", "value": web.get("bearer")},
    }[SCHEMES[company]]
    config = {"hosts": [web["base_url"].partition("//")[2]], "auth": auth, "honours_idempotency_key": True}
    body = {"name": "web", "kind": "request", "config": config, "is_default": True}
    deployment.platform.components(deployment.company_id).add(body)


def charge(lab: Lab, company: int) -> dict[str, Any]:
    url = f"{lab.services['web']['base_url']}/secure/{SCHEMES[company]}/charges"
    return {"url": url, "method": "POST", "body": {"company": company, "n": "{{ $prev.args.n }}"}}


def charged(lab: Lab) -> Iterator[tuple[int, int]]:
    for effect in lab.effects("web")["items"]:
        yield effect["charge"]["charged"]["company"], effect["charge"]["charged"]["n"]


def connect_slack(deployment: Deployment, company: int) -> None:
    deployment.lab.configure("slack", team=f"T0COMPANY{company}")
    deployment.take_in(deployment.lab.grant("slack", scopes=SCOPES["slack"]))


def posted(lab: Lab) -> Iterator[tuple[int, int]]:
    for effect in lab.effects("slack")["items"]:
        yield int(effect["message"]["team"].removeprefix("T0COMPANY")), len(effect["message"]["text"]) - LONG


def connect_microsoft(deployment: Deployment, company: int) -> None:
    grant = deployment.lab.grant("microsoft", scopes=SCOPES["microsoft"], account=f"company{company}@example.com")
    deployment.take_in(grant)


def invite(_: Lab, company: int) -> dict[str, Any]:
    when = {"start_time": "2026-04-05T10:00:00Z", "end_time": "2026-04-05T11:00:00Z"}
    return {"event_title": f"{company}/{{{{ $prev.args.n }}}}", "attendees": ["user@company.com"], **when}


def invited(lab: Lab) -> Iterator[tuple[int, int]]:
    for effect in lab.effects("microsoft")["items"]:
        company, _, n = effect["event"]["subject"].partition("/")
        assert effect["owner"] == f"company{company}@example.com"
        yield int(company), int(n)


def connect_s3(deployment: Deployment, _: int) -> None:
    deployment.add_s3()


def store(_: Lab, company: int) -> dict[str, Any]:
    return {"key": f"{company}/{{{{ $prev.args.n }}}}.txt", "content": "{{ $prev.args.text }}"}


def stored(lab: Lab) -> Iterator[tuple[int, int]]:
    for effect in lab.effects("s3")["items"]:
        company, _, name = effect["key_name"].partition("/")
        yield int(company), int(name.removesuffix(".txt"))


CASES: dict[str, Case] = {
    "http-request@1": Case(
        "web", connect_web, charge, lambda out: (out["status_code"], out["body"]["charged"], out["body_type"]), charged
    ),
    "slack-message@1": Case(
        "slack",
        connect_slack,
        lambda *_: {"channel": "#notifications", "message": "{{ $prev.args.text }}"},
        lambda out: out["channel"],
        posted,
    ),
    "microsoft-calendar@1": Case("microsoft", connect_microsoft, invite, sorted, invited),
    "s3-upload@1": Case("s3", connect_s3, store, dict, stored),
}

TALKATIVE = {"slack-message@1"}  # says how long a long message is


class Crowd:
    """The process's runner, whose calls begin when so many are about to; and how many there were at once."""

    def __init__(self, runner: Runner, size: int) -> None:
        self._runner = runner
        self._together = threading.Barrier(size)
        self.prepare, self.ahead, self.overdue = runner.prepare, runner.ahead, runner.overdue

    def run(self, claim: Claim) -> Outcome | None:
        self._together.wait(60)
        return self._runner.run(claim)


@dataclass
class House:
    """A deployment whose steps this process runs."""

    deployment: Deployment
    waves: int  # of so many calls as there are threads
    plays: dict[ObjectId, tuple[ObjectId, int, int]] = field(default_factory=dict)  # of the last run: whose, which

    def run(self, ref: str, *, threads: int) -> Result:
        """Hand in the plays of four new companies, and drain: the outputs by company and n, and the effects."""
        case, lab = CASES[ref], self.deployment.lab
        lab.reset()
        self.plays = {}
        for company in range(COMPANIES):
            self.deployment.move_in()
            case.connect(self.deployment, company)
            self._hand_in(ref, case, company)
        self._drain(threads)
        return self._outputs(case), Counter(case.effects(lab))

    def _hand_in(self, ref: str, case: Case, company: int) -> None:
        deployment = self.deployment
        step = {"name": "do", "module_ref": ref, "input_mapping": case.inputs(deployment.lab, company)}
        each = self.waves * THREADS // COMPANIES
        given = range(company * each, (company + 1) * each)
        made = deployment.door.submit_many(
            {"name": ref, "steps": [step]},
            [{"n": n, "text": "x" * (LONG + n)} for n in given],
            company_id=deployment.company_id,
            user_id=deployment.user_id,
        )
        self.plays |= {play_id: (deployment.company_id, company, n) for play_id, n in zip(made, given, strict=True)}

    def _drain(self, threads: int) -> None:
        platform = self.deployment.platform
        runner: Any = Crowd(Runner(parts_of(platform)), threads)
        owner = Owner(platform.settings.home)
        engine = Engine(
            ledger=platform.ledger, runner=runner, wakeup=Silent(), owner=owner, clock=platform.clock,
            budget_s=60, threads=threads,
        )  # fmt: skip
        with closing(engine):
            while platform.ledger.due():
                engine.drain()
        owner.close(platform.store)

    def _outputs(self, case: Case) -> dict[tuple[int, int], Any]:
        ledger = self.deployment.platform.ledger
        outputs = {}
        for play_id, (owner, company, n) in self.plays.items():
            (step,) = ledger.describe(ledger.get(play_id, company_id=owner))["steps"]
            assert (step["status"], step["attempts"]) == ("done", 1), step
            outputs[company, n] = case.stable(step["output"])
        return outputs

    def written(self) -> bytes:
        """All that the ledger holds of the plays."""
        ledger = self.deployment.platform.ledger
        rows = [
            (ledger.get(play_id, company_id=owner), ledger.attempts(play_id, company_id=owner))
            for play_id, (owner, _, _) in self.plays.items()
        ]
        return json.dumps(rows, default=str).encode()


@pytest.fixture(scope="module", params=["sqlite", pytest.param("mongo", marks=pytest.mark.proof)])
def house(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory, lab_process: Lab, standing_redis: str
) -> Iterator[House]:
    """On SQLite; as a proof on MongoDB's protocol, and for longer."""
    folder, waves, store = tmp_path_factory.mktemp("threads"), 1, ""
    if request.param == "mongo":
        waves, server = rounds(3, short=1), request.getfixturevalue("mongo_server")
        store = f"{server}/flow8_test_{ObjectId()}"
    deployment = deploy(
        folder, lab_process, store=store or f"sqlite:///{folder / 'flow8.db'}", broker=standing_redis
    )  # fmt: skip
    yield House(deployment, waves)
    deployment.close()


def test_every_module_has_a_case_here() -> None:
    assert set(Catalogue(ModuleSettings(third_parties=False)).refs()) == set(CASES)


@pytest.mark.parametrize("ref", sorted(CASES))
def test_64_threads_at_once_come_to_what_one_does(
    house: House, lab: Lab, caplog: pytest.LogCaptureFixture, ref: str
) -> None:
    alone = house.run(ref, threads=1)
    secrets, connections = set(lab.secrets()), lab.requests(CASES[ref].service)["connections"]
    caplog.clear()

    outputs, effects = house.run(ref, threads=THREADS)

    assert (outputs, effects) == alone
    assert effects == Counter((company, n) for _, company, n in house.plays.values())
    lines = [
        f"{record.getMessage()} {getattr(record, FIELDS, '')} {record.exc_text or ''}".encode()
        for record in caplog.records
    ]
    assert found(secrets | set(lab.secrets()), {"the log": b"\n".join(lines), "the ledger": house.written()}) == []
    told = {about(record) for record in caplog.records if record.name == "flow8.step"}
    assert told == {(f"{play_id}:do", LONG + n) for play_id, (_, _, n) in house.plays.items() if ref in TALKATIVE}
    # what one thread opens, for a vendor may keep none alive, and the pool's
    assert lab.requests(CASES[ref].service)["connections"] <= connections + 2 * THREADS


def about(record: logging.LogRecord) -> tuple[str, int]:
    """Of which step run a line is, and of how many characters it tells."""
    fields = getattr(record, FIELDS)
    return fields["step_run_id"], fields["characters"]
