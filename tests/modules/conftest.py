"""Modules called for real: our egress, the laboratory's vendors."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from flow8_core.egress import Egress, EgressSettings
from flow8_lab.client import Lab
from flow8_modules import Clients, Context
from flow8_modules.testing import Noted, context, link_for

Make = Callable[..., Context]


@pytest.fixture
def egress(lab: Lab) -> Iterator[Egress]:
    """The way out, to the laboratory and nowhere else."""
    with Egress(EgressSettings(**lab.egress)) as made:
        yield made


@pytest.fixture(scope="session")
def clients() -> Clients:
    """One cache for all tests, as in a worker."""
    return Clients()


@pytest.fixture
def noted() -> Noted:
    """What the module under test logged."""
    return Noted()


@pytest.fixture
def make(egress: Egress, clients: Clients, noted: Noted, tmp_path: Path) -> Make:
    """Makes the context of one call; the workspace is `tmp_path`."""

    def made(**parts: Any) -> Context:
        return context(tmp_path, egress=egress, **{"clients": clients, "noted": noted, **parts})

    return made


@pytest.fixture
def linked(lab: Lab, make: Make) -> Make:
    """Makes a context with a freshly granted link: `linked("slack", scopes=["chat:write"])`."""

    def made(service: str, *, scopes: list[str], token: str | None = None, **parts: Any) -> Context:
        granted = lab.grant(service, scopes=scopes)
        link = link_for(
            service,
            token=token or granted["access_token"],
            base_url=lab.services[service]["base_url"],
            scopes=set(granted["scopes"]),
        )
        return make(link=link, **parts)

    return made
