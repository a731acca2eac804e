"""The keys of these tests, derived when this is imported: the fork server does it once for all that it starts."""

from __future__ import annotations

from credentials import kdf
from credentials.keyring import Keyring, KeySettings
from tests import keys
from tests.credentials import rotating

kdf.derive = keys.derive  # so that whoever derives them there finds them

RING = Keyring.derive(KeySettings(), keys.ENVIRON)
ROTATING = rotating.before(), rotating.after()  # which keep what they have derived
