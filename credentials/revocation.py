"""Taking a grant back at the vendor: by the outbox, until the vendor has it, and never with another link's grant.

An item of the outbox holds the tokens that a link had, sealed there. What a vendor's call ends is declared by its
`Revocation.shared_by`: where that is more than the token presented (Google: all that the user granted to our
application; Slack: the workspace's bot), another live link of the same upstream grant keeps it alive, and the last of
them ends it.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping
from datetime import datetime
from typing import Any

from bson import ObjectId

from credentials import outbox, token_reply
from credentials.audit import Audit
from credentials.grants import COLLECTION, MAIN, USER, GrantPath
from credentials.link import Link
from credentials.link_notes import name_of
from credentials.oauth import presented
from credentials.outbox import NotYet, Patience
from credentials.providers.catalogue import Providers
from credentials.providers.provider import Provider, Revocation, TokenName
from credentials.renewal import Renewal, place
from credentials.token_errors import known, retry_after
from credentials.token_reply import Reply, Tokens
from credentials.vault import EnvelopeRejected, Vault
from flow8_core import crashpoints
from flow8_core.clock import Deadline
from flow8_core.egress import Egress, Response
from flow8_core.errors import (
    ProviderMisconfigured,
    ProviderUnavailable,
    RateLimited,
)
from flow8_core.secret import Secret
from flow8_core.store import Document, Store

KIND = "revocation"
HOLD_S = 60.0  # how long an item waits for its link to be revoked, where nobody says so
LOOK_AGAIN_S = 600.0
HOLD_MOST_S = 86_400.0
KEPT = "_kept"
MARK = "revocations"  # in the link document: {item's id: when the link was revoked by it}

# RFC 7009 section 2.2.1, and what servers say of a token that is over
_NOTHING_LEFT = frozenset({"unsupported_token_type", "invalid_token", "invalid_grant", "token_revoked"})

PRESENTED = crashpoints.register("revocation.presented", "the vendor has taken a token back; others are to follow")

_log = logging.getLogger("flow8.outbox")


def put(
    store: Store,
    vault: Vault,
    link: Link,
    tokens: Mapping[str, Secret],
    *,
    item_id: ObjectId | None = None,
    confirmed: bool = True,
) -> ObjectId:
    """Have the tokens of a link (by `name`) revoked at its vendor. An item that is not `confirmed` waits until its link
    says that it was revoked by this very item. Raises `StoreUnavailable`."""
    item_id = item_id or ObjectId()
    item = {"_id": item_id, "company_id": link.company_id}
    sealed = {key: vault.seal(place(item, key), token) for key, token in tokens.items()}
    outbox.put(
        store, item_id, company_id=link.company_id, kind=KIND, lane=f"{KIND}:{link.service}", link_id=link.id,
        due_in_s=0.0 if confirmed else HOLD_S, service=link.service, user_id=link.user_id, confirmed=confirmed,
        provider_user_id=link.provider_user_id, provider_account=link.document.get("provider_account") or "",
        access_over_at=link.grant().expiry, sealed=sealed,
    )  # fmt: skip
    return item_id


def put_tokens(store: Store, vault: Vault, link: Link, path: GrantPath, tokens: Tokens) -> None:
    """As `put`, of tokens that came too late: their link was unlinked or removed meanwhile."""
    given = {"refresh_token": tokens.refresh_token, "access_token": tokens.access_token}
    put(store, vault, link, {name(path, kind): token for kind, token in given.items() if token is not None})  # type: ignore[arg-type]


def name(path: GrantPath, token: TokenName, *, kept: bool = False) -> str:
    """How an item names one of a link's tokens; `kept` for those of a reply that nobody had read yet."""
    return f"{name_of(path)}{KEPT if kept else ''}_{token}"


class RevocationCourier:
    """Brings tokens back to their vendors."""

    # 10 s, 20 s, ... 12 h: about a month in all
    patience = Patience(first_s=10.0, longest_s=43_200.0, attempts=72)

    def __init__(self, store: Store, vault: Vault, providers: Providers, egress: Egress) -> None:
        self._store = store
        self._vault = vault
        self._providers = providers
        self._egress = egress
        self._renewal = Renewal(store, vault, egress)

    def deliver(self, item: Document, deadline: Deadline) -> str:
        """Present each token that is to be presented: `revoked`, or why there was nothing to present."""
        if not item["confirmed"] and not self._happened(item):
            if (self._store.now() - item["created_at"]).total_seconds() > HOLD_MOST_S:
                return "not_unlinked"
            raise NotYet(LOOK_AGAIN_S)
        provider = self._providers.endpoints(item["service"], egress=self._egress, deadline=deadline)
        provider.registered()
        outcome, shared = "revoked", False
        for path in (MAIN, USER):
            for kept in (True, False):  # the newest tokens first
                tokens = self._tokens(item, path, kept=kept)
                if not tokens:
                    continue
                revocation = provider.takes_back
                if revocation is None:
                    outcome = "not_possible"
                elif self._shared(item, path, provider):
                    shared = True
                else:
                    self._present(item, path, tokens, provider, revocation=revocation, deadline=deadline)
        outcome = "kept_for_others" if shared else outcome
        self._record(item, "integration_revoked_at_vendor", outcome=outcome)
        return outcome

    def gave_up(self, item: Document, code: str) -> None:
        """Say in the company's audit log that the vendor does not have it."""
        self._record(item, "integration_revocation_failed", reason=code)

    def _happened(self, item: Document) -> bool:
        """Whether the link was revoked by this item: its process ended before it could say so."""
        wanted = {"_id": item["link_id"], "company_id": item["company_id"]}
        found = self._store.find(COLLECTION, wanted, limit=1, fields=(MARK,))
        return not found or str(item["_id"]) in (found[0].get(MARK) or {})

    def _tokens(self, item: Document, path: GrantPath, *, kept: bool) -> dict[TokenName, Secret]:
        """The tokens of one of the link's grants. One that does not open is gone: nobody can present it."""
        tokens: dict[TokenName, Secret] = {}
        kinds: tuple[TokenName, ...] = ("refresh_token", "access_token")
        for kind in kinds:
            key = name(path, kind, kept=kept)
            envelope = (item.get("sealed") or {}).get(key)
            if envelope is None:
                continue
            try:
                tokens[kind] = self._vault.open(place(item, key), envelope)
            except EnvelopeRejected:
                _log.error("a token of the revoked %s link %s does not open", item["service"], item["link_id"])
        return tokens

    def _shared(self, item: Document, path: GrantPath, provider: Provider) -> bool:
        """Whether another link that works, of whatever company, lives by what the call would end. A link that was
        connected again since is such another."""
        shared_by = provider.revocation.shared_by if provider.revocation else "nobody"
        if shared_by == "nobody":
            return False
        live = {"integration_type": item["service"], "status": {"$in": ["active", "app_blocked", None]}}
        account = item["provider_account"]
        if shared_by == "account" and path == MAIN and account:
            live["provider_account"] = account
            return bool(self._store.find(COLLECTION, live, limit=1, fields=("company_id",)))
        live["provider_user_id"] = item["provider_user_id"]
        others = self._store.find(COLLECTION, live, fields=("provider_account",))
        # a missing workspace or tenant is no difference
        return any(not account or (other.get("provider_account") or account) == account for other in others)

    def _present(
        self,
        item: Document,
        path: GrantPath,
        tokens: dict[TokenName, Secret],
        provider: Provider,
        *,
        revocation: Revocation,
        deadline: Deadline,
    ) -> None:
        if revocation.auth == "bearer" and revocation.tokens == ("access_token",):
            tokens = self._renewal.renewed(item, path, tokens, provider=provider, deadline=deadline)
        for kind in [kind for kind in revocation.tokens if kind in tokens] or list(tokens):
            response = presented(provider, revocation, tokens[kind], self._egress, deadline)
            _judge(provider, revocation, response, now=self._store.now())
            crashpoints.visit(PRESENTED)

    def _record(self, item: Document, action: str, **after: Any) -> None:
        Audit(self._store, self._vault, item["company_id"]).record(
            action,
            resource_type="integration",
            resource_id=str(item["link_id"]),
            after={"service": item["service"], "attempts": item["attempts"], **after},
        )


def _judge(provider: Provider, revocation: Revocation, response: Response, *, now: datetime) -> None:
    """Return where the vendor has the token back, or has nothing to take back; else raise why it is to be tried again.

    RFC 7009 section 2.2: 200 for tokens that it does not know, too. Slack refuses with a 200.
    """
    reply = Reply(response.status, dict(response.headers), response.body)
    fields = token_reply.document(reply)
    code = str(fields.get("error") or "")
    if code in revocation.gone or code in _NOTHING_LEFT:
        return
    if 200 <= reply.status < 300 and not code and fields.get("ok") is not False:
        return
    if reply.status == 401 and revocation.auth == "bearer":
        return  # the bearer is nobody any more
    wait = retry_after(reply.header("Retry-After"), now)
    if reply.status == 429 or code in ("ratelimited", "rate_limited"):
        raise RateLimited(f"{provider.title} asks for patience.", service=provider.service, retry_after=wait)
    if reply.status >= 500 or 200 <= reply.status < 300:
        raise ProviderUnavailable(f"{provider.title} answered {reply.status}.", service=provider.service)
    raise ProviderMisconfigured(
        f"{provider.title} refused to take a token back ({reply.status}); verify client_id, client_secret and "
        f"revoke_url of {provider.service}.",
        service=provider.service,
        provider_code=known(code),
    )
