"""Key derivation: each profile gives exactly what other implementations give, and bad input gets a clear error."""

from __future__ import annotations

import hashlib

import pytest
from nacl import pwhash

from credentials import kdf
from credentials.kdf import Profile
from flow8_core.errors import ValidationFailed

SECRET = "ab" * 128
SALT = "cd" * 32

# The three flow8 profiles as OpenSSL 3 computes them (its own Argon2id and scrypt, not the library used here).
KNOWN: dict[Profile, str] = {
    "argon2id": "be6a15751807ab6365bc4a8a10302054cfb0e38cf39ac46ba7195bd8b1649aa2",
    "scrypt": "9bf2f3a4754427b5fff848b8454dfe5441f0e844793c8ec9041b964c4bf5ea22",
    "flow8-argon2id-literal": "e14129e6c118725ddadb8043949c528b087604d8d704b2e7f84904f4ecd32a8b",
    "flow8-argon2id-32mib": "879757baaf0ee4933650d6880d51362593bc88faaf6552f9cdbd1f87da102e29",
}


@pytest.mark.parametrize("profile", kdf.profiles())
def test_a_profile_never_changes(profile: Profile):
    """A changed derivation would make every stored credential unreadable."""
    assert kdf.derive(profile, SECRET, SALT).hex() == KNOWN[profile]


def test_the_default_profile_is_what_libsodium_computes():
    salt = hashlib.blake2b(SALT.encode(), digest_size=16).digest()

    expected = pwhash.argon2id.kdf(32, SECRET.encode(), salt, opslimit=3, memlimit=64 * 2**20)

    assert kdf.derive("argon2id", SECRET, SALT) == expected


@pytest.mark.parametrize("profile", kdf.profiles())
def test_the_hexadecimal_text_itself_is_the_input(profile: Profile):
    """Upper case decodes to the same bytes, and yet gives another key: flow8 decodes nothing."""
    assert kdf.derive(profile, SECRET.upper(), SALT) != kdf.derive(profile, SECRET, SALT)


def test_the_parameters_are_told_for_the_keyring():
    assert [kdf.describe(profile) for profile in kdf.profiles()] == [
        {"name": "argon2id", "t": 3, "m_kib": 65536, "p": 1},
        {"name": "scrypt", "n": 32768, "r": 8, "p": 1},
        {"name": "flow8-argon2id-literal", "t": 32768, "m_kib": 8, "p": 1},
        {"name": "flow8-argon2id-32mib", "t": 8, "m_kib": 32768, "p": 1},
    ]


def test_generated_secrets_have_the_form_that_is_asked_for():
    secret, salt = kdf.generate()

    assert kdf.check_hex("ENC_KEY_SECRET", secret, kdf.SECRET_LENGTH) == secret
    assert kdf.check_hex("ENV_KEY_SALT", salt, kdf.SALT_LENGTH) == salt
    assert kdf.generate() != (secret, salt)


BAD = {
    "unset": (None, "is not set"),
    "empty": ("", "is not set"),
    "short": ("ab" * 127, "it has 254"),
    "long": ("ab" * 129, "it has 258"),
    "not hexadecimal": ("zz" * 128, "hexadecimal characters only"),
    "full-width digits": ("１２" * 128, "hexadecimal characters only"),
    "trailing line break": ("ab" * 128 + "\n", "white space"),
    "leading space": (" " + "ab" * 128, "white space"),
    "quoted": ('"' + "ab" * 127 + '"', "hexadecimal characters only"),
}


@pytest.mark.parametrize(("text", "says"), BAD.values(), ids=BAD.keys())
def test_a_bad_secret_is_named_and_never_echoed(text: str | None, says: str):
    with pytest.raises(ValidationFailed) as caught:
        kdf.check_hex("ENC_KEY_SECRET", text, kdf.SECRET_LENGTH)

    assert caught.value.path == "ENC_KEY_SECRET"
    assert says in caught.value.message
    assert not text or text.strip() not in caught.value.message
