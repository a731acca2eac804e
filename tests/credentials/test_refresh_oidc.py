"""Against a certified server that is not ours, which kills a grant whose rotated refresh token is presented again."""

from __future__ import annotations

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any
from urllib.parse import parse_qsl, urlsplit

import pytest

from credentials import grants
from credentials.grants import MAIN
from credentials.link import Link
from credentials.refresh import Refresher
from credentials.vault import Vault
from flow8_core import errors
from flow8_core.egress import Egress, EgressSettings
from tests.counterparts.oauth import CALLBACK, CLIENT_ID, CLIENT_SECRET, OidcProvider
from tests.credentials.desk import Desk, open_desk
from tests.credentials.holders import errand, send
from tests.credentials.post import post_of

AT_ONCE = 8


def description(oidc: OidcProvider) -> dict[str, Any]:
    """The `oauth2` entry of a server that is known by its issuer."""
    endpoints = dict.fromkeys(("authorize_url", "token_url", "revoke_url", "userinfo_url"))
    return endpoints | {
        "issuer": oidc.issuer,
        "client_id": CLIENT_ID,
        "client_secret": CLIENT_SECRET,
        "redirect_uri": CALLBACK,
        "scopes": ["openid", "email", "offline_access", "chat:write"],
        "api_hosts": [oidc.place],
    }


@pytest.fixture
def desk(tmp_path: Path, vault: Vault, oidc_provider: OidcProvider) -> Iterator[Desk]:
    server: Any = _At(oidc_provider.issuer)
    settings = EgressSettings(allow=(oidc_provider.place,), ca_file=oidc_provider.ca_file)
    with (
        Egress(settings) as egress,
        open_desk(tmp_path, vault, server, egress, shared_clock=True, **description(oidc_provider)) as desk,
    ):
        yield desk


class _At:
    """Where the desk's services are, in place of the scripted server."""

    def __init__(self, url: str) -> None:
        self.url = url
        self.place = url.removeprefix("https://")


def connected(desk: Desk, oidc: OidcProvider, *, user: str = "alice", link_id: str | None = None) -> Link:
    begun = desk.connect.begin(
        "acme", company_id=desk.company_id, user_id=desk.user_id, scopes=["files:write"], link_id=link_id
    )
    callback = oidc.drive_login(begun.authorize_url, user=user)
    return desk.connect.complete(parse_qsl(urlsplit(callback).query), service="acme")


def used_up(desk: Desk, link: Link) -> Link:
    """The link with an access token that is over."""
    past = desk.store.now()
    return desk.set(link, token_expiry=past, refresh_at=past)


def test_a_server_known_by_its_issuer_is_connected(desk: Desk, oidc_provider: OidcProvider) -> None:
    link = connected(desk, oidc_provider)

    assert link.account == "alice@example.test"
    assert link.provider_user_id == "alice"
    assert {"chat:write", "files:write"} <= link.scopes
    assert link.describe()["status"] == "active"
    assert oidc_provider.introspect(link.open("access_token").reveal())


def test_a_declined_connection_says_so(desk: Desk, oidc_provider: OidcProvider) -> None:
    begun = desk.connect.begin("acme", company_id=desk.company_id, user_id=desk.user_id)
    callback = oidc_provider.drive_login(begun.authorize_url, deny=True)

    with pytest.raises(errors.AccessDenied, match="declined"):
        desk.connect.complete(parse_qsl(urlsplit(callback).query))

    assert desk.links.list() == []


def test_a_reconnect_keeps_the_id_and_refuses_another_account(desk: Desk, oidc_provider: OidcProvider) -> None:
    link = connected(desk, oidc_provider)

    with pytest.raises(errors.Conflict, match="another"):
        connected(desk, oidc_provider, user="mallory", link_id=str(link.id))
    again = connected(desk, oidc_provider, link_id=str(link.id))

    assert again.id == link.id
    assert again.generation == link.generation + 1
    assert len(desk.links.list()) == 1


@pytest.mark.proof
def test_eight_threads_refresh_once_and_the_link_lives(desk: Desk, oidc_provider: OidcProvider) -> None:
    link = used_up(desk, connected(desk, oidc_provider))
    oidc_provider.control(delayMs=100, tokenCalls=0)

    def fresh(_: int) -> str:
        refresher = Refresher(desk.store, desk.vault, desk.providers, desk.egress)
        try:
            return f"generation {refresher.fresh(link, deadline=desk.soon).generation}"
        except errors.Flow8Error as error:
            return error.code

    with ThreadPoolExecutor(AT_ONCE) as pool:
        outcomes = set(pool.map(fresh, range(AT_ONCE)))

    assert oidc_provider.token_calls == 1
    assert "generation 2" in outcomes
    assert outcomes <= {"generation 2", "refresh_busy"}
    assert lives(desk, oidc_provider, link)


def test_eight_processes_refresh_once_and_the_link_lives(
    desk: Desk, oidc_provider: OidcProvider, tmp_path: Path
) -> None:
    link = used_up(desk, connected(desk, oidc_provider))
    oidc_provider.control(delayMs=200, tokenCalls=0)

    one = errand(desk, link, tmp_path, oidc_provider.ca_file, **description(oidc_provider))
    children = [send(one) for _ in range(AT_ONCE)]
    outcomes = {pipe.recv() for _, pipe in children}

    for process, pipe in children:
        process.join(20)
        pipe.close()
    assert oidc_provider.token_calls == 1
    assert ("fresh", 2) in outcomes
    assert outcomes <= {("fresh", 2), ("refresh_busy", 0)}
    assert lives(desk, oidc_provider, link)


def lives(desk: Desk, oidc: OidcProvider, link: Link) -> bool:
    """Whether the access token is good, and the refresh token as well."""
    good = oidc.introspect(desk.access_token(link))
    fresh = desk.refresher.fresh(used_up(desk, link), deadline=desk.soon)
    return good and oidc.introspect(fresh.open("access_token").reveal())


def test_an_account_that_removed_the_application_needs_a_reconnect(desk: Desk, oidc_provider: OidcProvider) -> None:
    link = used_up(desk, connected(desk, oidc_provider))
    oidc_provider.control(revokeGrantOf=desk.refresh_token(link))

    with pytest.raises(errors.InvalidGrant) as caught:
        desk.refresher.fresh(link, deadline=desk.soon)

    assert caught.value.link_id == str(link.id)
    assert connected(desk, oidc_provider, link_id=str(link.id)).status == "active"


def test_an_unlinked_account_is_revoked_at_the_server_and_can_be_connected_anew(
    desk: Desk, oidc_provider: OidcProvider
) -> None:
    link = connected(desk, oidc_provider)
    kept, post = desk.refresh_token(link), post_of(desk, None, desk.egress)

    post.unlink(desk).link(link.id)
    post.round()

    assert [item["ended"] for item in post.items()] == ["revoked"]
    again = connected(desk, oidc_provider)
    assert (again.id, again.status) == (link.id, "active")
    assert desk.refresher.fresh(used_up(desk, again), deadline=desk.soon).status == "active"
    revived = desk.set(
        again, refresh_token=desk.vault.seal(grants.place(MAIN, "refresh_token", link_id=link.id,
                                                           company_id=desk.company_id), kept)
    )  # fmt: skip
    with pytest.raises(errors.InvalidGrant):
        desk.refresher.fresh(used_up(desk, revived), deadline=desk.soon)


def test_a_code_counts_once(desk: Desk, oidc_provider: OidcProvider) -> None:
    begun = desk.connect.begin("acme", company_id=desk.company_id, user_id=desk.user_id)
    query = parse_qsl(urlsplit(oidc_provider.drive_login(begun.authorize_url)).query)
    oidc_provider.control(tokenCalls=0)

    with ThreadPoolExecutor(AT_ONCE) as pool:
        outcomes = list(pool.map(lambda _: _completed(desk, query), range(AT_ONCE)))

    assert sorted(outcomes) == ["access_denied"] * (AT_ONCE - 1) + ["connected"]
    assert oidc_provider.token_calls == 1


def _completed(desk: Desk, query: list[tuple[str, str]]) -> str:
    try:
        desk.connect.complete(query)
    except errors.Flow8Error as error:
        return error.code
    return "connected"
