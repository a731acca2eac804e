"""What is looked for is found, in every form in which a program may have written it."""

from __future__ import annotations

import base64
import json
from urllib.parse import quote, quote_plus

import pytest

from tests import sinks

SECRET = 'canary/with+all=the&signs "and more"'


@pytest.mark.parametrize("around", ["{}", "a {} b", "x={}&", "ab{}"])
def test_a_secret_is_found_in_every_form(around: str) -> None:
    text = around.format(SECRET)
    written = [
        text.encode(),
        quote(text).encode(),
        quote(text, safe="").encode(),
        quote_plus(text).encode(),
        json.dumps(text).encode(),
        base64.b64encode(text.encode()),
        base64.urlsafe_b64encode(text.encode()),
        text.encode().hex().encode(),
    ]

    for made in written:
        assert sinks.found([SECRET], {"sink": made}) != [], made


def test_what_holds_none_has_none() -> None:
    assert sinks.found([SECRET], {"sink": b"nothing to see", "another": SECRET[:-1].encode()}) == []
