"""A ledger whose store can be watched, and whose clock moved on."""

from __future__ import annotations

import pytest

from flow8_core.store import Store
from flow8_runtime.ledger import Ledger
from tests.runtime.kit import Watched, open_ledger


@pytest.fixture
def watched(store: Store) -> Watched:
    return Watched(store)


@pytest.fixture
def ledger(watched: Watched) -> Ledger:
    return open_ledger(watched)
