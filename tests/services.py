"""What a test does when a server that it needs is not installed."""

from __future__ import annotations

import os
from typing import NoReturn

import pytest


def missing(what: str) -> NoReturn:
    """Skip at home; fail where services are required (`FLOW8_REQUIRE_SERVICES`, as in CI)."""
    if os.environ.get("FLOW8_REQUIRE_SERVICES"):
        pytest.fail(f"{what}, and FLOW8_REQUIRE_SERVICES is set")
    pytest.skip(what)
