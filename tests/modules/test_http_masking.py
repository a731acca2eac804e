"""Secrets are taken out of a body, however it is written and wherever its blocks are cut."""

from __future__ import annotations

import io
import itertools
import json

from hypothesis import given
from hypothesis import strategies as st

from flow8_modules.integrations.http.answer import MASK, masked, masked_json
from flow8_modules.integrations.http.masking import Masking

SECRETS = ("aXbXc", "XbX", "bb")


@given(text=st.text(alphabet="aXbc\n", max_size=60), cuts=st.lists(st.integers(0, 60), max_size=8))
def test_however_the_body_arrives_the_file_is_the_masked_body(text: str, cuts: list[int]) -> None:
    out = io.BytesIO()
    sink = Masking(out, SECRETS)
    places = [0, *sorted(min(cut, len(text)) for cut in cuts), len(text)]

    for begin, end in itertools.pairwise(places):
        sink.write(text[begin:end].encode())
    sink.finish()

    assert all(secret not in out.getvalue().decode() for secret in SECRETS)
    whole = io.BytesIO()
    at_once = Masking(whole, SECRETS)
    at_once.write(text.encode())
    at_once.finish()
    assert out.getvalue() == whole.getvalue()
    if sum(secret in text for secret in SECRETS) <= 1:
        assert out.getvalue().decode() == masked(text, SECRETS)


@given(secret=st.text(min_size=6, max_size=12), escaped=st.lists(st.booleans(), min_size=12, max_size=12))
def test_however_json_writes_a_secret_it_is_masked(secret: str, escaped: list[bool]) -> None:
    written = "".join(
        json.dumps(character)[1:-1] if hidden or character in '"\\' or character < " " else character
        for character, hidden in zip(secret, escaped, strict=False)
    )
    body = f'{{"a": [1, "<{written}>"], "{written}": null}}'.encode()

    shown = masked_json(json.loads(body), body, (secret,))

    assert shown == {"a": [1, f"<{MASK}>"], MASK: None}
