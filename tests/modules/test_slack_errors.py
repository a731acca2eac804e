"""What Slack's errors mean, by its own contract."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

import pytest

from flow8_core import errors
from flow8_core.egress import Response
from flow8_modules.integrations.slack.client import ERRORS, checked, error_of
from tests import contracts
from tests.modules.taxonomy import answer, stands_for

NOW = datetime(2026, 11, 22, 9, 0, 0, tzinfo=UTC)
POSTING = "chat.postMessage"


def raised(response: Response) -> errors.Flow8Error:
    with pytest.raises(errors.Flow8Error) as caught:
        checked(response, now=lambda: NOW)
    return caught.value


def test_every_error_of_the_contract_has_its_meaning() -> None:
    table = contracts.load("slack/errors.json")["by_error"]
    wrong = {code: word for code, word in table.items() if not stands_for(word, error_of({"ok": False, "error": code}))}

    assert wrong == {}


def test_what_the_contract_calls_ambiguous_is() -> None:
    table = contracts.load("slack/errors.json")["by_error"]
    ambiguous = {code for code, word in table.items() if "ambiguous" in word}

    assert ambiguous == {code for code, rule in ERRORS.items() if rule.ambiguous}


def test_every_sample_of_the_contract_is_read() -> None:
    for sample in contracts.load("slack/errors.json")["samples"]:
        error = raised(answer(sample["status"], sample["body"], **sample.get("headers", {})))

        assert stands_for(sample["taxonomy"], error), sample


def test_every_error_that_posting_documents_has_a_meaning_or_is_a_refusal() -> None:
    documented = contracts.load("slack/web_api.trimmed.json")["methods"][POSTING]["errors"]

    for code in documented:
        error = error_of({"ok": False, "error": code})
        assert not isinstance(error, errors.VendorBadResponse)
        assert code == error.provider_code


def test_an_unknown_error_is_a_refusal() -> None:
    error = error_of({"ok": False, "error": "brand_new_error"})

    assert (error.code, error.provider_code, error.ambiguous) == ("provider_rejected", "brand_new_error", False)


def test_a_token_that_is_over_is_told_apart_from_a_revoked_one() -> None:
    assert isinstance(error_of({"ok": False, "error": "token_expired"}), errors.TokenExpired)
    assert not isinstance(error_of({"ok": False, "error": "token_revoked"}), errors.TokenExpired)


def test_a_missing_scope_is_named() -> None:
    error = error_of(
        {"ok": False, "error": "missing_scope", "needed": "chat:write.customize", "provided": "chat:write"}
    )

    assert "lacks chat:write.customize" in error.message


def test_a_scope_that_looks_odd_is_not_repeated() -> None:
    assert "<b>" not in error_of({"ok": False, "error": "missing_scope", "needed": "<b>"}).message


@pytest.mark.parametrize(
    ("status", "body", "headers", "meaning"),
    [
        (429, {"ok": False, "error": "ratelimited"}, {"Retry-After": "30"}, ("rate_limit_exceeded", 30.0, False)),
        (429, "", {}, ("rate_limit_exceeded", None, False)),
        (429, "<html>", {"Retry-After": "soon"}, ("rate_limit_exceeded", None, False)),
        (200, {"ok": False, "error": "ratelimited"}, {"Retry-After": "5"}, ("rate_limit_exceeded", 5.0, False)),
        (500, "<html>oops</html>", {}, ("provider_unavailable", None, True)),
        (503, "<html>oops</html>", {"Retry-After": "7"}, ("provider_unavailable", 7.0, True)),
        (503, {"ok": False, "error": "service_unavailable"}, {}, ("provider_unavailable", None, False)),
        (502, {"ok": False, "error": "unheard_of"}, {}, ("provider_unavailable", None, True)),
        (200, "<html>not json</html>", {}, ("vendor_bad_response", None, True)),
        (200, "", {}, ("vendor_bad_response", None, True)),
        (200, [], {}, ("vendor_bad_response", None, True)),
        (200, {}, {}, ("vendor_bad_response", None, True)),
        (200, {"ok": "true"}, {}, ("vendor_bad_response", None, True)),
        (200, {"ok": False}, {}, ("vendor_bad_response", None, True)),
        (200, {"ok": False, "error": 5}, {}, ("vendor_bad_response", None, True)),
        (200, {"ok": False, "error": "xoxb-1 <b>"}, {}, ("vendor_bad_response", None, True)),
        (200, b'{"ok": true, "ok": false}', {}, ("vendor_bad_response", None, True)),
        (200, b"\xff\xfe", {}, ("vendor_bad_response", None, True)),
        (404, "<html>", {}, ("vendor_bad_response", None, False)),
        (401, {"ok": False, "error": "invalid_auth"}, {}, ("token_revoked", None, False)),
    ],
)
def test_what_comes_around_the_body_counts_too(
    status: int, body: Any, headers: dict[str, str], meaning: tuple[str, float | None, bool]
) -> None:
    error = raised(answer(status, body, **headers))

    assert (error.code, error.retry_after, error.ambiguous) == meaning
    assert "html" not in error.message
    assert error.service == "slack"


def test_ok_is_ok() -> None:
    said = {"ok": True, "channel": "C1", "ts": "1.2"}

    assert checked(answer(200, said), now=lambda: NOW) == said
