"""Where a service is: its sites (regions, a sandbox, sovereign clouds), and what the configuration says instead."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import replace
from urllib.parse import urljoin, urlsplit

from credentials.providers.provider import Provider, Revocation
from credentials.providers.settings import ServiceSettings
from flow8_core.egress import Hosts


def place_faults(provider: Provider, to: ServiceSettings) -> Iterator[tuple[str, str]]:
    """What an entry of `services` says that this service cannot follow, as (key, message)."""
    if to.site is not None and to.site not in provider.sites:
        known = f"known are {', '.join(provider.sites)}" if provider.sites else "this service has one site only"
        yield "site", f"there is no such site; {known}"
    if to.authority and provider.authority is None:
        yield "authority", "this service has no authority; set its URLs one by one"


def moved(provider: Provider, to: ServiceSettings, *, tenant: str) -> Provider:
    """The provider with the addresses of the site and those that the configuration names; of placeholders, only names
    of an account's metadata are left."""
    site = to.site or next(iter(provider.sites), None)
    values = {"tenant": tenant, **(provider.sites.get(site, {}) if site else {})}

    def filled(url: str) -> str:
        return _filled(url, values)

    authority = filled(to.authority or provider.authority or "").rstrip("/")
    values["authority"] = authority
    usual_url = filled(provider.base_url)
    base_url = _folder(to.base_url or usual_url)
    userinfo_url = to.userinfo_url or provider.userinfo_url
    issuer = _issuer(provider, to)
    id_token = provider.id_token if issuer == provider.issuer else None  # another issuer has keys of its own
    return replace(
        provider,
        site=site,
        authority=authority or None,
        issuer=issuer,
        authorize_url=filled(to.authorize_url or provider.authorize_url),
        token_url=filled(to.token_url or provider.token_url),
        base_url=base_url,
        api_hosts=_hosts(provider, to, base_url, usual_url),
        userinfo_url=urljoin(base_url, filled(userinfo_url)) if userinfo_url else None,
        revocation=_revocation(provider, to, values),
        id_token=replace(id_token, jwks_url=filled(id_token.jwks_url), issuer=filled(id_token.issuer))
        if id_token
        else None,
    )


def filled_from(url: str, metadata: Mapping[str, object]) -> str | None:
    """The address with names of an account's metadata in place; None where one of them is not known."""
    found = _filled(url, {name: str(value) for name, value in metadata.items() if _is_id(str(value))})
    return None if "{" in found else found


def _is_id(text: str) -> bool:
    return text.isascii() and text.isalnum()


def _filled(url: str, values: Mapping[str, str]) -> str:
    for name, value in values.items():
        url = url.replace(f"{{{name}}}", value)
    return url


def _folder(url: str) -> str:
    return url if url.endswith("/") else url + "/"


def _revocation(provider: Provider, to: ServiceSettings, values: Mapping[str, str]) -> Revocation | None:
    if provider.revocation is None:
        return Revocation(url=to.revoke_url, shared_by="user") if to.revoke_url else None
    return replace(provider.revocation, url=to.revoke_url or _filled(provider.revocation.url, values))


def _issuer(provider: Provider, to: ServiceSettings) -> str | None:
    """Where the browser is sent elsewhere, the vendor's own issuer is not the one that answers."""
    return to.issuer or (None if to.authorize_url else provider.issuer)


def _hosts(provider: Provider, to: ServiceSettings, base_url: str, usual_url: str) -> Hosts:
    if to.api_hosts:
        return Hosts.of(*to.api_hosts)
    if provider.api_hosts.entries and urlsplit(base_url).netloc == urlsplit(usual_url).netloc:
        return provider.api_hosts
    return Hosts.of_url(base_url)
