"""Key formats: what is provably wrong is refused, what is merely odd is allowed with a warning."""

from __future__ import annotations

from collections.abc import Iterable

import pytest

from credentials import key_formats
from credentials.key_formats import Finding

OPENAI = "sk-proj-" + "Ab3_" * 18 + "T3BlbkFJ" + "x9Z-" * 18
ANTHROPIC = "sk-ant-api03-" + "aB3-_" * 18 + "abc" + "AA"
AWS_ID, AWS_SECRET = "AKIAIOSFODNN7REALKEY", "wJalrXUtnFEMIAK7MDENGAbPxRfiCYREALKEYabc"


def verdict(findings: Iterable[Finding]) -> str:
    """`refused`, `warned` or `fine`."""
    found = list(findings)
    if any(finding.fatal for finding in found):
        return "refused"
    return "warned" if found else "fine"


MASKS = [
    "[encrypted]",
    "[encrypted: sk-...]",
    "[secret]",
    "[REDACTED]",
    "<redacted>",
    "(hidden)",
    "***",
    "********",
    "••••••••",
    "●●●●",
    "····",
    "...",
    " [secret] ",
]

TOKENS = {
    "a plain key": ("abcDEF123456", "fine"),
    "base64 with padding": ("YWJjZGVmZ2hpamtsbW5vcA==", "fine"),
    "all capitals with padding": ("ABCDEFGHIJKLMNO=", "fine"),
    "a JSON web token": ("eyJhbGciOiJIUzI1NiJ9.eyJzdWIiOiIxIn0.c2lnbmF0dXJl", "fine"),
    "any vendor's key": (OPENAI, "fine"),
    "from the documentation": ("sk_test_EXAMPLE12345", "warned"),
    "empty": ("", "refused"),
    "one space": (" ", "refused"),
    "short": ("abc1234", "refused"),
    "a megabyte": ("a" * 1_000_000, "refused"),
    "line break behind": ("abcDEF123456\n", "refused"),
    "windows line break behind": ("abcDEF123456\r\n", "refused"),
    "space before": (" abcDEF123456", "refused"),
    "tab inside": ("abcDEF\t123456", "refused"),
    "line break inside": ("abcDEF\n123456", "refused"),
    "no-break space behind": ("abcDEF123456\u00a0", "refused"),
    "no-break space inside": ("abcDEF\u00a0123456", "refused"),
    "zero-width space": ("abcDEF\u200b123456", "refused"),
    "byte order mark": ("\ufeffabcDEF123456", "refused"),
    "NUL": ("abcDEF\x00123456", "refused"),
    "escape": ("abcDEF\x1b123456", "refused"),
    "umlaut": ("abcDÄF123456", "refused"),
    "look-alike": ("аbcDEF123456", "refused"),
    "lone surrogate": ("abcDEF\ud800123456", "refused"),
    "in quotes": ('"abcDEF123456"', "refused"),
    "in single quotes": ("'abcDEF123456'", "refused"),
    "in back quotes": ("`abcDEF123456`", "refused"),
    "one quote left": ('abcDEF123456"', "refused"),
    "Bearer": ("Bearer abcDEF123456", "refused"),
    "bearer, lower case": ("bearer abcDEF123456", "refused"),
    "Basic": ("Basic dXNlcjpwYXNz", "refused"),
    "a line of .env": ("OPENAI_API_KEY=sk-proj-abcdefghijkl", "refused"),
    "an exported line": ("export API_KEY=abcDEF123456", "refused"),
    "a quoted line of .env": ('API_KEY="abcDEF123456"', "refused"),
    "PEM": ("-----BEGIN PRIVATE KEY-----\nabc\n-----END PRIVATE KEY-----", "refused"),
    "masked in the middle": ("sk-proj-abc...xyz1", "refused"),
    "masked with an ellipsis": ("sk-proj-abc…xyz1", "refused"),
    "masked with stars": ("sk-pr****************xyz1", "refused"),
    "your key here": ("your-api-key-here", "refused"),
    "YOUR_API_KEY": ("YOUR_API_KEY", "refused"),
    "in angle brackets": ("<your-key-1234>", "refused"),
    "a template": ("${OPENAI_API_KEY}", "refused"),
    "mustache": ("{{ api_key }}", "refused"),
    "crosses": ("xxxxxxxxxxxx", "refused"),
    **{f"mask {mask}": (mask, "refused") for mask in MASKS},
}


@pytest.mark.parametrize(("text", "expected"), TOKENS.values(), ids=TOKENS.keys())
def test_a_token_is_one_word_of_visible_ascii(text: str, expected: str):
    findings = list(key_formats.token("config.api_key", text))

    assert verdict(findings) == expected
    assert all(finding.path == "config.api_key" for finding in findings)
    assert len(findings) <= 1


PASSWORDS = {
    "ordinary": ("correct horse battery", "fine"),
    "unicode": ("Zürich-Straße 7", "fine"),
    "looks like an .env line": ("ABC=def ghi", "fine"),
    "quotes": ('"quoted"', "fine"),
    "the word secret": ("secretsecret", "fine"),
    "short": ("abc", "warned"),
    "space behind": ("password ", "warned"),
    "empty": ("", "refused"),
    "line break": ("pass\nword", "refused"),
    "line break behind": ("password\n", "refused"),
    "carriage return": ("password\r", "refused"),
    "NUL": ("pass\x00word", "refused"),
    "huge": ("x" * 20_000, "refused"),
    **{f"mask {mask}": (mask, "refused") for mask in MASKS},
}


@pytest.mark.parametrize(("text", "expected"), PASSWORDS.values(), ids=PASSWORDS.keys())
def test_a_password_is_any_one_line(text: str, expected: str):
    assert verdict(key_formats.password("config.password", text)) == expected


HEADER_VALUES = {
    "a scheme and a token": ("Token abcDEF123456", "fine"),
    "bearer": ("Bearer abcDEF123456", "fine"),
    "line break": ("Token abc\r\nX-Admin: 1", "refused"),
    "space behind": ("Token abcDEF ", "refused"),
    "not ASCII": ("Token abcDÄF", "refused"),
    "short": ("abc", "refused"),
    "mask": ("[encrypted]", "refused"),
}


@pytest.mark.parametrize(("text", "expected"), HEADER_VALUES.values(), ids=HEADER_VALUES.keys())
def test_a_header_value_may_hold_spaces_and_nothing_that_ends_a_header(text: str, expected: str):
    assert verdict(key_formats.header_value("config.auth.value", text)) == expected


PEM = "-----BEGIN OPENSSH PRIVATE KEY-----\nb3BlbnNzaC1rZXk=\n-----END OPENSSH PRIVATE KEY-----\n"
PRIVATE_KEYS = {
    "OpenSSH": (PEM, "fine"),
    "PKCS 8": (PEM.replace("OPENSSH ", ""), "fine"),
    "RSA": (PEM.replace("OPENSSH", "RSA"), "fine"),
    "encrypted": (PEM.replace("OPENSSH", "ENCRYPTED"), "fine"),
    "windows line breaks": (PEM.replace("\n", "\r\n"), "fine"),
    "cut off": (PEM[:50], "refused"),
    "a public key": ("ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAA user@host", "refused"),
    "a public PEM": (PEM.replace("OPENSSH PRIVATE", "PUBLIC"), "refused"),
    "a path": ("/home/user/.ssh/id_ed25519", "refused"),
    "empty": ("", "refused"),
    "mask": ("[secret]", "refused"),
    "not ASCII": (PEM.replace("b3Bl", "b3Äl"), "refused"),
}


@pytest.mark.parametrize(("text", "expected"), PRIVATE_KEYS.values(), ids=PRIVATE_KEYS.keys())
def test_a_private_key_is_a_whole_pem_block(text: str, expected: str):
    assert verdict(key_formats.private_key("config.private_key", text)) == expected


VENDOR_KEYS = {
    "OpenAI's own": ("OpenAI", OPENAI, "fine"),
    "OpenAI's old form": ("OpenAI", "sk-" + "a1B2" * 5 + "T3BlbkFJ" + "c3D4" * 5, "fine"),
    "OpenAI, a new prefix": ("OpenAI", "sk2-abcdefghijklmnop", "warned"),
    "OpenAI's admin key": ("OpenAI", "sk-admin-" + "a1B2" * 10, "refused"),
    "Anthropic's key for OpenAI": ("OpenAI", ANTHROPIC, "refused"),
    "Anthropic's own": ("Anthropic", ANTHROPIC, "fine"),
    "Anthropic, another length": ("Anthropic", "sk-ant-api04-" + "a1B2" * 10, "warned"),
    "Anthropic's admin key": ("Anthropic", "sk-ant-admin01-" + "a1B2" * 10, "refused"),
    "OpenAI's key for Anthropic": ("Anthropic", OPENAI, "refused"),
    "a Slack token for Anthropic": ("Anthropic", "xoxb-" + "1" * 12 + "-abcdef", "refused"),
    "an AWS id for OpenAI": ("OpenAI", AWS_ID, "refused"),
    "a GitHub token for OpenAI": ("OpenAI", "ghp_" + "a1B2" * 9, "refused"),
    "a Google key for Anthropic": ("Anthropic", "AIza" + "a" * 35, "refused"),
    "a Stripe key for OpenAI": ("OpenAI", "sk_live_" + "a1B2" * 6, "refused"),
    "Mistral's own": ("Mistral", "a1B2c3D4" * 4, "fine"),
    "OpenAI's key for Mistral": ("Mistral", OPENAI, "refused"),
    "a mask": ("OpenAI", "[encrypted: sk-...]", "refused"),
}


@pytest.mark.parametrize(("vendor", "text", "expected"), VENDOR_KEYS.values(), ids=VENDOR_KEYS.keys())
def test_a_vendors_key_is_not_another_vendors(vendor: str, text: str, expected: str):
    findings = list(key_formats.of_vendor(vendor, "config.api_key", text))

    assert verdict(findings) == expected
    assert len(findings) <= 1


AWS = {
    "usual": (AWS_ID, AWS_SECRET, None, "fine"),
    "the seed's own": ("AKIAIOSFODNN7EXAMPLE", "wJalrXUtnFEMI/K7MDENG/bPxRfiCYEXAMPLEKEY", None, "warned"),
    "temporary, with its session token": ("ASIA" + "A2B3" * 4, AWS_SECRET, "FwoGZXIvYXdz" * 20, "fine"),
    "temporary, without": ("ASIA" + "A2B3" * 4, AWS_SECRET, None, "refused"),
    "long-term, with a session token": (AWS_ID, AWS_SECRET, "FwoGZXIvYXdz" * 20, "warned"),
    "swapped": (AWS_SECRET, AWS_ID, None, "refused"),
    "the same twice": (AWS_ID, AWS_ID, None, "refused"),
    "another prefix": ("ABIA" + "A2B3" * 4, AWS_SECRET, None, "warned"),
    "the id of a role": ("AROA" + "A2B3" * 4, AWS_SECRET, None, "refused"),
    "id with a slash": ("AKIA/OSFODNN7REALKEY", AWS_SECRET, None, "refused"),
    "id too short": ("AKIA12345678", AWS_SECRET, None, "refused"),
    "secret of 39 characters": (AWS_ID, AWS_SECRET[:-1], None, "warned"),
    "secret of another vendor": (AWS_ID, OPENAI, None, "refused"),
    "id of another vendor": ("ghp_" + "a1B2" * 9, AWS_SECRET, None, "refused"),
    "id masked": ("[encrypted]", AWS_SECRET, None, "refused"),
    "secret masked": (AWS_ID, "****************************************", None, "refused"),
    "secret with a line break": (AWS_ID, AWS_SECRET + "\n", None, "refused"),
    "session token with a space": ("ASIA" + "A2B3" * 4, AWS_SECRET, "FwoG ZXIv", "refused"),
    "session token empty": ("ASIA" + "A2B3" * 4, AWS_SECRET, "", "refused"),
}


@pytest.mark.parametrize(("key_id", "secret", "session", "expected"), AWS.values(), ids=AWS.keys())
def test_an_aws_key_pair(key_id: str, secret: str, session: str | None, expected: str):
    findings = key_formats.aws(key_id, secret, session, base="config", custom_endpoint=False)

    assert verdict(findings) == expected


COMPATIBLE = {
    "MinIO's default": ("minioadmin", "minioadmin", "warned"),
    "MinIO": ("minioadmin", "minio-secret", "fine"),
    "Cloudflare R2": ("a1b2c3d4" * 4, "a1b2c3d4" * 8, "fine"),
    "Exoscale": ("EXO" + "a1b2" * 6, "secret-of-any-length", "fine"),
    "swapped, provably": ("some-long-secret-text", AWS_ID, "refused"),
    "space inside": ("minio admin", "minio-secret", "refused"),
    "mask": ("minioadmin", "***", "refused"),
}


@pytest.mark.parametrize(("key_id", "secret", "expected"), COMPATIBLE.values(), ids=COMPATIBLE.keys())
def test_a_key_pair_of_an_s3_compatible_server_has_no_pattern(key_id: str, secret: str, expected: str):
    findings = key_formats.aws(key_id, secret, None, base="config", custom_endpoint=True)

    assert verdict(findings) == expected


def test_no_message_repeats_the_text():
    for text in (text for text, _ in (*TOKENS.values(), *PASSWORDS.values(), *PRIVATE_KEYS.values()) if len(text) > 9):
        messages = [
            finding.message
            for check in (key_formats.token, key_formats.password, key_formats.header_value, key_formats.private_key)
            for finding in check("path", text)
        ]
        assert all(text not in message for message in messages)


def test_a_hostile_text_is_judged_quickly():
    for text in ("my_" + "a_" * 30, "your" + "-key" * 200_000, "[encrypted" * 2000, "<" * 16_000, "sk-" * 5000):
        list(key_formats.token("path", text))
