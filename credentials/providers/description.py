"""What there is to know about a provider, for answers and pages: ready for JSON, and without any secret."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from credentials.providers.provider import Provider


def describe(provider: Provider) -> dict[str, Any]:
    """The declaration as it is bound now. Times are in seconds; null is what does not exist, does not end, or, of
    endpoints, what the issuer's discovery document says when it is needed."""
    revocation, probe, rules = provider.revocation, provider.probe, provider.scopes
    return {
        "service": provider.service,
        "title": provider.title,
        "configured": provider.app is not None,
        "site": provider.site,
        "sites": list(provider.sites),
        "issuer": provider.issuer,
        "authorize_url": provider.authorize_url or None,
        "token_url": provider.token_url or None,
        "base_url": provider.base_url,
        "api_hosts": sorted(provider.api_hosts.entries),
        "client_auth": provider.client_auth,
        "pkce": provider.pkce,
        "authorize_params": dict(provider.authorize_params),
        "callback_metadata": list(provider.callback_metadata),
        "scopes": {
            "separator": rules.separator,
            "of_the_application": rules.fixed,
            "always": list(provider.base_scopes),
            "usual": list(provider.default_scopes),
            "configured": list(provider.app.scopes) if provider.app else [],
            "short_names": dict(rules.aliases),
        },
        "rotation": provider.rotation,
        "replay": provider.replay,
        "grace_s": provider.grace_s,
        "lifetime_s": provider.lifetime_s,
        "refresh_lead_s": provider.refresh_lead_s,
        "idle_s": provider.idle_s,
        "grant_lifetime_s": provider.grant_lifetime_s,
        "revocation": {"url": revocation.url or None, "shared_by": revocation.shared_by} if revocation else None,
        "connectivity": f"{probe.method} {probe.path.partition('?')[0]}" if probe else None,
    }


def duration(seconds: int | None) -> str:
    """A time span for people: in the largest unit that tells it exactly."""
    if seconds is None:
        return ""
    for unit, length in (("year", 365 * 24 * 3600), ("day", 24 * 3600), ("hour", 3600), ("minute", 60), ("second", 1)):
        if seconds % length == 0:
            count = seconds // length
            return f"{count} {unit}" + ("" if count == 1 else "s")
    return ""


def facts(described: Mapping[str, Any]) -> list[tuple[str, str]]:
    """What `describe` says, as (what, in words), for people."""
    scopes, revocation = described["scopes"], described["revocation"]
    found = "discovered when needed"
    rows = [
        ("site", _site(described)),
        ("issuer", described["issuer"] or ""),
        ("authorize at", described["authorize_url"] or found),
        ("tokens from", described["token_url"] or found),
        ("the application signs in", {"basic": "by HTTP Basic", "post": "in the form"}[described["client_auth"]]),
        ("PKCE", "S256" if described["pkce"] else "no"),
        ("parameters", ", ".join(f"{name}={value}" for name, value in described["authorize_params"].items())),
        ("the callback brings", ", ".join(described["callback_metadata"])),
        ("API", described["base_url"]),
        ("tokens go to", ", ".join(described["api_hosts"])),
        ("scopes always asked for", " ".join(scopes["always"])),
        ("scopes where none are named", " ".join(scopes["usual"])),
        ("scopes", "belong to the application; none are asked for" if scopes["of_the_application"] else ""),
        ("configured scopes", " ".join(scopes["configured"])),
        ("short names", ", ".join(f"{short} = {real}" for short, real in scopes["short_names"].items())),
        ("an access token lives", f"{duration(described['lifetime_s'])}, where no reply says it"),
        ("a refresh brings a new refresh token", described["rotation"]),
        ("a used refresh token", _REPLAY[described["replay"]].format(grace=duration(described["grace_s"]))),
        ("a grant ends", _end(described)),
        ("given back", _given_back(revocation) if revocation else "not possible; the user removes the consent there"),
        ("tested by", described["connectivity"] or ""),
        ("redirect URI", described.get("redirect_uri", "")),
    ]
    return [(what, words) for what, words in rows if words]


_REPLAY = {
    "reusable": "works again",
    "grace": "works again for {grace}",
    "single_use": "is spent, as far as anybody knows",
}


def _site(described: Mapping[str, Any]) -> str:
    if not described["site"]:
        return ""
    others = [name for name in described["sites"] if name != described["site"]]
    return f"{described['site']}; others are {', '.join(others)}"


def _end(described: Mapping[str, Any]) -> str:
    ends = []
    if described["idle_s"] is not None:
        ends.append(f"{duration(described['idle_s'])} after its last refresh")
    if described["grant_lifetime_s"] is not None:
        ends.append(f"{duration(described['grant_lifetime_s'])} after the connect")
    return ", and ".join(ends) or "when somebody ends it"


def _given_back(revocation: Mapping[str, Any]) -> str:
    where = f"at {revocation['url']}" if revocation["url"] else "where the issuer says"
    others = {"user": "; ends all of that user's", "account": "; ends all of that account's"}
    return where + others.get(revocation["shared_by"], "")
