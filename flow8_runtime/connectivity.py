"""Asks a vendor whether a link works: one harmless call that the provider's declaration names."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any
from urllib.parse import urljoin

from bson import ObjectId

from credentials.providers.provider import Probe, Provider, at_path
from credentials.resolver import LinkAccess
from flow8_core.clock import Deadline
from flow8_core.egress import Hosts, Response
from flow8_core.errors import Flow8Error, LinkError, ProviderMisconfigured, VendorBadResponse
from flow8_core.secret import Secret
from flow8_runtime.platform import Platform

PATIENCE_S = 15.0
REFUSALS = ("token_revoked", "invalid_grant")


def check_link(platform: Platform, *, company_id: ObjectId, link_id: str) -> dict[str, Any]:
    """The seed's answer: `{status, service, latency_ms, token_valid, scopes_granted, user}`, with `error` if it failed.

    A refresh that is due happens first, and is stored like any other. Scopes are what the vendor says now, or else what
    it granted; none are made up. Raises `NotFound` for a link that is not there.
    """
    deadline = Deadline.after(PATIENCE_S, platform.clock)
    link = platform.links(company_id).get(link_id)
    answer: dict[str, Any] = {
        "status": "failed",
        "service": link.service,
        "latency_ms": None,
        "token_valid": False,
        "scopes_granted": sorted(link.scopes),
        "user": None,
    }
    try:
        access = platform.resolver.link(
            company_id=company_id,
            user_id=link.user_id,
            service=link.service,
            link_id=link_id,
            scopes=frozenset(),
            deadline=deadline,
        )
        return answer | _ask(platform, access, deadline)
    except Flow8Error as error:
        error.link_id = link_id
        doubtful = not isinstance(error, LinkError)
        return answer | {"error": error.to_dict(), "token_valid": None if doubtful else False}


def _ask(platform: Platform, access: LinkAccess, deadline: Deadline) -> dict[str, Any]:
    provider = platform.providers.endpoints(access.service, egress=platform.egress, deadline=deadline)
    probe = provider.probe or _userinfo(provider)
    if probe is None:
        raise ProviderMisconfigured(
            f"Nothing is known that tests a link of {access.service}; give oauth2.{access.service}.userinfo_url.",
            service=access.service,
        )
    url = urljoin(access.base_url, probe.path)
    response = platform.egress.send(
        probe.method,
        url,
        credentials={"Authorization": Secret(f"Bearer {access.access_token.reveal()}")},
        # the identity server may be another host than the API, and is as much the token's own
        hosts=access.hosts | Hosts.of_url(url) if url == provider.userinfo_url else access.hosts,
        deadline=deadline,
    )
    return {"latency_ms": response.duration_ms} | _judge(provider, probe, response, access)


def _userinfo(provider: Provider) -> Probe | None:
    """What can be asked of any OpenID server."""
    url = provider.userinfo_url
    return Probe(method="GET", path=url, user=("sub", "id")) if url else None


def _judge(provider: Provider, probe: Probe, response: Response, access: LinkAccess) -> dict[str, Any]:
    body = _object(response)
    verdict = _verdict(provider, response, body)
    if verdict is not None:
        error = {"code": verdict, "message": f"{provider.title} refuses the link's token ({verdict})."}
        return {"error": error, "token_valid": False if verdict in REFUSALS else None}
    granted = response.headers.get(probe.scopes_header) if probe.scopes_header else None
    return {
        "status": "ok",
        "token_valid": True,
        "scopes_granted": sorted(provider.scopes.listed(granted) or access.scopes),
        "user": next((str(found) for path in probe.user if (found := at_path(body, path))), access.account or None),
    }


def _verdict(provider: Provider, response: Response, body: Mapping[str, Any]) -> str | None:
    """What the vendor's answer says against the token; None where nothing."""
    if response.status == 401:
        return "token_revoked"
    if response.status == 429:
        return "rate_limit_exceeded"
    if response.status >= 500:
        return "provider_unavailable"
    failed = response.status >= 400 or body.get("ok") is False
    if not failed:
        return None
    for table in provider.errors:
        verdict = table.verdicts.get(str(at_path(body, table.field)))
        if verdict:
            return verdict
    return "access_denied" if response.status == 403 else "provider_rejected"


def _object(response: Response) -> Mapping[str, Any]:
    try:
        body = response.json()
    except VendorBadResponse:
        if response.status < 400:
            raise
        return {}
    return body if isinstance(body, dict) else {}
