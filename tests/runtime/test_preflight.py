"""Every fault of a flow is found before it runs, at its place, and no vendor hears of it."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from bson import ObjectId

from credentials.link_import import LinkImport
from flow8_lab.client import Lab
from flow8_runtime import latest_flows
from flow8_runtime.definition import Flow
from flow8_runtime.documents import FLOWS
from flow8_runtime.preflight import Preflight
from tests.flows.deployment import SCOPES, Deployment, deploy

POST = {"channel": "#notifications", "message": "x"}
MEET = {"event_title": "x", "attendees": [], "start_time": "2026-04-05T10:00:00Z", "end_time": "2026-04-05T11:00:00Z"}
PUT = {"bucket": "flow8-artifacts", "key": "a.txt", "content": "x"}


def step(name: str, module_ref: str, mapping: Any, **more: Any) -> dict[str, Any]:
    return {"name": name, "module_ref": module_ref, "input_mapping": mapping, **more}


def post(**more: Any) -> dict[str, Any]:
    return step("post", "slack-message", {**POST, **more})


@pytest.fixture(scope="module")
def served(tmp_path_factory: pytest.TempPathFactory, lab_process: Lab) -> Iterator[Deployment]:
    folder = tmp_path_factory.mktemp("preflight")
    broker = "redis://127.0.0.1:1/0"
    yield (deployment := deploy(folder, lab_process, store=f"sqlite:///{folder / 'flow8.db'}", broker=broker))
    deployment.close()


class Office:
    """A company with one user, and its flows' faults."""

    def __init__(self, deployment: Deployment) -> None:
        self.platform = deployment.platform
        self.lab = deployment.lab
        self.company_id, self.user_id = ObjectId(), ObjectId()

    def connect(self, *services: str) -> dict[str, str]:
        """Links by import: their ids by service."""
        return {service: self.take(self.lab.grant(service, scopes=SCOPES[service])) for service in services}

    def take(self, line: dict[str, Any]) -> str:
        """A link from a line of the laboratory's: its id."""
        who = {"company_id": self.company_id, "user_id": self.user_id}
        take = LinkImport(self.platform.store, self.platform.vault, self.platform.providers, **who)
        return str(take.run([json.dumps(line)])[0]["id"])

    def add_s3(self, name: str = "s3") -> str:
        keys = {
            "access_key_id": "AKIA4QWERTYUIOPASDFG",
            "secret_access_key": "wJalrXUtnFEMI/K7MDENG/bPxRfiCY0123456789",
        }
        config = {"provider": "s3", "bucket": "flow8-artifacts", "region": "eu-central-1", **keys}
        body = {"name": name, "kind": "storage", "config": config}
        return str(self.platform.components(self.company_id).add(body)["id"])

    def faults(self, *steps: Any, **flow: Any) -> dict[str, str]:
        """Codes by path."""
        found = self.preflight.check({"name": "test", "steps": list(steps), **flow})
        return {problem.path: problem.code for problem in found}

    def messages(self, *steps: Any) -> list[str]:
        return [problem.message for problem in self.preflight.check({"name": "test", "steps": list(steps)})]

    @property
    def preflight(self) -> Preflight:
        return Preflight(self.platform, company_id=self.company_id, user_id=self.user_id)


@pytest.fixture
def office(served: Deployment, lab: Lab) -> Iterator[Office]:
    yield Office(served)
    assert [lab.requests(vendor)["count"] for vendor in ("slack", "microsoft", "web")] == [0, 0, 0]


def test_a_flow_with_everything_there_has_no_faults(office: Office) -> None:
    office.connect("slack", "microsoft")
    office.add_s3()

    steps = [post(), step("meet", "microsoft-calendar", MEET), step("put", "s3-upload", PUT)]
    assert office.faults(*steps, step("get", "http-request", {"url": "https://example.com"})) == {}


def test_faults_of_every_sort_are_told_at_once(office: Office) -> None:
    office.connect("slack")

    faults = office.faults(
        step("a", "slack-mesage", POST),
        {**post(channel=""), "name": "b", "timeout": -1},
        step("c", "slack-message", {**POST, "message": "{{ $prev.d.x }}"}),
        step("d", "microsoft-calendar", {**MEET, "end_time": "soon"}),
        step("d", "s3-upload", PUT, on_error="explode"),
        step("e", "http-request", {"url": "{{ $prev.nobody.url }}", "metod": "GET"}),
        description=1,
    )

    assert faults == {
        "description": "validation_error",
        "steps[0].module_ref": "validation_error",
        "steps[1].timeout": "validation_error",
        "steps[1].input_mapping.channel": "validation_error",
        "steps[2].input_mapping.message": "validation_error",
        "steps[3].input_mapping.end_time": "validation_error",
        "steps[3].input_mapping.link_id": "access_denied",
        "steps[4].name": "validation_error",
        "steps[4].on_error": "validation_error",
        "steps[4].component_config_ids.storage": "access_denied",
        "steps[5].input_mapping.url": "validation_error",
        "steps[5].input_mapping.metod": "validation_error",
    }


def test_faults_stand_in_the_order_of_the_steps(office: Office) -> None:
    faults = office.faults(post(), {**post(), "name": "second", "timeout": -1}, name="")

    assert list(faults) == [
        "name",
        "steps[0].input_mapping.link_id",
        "steps[1].timeout",
        "steps[1].input_mapping.link_id",
    ]


@pytest.mark.parametrize("url", ["ftp://example.com/x", "example.com/x", "https://", "https://user:pw@example.com/"])
def test_an_address_that_no_request_can_have_is_a_fault(office: Office, url: str) -> None:
    assert office.faults(step("get", "http-request", {"url": url})) == {
        "steps[0].input_mapping.url": "validation_error"
    }


def test_a_credential_that_the_module_would_not_look_at_is_a_fault(office: Office) -> None:
    component, link = office.add_s3(), office.connect("slack")["slack"]

    assert office.faults(
        step("put", "s3-upload", {**PUT, "link_id": link}, component_config_ids={"storge": component}),
        step("get", "http-request", {"url": "https://example.com"}, component_config_ids={"storage": component}),
    ) == {
        "steps[0].component_config_ids.storge": "validation_error",
        "steps[0].input_mapping.link_id": "validation_error",
        "steps[1].component_config_ids.storage": "validation_error",
    }


@pytest.mark.parametrize(
    ("expression", "message"),
    [
        ("{{ $prev.later.x }}", "which does not run before this one"),
        ("{{ $prev.post.x }}", "names its own step"),
        ("{{ $prev.nobody.x }}", "that the flow does not have"),
        ("{{ $prev.post", "does not end"),
        ("{{ os.system('x') }}", "Expressions read"),
    ],
)
def test_expressions_that_lead_nowhere_are_faults(office: Office, expression: str, message: str) -> None:
    office.connect("slack", "microsoft")

    (told,) = office.messages(post(message=expression), step("later", "microsoft-calendar", MEET))

    assert message in told


def test_where_names_or_orders_are_at_fault_references_are_not_judged_by_guesses(office: Office) -> None:
    office.connect("slack")

    faults = office.faults(step("a b", "slack-message", POST), post(message="{{ $prev.first.x }} {{ $prev. }}"))

    assert set(faults) == {"steps[0].name", "steps[1].input_mapping.message"}


@pytest.mark.parametrize(
    "later",
    [
        {"attendees": "{{ $prev.args.people }}"},
        {"attendees": ["user@company.com", "{{ $prev.args.person }}"]},
        {"start_time": "{{ $prev.args.day }}T10:00:00Z"},
        {"online_meeting": "{{ $prev.args.online }}"},
        {"reminder_minutes": "{{ $prev.args.minutes }}"},
    ],
    ids=lambda later: next(iter(later)),
)
def test_what_is_known_at_run_time_only_is_no_fault(office: Office, later: dict[str, Any]) -> None:
    office.connect("microsoft")

    assert office.faults(step("meet", "microsoft-calendar", {**MEET, **later})) == {}


def test_beside_an_expression_the_other_inputs_are_judged(office: Office) -> None:
    office.connect("slack")

    assert set(office.faults(post(message="{{ $prev.args.text }}", unfurl_links="perhaps", chanel="x"))) == {
        "steps[0].input_mapping.unfurl_links", "steps[0].input_mapping.chanel",
    }  # fmt: skip


def test_an_expression_under_an_odd_name_makes_no_false_faults(office: Office) -> None:
    headers = {"X Odd\tName": "{{ $prev.args.value }}"}

    assert office.faults(step("get", "http-request", {"url": "https://example.com", "headers": headers})) == {}


def test_a_link_of_somebody_else_looks_like_none(office: Office, served: Deployment) -> None:
    foreign = Office(served).connect("slack")["slack"]

    mine, none = office.messages(post(link_id=foreign)), office.messages(post(link_id=str(ObjectId())))

    assert mine == none


def test_two_candidates_are_a_conflict_that_names_both(office: Office) -> None:
    first = office.connect("slack")["slack"]
    second = office.take(office.lab.grant("slack", scopes=SCOPES["slack"], account="T0OTHER001"))

    (told,) = office.messages(post())

    assert first in told
    assert second in told
    assert office.faults(post(link_id=second)) == {}


def test_a_link_of_another_service_does_not_do(office: Office) -> None:
    ids = office.connect("slack", "microsoft")

    assert office.faults(post(link_id=ids["microsoft"])) == {"steps[0].input_mapping.link_id": "access_denied"}


def test_scopes_that_lack_are_named(office: Office) -> None:
    office.connect("slack")

    (told,) = office.messages(post(username="Invoices"))

    assert "chat:write.customize" in told
    assert office.faults(post(username="Invoices")) == {"steps[0].input_mapping.link_id": "insufficient_scope"}


def test_scopes_are_compared_by_the_providers_own_rules(office: Office) -> None:
    line = office.lab.grant("microsoft", scopes=SCOPES["microsoft"])
    office.take({**line, "scopes": ["https://graph.microsoft.com/CALENDARS.readwrite"]})

    assert office.faults(step("meet", "microsoft-calendar", MEET)) == {}


@pytest.mark.parametrize(
    ("status", "code"), [("needs_reconnect", "invalid_grant"), ("app_blocked", "provider_misconfigured")]
)
def test_a_link_that_does_not_work_says_what_mends_it(office: Office, status: Any, code: str) -> None:
    link_id = office.connect("slack")["slack"]
    office.platform.store.update("db_links", {"_id": ObjectId(link_id)}, {"$set": {"status": status}})

    assert office.faults(post()) == {"steps[0].input_mapping.link_id": code}


def test_a_component_is_found_by_name_and_of_the_right_kind(office: Office) -> None:
    office.add_s3("one")
    office.add_s3("two")
    put = step("put", "s3-upload", PUT)

    assert office.faults({**put, "component_config_ids": {"storage": "two"}}) == {}
    assert office.faults({**put, "component_config_ids": {"storage": "three"}}) == {
        "steps[0].component_config_ids.storage": "access_denied"
    }


def test_ids_that_are_expressions_are_left_to_the_run(office: Office) -> None:
    put = step("put", "s3-upload", PUT, component_config_ids={"storage": "{{ $prev.args.store }}"})

    assert office.faults(post(link_id="{{ $prev.args.link }}"), put) == {}


def test_an_optional_need_is_judged_where_the_step_names_it(office: Office) -> None:
    get = step("get", "http-request", {"url": "https://example.com"})

    assert office.faults(get) == {}
    assert office.faults({**get, "component_config_ids": {"request": "api"}}) == {
        "steps[0].component_config_ids.request": "access_denied"
    }


def test_paths_are_in_the_authors_own_spelling(office: Office) -> None:
    flow = {"name": "f", "flowlets": [{"ref": "a", "appId": "slack-message", "args": {"channel": ""}}]}

    found = {problem.path for problem in office.preflight.check(flow)}

    assert found == {"flowlets[0].args.channel", "flowlets[0].args.link_id"}


@pytest.mark.parametrize("text", ["", "[1", "a: b: c", "null", '{"name": "x", "steps": "y"}', b"\xff"])
def test_what_is_no_flow_is_one_fault_and_not_an_error(office: Office, text: str | bytes) -> None:
    assert len(office.preflight.check_text(text)) == 1


def test_the_scopes_that_a_flow_needs_are_told_by_service(office: Office) -> None:
    flow = {"name": "f", "steps": [post(), {**post(username="x"), "name": "b"}, step("m", "microsoft-calendar", MEET)]}

    scopes = office.preflight.scopes(flow)

    assert scopes["slack"] == {"chat:write", "chat:write.customize"}
    assert "Calendars.ReadWrite" in scopes["microsoft"]


def started(office: Office, name: str, *steps: Any) -> None:
    """A flow of the company that was started once."""
    flow = Flow.parse({"name": name, "steps": list(steps)})
    office.platform.ledger.submit(flow, {}, company_id=office.company_id, user_id=office.user_id)


def test_a_company_needs_what_the_latest_version_of_each_of_its_flows_does(office: Office) -> None:
    assert office.preflight.company_scopes("slack") == frozenset()
    started(office, "edited", post(username="x"))
    started(office, "other", step("meet", "microsoft-calendar", MEET))
    assert office.preflight.company_scopes("slack") == {"chat:write", "chat:write.customize"}

    started(office, "edited", post())

    assert office.preflight.company_scopes("slack") == {"chat:write"}
    assert "Calendars.ReadWrite" in office.preflight.company_scopes("microsoft")
    assert Preflight(office.platform, company_id=ObjectId(), user_id=office.user_id).company_scopes("slack") == set()


def test_a_flow_whose_module_is_gone_keeps_nobody_from_connecting(office: Office) -> None:
    started(office, "posts", post())
    started(office, "old", post(), step("x", "a-module-of-last-year", {}))

    assert office.preflight.company_scopes("slack") == {"chat:write"}


@pytest.mark.parametrize("page", [1, 2, 3, 7])
def test_no_flow_is_overlooked_where_many_are_of_one_moment(
    office: Office, page: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(latest_flows, "PAGE", page)
    names = {f"flow-{number}" for number in range(6)}
    for name in names:
        started(office, name, post())
    store, mine = office.platform.store, {"company_id": office.company_id}
    (newest, *_) = store.find(FLOWS, mine, sort=[("created_at", -1)], limit=1)
    for row in store.find(FLOWS, mine, limit=4):
        store.update(FLOWS, {"_id": row["_id"]}, {"$set": {"created_at": newest["created_at"]}})

    found = [name for name, _ in latest_flows.latest_flows(store, office.company_id)]

    assert (set(found), len(found)) == (names, 6)


def test_the_flows_that_ship_need_what_they_say(office: Office) -> None:
    text = (Path(__file__).parents[2] / "fixtures" / "flows" / "invoice.yaml").read_bytes()

    assert [problem.code for problem in office.preflight.check_text(text)] == ["access_denied"] * 3
