"""What an operator is told to do next, in each situation of a rotation."""

from __future__ import annotations

from typing import Any

import pytest

from credentials.key_status import KeyStatus, next_step

CURRENT, NEXT, PREVIOUS = "ENC_KEY_SECRET", "ENC_KEY_SECRET_NEXT", "ENC_KEY_SECRET_PREVIOUS"


def key(kid: str, variable: str | None, state: str, needed: int = 0, **more: Any) -> KeyStatus:
    return KeyStatus(kid, variable, state, {"db_links": needed} if needed else {}, **more)


@pytest.mark.parametrize(
    ("keys", "says"),
    [
        ([key("a", CURRENT, "writing", 5)], "Nothing to do"),
        ([key("a", CURRENT, "writing", 5), key("z", None, "retired")], "Nothing to do"),
        ([key("a", CURRENT, "writing", 5), key("z", None, "unknown", 1)], "Nothing to do"),  # no key of ours opens it
        ([key("a", CURRENT, "writing", 5), key("z", None, "retired", 1)], "Set the secret of key z"),
        ([key("a", CURRENT, "writing", 5), key("b", NEXT, "announced", missing_at=("w1", "w2"))], "2 living workers"),
        ([key("a", CURRENT, "writing", 5), key("b", NEXT, "announced")], "Once every process has been restarted"),
        ([key("b", CURRENT, "writing", 5), key("a", PREVIOUS, "superseded", 3)], "`flow8 keys rotate`."),
        ([key("b", CURRENT, "writing", 5), key("a", PREVIOUS, "superseded", primary_of=("w1",))], "Restart 1 living"),
        ([key("b", CURRENT, "writing", 5), key("a", PREVIOUS, "superseded")], "`flow8 keys retire`."),
        ([key("b", CURRENT, "writing", 5), key("a", PREVIOUS, "retiring")], "`flow8 keys retire`."),
        ([key("b", CURRENT, "writing", 5), key("a", PREVIOUS, "retired", 1)], "`flow8 keys rotate`."),
        ([key("b", CURRENT, "writing", 5), key("a", PREVIOUS, "retired")], "Remove ENC_KEY_SECRET_PREVIOUS"),
    ],
)
def test_the_next_step_follows_from_the_keys(keys: list[KeyStatus], says: str) -> None:
    assert says in next_step(keys, keys[0].kid)


def test_where_the_next_key_writes_already_the_secrets_are_to_be_moved() -> None:
    keys = [key("a", CURRENT, "superseded"), key("b", NEXT, "writing", 5)]

    assert next_step(keys, "b").startswith("Make ENC_KEY_SECRET_NEXT the ENC_KEY_SECRET")


def test_what_was_sealed_with_the_old_key_meanwhile_is_rotated_first() -> None:
    keys = [key("a", CURRENT, "superseded", 1), key("b", NEXT, "writing", 5)]

    assert "`flow8 keys rotate`" in next_step(keys, "b")
