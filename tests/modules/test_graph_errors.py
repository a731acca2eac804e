"""What Graph's errors mean, by its own contract."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

import pytest

from flow8_core import errors
from flow8_modules.integrations.microsoft.client import error_of, has_scope
from tests import contracts
from tests.modules.taxonomy import answer, stands_for

NOW = datetime(2026, 11, 22, 9, 0, 0, tzinfo=UTC)
SCOPE = "Calendars.ReadWrite"
GRANTED = frozenset({"openid", SCOPE})


def meaning(status: int, body: Any, *, granted: frozenset[str] = GRANTED, **headers: str) -> errors.Flow8Error:
    return error_of(answer(status, body, **headers), scope=SCOPE, granted=granted, now=NOW)


def body(code: str, inner: dict[str, Any] | None = None, *, spelled: str = "innerError") -> dict[str, Any]:
    return {"error": {"code": code, "message": "secret words of the vendor", spelled: inner or {"request-id": "r"}}}


def test_every_row_of_the_contract_has_its_meaning() -> None:
    wrong = []
    for row in contracts.load("microsoft/errors.json")["graph"]:
        challenge = row.get("www_authenticate") or row.get("www_authenticate_contains") or ""
        word = row["taxonomy"]
        for code in row.get("codes", [""]):
            error = meaning(row["status"], body(code.rstrip("*")), **{"WWW-Authenticate": challenge.replace("…", "x")})
            if word.startswith("insufficient_scope when"):
                without = meaning(row["status"], body(code), granted=frozenset({"openid"}))
                fits = error.code == "access_denied" and without.code == "insufficient_scope"
            elif word == "access_denied(quota)":
                fits = error.code == "quota_exceeded"  # waiting or reconnecting does not help; room does
            else:
                fits = stands_for(word, error) and ("ambiguous" not in word or error.ambiguous)
            if not fits:
                wrong.append((row["status"], code, word, error.code))

    assert wrong == []


def test_every_sample_of_the_contract_is_read() -> None:
    for sample in contracts.load("microsoft/errors.json")["samples"]:
        if sample["where"] != "graph":
            continue
        error = meaning(sample["status"], sample["body"], **sample.get("headers", {}))

        words = sample["taxonomy"].split("|")
        assert any(stands_for(word, error) for word in words), sample
        assert "Check credentials" not in error.message


def test_a_403_is_decided_by_what_was_granted() -> None:
    with_scope = meaning(403, body("ErrorAccessDenied"))
    without = meaning(403, body("ErrorAccessDenied"), granted=frozenset({"Mail.Send"}))

    assert isinstance(with_scope, errors.AccessDenied)
    assert isinstance(without, errors.InsufficientScope)
    assert SCOPE in without.message


@pytest.mark.parametrize(
    ("granted", "has"),
    [
        ({"Calendars.ReadWrite"}, True),
        ({"https://graph.microsoft.com/Calendars.ReadWrite"}, True),
        ({"https://graph.microsoft.us/calendars.readwrite"}, True),
        ({"Calendars.Read", "Mail.Send"}, False),
        (set(), False),
    ],
)
def test_scopes_are_compared_without_their_address_and_case(granted: set[str], has: bool) -> None:
    assert has_scope(frozenset(granted), SCOPE) is has


def test_a_401_asks_for_a_fresh_token_and_a_challenge_for_the_user() -> None:
    expired = meaning(401, body("InvalidAuthenticationToken"))
    challenged = meaning(401, body("x"), **{"WWW-Authenticate": 'Bearer error="insufficient_claims", claims="e30="'})

    assert isinstance(expired, errors.TokenExpired)
    assert isinstance(challenged, errors.InvalidGrant)


@pytest.mark.parametrize(
    ("status", "what", "headers", "code", "wait"),
    [
        (429, body("ApplicationThrottled"), {"Retry-After": "10"}, "rate_limit_exceeded", 10.0),
        (429, "", {}, "rate_limit_exceeded", None),
        (429, "<html>", {"Retry-After": "-1"}, "rate_limit_exceeded", None),
        (503, body("ErrorServerBusy"), {"Retry-After": "60"}, "provider_unavailable", 60.0),
        (500, "<html>", {}, "provider_unavailable", None),
        (400, body("ErrorInvalidRequest"), {}, "provider_rejected", None),
        (400, "", {}, "provider_rejected", None),
        (400, [], {}, "provider_rejected", None),
        (404, {"error": "text"}, {}, "not_found", None),
        (418, {"error": {"code": 5}}, {}, "provider_rejected", None),
    ],
)
def test_the_status_comes_first(status: int, what: Any, headers: dict[str, str], code: str, wait: float | None) -> None:
    error = meaning(status, what, **headers)

    assert (error.code, error.retry_after) == (code, wait)
    assert "secret words" not in error.message


@pytest.mark.parametrize("status", [500, 502, 504, 599])
def test_a_failure_inside_may_have_done_it(status: int) -> None:
    assert meaning(status, body("generalException")).ambiguous


@pytest.mark.parametrize("status", [400, 401, 403, 404, 409, 412, 413, 429])
def test_a_refusal_has_not_done_it(status: int) -> None:
    assert not meaning(status, body("any")).ambiguous


@pytest.mark.parametrize("spelled", ["innerError", "innererror"])
def test_the_innermost_code_counts_whatever_its_case(spelled: str) -> None:
    error = meaning(400, body("BadRequest", {"code": "SYNCSTATENOTFOUND"}, spelled=spelled))

    assert (error.code, error.provider_code) == ("conflict", "SYNCSTATENOTFOUND")


def test_a_chain_of_inner_errors_ends() -> None:
    chain: dict[str, Any] = {"code": "last"}
    for _ in range(50):
        chain = {"code": "x", "innerError": chain}

    assert meaning(400, {"error": chain}).provider_code == "x"
