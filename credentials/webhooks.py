"""Signed messages to an endpoint of the operator's, by Standard Webhooks.

Source: https://github.com/standard-webhooks/standard-webhooks/blob/main/spec/standard-webhooks.md - the signature is
`v1,` and the base64 of HMAC-SHA256 over `{id}.{timestamp}.{body}`, by the bytes behind `whsec_`; during a rotation of
the secret there are two, with a space between.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import hmac
from collections.abc import Sequence
from typing import Annotated

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, SecretStr, model_validator

from credentials.key_formats import is_mask
from credentials.providers.settings import WebUrl
from flow8_core.secret import Secret

PREFIX = "whsec_"
KEY_BYTES = range(24, 65)  # what the specification allows


def _signing_secret(secret: SecretStr) -> SecretStr:
    text = secret.get_secret_value()
    if is_mask(text):
        raise ValueError("is a placeholder; put the real secret, or ${NAME} of an environment variable that holds it")
    try:
        key = base64.b64decode(text.removeprefix(PREFIX), validate=True)
    except binascii.Error:
        key = b""
    if not text.startswith(PREFIX) or len(key) not in KEY_BYTES:
        raise ValueError(f"must be {PREFIX} and the base64 of 24 to 64 random bytes")
    return secret


SigningSecret = Annotated[SecretStr, AfterValidator(_signing_secret)]


class EventSettings(BaseModel):
    """The section `events`: where links' owners are told from. Nothing is sent without a `url`.

    `secret` signs, and so does `secret_previous` while receivers change from one to the other. `warn_days`: how many
    days before its end a link is told to expire soon.
    """

    model_config = ConfigDict(extra="forbid", frozen=True, hide_input_in_errors=True)

    url: WebUrl | None = None
    secret: SigningSecret | None = None
    secret_previous: SigningSecret | None = None
    warn_days: tuple[Annotated[int, Field(ge=1, le=365)], ...] = Field(default=(30, 7, 1), max_length=10)

    @model_validator(mode="after")
    def _signed(self) -> EventSettings:
        if self.url is not None and self.secret is None:
            raise ValueError("needs a secret beside url, for receivers to know who sends; make one with "
                             "`printf 'whsec_%s' $(openssl rand -base64 32)`")  # fmt: skip
        return self

    @property
    def secrets(self) -> tuple[Secret, ...]:
        """The secrets that sign, the current one first."""
        return tuple(Secret(one.get_secret_value()) for one in (self.secret, self.secret_previous) if one is not None)


def signature(secrets: Sequence[Secret], *, message_id: str, timestamp: int, body: bytes) -> str:
    """The value of `webhook-signature`; `timestamp` in seconds since 1970."""
    signed = f"{message_id}.{timestamp}.".encode() + body
    return " ".join(f"v1,{_mac(secret, signed)}" for secret in secrets)


def headers(secrets: Sequence[Secret], *, message_id: str, timestamp: int, body: bytes) -> dict[str, str]:
    """All headers of a signed message."""
    return {
        "Content-Type": "application/json",
        "webhook-id": message_id,
        "webhook-timestamp": str(timestamp),
        "webhook-signature": signature(secrets, message_id=message_id, timestamp=timestamp, body=body),
    }


def _mac(secret: Secret, signed: bytes) -> str:
    key = base64.b64decode(secret.reveal().removeprefix(PREFIX))
    return base64.b64encode(hmac.new(key, signed, hashlib.sha256).digest()).decode()
