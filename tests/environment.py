"""Which variables of the environment are ours, and which of those a test run may see."""

from __future__ import annotations

import os

PREFIXES = ("FLOW8_", "ENC_KEY_", "ENV_KEY_")
ALLOWED = ("FLOW8_REQUIRE_SERVICES", "FLOW8_TEST_", "FLOW8_PROOF")


def ours(name: str) -> bool:
    """Would flow8 read this variable as configuration?"""
    return name.startswith(PREFIXES) and not name.startswith(ALLOWED)


def snapshot() -> dict[str, str]:
    """Our variables as they are now."""
    return {name: value for name, value in os.environ.items() if ours(name)}


def clean(**extra: str) -> dict[str, str]:
    """This process's environment without our variables, plus `extra`: for programs that tests start."""
    return {name: value for name, value in os.environ.items() if not ours(name)} | extra


def rounds(full: int, *, short: int) -> int:
    """How often a proof repeats itself: `short` times where `FLOW8_PROOF=short`, as in CI."""
    return short if os.environ.get("FLOW8_PROOF") == "short" else full
