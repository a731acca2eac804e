"""Envelopes: bound to their place, and rejected with one class of error for whatever is done to them."""

from __future__ import annotations

import base64
import itertools
import pickle
from collections.abc import Iterator
from typing import Any

import pytest
from bson import ObjectId
from bson.int64 import Int64
from nacl.secret import SecretBox

from credentials import kdf
from credentials.keyring import Keyring, KeySettings, UnboundSettings
from credentials.vault import MAX_BYTES, EnvelopeRejected, Place, Vault
from flow8_core.secret import Secret
from tests.credentials.conftest import ENVIRON

PLACE = Place("db_links", ObjectId("65f000000000000000000001"), ObjectId("65f0000000000000000000c1"), "access_token")
TOKEN = "xoxb-1234567890-abcdef"


@pytest.fixture(scope="module")
def shared_vault() -> Vault:
    """A vault that reads an older server's unbound envelopes."""
    settings = KeySettings(unbound=UnboundSettings(kdf="scrypt"))
    return Vault(Keyring.derive(settings, ENVIRON))


def rejected(vault: Vault, envelope: Any, place: Place = PLACE) -> bool:
    try:
        vault.open(place, envelope)
    except EnvelopeRejected:
        return True
    return False


def test_a_secret_comes_back_from_its_own_place(vault: Vault):
    envelope = vault.seal(PLACE, Secret(TOKEN))

    opened = vault.open(PLACE, envelope)

    assert opened.reveal() == TOKEN
    assert list(envelope) == ["encrypted", "v", "kid", "nonce", "ciphertext"]
    assert envelope["encrypted"] is True
    assert envelope["v"] == 2
    assert envelope["kid"] == vault.kid
    assert TOKEN not in repr(envelope)


def test_sealing_the_same_secret_twice_shows_nothing_of_that(vault: Vault):
    first, second = vault.seal(PLACE, TOKEN), vault.seal(PLACE, TOKEN)

    assert first["nonce"] != second["nonce"]
    assert first["ciphertext"] != second["ciphertext"]


@pytest.mark.parametrize(
    "text", ["", "ä€😀", "line\nbreak", "x" * MAX_BYTES], ids=["empty", "unicode", "lines", "largest"]
)
def test_any_text_can_be_sealed(vault: Vault, text: str):
    assert vault.open(PLACE, vault.seal(PLACE, text)).reveal() == text


@pytest.mark.parametrize(
    "text", ["\ud800", "x" * (MAX_BYTES + 1), None, 7, b"x"], ids=["surrogate", "large", "none", "int", "bytes"]
)
def test_what_no_envelope_holds_is_refused_when_sealing(vault: Vault, text: Any):
    with pytest.raises(EnvelopeRejected):
        vault.seal(PLACE, text)


def test_every_ordered_swap_of_60_fields_is_rejected(vault: Vault):
    """Over collections, companies, records and fields: an envelope opens where it was sealed and nowhere else."""
    records = [ObjectId() for _ in range(5)]
    companies = [ObjectId(), ObjectId()]
    places = [
        Place(collection, record, company, field)
        for collection in ("db_links", "component_configs", "oauth_states")
        for company in companies
        for record in records
        for field in ("access_token", "refresh_token")
    ]
    envelopes = {place: vault.seal(place, f"token of {index}") for index, place in enumerate(places)}

    pairs = list(itertools.permutations(places, 2))
    accepted = [(source, target) for source, target in pairs if not rejected(vault, envelopes[source], target)]

    assert len(pairs) == 3540
    assert accepted == []
    assert all(not rejected(vault, envelopes[place], place) for place in places)


def test_places_whose_parts_join_to_the_same_text_are_different_places(vault: Vault):
    envelope = vault.seal(Place("db_links", PLACE.id, PLACE.company_id, "c"), TOKEN)

    assert rejected(vault, envelope, Place("db_link", PLACE.id, PLACE.company_id, "sc"))
    assert rejected(vault, envelope, Place("db_links", PLACE.company_id, PLACE.id, "c"))


def flipped(envelope: dict[str, Any]) -> Iterator[dict[str, Any]]:
    for name in ("nonce", "ciphertext"):
        data = base64.b64decode(envelope[name])
        for bit in range(len(data) * 8):
            changed = bytearray(data)
            changed[bit // 8] ^= 1 << bit % 8
            yield {**envelope, name: base64.b64encode(changed).decode()}
    for name in ("nonce", "ciphertext", "kid"):
        text = envelope[name]
        for index, bit in itertools.product(range(len(text)), range(8)):
            yield {**envelope, name: text[:index] + chr(ord(text[index]) ^ 1 << bit) + text[index + 1 :]}
    for bit in range(32):
        yield {**envelope, "v": envelope["v"] ^ 1 << bit}


def truncated(envelope: dict[str, Any]) -> Iterator[dict[str, Any]]:
    for name in ("nonce", "ciphertext", "kid"):
        text = envelope[name]
        yield from ({**envelope, name: text[:length]} for length in range(len(text)))
        yield from ({**envelope, name: text[start:]} for start in range(1, len(text)))
    for name in ("nonce", "ciphertext"):
        data = base64.b64decode(envelope[name])
        yield from ({**envelope, name: base64.b64encode(data[:length]).decode()} for length in range(len(data)))


@pytest.mark.parametrize("text", [TOKEN, TOKEN + "1", TOKEN + "12"], ids=["pad-1", "pad-0", "pad-2"])
def test_every_single_bit_flip_is_rejected(vault: Vault, text: str):
    """Also of base64's characters, whose last one may have spare bits that decode to nothing."""
    envelope = vault.seal(PLACE, text)

    changed = list(flipped(envelope))

    assert len(changed) > 800
    assert [one for one in changed if not rejected(vault, one)] == []


def test_every_truncation_is_rejected(vault: Vault):
    envelope = vault.seal(PLACE, TOKEN)

    changed = list(truncated(envelope))

    assert len(changed) > 150
    assert [one for one in changed if not rejected(vault, one)] == []


def malformed() -> dict[str, Any]:
    nonce, ciphertext = base64.b64encode(b"n" * 24).decode(), base64.b64encode(b"c" * 40).decode()
    whole = {"encrypted": True, "v": 2, "kid": "0" * 16, "nonce": nonce, "ciphertext": ciphertext}
    return {
        "none": None,
        "text": "encrypted",
        "list": [],
        "number": 7,
        "nothing in it": {},
        "a mask": "[encrypted]",
        "missing kid": {name: value for name, value in whole.items() if name != "kid"},
        "missing v": {name: value for name, value in whole.items() if name != "v"},
        "extra key": {**whole, "aad": "x"},
        "unknown kid": whole,
        "kid of another type": {**whole, "kid": ["0"]},
        "kid none": {**whole, "kid": None},
        "unknown version": {**whole, "v": 3},
        "version as text": {**whole, "v": "2"},
        "version as a float": {**whole, "v": 2.0},
        "version true": {**whole, "v": True},
        "encrypted false": {**whole, "encrypted": False},
        "encrypted 1": {**whole, "encrypted": 1},
        "nonce as bytes": {**whole, "nonce": b"n" * 24},
        "nonce not base64": {**whole, "nonce": "!" * 32},
        "nonce with a line break": {**whole, "nonce": nonce + "\n"},
        "nonce url-safe": {**whole, "nonce": "_" * 32},
        "nonce unpadded": {**whole, "nonce": base64.b64encode(b"n" * 23).decode().rstrip("=")},
        "nonce short": {**whole, "nonce": base64.b64encode(b"n" * 23).decode()},
        "nonce not ascii": {**whole, "nonce": "é" * 32},
        "ciphertext none": {**whole, "ciphertext": None},
        "ciphertext empty": {**whole, "ciphertext": ""},
        "ciphertext an operator": {**whole, "ciphertext": {"$ne": None}},
        "ciphertext huge": {**whole, "ciphertext": "A" * (4 * MAX_BYTES)},
        "unbound": {"encrypted": True, "nonce": nonce, "ciphertext": ciphertext},
    }


@pytest.mark.parametrize("shape", malformed().values(), ids=malformed().keys())
@pytest.mark.parametrize("own_kid", [False, True], ids=["", "with the right kid"])
def test_every_malformed_envelope_is_rejected_with_the_same_class(shared_vault: Vault, shape: Any, own_kid: bool):
    if own_kid and isinstance(shape, dict) and shape.get("kid") == "0" * 16:
        shape = {**shape, "kid": shared_vault.kid}

    with pytest.raises(EnvelopeRejected) as caught:
        shared_vault.open(PLACE, shape)

    assert type(caught.value) is EnvelopeRejected
    assert caught.value.__cause__ is None
    assert caught.value.__suppress_context__


def test_all_rejections_read_the_same_and_hold_nothing_of_the_envelope(vault: Vault):
    envelope = vault.seal(PLACE, TOKEN)
    other_place = Place("db_links", PLACE.id, ObjectId(), "access_token")

    messages = set()
    for place, shape in ((PLACE, {**envelope, "v": 9}), (other_place, envelope), (PLACE, {**envelope, "nonce": ""})):
        with pytest.raises(EnvelopeRejected) as caught:
            vault.open(place, shape)
        messages.add(caught.value.message)

    assert len(messages) == 1
    assert envelope["ciphertext"] not in messages.pop()


def test_a_document_whose_ids_were_replaced_is_rejected_like_any_other(vault: Vault):
    envelope = vault.seal(PLACE, TOKEN)

    for hostile in ("65f000000000000000000001", None, {"$ne": None}, 7):
        assert rejected(vault, envelope, Place("db_links", hostile, PLACE.company_id, "access_token"))  # type: ignore[arg-type]
        assert rejected(vault, envelope, Place("db_links", PLACE.id, hostile, "access_token"))  # type: ignore[arg-type]


def test_the_version_may_come_back_from_mongodb_as_a_64_bit_integer(vault: Vault):
    envelope = {**vault.seal(PLACE, TOKEN), "v": Int64(2)}

    assert vault.open(PLACE, envelope).reveal() == TOKEN


# flow8's own, unbound form


def of_older_server(text: str) -> dict[str, Any]:
    """What the Go server writes: SecretBox under the derived key itself."""
    key = kdf.derive("scrypt", ENVIRON["ENC_KEY_SECRET"], ENVIRON["ENV_KEY_SALT"])
    message = SecretBox(key).encrypt(text.encode())
    return {
        "encrypted": True,
        "nonce": base64.b64encode(message.nonce).decode(),
        "ciphertext": base64.b64encode(message.ciphertext).decode(),
    }


def test_an_older_servers_envelope_is_read_where_that_is_set(shared_vault: Vault):
    assert shared_vault.open(PLACE, of_older_server(TOKEN)).reveal() == TOKEN


def test_an_older_servers_envelope_is_refused_where_nothing_is_set(vault: Vault):
    assert rejected(vault, of_older_server(TOKEN))


def test_reading_unbound_envelopes_does_not_write_them(shared_vault: Vault):
    assert shared_vault.seal(PLACE, TOKEN)["v"] == 2


@pytest.mark.parametrize("profile", ["argon2id", "scrypt"])
def test_a_bound_envelope_cannot_be_presented_as_an_unbound_one(profile: kdf.Profile):
    """Not even where both forms come from the same derived key."""
    vault = Vault(Keyring.derive(KeySettings(kdf=profile, unbound=UnboundSettings(kdf=profile)), ENVIRON))
    envelope = vault.seal(PLACE, TOKEN)

    stripped = {name: envelope[name] for name in ("encrypted", "nonce", "ciphertext")}

    assert rejected(vault, stripped)


def test_an_unbound_envelope_cannot_be_presented_as_a_bound_one(shared_vault: Vault):
    assert rejected(shared_vault, {**of_older_server(TOKEN), "v": 2, "kid": shared_vault.kid})


def test_where_unbound_writing_is_set_the_older_server_can_read():
    vault = Vault(Keyring.derive(KeySettings(unbound=UnboundSettings(kdf="scrypt", write=True)), ENVIRON))

    envelope = vault.seal(PLACE, TOKEN)

    key = kdf.derive("scrypt", ENVIRON["ENC_KEY_SECRET"], ENVIRON["ENV_KEY_SALT"])
    nonce, ciphertext = (base64.b64decode(envelope[name]) for name in ("nonce", "ciphertext"))
    assert set(envelope) == {"encrypted", "nonce", "ciphertext"}
    assert SecretBox(key).decrypt(ciphertext, nonce) == TOKEN.encode()
    assert vault.open(PLACE, envelope).reveal() == TOKEN


# rotation


def test_during_a_rotation_all_keys_read_and_the_current_one_writes():
    old, new = ENVIRON, {**ENVIRON, "ENC_KEY_SECRET": "0f" * 128}
    before = Vault(Keyring.derive(KeySettings(), old))
    announced = Vault(Keyring.derive(KeySettings(), {**old, "ENC_KEY_SECRET_NEXT": new["ENC_KEY_SECRET"]}))
    switched = Vault(Keyring.derive(KeySettings(), {**new, "ENC_KEY_SECRET_PREVIOUS": old["ENC_KEY_SECRET"]}))
    after = Vault(Keyring.derive(KeySettings(), new))

    sealed = {name: vault.seal(PLACE, name) for name, vault in (("announced", announced), ("switched", switched))}

    assert sealed["announced"]["kid"] == before.kid
    assert sealed["switched"]["kid"] == after.kid
    assert before.open(PLACE, sealed["announced"]).reveal() == "announced"
    for vault in (announced, switched):
        assert {name: vault.open(PLACE, envelope).reveal() for name, envelope in sealed.items()} == {
            "announced": "announced",
            "switched": "switched",
        }
    assert rejected(before, sealed["switched"])
    assert rejected(after, sealed["announced"])


# macs


def test_a_mac_depends_on_purpose_data_and_key(vault: Vault):
    other = Vault(Keyring.derive(KeySettings(), {**ENVIRON, "ENV_KEY_SALT": "00" * 32}))

    macs = [
        vault.mac("state", b"data"),
        vault.mac("state", b"date"),
        vault.mac("chain", b"data"),
        vault.mac("stated", b"ata"),
        other.mac("state", b"data"),
    ]

    assert len(set(macs)) == len(macs)
    assert {len(mac) for mac in macs} == {32}
    assert vault.mac("state", b"data") == vault.mac("state", b"data", kid=vault.kid)


def test_a_keyring_shows_no_key_and_does_not_travel(keyring: Keyring):
    key = keyring.primary

    assert key.raw().hex() not in repr(keyring)
    assert repr(key.raw()) not in repr(keyring)
    with pytest.raises(TypeError):
        pickle.dumps(key)
