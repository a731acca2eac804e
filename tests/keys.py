"""The keys of what tests set up, and a derivation of them that takes its fifth of a second once in a process."""

from __future__ import annotations

import functools

from credentials import kdf

ENVIRON = {"ENC_KEY_SECRET": "ab12" * 64, "ENV_KEY_SALT": "cd34" * 16}

derive = functools.cache(kdf.derive)
