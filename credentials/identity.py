"""Who connected: read out of the token reply, the ID token and, where those do not say it, the userinfo endpoint.

Where it is known with which keys a provider signs, its ID token has been verified by then (`id_tokens`). Elsewhere its
claims are read without the signature, which they may be, for it comes straight from the token endpoint over TLS (OpenID
Connect Core section 3.1.3.7, item 6). Nothing here makes or finds a user of ours, and an e-mail address is never more
than something to show.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from credentials.oauth import MAX_REPLY_BYTES
from credentials.providers.places import filled_from
from credentials.providers.provider import Identity, Provider, at_path
from flow8_core.clock import Deadline
from flow8_core.egress import Egress, Hosts
from flow8_core.errors import AccessDenied, Flow8Error, VendorBadResponse
from flow8_core.secret import Secret

_LONGEST = 512


@dataclass(frozen=True, kw_only=True)
class Account:
    """An upstream account; `user_id` and `account` are its key, empty where the service does not tell."""

    user_id: str
    account: str
    email: str | None
    metadata: Mapping[str, Any]


def identify(
    provider: Provider,
    reply: Mapping[str, Any],
    access_token: Secret,
    *,
    id_token: Mapping[str, Any],
    callback: Mapping[str, str],
    egress: Egress,
    deadline: Deadline,
) -> Account:
    """Whose tokens these are; `id_token` are its claims, `callback` is what the callback's query says of that.

    Raises `AccessDenied` where the ID token names another subject than userinfo, and what the userinfo call raises if
    without it nobody knows whose tokens these are.
    """
    sources: dict[str, Any] = {"reply": reply, "id_token": id_token, "callback": callback}
    rules = provider.identity
    if provider.userinfo_url and not (_first(sources, rules.user_id) and _first(sources, rules.email)):
        try:
            sources["userinfo"] = _userinfo(provider, _account(rules, sources), access_token, egress, deadline)
        except Flow8Error:
            if not _first(sources, rules.user_id):
                raise
        _refuse_two_subjects(provider, sources)
    return _account(rules, sources)


def _userinfo(
    provider: Provider, known: Account, access_token: Secret, egress: Egress, deadline: Deadline
) -> Mapping[str, Any]:
    url = filled_from(provider.userinfo_url or "", known.metadata) or ""
    response = egress.send(
        "GET",
        url,
        headers={"Accept": "application/json"},
        deadline=deadline,
        credentials={"Authorization": Secret(f"Bearer {access_token.reveal()}")},
        hosts=Hosts.of_url(url),
        max_bytes=MAX_REPLY_BYTES,
    )
    found = response.json() if response.status == 200 else None
    if not isinstance(found, Mapping):
        raise VendorBadResponse(
            f"{provider.title} did not say whose account was connected (HTTP {response.status}); connect again.",
            service=provider.service,
        )
    return found


def _refuse_two_subjects(provider: Provider, sources: Mapping[str, Any]) -> None:
    """OpenID Connect Core section 5.3.2: userinfo of another subject must not be used."""
    subjects = {_text(at_path(sources, path)) for path in ("id_token.sub", "userinfo.sub")} - {None}
    if len(subjects) > 1:
        raise AccessDenied(f"{provider.title} named two different accounts; connect again.", service=provider.service)


def _account(rules: Identity, sources: Mapping[str, Any]) -> Account:
    metadata = {name: found for name, paths in rules.metadata.items() if (found := _first(sources, paths)) is not None}
    name = _first(sources, rules.name)
    return Account(
        user_id=_first(sources, rules.user_id) or "",
        account=_first(sources, rules.account) or "",
        email=_first(sources, rules.email),
        metadata=metadata | ({"name": name} if name else {}),
    )


def _first(sources: Mapping[str, Any], paths: tuple[str, ...]) -> str | None:
    return next((found for path in paths if (found := _text(at_path(sources, path))) is not None), None)


def _text(value: Any) -> str | None:
    """An id or a name as one line of text; None for anything else."""
    if isinstance(value, int) and not isinstance(value, bool):
        value = str(value)
    if not isinstance(value, str) or not value.strip() or not value.isprintable():
        return None
    return value.strip()[:_LONGEST]
