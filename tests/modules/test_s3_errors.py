"""What S3's errors mean, by the contract, and read by botocore itself."""

from __future__ import annotations

from typing import Any

import pytest

from flow8_core import errors
from flow8_modules.integrations.s3.client import error_of
from tests import contracts
from tests.modules.taxonomy import stands_for

CASES = [case for case in contracts.load("error_cases.json")["cases"] if case["service"] == "s3"]


def parsed(status: int, body: str) -> dict[str, Any]:
    """As botocore reads it."""
    from botocore.parsers import create_parser

    parser = create_parser("rest-xml")
    answer: dict[str, Any] = parser.parse({"status_code": status, "headers": {}, "body": body.encode()}, None)
    return answer


@pytest.mark.parametrize("case", CASES, ids=lambda case: f"{case['status']} {case['note'] or case['expect']['code']}")
def test_every_case_of_the_contract_has_its_meaning(case: dict[str, Any]) -> None:
    error = error_of(parsed(case["status"], case["body"]))

    assert stands_for(case["expect"]["code"], error)
    assert error.retryable == case["expect"]["retryable"]


@pytest.mark.parametrize("status", [500, 502, 503])
def test_a_failure_inside_may_have_done_it(status: int) -> None:
    error = error_of(parsed(status, "<html>"))

    assert (error.code, error.ambiguous) == ("provider_unavailable", True)


def test_an_unknown_refusal_is_one_and_its_words_stay_outside() -> None:
    body = "<Error><Code>Brand-New &lt;b&gt;</Code><Message>secret words</Message></Error>"
    error = error_of(parsed(400, body))

    assert isinstance(error, errors.ProviderRejected)
    assert (error.provider_code, "secret" in error.message) == ("400", False)
