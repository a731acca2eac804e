"""The keys of this process: derived once, before it forks, and never stored anywhere.

One key writes (`ENC_KEY_SECRET`); during a rotation `ENC_KEY_SECRET_NEXT` and `ENC_KEY_SECRET_PREVIOUS` stand beside it
and are read with. A key is known by its `kid`, 16 hexadecimal characters that follow from the key itself.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, NoReturn

from pydantic import BaseModel, ConfigDict

from credentials import check_values, kdf
from credentials.check_values import Unable, nobody
from credentials.kdf import Profile
from flow8_core import redaction
from flow8_core.errors import ValidationFailed

if TYPE_CHECKING:
    from flow8_core.store import Store

KeyMismatch = check_values.KeyMismatch

SECRET = "ENC_KEY_SECRET"  # noqa: S105  the variable's name
SALT = "ENV_KEY_SALT"
NEXT = f"{SECRET}_NEXT"
PREVIOUS = f"{SECRET}_PREVIOUS"

# flow8's own knobs: a server that turned them has other keys than any profile here can give.
_FLOW8_PARAMETERS = {"ENC_KEY_P_N": "32768", "ENC_KEY_P_R": "8", "ENC_KEY_P_P": "1", "ENC_KEY_LEN": "32"}


class UnboundSettings(BaseModel):
    """Envelopes without a place, as an older server that shares the database reads and writes them."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    kdf: Profile
    write: bool = False


class KeySettings(BaseModel):
    """The section `keys` of the settings. The secrets themselves come from the environment only."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    kdf: Profile = "argon2id"
    unbound: UnboundSettings | None = None


class Key:
    """One derived key. It shows its `kid` and its profile, and refuses to be pickled or copied."""

    __slots__ = ("_material", "kid", "profile")

    def __init__(self, profile: Profile, material: bytes) -> None:
        self.profile = profile
        self.kid = hashlib.blake2b(key=material, digest_size=8, person=b"flow8-kid").hexdigest()
        self._material = material

    def subkey(self, person: bytes, data: bytes) -> bytes:
        """32 bytes of keyed BLAKE2b over `data`, apart from those of any other `person` (at most 16 bytes)."""
        return hashlib.blake2b(data, key=self._material, digest_size=32, person=person).digest()

    def raw(self) -> bytes:
        """The key itself: what the seed's unbound envelopes are sealed with, and nothing else may be."""
        return self._material

    def __repr__(self) -> str:
        return f"Key(kid={self.kid!r}, profile={self.profile!r})"

    def __reduce_ex__(self, protocol: Any) -> NoReturn:
        raise TypeError("a Key cannot be pickled or copied")


@dataclass(frozen=True)
class Keyring:
    """`primary` writes; all of `keys` (kid -> key) read; `unbound` are the older server's, in the order of `keys`."""

    primary: Key
    keys: Mapping[str, Key]
    announced: tuple[str, ...] = ()  # kids that will write after the next switch
    previous: tuple[str, ...] = ()  # kids that wrote before the last one
    unbound: tuple[Key, ...] = ()
    write_unbound: bool = field(default=False)

    @classmethod
    def derive(cls, settings: KeySettings, environ: Mapping[str, str]) -> Keyring:
        """The ring that the environment describes. Raises `ValidationFailed` naming the variable that is at fault."""
        salt = kdf.check_hex(SALT, environ.get(SALT), kdf.SALT_LENGTH)
        secrets = {SECRET: _secret(SECRET, environ)}
        secrets |= {name: _secret(name, environ) for name in (PREVIOUS, NEXT) if environ.get(name)}
        for text in (*secrets.values(), salt):
            redaction.register(text, keep=True)
        _refuse_equal(secrets)
        _refuse_other_parameters(settings, environ)
        keys = {name: Key(settings.kdf, kdf.derive(settings.kdf, text, salt)) for name, text in secrets.items()}
        unbound: tuple[Key, ...] = ()
        if settings.unbound:
            profile = settings.unbound.kdf
            unbound = (
                tuple(keys.values())
                if profile == settings.kdf
                else tuple(Key(profile, kdf.derive(profile, text, salt)) for text in secrets.values())
            )
        return cls(
            primary=keys[SECRET],
            keys={key.kid: key for key in keys.values()},
            announced=tuple(keys[name].kid for name in (NEXT,) if name in keys),
            previous=tuple(keys[name].kid for name in (PREVIOUS,) if name in keys),
            unbound=unbound,
            write_unbound=bool(settings.unbound and settings.unbound.write),
        )

    def unbound_of(self, kid: str) -> Key:
        """The older server's key that was derived from the same secret as the key `kid`."""
        return self.unbound[list(self.keys).index(kid)]

    def verify(self, store: Store, *, unable: Unable = nobody) -> None:
        """Compare this ring with what the database was sealed with, and record a key that is new to it.

        `unable` names the living processes that cannot read with a key: before it writes for the first time there must
        be none. Raises `KeyMismatch`, having written nothing, where a key is wrong, missing or too early. Call it at
        every start, before anything is sealed.
        """
        check_values.verify(self, store, unable=unable)


def _secret(name: str, environ: Mapping[str, str]) -> str:
    return kdf.check_hex(name, environ.get(name), kdf.SECRET_LENGTH)


def _refuse_equal(secrets: Mapping[str, str]) -> None:
    """A rotation from a key to itself looks like one and changes nothing."""
    seen: dict[str, str] = {}
    for name, text in secrets.items():
        if text in seen:
            raise ValidationFailed(f"{name} is the same as {seen[text]}; a rotation needs a new secret", path=name)
        seen[text] = name


def _refuse_other_parameters(settings: KeySettings, environ: Mapping[str, str]) -> None:
    used = {settings.kdf} | ({settings.unbound.kdf} if settings.unbound else set())
    if used == {"argon2id"}:
        return
    for name, value in _FLOW8_PARAMETERS.items():
        if environ.get(name, value).strip() != value:
            raise ValidationFailed(f"{name} must be {value}: the KDF profiles know no other", path=name)
