"""OIDC discovery: the endpoints of a server that is known by its issuer alone.

Source: OpenID Connect Discovery 1.0 section 4, RFC 8414, RFC 9207 (iss in the callback).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any
from urllib.parse import urlsplit

from credentials.providers.provider import ClientAuth, IdToken, Provider, Revocation
from credentials.providers.settings import LOOPBACK
from flow8_core.clock import Deadline
from flow8_core.egress import Egress
from flow8_core.errors import ExecutionTimeout, ProviderMisconfigured, ProviderUnavailable, VendorBadResponse

KEPT_S = 24 * 3600.0
CALL_S = 5.0
_MAX_BYTES = 256 * 1024


class Discovery:
    """Completes providers from their issuers' documents, and remembers each for a day. Threads may share one."""

    def __init__(self) -> None:
        self._known: dict[str, tuple[float, Provider]] = {}
        self._id_tokens: dict[str, tuple[float, IdToken | None]] = {}

    def complete(self, provider: Provider, egress: Egress, deadline: Deadline) -> Provider:
        """The provider with all endpoints.

        What the configuration names stays. Raises `ProviderUnavailable` or `VendorBadResponse` where the issuer's
        document cannot be had, `ProviderMisconfigured` where it belongs to another issuer or offers no code flow.
        """
        if provider.issuer is None or (provider.authorize_url and provider.token_url):
            return provider
        known = self._known.get(provider.service)
        if known is not None and known[0] > deadline.clock.monotonic():
            return known[1]
        try:
            completed = _completed(provider, _document(provider, egress, deadline.capped(CALL_S)))
        except (ProviderUnavailable, VendorBadResponse, ExecutionTimeout):
            if known is None:
                raise
            return known[1]  # yesterday's endpoints: a refresh must not fail because a document cannot be had
        self._known[provider.service] = (deadline.clock.monotonic() + KEPT_S, completed)
        return completed

    def id_token(self, provider: Provider, egress: Egress, deadline: Deadline) -> IdToken | None:
        """What the provider's ID tokens are checked against: as declared, else as its issuer's document says; None
        where there is neither. Raises `ProviderUnavailable` or `VendorBadResponse` where the document cannot be had."""
        if provider.id_token is not None or provider.issuer is None:
            return provider.id_token
        known = self._id_tokens.get(provider.service)
        if known is not None and known[0] > deadline.clock.monotonic():
            return known[1]
        try:
            found = _completed(provider, _document(provider, egress, deadline.capped(CALL_S))).id_token
        except ProviderMisconfigured:  # it has no such document: an issuer for the callback's `iss` alone
            found = None
        self._id_tokens[provider.service] = (deadline.clock.monotonic() + KEPT_S, found)
        return found


def _document(provider: Provider, egress: Egress, deadline: Deadline) -> Mapping[str, Any]:
    issuer = provider.issuer or ""
    url = f"{issuer.rstrip('/')}/.well-known/openid-configuration"
    response = egress.send("GET", url, headers={"Accept": "application/json"}, deadline=deadline, max_bytes=_MAX_BYTES)
    if response.status >= 500 or response.status == 429:
        raise ProviderUnavailable(
            f"The issuer of {provider.service} answered {response.status}; try again later.", service=provider.service
        )
    if response.status != 200:
        raise ProviderMisconfigured(
            f"oauth2.{provider.service}.issuer has no OpenID configuration (HTTP {response.status}); check it.",
            service=provider.service,
        )
    document = response.json()
    if not isinstance(document, Mapping):
        raise VendorBadResponse("The OpenID configuration is no object.", service=provider.service)
    return document


def _completed(provider: Provider, document: Mapping[str, Any]) -> Provider:
    if document.get("issuer") != provider.issuer:
        raise ProviderMisconfigured(
            f"The OpenID configuration of {provider.service} names another issuer; "
            f"write oauth2.{provider.service}.issuer exactly as the server does.",
            service=provider.service,
        )
    revocation, userinfo_url = provider.revocation, provider.userinfo_url or _address(document, "userinfo_endpoint")
    revoke_url, jwks_url = _address(document, "revocation_endpoint"), _address(document, "jwks_uri")
    if revoke_url and not (revocation and revocation.url):
        revocation = replace(revocation or Revocation(url="", shared_by="user"), url=revoke_url)
    return replace(
        provider,
        authorize_url=provider.authorize_url or _endpoint(provider, document, "authorization_endpoint"),
        token_url=provider.token_url or _endpoint(provider, document, "token_endpoint"),
        userinfo_url=userinfo_url,
        revocation=revocation if revocation and revocation.url else None,
        id_token=provider.id_token or (IdToken(jwks_url=jwks_url, issuer=document["issuer"]) if jwks_url else None),
        client_auth=_client_auth(provider.client_auth, document.get("token_endpoint_auth_methods_supported")),
        issuer_in_callback=provider.issuer_in_callback
        or document.get("authorization_response_iss_parameter_supported") is True,
    )


def _endpoint(provider: Provider, document: Mapping[str, Any], name: str) -> str:
    address = _address(document, name)
    if address is None:
        raise ProviderMisconfigured(
            f"The OpenID configuration of {provider.service} has no {name} with https; it cannot be used.",
            service=provider.service,
        )
    return address


def _address(document: Mapping[str, Any], name: str) -> str | None:
    value = document.get(name)
    if not isinstance(value, str) or len(value) > 2048:
        return None
    parts = urlsplit(value)
    # an issuer on loopback without TLS may name endpoints like itself; one with TLS must not lead out of it
    plain = str(document["issuer"]).startswith("http://") and parts.scheme == "http" and parts.hostname in LOOPBACK
    return value if (parts.scheme == "https" or plain) and parts.hostname and parts.username is None else None


def _client_auth(wanted: ClientAuth, supported: Any) -> ClientAuth:
    """The configured way, unless the server takes the other one only."""
    if not isinstance(supported, list) or f"client_secret_{wanted}" in supported:
        return wanted
    other: ClientAuth = "post" if wanted == "basic" else "basic"
    return other if f"client_secret_{other}" in supported else wanted
