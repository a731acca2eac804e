"""Many processes refresh at once, and much goes wrong: one call a generation, and no link dies that need not."""

from __future__ import annotations

import random
import threading
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest
from bson import ObjectId

from credentials.link import Link
from credentials.vault import Vault
from flow8_core import errors
from flow8_core.egress import Egress
from tests.counterparts.oauth import OidcProvider
from tests.counterparts.token_server import Answer, Call, Loopback, Policy, TokenServer
from tests.credentials.crowds import Crowd, Named, Often, Once, Place, named
from tests.credentials.desk import Desk, open_desk
from tests.credentials.test_refresh_oidc import connected, description, lives, used_up
from tests.credentials.test_refresh_oidc import desk as oidc_desk
from tests.environment import rounds

__all__ = ["oidc_desk"]

# --- a certified server that kills a grant whose rotated token is presented again


@pytest.mark.proof
@pytest.mark.timeout(1800)
def test_fifty_processes_make_one_call_a_generation_and_the_link_lives(
    oidc_desk: Desk, oidc_provider: OidcProvider, tmp_path: Path
) -> None:
    desk, processes, generations = oidc_desk, rounds(50, short=8), rounds(200, short=10)
    link = connected(desk, oidc_provider)
    first, calls, outcomes = link.generation, Counter[int](), Counter[str]()
    place = Place(tmp_path, desk.server.url, oidc_provider.ca_file, description(oidc_provider))
    crowd = Crowd(place, processes)

    for number in range(1, generations + 1):
        used_up(desk, link)
        oidc_provider.control(tokenCalls=0)
        answers = crowd.ask(Once(named(desk, link.id)))
        calls[oidc_provider.token_calls] += 1
        outcomes.update(code for code, _ in answers)
        assert {generation for code, generation in answers if code == "fresh"} == {first + number}
        assert desk.now(link).generation == first + number
    crowd.close()

    assert calls == {1: generations}
    assert set(outcomes) <= {"fresh", "refresh_busy"}
    assert outcomes["fresh"] >= generations
    assert desk.now(link).status == "active"
    assert lives(desk, oidc_provider, link)
    print(f"{processes} processes, {generations} rounds: {dict(outcomes)}, calls a round {dict(calls)}")  # noqa: T201


# --- a server at which two calls in a hundred go wrong

FAULTS = [
    # what happens, and whether the provider has acted on the request
    Answer(drop=True),
    Answer(commit=True, drop=True),
    Answer(502, b"<html>bad gateway</html>"),
    Answer(500, b"<html>oops</html>", commit=True),
    Answer(503, b"", {"Retry-After": "1"}),
    Answer(429, b"", {"Retry-After": "1"}),
    Answer(200, b"<html>please log in</html>"),
    Answer(200, b'{"access_token": "at-tru', commit=True),
    Answer(200, b'{"token_type": "Bearer", "expires_in": 3600}', commit=True),
    Answer(400, b'{"error": "temporarily_unavailable"}'),
]
POLICIES: dict[str, Policy] = {"acme": "grace", "slack": "single_use", "microsoft": "reusable"}
GRACE_S = 300


class Weather:
    """Which token calls go wrong, and of which grants a new token was lost on its way to us."""

    def __init__(self, *, seed: int, one_in: int) -> None:
        self._one_in = one_in
        self._chance = random.Random(seed)
        self._lock = threading.Lock()
        self.server: TokenServer | None = None
        self.faults = 0
        self.lost: set[str] = set()

    def fault(self, call: Call) -> Answer | None:
        """Called within the server's lock."""
        if self._chance.randrange(self._one_in):
            return None
        assert self.server is not None
        self.faults += 1
        answer = self._chance.choice(FAULTS)
        grant = self.server.refresh_tokens.get(call.form.get("refresh_token", ""))
        if answer.commit and grant is not None:
            self.lost.add(grant)
        return answer


@pytest.fixture
def stormy(tmp_path: Path, vault: Vault, token_server: TokenServer, token_egress: Egress) -> Iterator[Desk]:
    acme = {"replay": "grace", "grace_s": GRACE_S}
    with open_desk(tmp_path, vault, token_server, token_egress, shared_clock=True, **acme) as desk:
        token_server.policy_of = lambda grant: POLICIES[grant.split("-")[0]]
        token_server.grace_s = GRACE_S + 60.0  # ours is the more cautious, as it should be
        token_server.now = lambda: desk.clock.now().timestamp()
        yield desk


def links_of_many(desk: Desk, *, companies: int, each: int) -> dict[Named, str]:
    """Links of all three services in many companies, with the grants that they live by."""
    found: dict[Named, str] = {}
    for company in range(companies):
        desk.company_id = ObjectId()
        for service in POLICIES:
            for number in range(each):
                grant = f"{service}-{company}-{number}"
                link = desk.link(service, account=grant, refresh_token=desk.server.grant(grant))
                found[named(desk, link.id)] = grant
    return found


@dataclass(frozen=True)
class Storm:
    """So many processes refresh so often; one call in `one_in` goes wrong."""

    processes: int
    refreshes: int
    companies: int
    one_in: int


A_FEW = Storm(processes=2, refreshes=80, companies=2, one_in=6)
MANY = Storm(processes=8, refreshes=rounds(10_000, short=800), companies=rounds(40, short=8), one_in=50)


@pytest.mark.timeout(3600)
@pytest.mark.parametrize(
    "storm", [pytest.param(A_FEW, id="a-few"), pytest.param(MANY, id="many", marks=pytest.mark.proof)]
)
def test_no_link_dies_of_faults_but_those_whose_only_token_was_lost_on_its_way(
    stormy: Desk, tmp_path: Path, loopback_tls: Loopback, storm: Storm
) -> None:
    desk, weather, processes = stormy, Weather(seed=20, one_in=storm.one_in), storm.processes
    refreshes = storm.refreshes
    links = links_of_many(desk, companies=storm.companies, each=5)
    weather.server, desk.server.fault = desk.server, weather.fault
    place = Place(tmp_path, desk.server.url, loopback_tls.ca_file, {"replay": "grace", "grace_s": GRACE_S})
    crowd = Crowd(place, processes)

    counted = crowd.ask(*(Often(list(links), refreshes // processes, seed) for seed in range(processes)))
    crowd.close()
    outcomes = sum(counted, Counter[str]())
    desk.server.fault = lambda _: None
    ended = settle(desk, links)

    assert outcomes["fresh"] == refreshes // processes * processes
    assert set(outcomes) <= {
        "fresh", "refresh_busy", "provider_unavailable", "rate_limit_exceeded", "vendor_bad_response",
        "store_unavailable", "execution_timeout",  # eight processes at one file, on a slow disk
    }  # fmt: skip
    unavoidable = {grant for grant in weather.lost if POLICIES[grant.split("-")[0]] == "single_use"}
    lost = {grant for grant, end in ended.items() if end == "refresh_outcome_lost"}
    unexplained = {grant: end for grant, end in ended.items() if end != "alive" and grant not in unavoidable}
    assert unexplained == {}
    assert lost == unavoidable
    assert set(desk.server.refused) == lost, "a token that does not work was presented by another than the last gamble"
    print(  # noqa: T201
        f"{len(desk.server.token_calls)} calls, {weather.faults} faults, {dict(outcomes)}; of {len(links)} links "
        f"{len(lost)} lost ({len(unavoidable)} unavoidable), {len(unexplained)} unexplained"
    )


def settle(desk: Desk, links: dict[Named, str]) -> dict[str, str]:
    """Let the upkeep do what it can, then all access tokens end, and see what becomes of each link: by grant, "alive"
    or why it is not."""
    for _ in range(3):
        desk.clock.advance(GRACE_S / 4)
        desk.look_after()
    desk.clock.advance(2 * 3600)
    ended: dict[str, str] = {}
    for (company, link_id), grant in links.items():
        desk.company_id = ObjectId(company)
        ended[grant] = _end(desk, desk.links.get(link_id))
    return ended


def _end(desk: Desk, link: Link) -> str:
    try:
        desk.refresher.fresh(link, deadline=desk.soon)
    except errors.Flow8Error as error:
        return desk.now(link).status_reason or error.code
    alive = desk.server.alive(desk.refresh_token(link)) and desk.now(link).status == "active"
    return "alive" if alive else "dead and not known to be"
