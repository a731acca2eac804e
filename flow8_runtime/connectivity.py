"""Asks a vendor whether a link works: one harmless call that the provider's declaration names.

A refresh on the way is one like any other: claimed, stored, and only then used.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any
from urllib.parse import urlencode, urljoin

from bson import ObjectId

from credentials.providers.places import filled_from
from credentials.providers.provider import Probe, Provider, at_path
from credentials.resolver import LinkAccess
from credentials.token_errors import retry_after
from flow8_core.clock import Deadline
from flow8_core.egress import Hosts, Response
from flow8_core.errors import (
    AccessDenied,
    Flow8Error,
    InsufficientScope,
    LinkError,
    ProviderMisconfigured,
    ProviderRejected,
    ProviderUnavailable,
    RateLimited,
    TokenRevoked,
    VendorBadResponse,
)
from flow8_core.secret import Secret
from flow8_runtime.platform import Platform

PATIENCE_S = 15.0
MAX_BYTES = 256 * 1024


@dataclass(frozen=True)
class _Said:
    """What the vendor answered: how long it took, and what it says against the token, if anything."""

    access: LinkAccess
    probe: Probe
    body: Mapping[str, Any]
    response: Response
    error: Flow8Error | None


def check_link(platform: Platform, *, company_id: ObjectId, link_id: str) -> dict[str, Any]:
    """The seed's answer: `{status, service, latency_ms, token_valid, scopes_granted, user}`, with `error` if it failed.

    A refresh that is due happens first, and so does one where the vendor refuses the access token that it once gave: a
    step would do the same. Scopes are what the vendor says now, or else what it granted; none are made up, and they are
    null where nobody knows. `token_valid` is null where the vendor said nothing about the token. The link remembers the
    outcome as `last_health`. Raises `NotFound` for a link that is not there.
    """
    deadline = Deadline.after(PATIENCE_S, platform.clock)
    links = platform.links(company_id)
    link = links.get(link_id)
    answer: dict[str, Any] = {
        "status": "failed",
        "service": link.service,
        "latency_ms": None,
        "token_valid": None,
        "scopes_granted": sorted(link.scopes) or None,
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
        answer |= _answer(_asked(platform, access, deadline))
    except Flow8Error as error:
        answer |= {"token_valid": False if _speaks_of_token(error) else None}
        answer |= _failure(error, link_id)
    links.note_health(
        link.id,
        status=answer["status"],
        token_valid=answer["token_valid"],
        latency_ms=answer["latency_ms"],
        code=answer.get("error", {}).get("code"),
    )
    return answer


def _asked(platform: Platform, access: LinkAccess, deadline: Deadline) -> _Said:
    """The vendor's answer; once more with another access token where it refuses the first."""
    said = _ask(platform, access, deadline)
    if not isinstance(said.error, TokenRevoked):
        return said
    try:
        renewed = platform.resolver.renew(access, deadline=deadline)
    except LinkError:
        return said  # the grant is over, as the first answer said; the link knows it now
    return _ask(platform, renewed, deadline)


def _ask(platform: Platform, access: LinkAccess, deadline: Deadline) -> _Said:
    provider = platform.providers.endpoints(access.service, egress=platform.egress, deadline=deadline)
    probe = provider.probe or _userinfo(provider)
    url = _url(provider, probe, access)
    token, form = access.access_token, probe.form_field
    response = platform.egress.send(
        probe.method,
        url,
        headers={"Accept": "application/json"}
        | ({"Content-Type": "application/x-www-form-urlencoded"} if form else {}),
        body=urlencode({form: token.reveal()}).encode() if form else b"",
        credentials={} if form else {"Authorization": Secret(f"Bearer {token.reveal()}")},
        # the identity server may be another host than the API, and is as much the token's own
        hosts=access.hosts | Hosts.of_url(url) if form or url == provider.userinfo_url else access.hosts,
        deadline=deadline,
        max_bytes=MAX_BYTES,
    )
    body = _object(response)
    error = _objection(provider, probe, response, body)
    if error is not None and error.retryable:
        error.retry_after = retry_after(response.headers.get("Retry-After"), platform.store.now())
    return _Said(access, probe, body, response, error)


def _userinfo(provider: Provider) -> Probe:
    """What can be asked of any OpenID server."""
    if not provider.userinfo_url:
        raise ProviderMisconfigured(
            f"Nothing is known that tests a link of {provider.service}; give oauth2.{provider.service}.userinfo_url.",
            service=provider.service,
        )
    return Probe(method="GET", path=provider.userinfo_url, user=("sub", "id"))


def _url(provider: Provider, probe: Probe, access: LinkAccess) -> str:
    path = filled_from(probe.path, access.metadata)
    if path is None:
        raise ProviderMisconfigured(
            f"The {provider.title} link does not know which account it belongs to; reconnect it.",
            service=provider.service,
        )
    return urljoin(access.base_url if probe.at == "base_url" else provider.token_url, path)


def _answer(said: _Said) -> dict[str, Any]:
    answer: dict[str, Any] = {"latency_ms": said.response.duration_ms}
    access, probe, body = said.access, said.probe, said.body
    if said.error is not None:
        judged = isinstance(said.error, LinkError) and not isinstance(said.error, AccessDenied)
        # who lacks a permission was recognised
        valid = isinstance(said.error, InsufficientScope) if judged else None
        return answer | {"token_valid": valid} | _failure(said.error, access.link_id)
    granted = said.response.headers.get(probe.scopes_header) if probe.scopes_header else None
    granted = at_path(body, probe.scopes) if probe.scopes else granted
    user = next((str(found) for path in probe.user if (found := at_path(body, path))), None)
    return answer | {
        "status": "ok",
        "token_valid": True,
        "scopes_granted": sorted(access.provider.scopes.listed(granted) or access.scopes) or None,
        "user": user or access.link.provider_user_id or None,
    }


def _failure(error: Flow8Error, link_id: str) -> dict[str, Any]:
    error.link_id = link_id
    return {"error": error.to_dict()}


def _speaks_of_token(error: Flow8Error) -> bool:
    return isinstance(error, LinkError) and not isinstance(error, InsufficientScope)


def _objection(provider: Provider, probe: Probe, response: Response, body: Mapping[str, Any]) -> Flow8Error | None:
    """What the vendor's answer says against the token; None where nothing."""
    verdict = _verdict(provider, response, body)
    if verdict is None and probe.audience and at_path(body, probe.audience) != provider.registered().client_id:
        return AccessDenied(
            f"The token of this {provider.title} link was made for another application than ours; reconnect it.",
            service=provider.service,
        )
    return None if verdict is None else _error(provider, verdict, response)


def _verdict(provider: Provider, response: Response, body: Mapping[str, Any]) -> str | None:
    if response.status == 429:
        return "rate_limit_exceeded"
    if response.status >= 500:
        return "provider_unavailable"
    failed = response.status >= 400 or body.get("ok") is False
    for table in (*provider.api_errors, *(provider.errors if failed else ())):
        found = at_path(body, table.field)
        failed = failed or found is not None  # QuickBooks may send a fault with 200
        if verdict := table.verdicts.get(str(found)):
            # what stands in the way of a refresh token stands in the way of an access token
            return "token_revoked" if verdict == "invalid_grant" else verdict
    if not failed:
        return None
    return {401: "token_revoked", 403: "access_denied"}.get(response.status, "provider_rejected")


def _error(provider: Provider, verdict: str, response: Response) -> Flow8Error:
    title, service = provider.title, provider.service
    match verdict:
        case "token_revoked":
            return TokenRevoked(f"{title} no longer accepts the link's access token; reconnect it.", service=service)
        case "insufficient_scope":
            return InsufficientScope(
                f"{title} accepts the token, but the user's permissions there are not enough for the test.",
                service=service,
            )
        case "access_denied":
            return AccessDenied(f"{title} refuses this account; its administrator has to allow it.", service=service)
        case "rate_limit_exceeded":
            return RateLimited(f"{title} asks for patience; test again later.", service=service)
        case "provider_misconfigured":
            return ProviderMisconfigured(
                f"{title} refuses our application; verify oauth2.{service} of the configuration.", service=service
            )
        case "provider_unavailable":
            return ProviderUnavailable(f"{title} answered {response.status}; test again later.", service=service)
        case _:
            return ProviderRejected(
                f"{title} refuses the test call (HTTP {response.status}), which says nothing about the token.",
                service=service,
            )


def _object(response: Response) -> Mapping[str, Any]:
    try:
        body = response.json()
    except VendorBadResponse:
        if response.status < 400:
            raise
        return {}
    return body if isinstance(body, dict) else {}
