"""Every query that the program really makes finds an index: seen while it does a little of everything."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import pytest
from bson import ObjectId

from credentials.audit import Selection
from credentials.kdf import generate
from credentials.link_import import LinkImport
from flow8_core.clock import Clock
from flow8_core.store import Delete, Document, Filter, Op, Sort, Update
from flow8_core.store.dialect.matching import compile_filter
from flow8_core.store.sqlite import SqliteStore
from flow8_core.store.sqlite.plan import choose
from flow8_lab.client import Lab
from flow8_runtime import platform as platforms
from flow8_runtime.app import make_app
from flow8_runtime.broker import Broker
from flow8_runtime.definition import Flow
from flow8_runtime.documents import PLAYS
from flow8_runtime.platform import Foundation
from flow8_runtime.process import WorkerProcess
from tests.processes import until

Query = tuple[str, Filter, Sort]

# They are read whole, and are never more than a few: keys, and at the first start alone a sample of what is sealed.
READ_WHOLE = {"keyring", "db_links", "component_configs", "oauth_states", "outbox"}

STEP = {"name": "post", "module_ref": "slack-message", "input_mapping": {"channel": "#notifications", "message": "x"}}


class Noticing(SqliteStore):
    """A store that notes what it is asked for."""

    # ruff: noqa: A002  # the store's own word

    def __init__(self, path: Path, *, clock: Clock, notes: list[Query]) -> None:
        super().__init__(path, clock=clock)
        self._notes = notes

    def find(
        self, collection: str, filter: Filter, *, sort: Sort = (), limit: int = 0, fields: Sequence[str] = ()
    ) -> list[Document]:
        self._notes.append((collection, filter, sort))
        return super().find(collection, filter, sort=sort, limit=limit, fields=fields)

    def update(
        self, collection: str, filter: Filter, update: Mapping[str, Any], *, sort: Sort = (), upsert: bool = False
    ) -> Document | None:
        self._notes.append((collection, filter, sort))
        return super().update(collection, filter, update, sort=sort, upsert=upsert)

    def delete(self, collection: str, filter: Filter, *, sort: Sort = ()) -> Document | None:
        self._notes.append((collection, filter, sort))
        return super().delete(collection, filter, sort=sort)

    def count(self, collection: str, filter: Filter) -> int:
        self._notes.append((collection, filter, ()))
        return super().count(collection, filter)

    def batch(self, ops: Sequence[Op]) -> list[bool]:
        self._notes.extend((op.collection, op.filter, ()) for op in ops if isinstance(op, Update | Delete))
        return super().batch(ops)

    def explained(self, query: Query) -> list[str]:
        """SQLite's own account of a query, without what sorts the little that was found."""
        collection, condition, sort = query
        plan = choose(self._catalogue.collections[collection], compile_filter(condition), sort)
        steps: list[str] = []
        for statement in filter(None, (plan.main, plan.multikey)):
            sql = f"EXPLAIN QUERY PLAN SELECT d.row FROM {statement.source}"
            with self._database.reading() as connection:
                steps += [row[3] for row in connection.execute(sql, statement.parameters).fetchall()]
        return steps


@pytest.fixture
def notes() -> list[Query]:
    return []


@pytest.fixture
def process(
    tmp_path: Path, lab: Lab, redis_url: str, notes: list[Query], monkeypatch: pytest.MonkeyPatch
) -> Iterator[WorkerProcess]:
    """A whole worker process in this one, on a store that notes its queries."""
    monkeypatch.setattr(
        platforms, "open_store", lambda url, *, clock: Noticing(tmp_path / "flow8.db", clock=clock, notes=notes)
    )
    secret, salt = generate()
    settings = {
        "home": str(tmp_path / "home"),
        "oauth2": {name: lab.oauth2[name] for name in ("slack", "microsoft")},
        "services": {name: lab.services[name] for name in ("slack", "microsoft")},
        "egress": lab.egress,
    }
    (tmp_path / "flow8.yaml").write_text(json.dumps(settings))
    foundation = Foundation.lay({"ENC_KEY_SECRET": secret, "ENV_KEY_SALT": salt}, tmp_path).with_keys()
    process = WorkerProcess(foundation, Broker(redis_url), make_app(redis_url))
    yield process
    process.close()


def drained(process: WorkerProcess, play_id: ObjectId, status: str) -> None:
    """Drain until the play has this status and nothing of it is in flight."""

    def over() -> bool:
        process.drain()
        play = process.platform.store.get(PLAYS, play_id)
        return play is not None and play["status"] == status and "until" not in play

    until(over, f"a play that is {status}")


def a_little_of_everything(process: WorkerProcess, lab: Lab) -> None:
    """Connects, stores, runs, fails, refreshes, sweeps, lists."""
    platform = process.platform
    company, user = platform.identity()
    links, components = platform.links(company), platform.components(company, user_id=user)
    take = LinkImport(platform.store, platform.vault, platform.providers, company_id=company, user_id=user)
    take.run([json.dumps(lab.grant("microsoft", scopes=["Calendars.ReadWrite"]))])
    begun = platform.connect.begin("slack", company_id=company, user_id=user, scopes=["chat:write"])
    callback = lab.visit(begun.authorize_url)
    link = platform.connect.complete(dict(pair.split("=", 1) for pair in callback.partition("?")[2].split("&")))
    request = {"hosts": ["api.example"], "auth": {"type": "bearer", "value": "a-key-of-api-example"}}
    made = [components.add({"name": name, "kind": "request", "config": request}) for name in ("one", "two")]
    components.set_default(made[1]["id"])
    components.list()
    components.remove(made[0]["id"])
    links.list()

    ledger = platform.ledger
    first = ledger.submit(Flow.parse({"name": "two", "steps": [STEP, {**STEP, "name": "again"}]}), {},
                          company_id=company, user_id=user)  # fmt: skip
    drained(process, first, "DONE")
    platform.store.update(
        "db_links", {"_id": link.id, "company_id": company}, {"$set": {"refresh_at": platform.store.now()}}
    )
    lab.fault("slack", "rate_limited", "chat.postMessage", retry_after=600)
    second = ledger.submit(Flow.parse({"name": "one", "steps": [STEP]}), {}, company_id=company, user_id=user)
    drained(process, second, "RUN")
    ledger.make_due(f"{second}:post", company_id=company)
    process.sweep()
    ledger.cancel(second, company_id=company)
    assert ledger.get(first, company_id=company)["status"] == "DONE"
    ledger.list(company_id=company, before=platform.store.now())
    ledger.attempts(first, company_id=company)
    ledger.release(str(link.id), company_id=company)
    audit = platform.audit(company)
    audit.query(Selection(), before_seq=5)
    audit.count()
    assert audit.verify().ok


def test_every_query_that_is_made_finds_its_index(process: WorkerProcess, lab: Lab, notes: list[Query]) -> None:
    a_little_of_everything(process, lab)
    store = process.platform.store
    assert isinstance(store, Noticing)

    asked = {(name, str(sorted(condition)), str(sort)): (name, condition, sort) for name, condition, sort in notes}
    whole = {query[0] for query in asked.values() if not query[1]}
    plans = {key: store.explained(query) for key, query in asked.items() if query[1]}

    assert whole <= READ_WHOLE
    assert {key: plan for key, plan in plans.items() if any("SCAN" in step for step in plan)} == {}
    assert {"plays", "db_links", "component_configs", "audit_logs", "throttles", "workers"} <= {key[0] for key in plans}
