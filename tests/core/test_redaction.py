"""No form of a known secret, and nothing that looks like one, stays in a text."""

from __future__ import annotations

import base64
import json
import os
import re
import threading
from urllib.parse import quote, quote_plus, urlencode

import pytest
from hypothesis import given
from hypothesis import strategies as st

from flow8_core import redaction
from flow8_core.redaction import MASK, MIN_LENGTH, PART, Registry

AWKWARD = 'p@ss/w+rd="ü\\n"&x'
SECRETS = ["hunter2!", "c0ffee-c0ffee-c0ffee-c0ffee", AWKWARD, "line one of a key 123456\nline two of a key 123456"]


def b64(text: str, before: bytes = b"") -> str:
    return base64.b64encode(before + text.encode()).decode()


FORMS = {
    "raw": lambda s: s,
    "url-quoted": lambda s: quote(s, safe=""),
    "url-quoted, slashes kept": quote,
    "url-quoted in lower case": lambda s: re.sub("%..", lambda found: found.group().lower(), quote(s, safe="")),
    "form field": lambda s: urlencode({"x": s}).removeprefix("x="),
    "form field with plus": quote_plus,
    "json": lambda s: json.dumps(s)[1:-1],
    "json, not ascii only": lambda s: json.dumps(s, ensure_ascii=False)[1:-1],
    "json in json": lambda s: json.dumps(json.dumps(s))[3:-3],
    "json with escaped slashes": lambda s: json.dumps(s)[1:-1].replace("/", "\\/"),
    "repr": lambda s: repr(s)[1:-1],
    "base64, first alignment": b64,
    "base64, second alignment": lambda s: b64(s, b"x"),
    "base64, third alignment": lambda s: b64(s, b"id:xy"),
    "base64 for urls": lambda s: base64.urlsafe_b64encode(b"a:" + s.encode()).decode(),
}


def kernel(form: str) -> str:
    """The middle of an encoded form: what no neighbour can have changed."""
    return form[8:-6] if len(form) > 20 else form


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("secret", SECRETS, ids=["short", "long", "awkward", "two lines"])
def test_a_registered_secret_is_found_in_every_form(secret: str, form: str) -> None:
    registry = Registry()
    registry.register(secret)

    written = FORMS[form](secret)
    scrubbed = registry.scrub(f"before {written} after")

    assert MASK in scrubbed
    assert kernel(written) not in scrubbed
    assert secret not in scrubbed
    assert scrubbed.startswith("before ")
    assert scrubbed.endswith(" after")


@given(st.text(min_size=MIN_LENGTH, max_size=60), st.text(max_size=40), st.text(max_size=40))
def test_whatever_the_secret_and_its_surroundings_it_is_gone(secret: str, before: str, after: str) -> None:
    registry = Registry()
    registry.register(secret)

    scrubbed = registry.scrub(before + secret + after)

    assert MASK in scrubbed or secret in MASK
    assert secret in MASK or secret not in scrubbed.replace(MASK, "\0")


@given(st.lists(st.text(alphabet="abcd", min_size=MIN_LENGTH, max_size=12), min_size=1, max_size=6), st.text("abcd"))
def test_secrets_that_overlap_leave_no_tail(secrets: list[str], text: str) -> None:
    registry = Registry()
    for secret in secrets:
        registry.register(secret)

    covered = [
        any(text[a : a + len(s)] == s and a <= i < a + len(s) for s in secrets for a in range(len(text)))
        for i in range(len(text))
    ]
    expected_left = "".join(char for char, hidden in zip(text, covered, strict=True) if not hidden)

    # base64 and quoting forms of such texts do not occur in the alphabet, so that only raw forms match
    assert registry.scrub(text).replace(MASK, "") == expected_left


def test_one_mask_stands_for_two_secrets_that_overlap() -> None:
    registry = Registry()
    registry.register("abcdef123456")
    registry.register("123456uvwxyz")

    assert registry.scrub("<abcdef123456uvwxyz>") == f"<{MASK}>"


def test_a_secret_that_was_cut_off_is_still_one() -> None:
    registry = Registry()
    registry.register("0123456789abcdefghijKLMNOPQRSTUVWXYZ")

    assert registry.scrub("token 0123456789abcdefghijKLMN...") == f"token {MASK}..."
    assert registry.scrub("token 0123456789abcdefghij") == f"token {MASK}"
    assert registry.scrub("token 0123456789") == "token 0123456789"
    assert PART == 20


def test_tokens_with_a_long_common_beginning_are_told_apart() -> None:
    registry = Registry()
    tokens = [f"eyJhbGciOiJSUzI1NiJ9.{n:06d}.{'x' * 40}" for n in range(300)]
    for token in tokens:
        registry.register(token)

    assert [registry.scrub(f"<{token}>") for token in tokens] == [f"<{MASK}>"] * 300


@pytest.mark.parametrize("short", ["", "a", "abcde"])
def test_a_value_too_short_to_be_a_secret_masks_nothing(short: str) -> None:
    registry = Registry()
    registry.register(short)

    assert registry.scrub("abcde: a word") == "abcde: a word"


def test_scrubbing_twice_changes_nothing() -> None:
    redaction.register("secret")  # part of the mask itself
    once = redaction.scrub("client_secret=abc Bearer tok_123 https://u:pw@h/ " + json.dumps({"password": "x y"}))

    assert redaction.scrub(once) == once


# ---- the registry is bounded -----------------------------------------------------------------------------------------


def test_what_is_not_seen_for_its_time_is_forgotten_and_what_is_seen_again_stays() -> None:
    now = [0.0]
    registry = Registry(max_age_s=100, monotonic=lambda: now[0])
    registry.register("long unused")
    registry.register("used again")
    for _ in range(4):
        now[0] += 60
        registry.scrub("tick")
        registry.register("used again")

    assert registry.scrub("long unused, used again") == f"long unused, {MASK}"


def test_newer_secrets_push_out_old_ones_but_never_those_to_keep() -> None:
    registry = Registry(limit=10)
    registry.register("kept-forever", keep=True)
    registry.register("first-of-many")
    for n in range(25):
        registry.register(f"number-{n:04d}")

    scrubbed = registry.scrub("kept-forever first-of-many number-0024 number-0015")

    assert scrubbed == f"{MASK} first-of-many {MASK} {MASK}"


def test_large_secrets_are_bounded_by_their_characters() -> None:
    registry = Registry(limit_chars=1000)
    registry.register("first-of-many")
    for n in range(5):
        registry.register(f"{n}" * 600)

    assert registry.scrub("first-of-many") == "first-of-many"
    assert registry.scrub("4" * 600) == MASK


def test_registering_twice_keeps_one() -> None:
    registry = Registry(limit=2)
    for _ in range(50):
        registry.register("one and only")
    registry.register("second of two")

    assert registry.scrub("one and only, second of two") == f"{MASK}, {MASK}"


def test_threads_register_and_scrub_at_once() -> None:
    registry = Registry(limit=500)
    failures: list[str] = []

    def work(worker: int) -> None:
        for n in range(200):
            secret = f"worker-{worker}-secret-{n}"
            registry.register(secret)
            if secret in registry.scrub(f"text {secret} text"):
                failures.append(secret)

    threads = [threading.Thread(target=work, args=(worker,)) for worker in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()

    assert failures == []


def test_a_fork_while_another_thread_holds_the_lock_does_not_wedge_the_child() -> None:
    registry = redaction._registry
    held, release = threading.Event(), threading.Event()

    def hold() -> None:
        with registry._lock:
            held.set()
            release.wait(10)

    thread = threading.Thread(target=hold)
    thread.start()
    held.wait(10)
    child = os.fork()
    if child == 0:
        redaction.register("made in the child")
        os._exit(0 if redaction.scrub("made in the child") == MASK else 1)
    release.set()
    thread.join()

    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0


# ---- what nobody registered ------------------------------------------------------------------------------------------

JWT = "eyJhbGciOiJSUzI1NiJ9.eyJzdWIiOiIxMjMifQ.c2lnbmF0dXJl"
PEM = "-----BEGIN RSA PRIVATE KEY-----\nMIIBOgIBAAJBAKj34GkxFhD90vcNLYLI\n-----END RSA PRIVATE KEY-----"


@pytest.mark.parametrize(
    ("text", "canary"),
    [
        ("token xoxb-12-34-abcDEF", "abcDEF"),
        ("xoxe.xoxp-1-Mi0yLTk", "Mi0yLTk"),
        ("xoxe-1-My0xLTEtrefresh", "My0xLTEtrefresh"),
        ("xapp-1-A02-secretpart", "secretpart"),
        ("key AKIAIOSFODNN7EXAMPLE.", "IOSFODNN7EXAMPLE"),
        ("key ASIAIOSFODNN7EXAMPLE.", "IOSFODNN7EXAMPLE"),
        ("sk-ant-api03-abcdefghijklmnop", "abcdefghijklmnop"),
        ("'sk-proj-abcdefghijklmnop'", "abcdefghijklmnop"),
        ("ghp_abcdefghijklmnopqrstuvwxyz012345", "abcdefghijkl"),
        ("github_pat_11ABCDEFG0abcdefghijkl", "11ABCDEFG0"),
        ("ya29.a0AfH6SMBx-yz_12", "AfH6SMBx"),
        (f"id_token is {JWT} here", "c2lnbmF0dXJl"),
        ("Authorization: Bearer tok_abc.def~1", "tok_abc"),
        ("{'Authorization': 'Bearer tok_abc.def'}", "tok_abc"),
        ("authorization%3A%20Bearer%20tok_abc", "tok_abc"),
        ("Authorization: Basic dXNlcjpwYXNzd29yZA==", "dXNlcjpwYXNz"),
        (PEM, "MIIBOgIBAAJBAKj34"),
        (json.dumps({"key": PEM}), "MIIBOgIBAAJBAKj34"),
        (PEM[:60], "MIIBOgIBAAJBAKj34"),
        ("grant_type=x&client_secret=s3cr3t&code_verifier=ver1fier", "s3cr3t"),
        ("grant_type=x&client_secret=s3cr3t&code_verifier=ver1fier", "ver1fier"),
        ("body b'refresh_token=r3fresh'", "r3fresh"),
        ("{'access_token': 'acc3ss', 'expires_in': 3600}", "acc3ss"),
        ('{"access_token": "acc3ss\\"tail", "expires_in": 3600}', "tail"),
        (json.dumps(json.dumps({"refresh_token": "r3fresh one"})), "r3fresh"),
        (json.dumps(json.dumps({"refresh_token": "r3fresh one"})), "one"),
        ('"password": "two words"', "words"),
        ("password=hunter2,more", "more"),
        ("Password: hunter2", "hunter2"),
        ("client_secret%3Ds3cr3t", "s3cr3t"),
        ("X-Api-Key: k3y-of-somebody", "k3y-of"),
        ("aws_secret_access_key = 'wJalrXUtnFEMI/K7MDENG'", "wJalr"),
        ("\x1b[36mclient_secret\x1b[0m=\x1b[35ms3cr3t\x1b[0m", "s3cr3t"),
        ("ENC_KEY_SECRET_NEXT=00112233", "00112233"),
        ("ENV_KEY_SALT: 00112233aa", "00112233aa"),
        ("mongodb://user:pa55word@db.example/flow8", "pa55word"),
        ("redis://:pa55word@127.0.0.1:6379/0", "pa55word"),
        ("GET /auth/callback?code=c0de&state=x", "c0de"),
        ("GET /auth/callback?state=x&code=abc", "code=abc"),
        ("code=4/0AX4XfWh-abc&scope=mail", "0AX4XfWh"),
        ("{'code': '4/0AX4XfWh-abcdefgh'}", "0AX4XfWh"),
        (json.dumps({"body": json.dumps({"code": "0123456789abcdef"})}), "0123456789abcdef"),
        ("x-amz-security-token:s3ssion\\nhost:x", "s3ssion"),
        ("https://h/x?token=t0ken", "t0ken"),
        ("https://b.s3/k?X-Amz-Signature=aabbcc&x=1", "aabbcc"),
    ],
)
def test_what_looks_like_a_secret_goes_although_nobody_registered_it(
    monkeypatch: pytest.MonkeyPatch, text: str, canary: str
) -> None:
    monkeypatch.setattr(redaction, "_registry", Registry())  # other tests register secrets that these begin with

    scrubbed = redaction.scrub(text)

    assert canary in text
    assert canary not in scrubbed
    assert MASK in scrubbed


@pytest.mark.parametrize(
    "text",
    [
        "code=invalid_grant attempts=2",
        "status_code=200 code=429",
        '{"code": "rate_limit_exceeded", "retry_after": 30}',
        '{"code": "InvalidAuthenticationToken"}',
        "{'code': 'AADSTS70008', 'status_code': 400}",
        "config.password: at least 8 characters",
        "Bearer authentication is needed",
        "risk-assessment-of-the-long-kind, task-abcdefghijklmnop",
        "http://127.0.0.1:9000/path?x=1@y",
        "mongodb://db.example:27017/flow8",
        "token_expiry=2026-04-04T10:00:00Z token_type=bearer",
        "the client_secret is missing",
        "play 65f0c0ffee65f0c0ffee0001 step notify finance in 31 ms",
        "AKIA is how key ids begin",
    ],
)
def test_ordinary_text_is_left_alone(text: str) -> None:
    assert redaction.scrub(text) == text


@given(
    st.dictionaries(
        st.sampled_from(["client_secret", "password", "message", "url", "code", "access_token", "token"]),
        st.text() | st.integers() | st.none() | st.lists(st.text(max_size=5), max_size=2),
    )
)
def test_a_json_line_is_still_json_after_scrubbing(document: dict[str, object]) -> None:
    for text in (
        json.dumps(document),
        json.dumps({"message": json.dumps(document)}),
        json.dumps({"m": repr(document)}),
    ):
        json.loads(redaction.scrub(text))


def test_a_very_long_line_takes_time_in_proportion_to_its_length() -> None:
    registry = Registry()
    registry.register("a" * 5000)

    assert len(registry.scrub("ab" * 100_000)) == 200_000
    for hostile in ("-----BEGIN PRIVATE KEY-----" * 2000, "password" * 20_000, "://:" * 20_000, "eyJaaaaaa." * 10_000):
        redaction.scrub(hostile)
