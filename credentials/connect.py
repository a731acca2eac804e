"""Connecting an account: out to the vendor with a one-time state, back with a code, and a sealed link at the end.

The state is 256 random bits, of which only the hash is kept, for ten minutes. It is bound to user, company, service,
redirect address, what was intended and (where there is a session) the browser, and one atomic delete consumes it before
anything is compared, so that a callback counts once, whoever sends it. The code is exchanged once and never again.

Sources: RFC 6749 section 4.1, RFC 7636, RFC 9207, RFC 9700 sections 2.1 and 4.4.
"""

from __future__ import annotations

import hashlib
import hmac
import secrets
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

from bson import ObjectId

from credentials import token_reply
from credentials.callback import check_issuer, read_query
from credentials.identity import Account, identify
from credentials.links import Granted, Link, Links
from credentials.oauth import client_for, timely
from credentials.providers.catalogue import Providers
from credentials.providers.provider import Provider
from credentials.token_errors import callback_error, refusal
from credentials.token_reply import Reply, Tokens
from credentials.vault import Place, Vault
from flow8_core import crashpoints
from flow8_core.clock import Clock, Deadline, SystemClock
from flow8_core.egress import Egress
from flow8_core.errors import (
    AccessDenied,
    Flow8Error,
    NotFound,
    ProviderUnavailable,
    VendorBadResponse,
)
from flow8_core.secret import Secret
from flow8_core.store import Document, Index, Store

COLLECTION = "oauth_states"
INDEXES = (Index((("state_hash", 1),), unique=True), Index((("expires_at", 1),), expire_after_s=0))

STATE_S = 600
CALL_S = 15.0  # the exchange and the question whose tokens these are
PREPARE_S = 10.0  # discovery, where the provider needs it

CONSUMED = crashpoints.register("connect.consumed", "the state is used up; the code is not exchanged")
ANSWERED = crashpoints.register("connect.answered", "the provider has exchanged the code; its reply is not read")
EXCHANGED = crashpoints.register("connect.exchanged", "the tokens are in memory and nowhere else")
STORED = crashpoints.register("connect.stored", "the link is stored; nobody has been told")


@dataclass(frozen=True)
class Begun:
    """Send the browser to `authorize_url`; `state` is in it."""

    authorize_url: str
    state: str


@dataclass(frozen=True)
class _Visit:
    """A callback whose state was consumed: `state` is the record of `begin`, `given` the query."""

    state: Document
    provider: Provider
    deadline: Deadline
    given: Mapping[str, str]
    issued_at: datetime


class Connect:
    """Begins and completes connections. Threads may share one."""

    def __init__(
        self,
        store: Store,
        vault: Vault,
        providers: Providers,
        egress: Egress,
        *,
        public_url: str,
        clock: Clock = SystemClock(),  # noqa: B008  has no state
    ) -> None:
        self._store = store
        self._vault = vault
        self._providers = providers
        self._egress = egress
        self._public_url = public_url.rstrip("/")
        self._clock = clock

    def redirect_uri(self, service: str) -> str:
        """The address that the vendor sends the browser back to: register it there, letter by letter."""
        app = self._providers.get(service).registered()
        return app.redirect_uri or f"{self._public_url}/auth/callback/{service}"

    def begin(
        self,
        service: str,
        *,
        company_id: ObjectId,
        user_id: ObjectId,
        scopes: Iterable[str] = (),
        link_id: str | None = None,
        browser: str | None = None,
    ) -> Begun:
        """Where to send the browser.

        Asked for are the application's scopes (or the service's usual ones) and `scopes`; with `link_id`, which
        reconnects that link of the user's, also those that it has. `browser` is a value that only this browser's
        session knows: the callback must then bring the same.

        Raises `ValidationFailed` for an unknown service, `ProviderMisconfigured` without an application, `NotFound` for
        a link that is not the user's, and what discovery raises.
        """
        deadline = Deadline.after(PREPARE_S, self._clock)
        provider = self._providers.endpoints(service, egress=self._egress, deadline=deadline)
        app = provider.registered()
        link = self._reconnected(link_id, service, company_id, user_id)
        held = link.document.get("scopes") or () if link else ()
        asked = provider.scopes.union(app.scopes or provider.default_scopes, scopes, held)
        state = Secret(secrets.token_urlsafe(32))
        redirect_uri = self.redirect_uri(service)
        authorization = client_for(provider, self._egress, deadline).authorize(
            scopes=asked, redirect_uri=redirect_uri, state=state
        )
        id, now = ObjectId(), self._store.now()  # noqa: A001  the field's own name
        document: Document = {
            "_id": id,
            "state_hash": _hash(state.reveal()),
            "company_id": company_id,
            "user_id": user_id,
            "service": service,
            "redirect_uri": redirect_uri,
            "scopes": list(asked),
            "link_id": link.id if link else None,
            "browser_hash": _hash(browser) if browser is not None else None,
            "nonce": authorization.nonce,
            "created_at": now,
            "expires_at": now + timedelta(seconds=STATE_S),
        }
        if authorization.verifier is not None:
            document["verifier"] = self._vault.seal(_place(id, company_id), authorization.verifier)
        self._store.insert(COLLECTION, document)
        return Begun(authorization.url, state.reveal())

    def complete(
        self,
        query: Mapping[str, str] | Sequence[tuple[str, str]],
        *,
        service: str | None = None,
        browser: str | None = None,
    ) -> Link:
        """The link that a callback's query makes. `service` is the one in the callback's path.

        Call it for a GET that a person caused (`callback.is_visit`). Raises `ValidationFailed` for a query that no
        server sends (the state is not consumed), `AccessDenied` for a state that is unknown, used, over, or another's,
        or when access was declined; the provider's refusals (`token_errors`); `Conflict` for another upstream account
        than the reconnected link's; `ProviderUnavailable` where the exchange's outcome is unknown: connect again then.
        """
        given = read_query(query)
        state = self._consumed(given["state"], service=service, browser=browser)
        crashpoints.visit(CONSUMED)
        deadline = Deadline.after(CALL_S, self._clock)
        provider = self._providers.endpoints(state["service"], egress=self._egress, deadline=deadline)
        check_issuer(provider, given.get("iss"))
        if "error" in given:
            raise callback_error(provider, given["error"])
        visit = _Visit(state, provider, deadline, given, issued_at=self._store.now())
        reply = self._exchanged(visit)
        crashpoints.visit(EXCHANGED)
        granted = self._granted(visit, reply)
        links = Links(self._store, self._vault, state["company_id"], actor=state["user_id"])
        link = links.save(
            granted, provider=provider, user_id=state["user_id"], link_id=state["link_id"], source="connect"
        )
        crashpoints.visit(STORED)
        return link

    def _reconnected(self, link_id: str | None, service: str, company_id: ObjectId, user_id: ObjectId) -> Link | None:
        if link_id is None:
            return None
        link = Links(self._store, self._vault, company_id).find(link_id)
        if link is None or link.user_id != user_id or link.service != service:
            raise NotFound(f"There is no such {service} link of yours; `flow8 link list` shows those that there are.")
        return link

    def _consumed(self, state: str, *, service: str | None, browser: str | None) -> Document:
        document = self._store.delete(COLLECTION, {"state_hash": _hash(state)})
        if document is None or document["expires_at"] <= self._store.now():
            raise AccessDenied(
                "This attempt to connect was completed, or began more than 10 minutes ago; connect again."
            )
        if service is not None and service != document["service"]:
            raise AccessDenied("The answer came back at another service's address; connect again.")
        bound = document.get("browser_hash")
        if bound is not None and not (browser is not None and hmac.compare_digest(_hash(browser), bound)):
            raise AccessDenied("Another browser or session began this; connect again, and finish in the same browser.")
        return document

    def _exchanged(self, visit: _Visit) -> Reply:
        state, provider, verifier = visit.state, visit.provider, None
        if "verifier" in state:
            verifier = self._vault.open(_place(state["_id"], state["company_id"]), state["verifier"])
        try:
            return client_for(provider, self._egress, visit.deadline).exchange(
                code=Secret(visit.given["code"]),
                redirect_uri=state["redirect_uri"],
                verifier=verifier,
                scopes=state["scopes"],
                answered=lambda: crashpoints.visit(ANSWERED),
            )
        except ProviderUnavailable as error:
            raise ProviderUnavailable(
                f"{provider.title} did not answer when the code was exchanged. A code works only once; connect again.",
                service=provider.service,
                ambiguous=error.ambiguous,
            ) from None

    def _granted(self, visit: _Visit, reply: Reply) -> Granted:
        provider = visit.provider
        refused = refusal(provider, reply, phase="connect", now=self._store.now())
        if refused is not None:
            raise refused
        fields = token_reply.document(reply)
        tokens, user_tokens = token_reply.tokens_of_exchange(provider, fields)
        if tokens is None:
            raise VendorBadResponse(
                f"{provider.title} gave no usable access token; connect again.", service=provider.service
            )
        account = self._account(visit, fields, tokens)
        brought = {name: visit.given[name] for name in provider.callback_metadata if name in visit.given}
        return Granted(
            tokens=tokens,
            user_tokens=user_tokens,
            issued_at=visit.issued_at,
            # a reply that is silent about scopes has granted those asked for (RFC 6749 section 5.1)
            scopes=tokens.scopes or tuple(visit.state["scopes"]),
            provider_user_id=account.user_id,
            provider_account=account.account,
            email=account.email,
            metadata={**account.metadata, **brought},
        )

    def _account(self, visit: _Visit, fields: Mapping[str, Any], tokens: Tokens) -> Account:
        try:
            return identify(
                visit.provider,
                fields,
                tokens.access_token,
                nonce=visit.state["nonce"],
                egress=self._egress,
                deadline=visit.deadline,
            )
        except Flow8Error as error:
            raise timely(error, visit.provider) from None


def _hash(text: str) -> str:
    return hashlib.blake2b(text.encode("utf-8", "surrogatepass"), digest_size=32, person=b"flow8-state").hexdigest()


def _place(id: ObjectId, company_id: ObjectId) -> Place:  # noqa: A002  the field's own name
    return Place(COLLECTION, id, company_id, "verifier")
