"""id_tokens as an OpenID provider signs them, and as somebody would forge them (OpenID Connect Core section 2)."""

from __future__ import annotations

import uuid
from collections.abc import Mapping
from functools import cached_property
from typing import Any, Literal

from flow8_lab.clock import Clock
from flow8_lab.quirks import Quirks
from flow8_lab.signing import Signer, unsigned

# what is wrong with an id_token: a key that nobody published, under its own or a published `kid`; a way of signing that
# must not be taken; a claim
Flaw = Literal[
    "good",
    "wrong_key",
    "forged_kid",
    "unsigned",
    "hmac",
    "wrong_audience",
    "wrong_issuer",
    "wrong_nonce",
    "no_nonce",
    "wrong_subject",
    "expired",
    "absent",
]


class IdTokens:
    """The keys of one provider: made when they are first needed, kept for the process's life."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock

    @cached_property
    def _own(self) -> Signer:
        return Signer()

    @cached_property
    def _next(self) -> Signer:
        return Signer()

    @cached_property
    def _stranger(self) -> Signer:
        return Signer()

    def keys(self, quirks: Quirks) -> list[dict[str, str]]:
        """The published keys (RFC 7517), the one in use first."""
        signers = [self._next, self._own] if quirks.keys_rolled else [self._own]
        return [{**signer.jwk, "alg": "RS256"} for signer in signers]

    def issue(
        self, claims: Mapping[str, Any], *, nonce: str | None, lifetime_s: int, flaw: Flaw, quirks: Quirks
    ) -> str | None:
        """A token of `claims` (iss, aud, sub and the vendor's own), good or flawed; None where none is to be given."""
        if flaw == "absent":
            return None
        now = int(self._clock() + quirks.clock_skew_s)
        begins = now - 2 * lifetime_s if flaw == "expired" else now
        whole = {**claims, "iat": begins, "exp": begins + lifetime_s}
        if "nbf" in claims:
            whole["nbf"] = begins
        if nonce is not None and flaw != "no_nonce":
            whole["nonce"] = "another" if flaw == "wrong_nonce" else nonce
        whole |= _wrong_claims(flaw)
        return self._signed(whole, flaw, self._next if quirks.keys_rolled else self._own)

    def _signed(self, claims: Mapping[str, Any], flaw: Flaw, signer: Signer) -> str:
        match flaw:
            case "wrong_key":
                return self._stranger.sign(claims)
            case "forged_kid":
                return self._stranger.sign(claims, kid=signer.jwk["kid"])
            case "unsigned":
                return unsigned(claims)
            case "hmac":
                return signer.sign_as_if_shared(claims)
            case _:
                return signer.sign(claims)


def _wrong_claims(flaw: Flaw) -> dict[str, str]:
    match flaw:
        case "wrong_audience":
            return {"aud": str(uuid.UUID(int=2))}
        case "wrong_issuer":
            return {"iss": "https://issuer.example"}
        case "wrong_subject":
            return {"sub": str(uuid.UUID(int=3))}
        case _:
            return {}
