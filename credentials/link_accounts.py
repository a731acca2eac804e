"""Which link is an upstream account's: one account of one user is one link.

No unique index says so, for a database that is shared with an older server may hold doubles and could then not be
opened. A new link's id follows from whose it is instead, so that two that are made at the same moment collide.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence

from bson import ObjectId

from credentials.link import Granted, Link
from flow8_core.errors import Conflict


def new_id(company_id: ObjectId, user_id: ObjectId, service: str, granted: Granted) -> ObjectId:
    """The id of the link that this user's grant of this account makes, whoever makes it and whenever."""
    owner = [str(company_id), str(user_id), service, granted.provider_user_id, granted.provider_account]
    return ObjectId(hashlib.blake2b(json.dumps(owner).encode(), digest_size=12, person=b"flow8-link").digest())


def matching(links: Sequence[Link], granted: Granted) -> Link | None:
    """Of a user's links with the grant's `provider_user_id`, the one of its account, the oldest of doubles.

    Where one of the two does not know its workspace or tenant, that does not tell them apart; raises `Conflict` where
    it then could be several.
    """
    exact = [link for link in links if _workspace(link) == granted.provider_account]
    if exact:
        return min(exact, key=age)
    alike = [link for link in links if same(link, granted)]
    if len(alike) > 1:
        raise Conflict(
            f"This {alike[0].service} account has several links here; say of which workspace or tenant it is.",
            service=alike[0].service,
        )
    return alike[0] if alike else None


def same(link: Link, granted: Granted) -> bool:
    """Whether the grant is of the link's account. A link that never learnt whose it is takes any; a missing workspace
    or tenant is no difference, but two different ones are two accounts."""
    known, workspace = link.provider_user_id, _workspace(link)
    if known and granted.provider_user_id != known:
        return False
    return not workspace or not granted.provider_account or workspace == granted.provider_account


def age(link: Link) -> tuple[str, ObjectId]:
    """Sorts the oldest first; links of older servers say when they were made by their ids alone."""
    created_at = link.document.get("created_at")
    return (created_at.isoformat() if created_at else "", link.id)


def _workspace(link: Link) -> str:
    return link.document.get("provider_account") or ""
