"""ID tokens, verified by us: msal does not do it, and requests-oauthlib does not look at them.

PyJWT checks the signature: RS256 and nothing else, whatever the token's header says, with a key of the issuer's own
set. Addresses and keys that a token brings along are never looked at. Times are judged by the store's clock.

Sources: OpenID Connect Core 1.0 section 3.1.3.7, RFC 7515, RFC 7519, RFC 8725 (best practices); Microsoft identity
platform, "Validate ID tokens" (`{tid}` in the issuer, the `issuer` of a key).
"""

from __future__ import annotations

import base64
import binascii
import json
import re
import threading
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, Never

from credentials.providers.provider import IdToken, Provider
from flow8_core.clock import Clock, Deadline
from flow8_core.egress import Egress
from flow8_core.errors import AccessDenied, EgressDenied, ExecutionTimeout, ProviderUnavailable, VendorBadResponse

ALGORITHM = "RS256"
LEEWAY_S = 120.0
KEPT_S = 24 * 3600.0
AGAIN_S = 60.0  # how soon an issuer's keys are fetched again because a token names one that is not among them
FETCH_S = 5.0
MAX_TOKEN = 16 * 1024
MAX_KEYS_BYTES = 256 * 1024
MOST_KEYS = 64
LEAST_KEY_BITS = 2048
_REQUIRED = ["iss", "sub", "aud", "exp", "iat"]
_TENANT = re.compile(r"[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}")


@dataclass(frozen=True)
class _Kept:
    """An issuer's key set as it was fetched; moments are the machine's monotonic clock."""

    keys: Sequence[Mapping[str, Any]]
    fetched_at: float


class IdTokens:
    """Verifies ID tokens. Keeps the issuers' keys for a day; threads may share one."""

    def __init__(self, egress: Egress, *, clock: Clock) -> None:
        self._egress = egress
        self._clock = clock
        self._kept: dict[str, _Kept] = {}
        self._lock = threading.Lock()

    def prepare(self, rule: IdToken, provider: Provider, deadline: Deadline) -> None:
        """Have the keys at hand before a code is used up for a token that nobody could then verify. Raises
        `ProviderUnavailable` or `VendorBadResponse` where they cannot be had."""
        self._keys(rule, provider, deadline)

    def verified(
        self, rule: IdToken, provider: Provider, token: Any, *, nonce: str | None, now: datetime, deadline: Deadline
    ) -> Mapping[str, Any]:
        """The claims of a token that this provider made for us, just now, and for this request.

        Raises `AccessDenied` for a token that is forged, old, or of another application, tenant or request;
        `VendorBadResponse` where there is none; what `prepare` raises where its key cannot be had.
        """
        if not isinstance(token, str) or not token or len(token) > MAX_TOKEN:
            raise VendorBadResponse(
                f"{provider.title} did not say whose account was connected (no ID token); connect again.",
                service=provider.service,
            )
        claims = self._signed(rule, provider, token, deadline)
        _check_time(provider, claims, now)
        _check_issuer(rule, provider, claims)
        audiences = claims["aud"]
        if isinstance(audiences, list) and len(audiences) > 1 and claims.get("azp") != provider.registered().client_id:
            _refuse(provider, "it was made for another application")
        if nonce is not None and claims.get("nonce") != nonce:
            _refuse(provider, "it belongs to another request")
        return claims

    @staticmethod
    def unverified(provider: Provider, token: Any, *, nonce: str | None) -> Mapping[str, Any]:
        """The claims of a token whose issuer's keys nobody knows; empty where it is none. Raises `AccessDenied` where
        it belongs to another request."""
        claims = _payload(token)
        if nonce is not None and claims and claims.get("nonce") != nonce:
            _refuse(provider, "it belongs to another request")
        return claims

    def _signed(self, rule: IdToken, provider: Provider, token: str, deadline: Deadline) -> dict[str, Any]:
        """The claims, once signature and audience are right."""
        import jwt

        listed, key = self._key(rule, provider, token, deadline)
        try:
            claims: dict[str, Any] = jwt.decode(
                token,
                key,
                algorithms=[ALGORITHM],
                audience=provider.registered().client_id,
                options={
                    "require": _REQUIRED,
                    "verify_exp": False,  # by the store's clock, below
                    "verify_nbf": False,
                    "verify_iat": False,
                    "verify_iss": False,  # may depend on the token's tenant: below
                    "enforce_minimum_key_length": True,
                },
            )
        except jwt.InvalidAudienceError:
            _refuse(provider, "it was made for another application")
        except (jwt.PyJWTError, ValueError, RecursionError):
            _refuse(provider, "it is not signed by the provider, or lacks what it must say")
        key_issuer = listed.get("issuer")  # Microsoft's; `{tenantid}` where the key is every tenant's
        if key_issuer is not None and str(key_issuer).replace("{tenantid}", str(claims.get("tid"))) != claims["iss"]:
            _refuse(provider, "its key is another issuer's")
        return claims

    def _key(self, rule: IdToken, provider: Provider, token: str, deadline: Deadline) -> tuple[Mapping[str, Any], Any]:
        """The key that the token's header names, as it is listed and ready for use; the only one where it names
        none."""
        import jwt

        try:
            header = jwt.get_unverified_header(token)
        except (jwt.PyJWTError, ValueError, RecursionError):
            _refuse(provider, "it is none")
        if header.get("alg") != ALGORITHM or str(header.get("typ", "JWT")).upper() != "JWT":
            _refuse(provider, f"it is not signed with {ALGORITHM}")
        kid = header.get("kid")
        found = _named(self._keys(rule, provider, deadline), kid)
        if not found:  # the issuer may have new ones
            found = _named(self._keys(rule, provider, deadline, anew=True), kid)
        if len(found) != 1:
            _refuse(provider, "its key is not one of the provider's")
        try:
            key = jwt.PyJWK.from_dict(dict(found[0]), algorithm=ALGORITHM)
        except (jwt.PyJWTError, ValueError, TypeError, KeyError):
            _refuse(provider, "its key cannot be read")
        if key.key.key_size < LEAST_KEY_BITS:
            _refuse(provider, "its key is too short")
        return found[0], key

    def _keys(
        self, rule: IdToken, provider: Provider, deadline: Deadline, *, anew: bool = False
    ) -> Sequence[Mapping[str, Any]]:
        kept = self._kept.get(rule.jwks_url)
        if kept is not None and self._clock.monotonic() - kept.fetched_at < (AGAIN_S if anew else KEPT_S):
            return kept.keys
        with self._lock:
            newer = self._kept.get(rule.jwks_url)
            if newer is not None and newer is not kept:  # another thread was first
                return newer.keys
            try:
                keys = self._fetched(rule, provider, deadline.capped(FETCH_S))
            except (ProviderUnavailable, VendorBadResponse, ExecutionTimeout, EgressDenied) as error:
                if kept is not None:
                    return kept.keys  # yesterday's keys are still the issuer's
                if isinstance(error, ExecutionTimeout):
                    raise ProviderUnavailable(
                        f"The keys of {provider.title} did not come in time; connect again.", service=provider.service
                    ) from None
                raise
            self._kept[rule.jwks_url] = _Kept(keys, self._clock.monotonic())
            return keys

    def _fetched(self, rule: IdToken, provider: Provider, deadline: Deadline) -> Sequence[Mapping[str, Any]]:
        response = self._egress.send(
            "GET", rule.jwks_url, headers={"Accept": "application/json"}, deadline=deadline, max_bytes=MAX_KEYS_BYTES
        )
        if response.status != 200:
            raise ProviderUnavailable(
                f"The keys of {provider.title} cannot be had (HTTP {response.status}); connect again later.",
                service=provider.service,
            )
        document = response.json()
        listed = document.get("keys") if isinstance(document, Mapping) else None
        keys = [key for key in listed[:MOST_KEYS] if _usable(key)] if isinstance(listed, list) else []
        if not keys:
            raise VendorBadResponse(f"{provider.title} publishes no usable keys.", service=provider.service)
        return keys


def _payload(token: Any) -> Mapping[str, Any]:
    if not isinstance(token, str) or token.count(".") != 2 or len(token) > MAX_TOKEN:
        return {}
    payload = token.split(".")[1]
    try:
        parsed = json.loads(base64.urlsafe_b64decode(payload + "=" * (-len(payload) % 4)))
    except (ValueError, binascii.Error, RecursionError):
        return {}
    return parsed if isinstance(parsed, dict) else {}


def _usable(key: Any) -> bool:
    """Whether a listed key is an RSA key for signatures with our algorithm."""
    if not isinstance(key, Mapping) or key.get("kty") != "RSA":
        return False
    return bool(key.get("use", "sig") == "sig" and key.get("alg", ALGORITHM) == ALGORITHM)


def _named(keys: Sequence[Mapping[str, Any]], kid: Any) -> list[Mapping[str, Any]]:
    return list(keys) if kid is None else [key for key in keys if key.get("kid") == kid]


def _check_time(provider: Provider, claims: Mapping[str, Any], now: datetime) -> None:
    moments = {name: _moment(claims[name]) for name in ("exp", "nbf", "iat") if name in claims}
    seconds = now.astimezone(UTC).timestamp()
    expires_at = moments["exp"]
    if None in moments.values() or expires_at is None or expires_at + LEEWAY_S <= seconds:
        _refuse(provider, "it is over")
    if any(moment is not None and moment - LEEWAY_S > seconds for moment in (moments.get("nbf"), moments["iat"])):
        _refuse(provider, "it is of the future: compare this machine's clock")


def _moment(value: Any) -> float | None:
    """A NumericDate (RFC 7519 section 2); None for what is none."""
    if isinstance(value, bool) or not isinstance(value, int | float) or not -1e12 < value < 1e12:
        return None
    return float(value)


def _check_issuer(rule: IdToken, provider: Provider, claims: Mapping[str, Any]) -> None:
    issuer, tenant = rule.issuer, claims.get("tid")
    if "{tid}" in issuer:
        if not isinstance(tenant, str) or not _TENANT.fullmatch(tenant):
            _refuse(provider, "it names no tenant")
        issuer = issuer.replace("{tid}", tenant)
    if claims["iss"] != issuer:
        _refuse(provider, "it is of another issuer")
    allowed = provider.registered().tenants
    if allowed and tenant not in allowed:
        raise AccessDenied(
            f"Accounts of this {provider.title} tenant may not be connected here; sign in with one of your company's, "
            f"or have an administrator add the tenant to oauth2.{provider.service}.tenants.",
            service=provider.service,
        )


def _refuse(provider: Provider, why: str) -> Never:
    raise AccessDenied(
        f"The proof of {provider.title} of who connected is not valid: {why}. Connect again.", service=provider.service
    )
