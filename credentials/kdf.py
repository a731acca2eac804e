"""From `ENC_KEY_SECRET` and `ENV_KEY_SALT` to a 32-byte key, by the name of a profile.

`argon2id` is the second choice of RFC 9106 section 4 (64 MiB, three passes), on one lane. The others reproduce what a
flow8 server may have written: its documented call `argon2id.Key(secret, salt, 32768, 8, 1, 32)` in both readings (Go's
own argument order is time, memory, threads; the prose beside it speaks of 32 MiB), and its older scrypt. All of them
take the hexadecimal text itself, as bytes: `[]byte(hexstring)` decodes nothing.
"""

from __future__ import annotations

import hashlib
import secrets
import string
from dataclasses import dataclass
from typing import Any, Literal, get_args

from flow8_core.errors import ValidationFailed

Profile = Literal["argon2id", "scrypt", "flow8-argon2id-literal", "flow8-argon2id-32mib"]

SECRET_LENGTH = 256  # hexadecimal characters
SALT_LENGTH = 64  # hexadecimal characters
KEY_BYTES = 32

_SCRYPT = {"n": 32768, "r": 8, "p": 1}
_SCRYPT_MEMORY = 64 * 2**20  # bytes; OpenSSL's own ceiling of 32 MiB is just too low for n=32768, r=8


@dataclass(frozen=True)
class _Argon2id:
    passes: int
    memory_kib: int
    shortened_salt: bool = False  # to the 16 bytes that libsodium demands, by BLAKE2b-128


_ARGON2ID: dict[Profile, _Argon2id] = {
    "argon2id": _Argon2id(passes=3, memory_kib=64 * 1024, shortened_salt=True),
    "flow8-argon2id-literal": _Argon2id(passes=32768, memory_kib=8),
    "flow8-argon2id-32mib": _Argon2id(passes=8, memory_kib=32768),
}


def derive(profile: Profile, secret: str, salt: str) -> bytes:
    """The 32-byte key. Takes 0.1 to 0.5 s: call it once a process, before it forks."""
    if profile == "scrypt":
        return hashlib.scrypt(secret.encode(), salt=salt.encode(), dklen=KEY_BYTES, maxmem=_SCRYPT_MEMORY, **_SCRYPT)
    from argon2 import low_level

    parameters = _ARGON2ID[profile]
    salt_bytes = salt.encode()
    if parameters.shortened_salt:
        salt_bytes = hashlib.blake2b(salt_bytes, digest_size=16).digest()
    return low_level.hash_secret_raw(
        secret.encode(),
        salt_bytes,
        time_cost=parameters.passes,
        memory_cost=parameters.memory_kib,
        parallelism=1,
        hash_len=KEY_BYTES,
        type=low_level.Type.ID,
    )


def describe(profile: Profile) -> dict[str, Any]:
    """The profile's parameters, as the `keyring` collection records them."""
    if profile == "scrypt":
        return {"name": profile, **_SCRYPT}
    parameters = _ARGON2ID[profile]
    return {"name": profile, "t": parameters.passes, "m_kib": parameters.memory_kib, "p": 1}


def profiles() -> tuple[Profile, ...]:
    """The names of all profiles."""
    return get_args(Profile)


def generate() -> tuple[str, str]:
    """A new `ENC_KEY_SECRET` (256 hexadecimal characters) and a new `ENV_KEY_SALT` (64)."""
    return secrets.token_hex(SECRET_LENGTH // 2), secrets.token_hex(SALT_LENGTH // 2)


def check_hex(name: str, text: str | None, length: int) -> str:
    """The text, where it is exactly `length` hexadecimal characters.

    Raises `ValidationFailed` with the variable's `name` as its path; the text itself is never shown.
    """
    if not text:
        raise ValidationFailed(f"{name} is not set; `flow8 keys generate` makes one", path=name)
    if text != text.strip():
        raise ValidationFailed(f"{name} has white space around it; remove it", path=name)
    if not set(text) <= set(string.hexdigits):
        raise ValidationFailed(f"{name} must hold hexadecimal characters only (0-9, a-f)", path=name)
    if len(text) != length:
        raise ValidationFailed(f"{name} must be {length} hexadecimal characters; it has {len(text)}", path=name)
    return text
