"""`Providers`: every service that can be connected, each bound to our application there and to its addresses."""

from __future__ import annotations

import difflib
import importlib
import re
from collections.abc import Mapping
from dataclasses import replace
from importlib.metadata import EntryPoint
from types import MappingProxyType
from typing import Any

from credentials.providers import custom
from credentials.providers.discovery import Discovery
from credentials.providers.places import moved, place_faults
from credentials.providers.provider import App, Certificate, IdToken, Provider
from credentials.providers.settings import OAuthApp, ServiceSettings
from flow8_core.clock import Deadline
from flow8_core.egress import Egress
from flow8_core.errors import ValidationFailed
from flow8_core.installed import entry_points
from flow8_core.secret import Secret

# one data file each, found by name: a test compares this with the folder
BUILT_IN: Mapping[str, str] = MappingProxyType(
    {name: f"credentials.providers.{name}" for name in ("bexio", "clio", "google", "microsoft", "quickbooks", "slack")}
)
ENTRY_POINTS = "flow8.providers"
CONSUMERS = "9188040d-6c67-4c5b-b112-36a304b66dad"  # Microsoft's tenant of personal accounts
_TENANT_ID = re.compile(r"^[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}$")
_SERVICE_NAME = re.compile(r"^[a-z][a-z0-9_-]{0,62}$")


class Providers:
    """Built-in services, those of installed packages (entry points `flow8.providers`, each a `Provider`) and those that
    the `oauth2` section describes. Immutable but for the discovery cache; threads may share one.

    Raises `ValidationFailed` with all faults of both sections at once.
    """

    def __init__(
        self, oauth2: Mapping[str, OAuthApp] | None = None, services: Mapping[str, ServiceSettings] | None = None
    ) -> None:
        self._oauth2 = dict(oauth2 or {})
        self._services = dict(services or {})
        self._bound: dict[str, Provider] = {}
        self._discovery = Discovery()
        problems = [fault for name in {**self._services, **self._oauth2} for fault in self._faults(name)]
        if problems:
            raise ValidationFailed.from_problems(problems)

    def names(self) -> tuple[str, ...]:
        """All services, sorted."""
        return tuple(sorted({*BUILT_IN, *self._oauth2, *_installed()}))

    def get(self, service: str) -> Provider:
        """One service's provider. Raises `ValidationFailed` naming similar services where there is none."""
        provider = self._bound.get(service)
        if provider is None:
            provider = self._bound[service] = self._bind(service)
        return provider

    def endpoints(self, service: str, *, egress: Egress, deadline: Deadline) -> Provider:
        """As `get`, with the endpoints that must be discovered first. Raises what `Discovery.complete` raises, too."""
        return self._discovery.complete(self.get(service), egress, deadline)

    def id_token(self, provider: Provider, *, egress: Egress, deadline: Deadline) -> IdToken | None:
        """What this provider's ID tokens are checked against; None where nobody says. Raises as `endpoints` does."""
        return self._discovery.id_token(provider, egress, deadline)

    def _bind(self, service: str) -> Provider:
        app = self._oauth2.get(service)
        declared = _declared(service) if isinstance(service, str) else None
        if declared is None:
            if app is None:
                raise self._unknown(service)
            declared = custom.declare(service, app)
        bound = moved(declared, self._services.get(service, ServiceSettings()), tenant=app.tenant if app else "common")
        return replace(bound, app=_app(app), **_own_settings(app)) if app else bound

    def _faults(self, name: str) -> list[tuple[str, str]]:
        section = "oauth2" if name in self._oauth2 else "services"
        if not _SERVICE_NAME.match(name):
            return [(f"{section}.{name}", "a service's name is lower case letters, digits, _ and -")]
        app, declared = self._oauth2.get(name), _declared(name)
        found: list[tuple[str, str]] = []
        if declared is None and app is None:
            found.append((f"services.{name}", "is no known service; describe it under oauth2"))
        elif declared is None and app is not None:
            found += custom.faults(name, app)
        elif app is not None:
            set_here = app.model_fields_set & set(custom.OWN_SERVER_FIELDS)
            found += [
                (f"oauth2.{name}.{f}", f"{name} is a known service; see services.{name}") for f in sorted(set_here)
            ]
        settings = self._services.get(name)
        if settings is not None and declared is not None:
            found += [(f"services.{name}.{key}", message) for key, message in place_faults(declared, settings)]
        return found

    def _unknown(self, service: str) -> ValidationFailed:
        near = difflib.get_close_matches(str(service)[:64], self.names(), n=3)
        hint = f"did you mean {' or '.join(near)}?" if near else f"known are {', '.join(self.names())}."
        return ValidationFailed(f"There is no such service; {hint}", path="service")


def _declared(service: str) -> Provider | None:
    """What we or an installed package declare for a service."""
    if service in BUILT_IN:
        declared = importlib.import_module(BUILT_IN[service]).PROVIDER
    elif service in (installed := _installed()):
        declared = _loaded(installed[service])
    else:
        return None
    if not isinstance(declared, Provider) or declared.service != service:
        raise ValidationFailed(
            f"The entry point {ENTRY_POINTS}:{service} is no Provider of that service.", path=service
        )
    return declared


def _loaded(point: EntryPoint) -> Any:
    """What an installed package declares. Whatever its import raises is that package's fault, and is said so."""
    try:
        return point.load()
    except Exception as error:  # noqa: BLE001  foreign code
        raise ValidationFailed(
            f"The entry point {ENTRY_POINTS}:{point.name} ({point.value}) cannot be loaded: {type(error).__name__}.",
            path=point.name,
        ) from None


def _installed() -> dict[str, EntryPoint]:
    return {point.name: point for point in entry_points(ENTRY_POINTS)}


def _own_tenant(tenant: str) -> tuple[str, ...]:
    """The tenant whose accounts alone can sign in where it is named by its id; a domain does not tell."""
    tenant = CONSUMERS if tenant == "consumers" else tenant.lower()
    return (tenant,) if _TENANT_ID.match(tenant) else ()


def _own_settings(app: OAuthApp) -> dict[str, Any]:
    """What an entry of a known service says otherwise than its declaration."""
    return {name: getattr(app, name) for name in custom.ANY_SERVER_FIELDS if name in app.model_fields_set}


def _app(app: OAuthApp) -> App:
    certificate = None
    if app.private_key_file and app.certificate_file:
        certificate = Certificate(key_file=app.private_key_file, certificate_file=app.certificate_file)
    return App(
        client_id=app.client_id,
        client_secret=Secret(app.client_secret.get_secret_value()) if app.client_secret else None,
        certificate=certificate,
        redirect_uri=app.redirect_uri,
        scopes=app.scopes,
        user_scopes=app.user_scopes,
        tenants=app.tenants or _own_tenant(app.tenant),
        auto_create_users=app.auto_create_users,
    )
