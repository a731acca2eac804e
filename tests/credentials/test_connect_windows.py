"""A connection whose process is killed or stopped at any point: no half link, no second use of a code."""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator, Mapping
from contextlib import closing
from multiprocessing.context import ForkServerProcess
from pathlib import Path

import pytest

from credentials import connect
from credentials.connect import Connect
from credentials.refresh import Refresher
from credentials.vault import Vault
from flow8_core import crashpoints, errors
from flow8_core.egress import Egress, EgressSettings
from flow8_core.store import open_store
from tests.counterparts.token_server import Loopback, TokenServer
from tests.credentials.desk import Desk, SharedClock, open_desk, providers_at
from tests.forkserver import CONTEXT
from tests.processes import is_stopped, until

POINTS = [name for name in crashpoints.registered() if name.startswith("connect.")]


@pytest.fixture
def desk(tmp_path: Path, vault: Vault, token_server: TokenServer, token_egress: Egress) -> Iterator[Desk]:
    with open_desk(tmp_path, vault, token_server, token_egress, shared_clock=True) as desk:
        yield desk


def callback(desk: Desk) -> dict[str, str]:
    """The query of a browser that comes back."""
    begun = desk.connect.begin("acme", company_id=desk.company_id, user_id=desk.user_id)
    desk.server.codes["code-1"] = {}
    return {"code": "code-1", "state": begun.state}


def arrival(desk: Desk, tls: Loopback, folder: Path, query: Mapping[str, str], crash_at: str) -> ForkServerProcess:
    """A process that the browser comes back to."""
    process = CONTEXT.Process(target=_complete, args=(folder, desk.server.url, tls.ca_file, dict(query), crash_at))
    process.start()
    return process


def _complete(folder: Path, url: str, ca_file: Path, query: dict[str, str], crash_at: str) -> None:
    from tests.credentials.derived import RING

    vault = Vault(RING)
    settings = EgressSettings(allow=(url.removeprefix("https://"),), ca_file=ca_file)
    clock = SharedClock(folder / "ahead")
    with closing(open_store(f"sqlite:///{folder / 'desk.db'}", clock=clock)) as store, Egress(settings) as egress:
        crashpoints.arm(crash_at)
        Connect(store, vault, providers_at(url), egress, public_url="https://flow8.example").complete(query)


def test_all_points_of_a_connection_are_known() -> None:
    assert set(POINTS) == {connect.CONSUMED, connect.ANSWERED, connect.EXCHANGED, connect.STORED}


@pytest.mark.parametrize("point", POINTS)
def test_a_process_killed_at_a_point_leaves_no_half_link(
    desk: Desk, tmp_path: Path, loopback_tls: Loopback, point: str
) -> None:
    query = callback(desk)

    process = arrival(desk, loopback_tls, tmp_path, query, f"{point}:kill")
    process.join(20)

    assert process.exitcode == -signal.SIGKILL
    assert [link.status for link in desk.links.list()] == (["active"] if point == connect.STORED else [])
    with pytest.raises(errors.AccessDenied):
        desk.connect.complete(query)
    assert len(desk.server.token_calls) == (0 if point == connect.CONSUMED else 1)
    link = desk.connect.complete(callback(desk))  # whoever connects again has one link that works
    assert [each.id for each in desk.links.list()] == [link.id]
    assert Refresher(desk.store, desk.vault, desk.providers, desk.egress).fresh(link, deadline=desk.soon)


@pytest.mark.parametrize("point", POINTS)
def test_a_process_stopped_at_a_point_ends_as_it_would_have(
    desk: Desk, tmp_path: Path, loopback_tls: Loopback, point: str
) -> None:
    query = callback(desk)
    process = arrival(desk, loopback_tls, tmp_path, query, f"{point}:stop")
    until(lambda: is_stopped(process.pid), f"the stop at {point}")

    with pytest.raises(errors.AccessDenied):
        desk.connect.complete(query)
    os.kill(process.pid or 0, signal.SIGCONT)
    process.join(20)

    assert process.exitcode == 0
    assert [link.status for link in desk.links.list()] == ["active"]
    assert len(desk.server.token_calls) == 1
