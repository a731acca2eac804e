"""A `Secret` leaves through `reveal()` and in no other way."""

from __future__ import annotations

import copy
import dataclasses
import json
import logging
import pickle
import pprint

import pytest

from flow8_core import redaction
from flow8_core.secret import MASK, Secret

TEXT = "canary-hunter2-secret"


@pytest.fixture
def secret() -> Secret:
    return Secret(TEXT)


@dataclasses.dataclass
class Holder:
    name: str
    token: Secret


def test_reveal_gives_the_text(secret: Secret) -> None:
    assert secret.reveal() == TEXT


@pytest.mark.parametrize(
    "show",
    [
        str,
        repr,
        ascii,
        "{}".format,
        "{!r}".format,
        "{:>40}".format,
        lambda secret: f"{secret} {secret!r} {secret!s:>30}",
        lambda secret: "%s %r" % (secret, secret),  # noqa: UP031
        lambda secret: str([secret, {"token": secret}, (secret,)]),
        lambda secret: repr(Holder("x", secret)),
        lambda secret: pprint.pformat({"token": Holder("x", secret)}),
        lambda secret: json.dumps({"token": secret}, default=str),
        lambda secret: json.dumps({"token": secret}, default=repr),
        lambda secret: logging.LogRecord("x", 1, "", 0, "%s", (secret,), None).getMessage(),
        lambda secret: str(ValueError(secret)),
        lambda secret: str(getattr(secret, "__dict__", "")),
    ],
)
def test_no_way_of_showing_it_shows_the_text(secret: Secret, show: object) -> None:
    assert callable(show)

    assert TEXT not in show(secret)


@pytest.mark.parametrize(
    "take",
    [
        json.dumps,
        pickle.dumps,
        copy.copy,
        copy.deepcopy,
        lambda secret: copy.deepcopy({"token": secret}),
        lambda secret: dataclasses.asdict(Holder("x", secret)),
        lambda secret: "a" + secret,
        lambda secret: b"a" + secret,
        list,
        iter,
        hash,
        lambda secret: {secret},
        lambda secret: secret.__dict__,
        lambda secret: secret[0],
        "".join,
    ],
)
def test_ways_that_would_take_the_text_along_raise(secret: Secret, take: object) -> None:
    assert callable(take)

    with pytest.raises((TypeError, AttributeError)) as raised:
        take(secret)

    assert TEXT not in str(raised.value)


def test_secrets_are_equal_by_their_text_and_to_nothing_else(secret: Secret) -> None:
    assert secret == Secret(TEXT)
    assert secret != Secret(TEXT + "x")
    assert secret != TEXT
    assert Secret("ü") == Secret("ü")


def test_an_empty_secret_is_false_and_has_no_length() -> None:
    assert not Secret("")
    assert len(Secret("")) == 0
    assert Secret("x")
    assert len(Secret("xyz")) == 3


def test_making_one_makes_it_known_to_the_log_redaction(secret: Secret) -> None:
    assert redaction.scrub(f"a library says {TEXT}") == f"a library says {MASK}"
    assert MASK == redaction.MASK
