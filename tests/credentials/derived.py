"""The keys of these tests, derived when this is imported: the fork server does it once for all that it starts."""

from __future__ import annotations

from credentials.keyring import Keyring, KeySettings
from tests.credentials.conftest import ENVIRON

RING = Keyring.derive(KeySettings(), ENVIRON)
