"""Links from other systems: all or nothing, sealed at once."""

from __future__ import annotations

import json
from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

from credentials.link_import import MAX_LINES, LinkImport
from credentials.vault import Vault
from flow8_core import errors
from flow8_core.egress import Egress
from tests.counterparts.token_server import TokenServer
from tests.credentials.desk import Desk, open_desk

CANARY = "canary-imported-access-token"
LINE: dict[str, Any] = {
    "service": "slack",
    "access_token": CANARY,
    "refresh_token": "canary-imported-refresh-token",
    "token_expiry": "2026-07-04T10:00:00Z",
    "scopes": ["chat:write", "files:write"],
    "provider_user_id": "U1",
    "provider_user_email": "user@company.example",
    "metadata": {"team_id": "T1", "team_name": "Example"},
}


@pytest.fixture
def desk(tmp_path: Path, vault: Vault, token_server: TokenServer, token_egress: Egress) -> Iterator[Desk]:
    with open_desk(tmp_path, vault, token_server, token_egress) as desk:
        yield desk


def imported(desk: Desk, *lines: dict[str, Any] | str) -> list[dict[str, Any]]:
    texts = [line if isinstance(line, str) else json.dumps(line) for line in lines]
    take = LinkImport(desk.store, desk.vault, desk.providers, company_id=desk.company_id, user_id=desk.user_id)
    return take.run(texts)


def line(**changes: Any) -> dict[str, Any]:
    return {name: value for name, value in (LINE | changes).items() if value != "leave out"}


def test_a_line_becomes_a_sealed_link_and_an_answer(desk: Desk) -> None:
    (answer,) = imported(desk, line())

    link = desk.links.get(answer["id"])
    assert answer == link.describe()
    assert answer["account"] == "user@company.example"
    assert answer["token_expiry"] == "2026-07-04T10:00:00.000Z"
    assert answer["refresh_at"] == "2026-07-04T09:00:00.000Z"
    assert link.open("access_token").reveal() == CANARY
    assert link.open("refresh_token").reveal() == "canary-imported-refresh-token"
    assert link.document["provider_account"] == "T1"
    assert link.metadata["team_name"] == "Example"
    assert CANARY not in str(link.document)
    assert CANARY not in json.dumps(answer)
    assert desk.actions() == ["integration_linked"]


def test_only_what_makes_a_link_must_be_there(desk: Desk) -> None:
    least = {"service": "acme", "access_token": CANARY, "provider_user_id": "1"}

    (answer,) = imported(desk, least)

    assert (answer["token_expiry"], answer["refresh_at"], answer["scopes"]) == (None, None, [])


def test_nulls_are_as_good_as_nothing(desk: Desk) -> None:
    names = ("refresh_token", "token_expiry", "scopes", "provider_user_email", "metadata")

    assert imported(desk, line() | dict.fromkeys(names))[0]["account"] == "U1"


def test_the_same_account_keeps_its_link_and_gets_the_new_tokens(desk: Desk) -> None:
    (first,) = imported(desk, line())
    (second,) = imported(desk, line(access_token="another-imported-access-token"))

    assert first["id"] == second["id"]
    assert desk.links.get(first["id"]).open("access_token").reveal() == "another-imported-access-token"
    assert len(desk.links.list()) == 1


def test_scopes_may_be_text_and_zones_any(desk: Desk) -> None:
    (answer,) = imported(desk, line(scopes="chat:write,files:write", token_expiry="2026-07-04T12:00:00+02:00"))

    assert answer["scopes"] == ["chat:write", "files:write"]
    assert answer["token_expiry"] == "2026-07-04T10:00:00.000Z"


def test_an_expired_token_that_can_be_refreshed_is_refreshed_at_its_first_use(desk: Desk) -> None:
    refresh_token = desk.server.grant()
    (answer,) = imported(desk, line(service="acme", token_expiry="2020-01-01T00:00:00Z", refresh_token=refresh_token))

    fresh = desk.refresher.fresh(desk.links.get(answer["id"]), deadline=desk.soon)

    assert fresh.generation == 2
    assert len(desk.server.token_calls) == 1


def test_a_refresh_token_without_an_expiry_does_not_mean_a_token_without_an_end(desk: Desk) -> None:
    (answer,) = imported(desk, line(service="acme", token_expiry=None))

    assert desk.links.get(answer["id"]).grant().expiry == desk.store.now() + timedelta(hours=1)


def test_empty_lines_are_skipped_but_counted(desk: Desk) -> None:
    with pytest.raises(errors.ValidationFailed) as caught:
        imported(desk, "", line(), "   ", line(service="nobody"))

    assert [path for path, _ in caught.value.problems] == ["line 4.service"]


def test_all_faults_are_told_at_once_and_nothing_is_written(desk: Desk) -> None:
    with pytest.raises(errors.ValidationFailed) as caught:
        imported(
            desk,
            line(),
            "{not json",
            line(service="slakc", scopes=[1], token_expiry="tomorrow"),
            line(provider_user_id="U2", metadata={"a": {"deep": 1}}, password="x"),
            line(),
        )

    assert [path for path, _ in caught.value.problems] == [
        "line 2",
        "line 3.scopes",
        "line 3.service",
        "line 3.token_expiry",
        "line 4.password",
        "line 4.metadata.a",
        "line 5.provider_user_id",
    ]
    assert desk.links.list() == []
    assert desk.actions() == []


@pytest.mark.parametrize(
    ("changes", "field"),
    [
        ({"service": "leave out"}, "service"),
        ({"service": 7}, "service"),
        ({"access_token": ""}, "access_token"),
        ({"access_token": "leave out"}, "access_token"),
        ({"access_token": ["x"]}, "access_token"),
        ({"access_token": "[encrypted]"}, "access_token"),
        ({"access_token": "********"}, "access_token"),
        ({"access_token": "two words here"}, "access_token"),
        ({"access_token": "Bearer abcdefghijk"}, "access_token"),
        ({"access_token": "line\nbreak-in-token"}, "access_token"),
        ({"access_token": "täken-with-umlaut"}, "access_token"),
        ({"refresh_token": "[encrypted]"}, "refresh_token"),
        ({"refresh_token": 5}, "refresh_token"),
        ({"token_expiry": "2026-08-08T10:00:00"}, "token_expiry"),
        ({"token_expiry": 1783159200}, "token_expiry"),
        ({"token_expiry": "2020-01-01T00:00:00Z", "refresh_token": None}, "token_expiry"),
        ({"scopes": ["", "x"]}, "scopes"),
        ({"scopes": {"a": 1}}, "scopes"),
        ({"provider_user_id": "leave out"}, "provider_user_id"),
        ({"provider_user_id": "a\nb"}, "provider_user_id"),
        ({"provider_user_id": {"$ne": None}}, "provider_user_id"),
        ({"provider_user_email": "x" * 600}, "provider_user_email"),
        ({"metadata": [1]}, "metadata"),
        ({"metadata": {"$where": "1"}}, "metadata"),
        ({"metadata": {"a.b": "1"}}, "metadata"),
    ],
)
def test_a_faulty_field_is_named_and_its_value_not_repeated(desk: Desk, changes: dict[str, Any], field: str) -> None:
    with pytest.raises(errors.ValidationFailed) as caught:
        imported(desk, line(**changes))

    assert field in {path.removeprefix("line 1.") for path, _ in caught.value.problems}
    shown = caught.value.message
    assert CANARY not in shown
    assert not any(
        isinstance(value, str) and len(value) > 9 and value in shown
        for value in changes.values()
        if value != "leave out"
    )


@pytest.mark.parametrize(
    "text",
    [
        "[]",
        "null",
        '"x"',
        "7",
        "{",
        '{"service": "slack", "service": "slack"}',
        '{"a": NaN}',
        "[" * 100_000,
        "\ufeff{}",
    ],
)
def test_a_line_that_is_no_object_is_a_fault_and_not_a_crash(desk: Desk, text: str) -> None:
    with pytest.raises(errors.ValidationFailed) as caught:
        imported(desk, text)

    assert caught.value.problems[0][0] == "line 1"


def test_a_token_in_a_fields_place_is_not_repeated(desk: Desk) -> None:
    with pytest.raises(errors.ValidationFailed) as caught:
        imported(desk, {"xoxb-" + CANARY: 1})

    assert CANARY not in caught.value.message


def test_too_many_lines_are_refused(desk: Desk) -> None:
    with pytest.raises(errors.ValidationFailed, match="in parts"):
        imported(desk, *([""] * (MAX_LINES + 1)))
