"""Which deployment this is, so that one process knows another of its own by what its `/health` says."""

from __future__ import annotations

import json
from urllib.error import URLError
from urllib.request import ProxyHandler, build_opener

from flow8_runtime.platform import Platform

LOOPBACK = ("127.0.0.1", "localhost", "::1")
PATIENCE_S = 2.0
MOST_BYTES = 4096


def describe(platform: Platform) -> dict[str, str]:
    """What `/health` says. `deployment` is the same wherever the same keys are, and tells nothing of them."""
    return _described(platform, platform.vault.kid)


def answers_at(port: int, platform: Platform) -> bool:
    """Whether the API of this very deployment answers at a port of this machine; while the key is being changed it may
    name another one of ours."""
    try:
        with build_opener(ProxyHandler({})).open(f"http://127.0.0.1:{port}/health", timeout=PATIENCE_S) as answer:
            said = json.loads(answer.read(MOST_BYTES))
            return any(said == _described(platform, kid) for kid in platform.keyring.keys)
    except (URLError, OSError, ValueError):
        return False


def _described(platform: Platform, kid: str) -> dict[str, str]:
    fingerprint = platform.vault.mac("deployment", b"", kid=kid).hex()[:16]
    return {"status": "ok", "service": "flow8-modules", "deployment": fingerprint}
