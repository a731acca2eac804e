"""What must exist before the fork, and children share: settings, the environment's secrets, derived keys.

It imports little: a worker derives its keys on another core while the rest of the house is imported.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path

from credentials.keyring import Keyring
from flow8_core.errors import StoreUnavailable
from flow8_core.settings import environment, load
from flow8_runtime import embedded
from flow8_runtime.settings import Settings

log = logging.getLogger("flow8.platform")


@dataclass(frozen=True)
class Foundation:
    """What is read and derived before the fork: settings, the environment's secrets, the keyring once asked for."""

    settings: Settings
    environ: Mapping[str, str]
    keyring: Keyring | None = None

    @classmethod
    def lay(cls, environ: Mapping[str, str], cwd: Path | None = None) -> Foundation:
        """Read flow8.yaml, .env and the environment. Raises `ValidationFailed` with every fault at once."""
        folder = cwd or Path.cwd()
        return cls(load(Settings, environ=environ, cwd=folder), environment(environ, folder))

    def with_keys(self) -> Foundation:
        """The same with its keys derived (0.1 to 0.5 s, once a process); embedded mode makes missing ones."""
        if self.keyring is not None:
            return self
        environ = self._environ_with_keys()
        return replace(self, environ=environ, keyring=Keyring.derive(self.settings.keys, environ))

    def verified(self) -> Foundation:
        """`with_keys`, and the keys are those of the store. For a process that is about to fork: nothing stays open.

        Raises `KeyMismatch`, having written nothing. A store that is away is no reason not to start: whoever needs the
        keys later compares them then.
        """
        from flow8_runtime.platform import Platform

        laid = self.with_keys()
        platform = Platform(laid)
        try:
            _ = platform.keyring
        except StoreUnavailable as error:
            log.warning("the keys could not be compared with the store's: %s", error.message)
        finally:
            platform.close()
        return laid

    def _environ_with_keys(self) -> Mapping[str, str]:
        settings = self.settings
        return embedded.with_keys(self.environ, settings.home, settings.store) if settings.embedded else self.environ
