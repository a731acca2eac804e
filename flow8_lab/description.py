"""What a deployment must know in order to use the laboratory instead of the vendors."""

from __future__ import annotations

from collections.abc import Mapping

from flow8_lab import bexio

Addresses = dict[str, dict[str, str]]


def services(urls: Mapping[str, str]) -> Addresses:
    """The `services` section of flow8.yaml for the OAuth2 vendors; `urls` are the origins by the names of PORTS.
    Clio is its US region, and QuickBooks is production: `regions` has the others. Bexio's endpoints are discovered."""
    slack, google, apis = urls["slack"], urls["google"], urls["googleapis"]
    return {
        "slack": {
            "base_url": f"{slack}/api/",
            "authorize_url": f"{slack}/oauth/v2/authorize",
            "token_url": f"{slack}/api/oauth.v2.access",
            "revoke_url": f"{slack}/api/auth.revoke",
        },
        "microsoft": {"authority": urls["login"], "base_url": f"{urls['graph']}/v1.0/"},
        "google": {
            "base_url": f"{apis}/",
            "issuer": google,
            "authorize_url": f"{google}/o/oauth2/v2/auth",
            "token_url": f"{google}/token",
            "revoke_url": f"{google}/revoke",
            "userinfo_url": f"{apis}/v1/userinfo",
        },
        "clio": regions(urls)["clio"]["us"],
        "quickbooks": regions(urls)["quickbooks"]["production"],
        "bexio": {"base_url": f"{urls['bexio_api']}/", "issuer": f"{urls['bexio']}{bexio.REALM}"},
    }


def regions(urls: Mapping[str, str]) -> dict[str, Addresses]:
    """The same for Clio's regions, and for the two environments of QuickBooks, which share a login."""
    return {
        "clio": {name: _clio(urls[f"clio_{name}"]) for name in ("us", "eu", "ca", "au")},
        "quickbooks": {
            "production": _quickbooks(urls["intuit"], urls["quickbooks"]),
            "sandbox": _quickbooks(urls["intuit"], urls["quickbooks_sandbox"]),
        },
    }


def oidc(urls: Mapping[str, str]) -> Addresses:
    """Issuer, discovery document and published keys of the vendors that sign id_tokens. Microsoft's issuer holds the
    tenant of each token."""
    login, google, intuit, realm = urls["login"], urls["google"], urls["intuit"], f"{urls['bexio']}{bexio.REALM}"
    return {
        "microsoft": {
            "issuer": f"{login}/{{tenantid}}/v2.0",
            "discovery_url": f"{login}/common/v2.0/.well-known/openid-configuration",
            "jwks_url": f"{login}/common/discovery/v2.0/keys",
        },
        "google": {
            "issuer": google,
            "discovery_url": f"{google}/.well-known/openid-configuration",
            "jwks_url": f"{urls['googleapis']}/oauth2/v3/certs",
        },
        "quickbooks": {
            "issuer": f"{intuit}/op/v1",
            "discovery_url": f"{intuit}/.well-known/openid_configuration/",
            "jwks_url": f"{intuit}/op/v1/jwks",
        },
        "bexio": {
            "issuer": realm,
            "discovery_url": f"{realm}/.well-known/openid-configuration",
            "jwks_url": f"{urls['bexio']}{bexio.OIDC}/certs",
        },
    }


def _clio(origin: str) -> dict[str, str]:
    return {
        "base_url": f"{origin}/api/v4/",
        "authorize_url": f"{origin}/oauth/authorize",
        "token_url": f"{origin}/oauth/token",
        "revoke_url": f"{origin}/oauth/deauthorize",
    }


def _quickbooks(login: str, api: str) -> dict[str, str]:
    return {
        "base_url": f"{api}/",
        "authorize_url": f"{login}/connect/oauth2",
        "token_url": f"{login}/oauth2/v1/tokens/bearer",
        "revoke_url": f"{login}/v2/oauth2/tokens/revoke",
    }
