"""Connecting an account: out to the vendor with a one-time state, back with a code, and a sealed link at the end.

The code is exchanged once and never again, whatever comes of it. What the state remembers is in `oauth_states`.

Sources: RFC 6749 section 4.1, RFC 7636, RFC 9207, RFC 9700 sections 2.1 and 4.4.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from bson import ObjectId

from credentials import token_reply
from credentials.audit import Audit
from credentials.callback import brought, check_issuer, read_query
from credentials.id_tokens import IdTokens
from credentials.identity import Account, identify
from credentials.links import Granted, Link, Links
from credentials.oauth import client_for, timely
from credentials.oauth_states import COLLECTION, INDEXES, Intent, State, States, hashed
from credentials.providers.catalogue import Providers
from credentials.providers.provider import IdToken, Provider
from credentials.token_errors import callback_error, refusal
from credentials.token_reply import Reply, Tokens
from credentials.users import Person, Users
from credentials.vault import Vault
from flow8_core import crashpoints
from flow8_core.clock import Clock, Deadline, SystemClock
from flow8_core.egress import Egress
from flow8_core.errors import (
    Flow8Error,
    NotFound,
    ProviderUnavailable,
    ValidationFailed,
    VendorBadResponse,
)
from flow8_core.secret import Secret
from flow8_core.store import Store

__all__ = ["COLLECTION", "INDEXES", "Begun", "Connect"]

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
    """A callback whose state was consumed; `given` is its query, `brought` what only that says of the account,
    `id_token` what that one is checked against."""

    state: State
    provider: Provider
    deadline: Deadline
    given: Mapping[str, str]
    brought: Mapping[str, str]
    id_token: IdToken | None
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
        self._states = States(store, vault)
        self._id_tokens = IdTokens(egress, clock=clock)

    def redirect_uri(self, service: str) -> str:
        """The address that the vendor sends the browser back to: register it there, letter by letter."""
        app = self._providers.get(service).registered()
        return app.redirect_uri or f"{self._public_url}/auth/callback/{service}"

    def begin(
        self,
        service: str,
        *,
        company_id: ObjectId,
        user_id: ObjectId | None,
        scopes: Iterable[str] = (),
        link_id: str | None = None,
        browser: str | None = None,
    ) -> Begun:
        """Where to send the browser.

        Asked for are `scopes`, those that the configuration names (or the service's usual ones where nobody names any)
        and what says whose account it is; with `link_id`, which reconnects that link of the user's, also those that it
        has. `browser` is a value that only this browser's session knows: the callback must then bring the same.
        Without `user_id` the link will be of whoever signs in, where `auto_create_users` is on.

        Raises `ValidationFailed` for an unknown service or no user, `ProviderMisconfigured` without an application,
        `NotFound` for a link that is not the user's, and what discovery raises.
        """
        deadline = Deadline.after(PREPARE_S, self._clock)
        provider = self._providers.endpoints(service, egress=self._egress, deadline=deadline)
        if user_id is None and not provider.registered().auto_create_users:
            raise _nobody(provider)
        link = self._reconnected(link_id, service, company_id, user_id)
        held = link.document.get("scopes") or () if link else ()
        asked = provider.asked(scopes, held)
        state, redirect_uri = self._states.new(), self.redirect_uri(service)
        authorization = client_for(provider, self._egress, deadline).authorize(
            scopes=asked, redirect_uri=redirect_uri, state=state
        )
        intent = Intent(
            company_id=company_id,
            user_id=user_id,
            service=service,
            redirect_uri=redirect_uri,
            scopes=list(asked),
            link_id=link.id if link else None,
            nonce=authorization.nonce,
            browser_hash=hashed(browser) if browser is not None else None,
        )
        self._states.keep(state, intent, authorization.verifier)
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
        state = self._states.consume(given["state"], service=service, browser=browser)
        crashpoints.visit(CONSUMED)
        deadline = Deadline.after(CALL_S, self._clock)
        provider = self._providers.endpoints(state.intent.service, egress=self._egress, deadline=deadline)
        check_issuer(provider, given.get("iss"))
        if "error" in given:
            raise callback_error(provider, given["error"])
        visit = _Visit(
            state,
            provider,
            deadline,
            given,
            brought=brought(provider, given),
            id_token=self._proof(provider, state, deadline),
            issued_at=self._store.now(),
        )
        reply = self._exchanged(visit)
        crashpoints.visit(EXCHANGED)
        granted = self._granted(visit, reply)
        link = self._saved(visit, granted)
        crashpoints.visit(STORED)
        return link

    def pending(self, state: str) -> bool:
        """Whether a state that `begin` gave out still waits for its callback."""
        return self._states.waits(state)

    def _reconnected(
        self, link_id: str | None, service: str, company_id: ObjectId, user_id: ObjectId | None
    ) -> Link | None:
        if link_id is None:
            return None
        link = Links(self._store, self._vault, company_id).find(link_id)
        if link is None or link.user_id != user_id or link.service != service:
            raise NotFound(f"There is no such {service} link of yours; `flow8 link list` shows those that there are.")
        return link

    def _proof(self, provider: Provider, state: State, deadline: Deadline) -> IdToken | None:
        """What the ID token that was asked for is checked against, with its keys at hand: without them the code would
        be used up for nothing."""
        if state.intent.nonce is None:
            return None
        rule = self._providers.id_token(provider, egress=self._egress, deadline=deadline)
        if rule is not None:
            self._id_tokens.prepare(rule, provider, deadline)
        return rule

    def _saved(self, visit: _Visit, granted: Granted) -> Link:
        """The link, which belongs to whoever began this; where nobody of ours did, to whoever has signed in."""
        intent, provider = visit.state.intent, visit.provider
        user_id = intent.user_id
        if provider.registered().auto_create_users and visit.id_token is not None:
            person = Person(
                tid=str(granted.metadata.get("tid", "")),
                oid=str(granted.metadata.get("oid", "")),
                email=granted.email,
                name=granted.metadata.get("name"),
            )
            audit = Audit(self._store, self._vault, intent.company_id)
            made = Users(self._store).of(person, company_id=intent.company_id, audit=audit)
            user_id = user_id or made
        if user_id is None:
            raise _nobody(provider)
        links = Links(self._store, self._vault, intent.company_id, actor=user_id)
        return links.save(granted, provider=provider, user_id=user_id, link_id=intent.link_id, source="connect")

    def _exchanged(self, visit: _Visit) -> Reply:
        intent, provider = visit.state.intent, visit.provider
        try:
            return client_for(provider, self._egress, visit.deadline).exchange(
                code=Secret(visit.given["code"]),
                redirect_uri=intent.redirect_uri,
                verifier=visit.state.verifier,
                scopes=intent.scopes,
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
        return Granted(
            tokens=tokens,
            user_tokens=user_tokens,
            issued_at=visit.issued_at,
            # a reply that is silent about scopes has granted those asked for (RFC 6749 section 5.1)
            scopes=tokens.scopes or tuple(visit.state.intent.scopes),
            asked=tuple(visit.state.intent.scopes),
            provider_user_id=account.user_id,
            provider_account=account.account,
            email=account.email,
            metadata={**account.metadata, **({"site": provider.site} if provider.site else {})},
        )

    def _account(self, visit: _Visit, fields: Mapping[str, Any], tokens: Tokens) -> Account:
        provider, nonce, token = visit.provider, visit.state.intent.nonce, fields.get("id_token")
        try:
            if visit.id_token is not None:
                claims = self._id_tokens.verified(
                    visit.id_token, provider, token, nonce=nonce, now=self._store.now(), deadline=visit.deadline
                )
            else:
                claims = self._id_tokens.unverified(provider, token, nonce=nonce)
            return identify(
                provider,
                fields,
                tokens.access_token,
                id_token=claims,
                callback=visit.brought,
                egress=self._egress,
                deadline=visit.deadline,
            )
        except Flow8Error as error:
            raise timely(error, visit.provider) from None


def _nobody(provider: Provider) -> ValidationFailed:
    return ValidationFailed(
        f"Say whose link this will be; it is whoever signs in only where oauth2.{provider.service}.auto_create_users "
        "is on.",
        path="user_id",
    )
