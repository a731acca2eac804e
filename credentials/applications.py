"""What we know of our own applications at the providers: whether one is refused, and whether a provider that condemns
many links at once is to be believed.

An application is the deployment's: one document for each that was ever in trouble, named by a keyed hash of its
configuration, so that a mended configuration begins without a past. While it is refused nobody refreshes with it, but
for one trial now and then: what was mended at the provider shows by itself, too.
"""

from __future__ import annotations

import logging
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any, Literal

from credentials.grants import COLLECTION as LINKS
from credentials.link import Link
from credentials.providers.provider import Provider
from credentials.refresh_settings import RefreshSettings
from credentials.vault import Vault
from flow8_core.errors import AppBlocked, Flow8Error
from flow8_core.store import DuplicateKey, Index, Store

COLLECTION = "oauth_apps"
INDEXES = (Index((("state", 1),)), Index((("mistrusted_until", 1),)), Index((("told", 1),)))

# What does not surely mean the application (`invalid_request`, a tenant that does not know us) may be one account's
# affair: so many links have to meet it.
CONFIRMED_BY = 3

FIRST_TRIAL_S = 60.0
RAREST_TRIAL_S = 1800.0
BELIEVED_AFTER_S = 24 * 3600.0  # a link that was refused for so long is dead, whatever happens to others

REFUSED = ("refused_at", "refused_as", "refused_since")  # of a link

Whose = Literal["app", "grant"]
_log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Standing:
    """`code`: what the application was refused with, and nobody refreshes, but for whoever has the `trial`."""

    code: str | None = None
    trial: bool = False


class Applications:
    """The applications' state in the store. Threads and processes may all have one."""

    def __init__(self, store: Store, vault: Vault, settings: RefreshSettings) -> None:
        self._store = store
        self._vault = vault
        self._settings = settings

    def standing(self, provider: Provider, *, now: datetime) -> Standing:
        """How the provider's application stands. Whoever is given a `trial` refreshes, and tells `passed`."""
        known = self._known(provider)
        if known is None or known["state"] != "refused":
            return Standing()
        code = str(known["code"])
        if known["trial_at"] > now:
            return Standing(code)
        pause_s = min(RAREST_TRIAL_S, 2 * known["pause_s"])
        ours = self._store.update(
            COLLECTION,
            {"_id": known["_id"], "state": "refused", "trial_at": known["trial_at"]},
            {"$set": {"trial_at": now + timedelta(seconds=pause_s), "pause_s": pause_s}},
        )
        return Standing(code, trial=ours is not None)

    def refused(self, provider: Provider, error: Flow8Error, link: Link, *, now: datetime) -> str | None:
        """Note that the provider refused us with this error. The code that blocks the application; None where it may
        be this link's affair alone. Told once in the log."""
        known = self._known(provider)
        if known is None and provider.app is None:
            return None
        if known is not None and known["state"] == "refused":
            return str(known["code"])
        if not isinstance(error, AppBlocked) and not self._many(provider, "app", link, CONFIRMED_BY, now):
            return None
        code = error.provider_code or error.code
        fields = {
            "state": "refused", "code": code, "since": now, "service": provider.service,
            "trial_at": now + timedelta(seconds=FIRST_TRIAL_S), "pause_s": FIRST_TRIAL_S,
        }  # fmt: skip
        if self._first(provider, {"state": {"$ne": "refused"}}, fields):
            _log.error(
                "%s refuses our application (%s): its links are paused. Verify client_id and client_secret of "
                "oauth2.%s (is the secret expired?); they go on by themselves then.",
                provider.title, code, provider.service,
            )  # fmt: skip
        return code

    def passed(self, provider: Provider, standing: Standing) -> None:
        """Note that the provider took us for who we are."""
        if not standing.trial or provider.app is None:
            return
        named = {"_id": self.name(provider), "state": "refused"}
        if self._store.update(COLLECTION, named, {"$set": {"state": "working"}}) is not None:
            _log.warning("%s accepts our application again; its links go on.", provider.title)

    def mistrusts(self, provider: Provider, link: Link, *, now: datetime) -> bool:
        """Whether a provider that condemns this link is not to be believed, because it condemns so many at once: then
        it is more likely that something is wrong there, or with us. Told once in the log."""
        since = link.document.get("refused_since")
        if since is not None and now - since >= timedelta(seconds=BELIEVED_AFTER_S):
            return False
        if not self._many(provider, "grant", link, self._settings.breaker_links, now):
            return False
        until = now + timedelta(seconds=self._settings.breaker_window_s)
        calm = {"$or": [{"mistrusted_until": None}, {"mistrusted_until": {"$lte": now}}]}
        fields = {"mistrusted_until": until, "mistrusted_since": now, "service": provider.service}
        if self._first(provider, calm, fields, state="working"):
            _log.error(
                "%s condemns %d links or more within %d s, and renews fewer: none is marked as dead. Look at the "
                "provider's status page and at the application oauth2.%s; the links are tried again by and by.",
                provider.title, self._settings.breaker_links, self._settings.breaker_window_s, provider.service,
            )  # fmt: skip
        elif provider.app is not None:
            named = {"_id": self.name(provider)}
            self._store.update(COLLECTION, named, {"$max": {"mistrusted_until": until}})
        return True

    def refusal(self, provider: Provider) -> str | None:
        """The code with which the application is refused at present."""
        known = self._known(provider)
        return str(known["code"]) if known is not None and known["state"] == "refused" else None

    def name(self, provider: Provider) -> str | None:
        """The application as it is configured now, with its secret: named without telling anything of it. None where
        none is configured."""
        app = provider.app
        if app is None:
            return None
        secret = app.client_secret.reveal() if app.client_secret else ""
        files = (app.certificate.key_file, app.certificate.certificate_file) if app.certificate else ()
        proof = [app.client_id, secret, provider.token_url or provider.issuer or ""]
        proof += [file.read_text(encoding="utf-8") if file.is_file() else "" for file in files]
        digest = self._vault.mac("application", "\x00".join(proof).encode())
        return f"{provider.service}:{digest[:12].hex()}"

    def mistrusted(self, *, now: datetime) -> Iterator[tuple[str, datetime]]:
        """Services that are not to be believed at present, and since when a condemnation of theirs is to be undone."""
        window = timedelta(seconds=self._settings.breaker_window_s)
        for row in self._store.find(COLLECTION, {"mistrusted_until": {"$gt": now}}):
            yield row["service"], row["mistrusted_until"] - 2 * window

    def trials_due(self, *, now: datetime) -> Iterator[str]:
        """Services whose application may be tried again."""
        for row in self._store.find(COLLECTION, {"state": "refused"}):
            if row["trial_at"] <= now:
                yield row["service"]

    def _many(self, provider: Provider, whose: Whose, link: Link, least: int, now: datetime) -> bool:
        """Whether so many links of the service, this one among them, were refused lately, and more than renewed."""
        since = {"$gte": now - timedelta(seconds=self._settings.breaker_window_s)}
        refused = 1 + self._store.count(
            LINKS,
            {
                "integration_type": provider.service,
                "refused_as": whose,
                "refused_at": since,
                "_id": {"$ne": link.id},
            },
        )
        if refused < least:
            return False
        return refused > self._store.count(LINKS, {"integration_type": provider.service, "issued_at": since})

    def _first(self, provider: Provider, unless: dict[str, Any], fields: dict[str, Any], **new: Any) -> bool:
        """Write the fields where that has not been done yet; whether this was the first to do so."""
        if provider.app is None:
            return False
        name = self.name(provider)
        if self._store.update(COLLECTION, {"_id": name, **unless}, {"$set": fields}) is not None:
            return True
        try:
            self._store.insert(COLLECTION, {"_id": name, **new, **fields})
        except DuplicateKey:
            return False
        return True

    def _known(self, provider: Provider) -> dict[str, Any] | None:
        name = self.name(provider)
        return None if name is None else self._store.get(COLLECTION, name)


def refused_mark(link: Link, whose: Whose, now: datetime) -> dict[str, Any]:
    """The `$set` of a link that was refused now."""
    return {"refused_at": now, "refused_as": whose, "refused_since": link.document.get("refused_since") or now}
