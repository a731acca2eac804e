"""Signatures by Standard Webhooks, and the settings that they are made with."""

from __future__ import annotations

import base64

import pytest
from pydantic import SecretStr, ValidationError

from credentials import webhooks
from credentials.webhooks import EventSettings
from flow8_core.secret import Secret
from tests.counterparts.receiver import SECRET

URL = "https://hooks.example.com/flow8"


def key(size: int) -> str:
    return "whsec_" + base64.b64encode(b"k" * size).decode()


def test_the_signature_is_the_one_of_the_specification() -> None:
    # the vector of standard-webhooks' own libraries
    signed = webhooks.signature(
        [Secret("whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw")],
        message_id="msg_p5jXN8AQM9LWM0D4loKWxJek",
        timestamp=1614265330,
        body=b'{"test": 2432232314}',
    )

    assert signed == "v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE="


def test_while_a_secret_is_changed_both_sign_the_current_one_first() -> None:
    settings = EventSettings(url=URL, secret=SecretStr(SECRET), secret_previous=SecretStr(key(24)))

    both = webhooks.signature(settings.secrets, message_id="msg_1", timestamp=1, body=b"{}").split(" ")

    assert both == [
        webhooks.signature([Secret(one)], message_id="msg_1", timestamp=1, body=b"{}") for one in (SECRET, key(24))
    ]


@pytest.mark.parametrize(
    "secret", ["", "secret", "whsec_", "whsec_not base64!", key(23), key(65), SECRET.removeprefix("whsec_"), "********"]
)
def test_a_secret_that_is_none_is_refused_and_not_repeated(secret: str) -> None:
    with pytest.raises(ValidationError) as caught:
        EventSettings(url=URL, secret=SecretStr(secret))

    assert len(secret) < 8 or secret not in str(caught.value)


def test_an_endpoint_needs_a_secret_and_https() -> None:
    with pytest.raises(ValidationError, match="needs a secret"):
        EventSettings(url=URL)
    with pytest.raises(ValidationError, match="https"):
        EventSettings(url="http://hooks.example.com/", secret=SecretStr(SECRET))


@pytest.mark.parametrize("days", [[0], [366], list(range(1, 12))])
def test_days_that_are_none_are_refused(days: list[int]) -> None:
    with pytest.raises(ValidationError):
        EventSettings.model_validate({"warn_days": days})
