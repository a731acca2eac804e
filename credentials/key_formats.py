"""Is this text the key that the field asks for? Honest answers only.

What is provably wrong is fatal: a mask, a pasted `.env` line, a key of another vendor. What is merely odd is a warning,
for vendors document neither prefixes nor lengths (Anthropic's published patterns alone disagree in five ways). That a
key is *right* no format shows: `flow8 component check` asks the vendor. No message repeats any part of the text.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterator
from dataclasses import dataclass

MAX_LENGTH = 16_384  # characters; an RSA key of 8192 bits in PEM has about 6,400
MIN_KEY_LENGTH = 8
MIN_MASKED_LENGTH = 6  # shorter than this, the log redaction would hit ordinary words

# Whose key a text is, told by prefixes that vendors publish; the most specific first.
_VENDORS: tuple[tuple[str, re.Pattern[str]], ...] = (
    ("Anthropic", re.compile(r"sk-ant-")),
    ("OpenAI", re.compile(r"sk-(?:proj|svcacct|admin|None)-|sk-[A-Za-z0-9]{20}T3BlbkFJ")),
    ("AWS", re.compile(r"(?:AKIA|ASIA)[A-Z2-7]{16}$")),
    ("Slack", re.compile(r"xox[abeprs]-|xapp-|xoxe\.")),
    ("GitHub", re.compile(r"gh[pousr]_|github_pat_")),
    ("GitLab", re.compile(r"glpat-")),
    ("Google", re.compile(r"AIza[0-9A-Za-z_-]{35}$|ya29\.|GOCSPX-")),
    ("Stripe", re.compile(r"[srp]k_(?:live|test)_")),
    ("SendGrid", re.compile(r"SG\.[A-Za-z0-9_-]{16,}\.")),
)

_MASK = re.compile(
    r"[\*\u2022\u25cf\u2219\u00b7\u2024.]{3,}|[\[<(]\s*(?:encrypted|secret|redacted|hidden|masked)\b.*[\]>)]",
    re.IGNORECASE,
)
_MASKED_MIDDLE = re.compile(r"\*{3,}|[\u2022\u25cf\u2026]|\.{3,}")
_ENV_LINE = re.compile(r"(?:export\s+)?[A-Z][A-Z0-9_]{2,}\s*=\s*[^=\s]")
_PLACEHOLDER = re.compile(
    r"<.*>|\$?\{.*\}|x{6,}"
    r"|(?:my|your|the|new|insert)[-_ ]?(?:[a-z0-9]+[-_ ])*(?:key|token|secret|password)(?:[-_ ]?here)?",
    re.IGNORECASE,
)
_AWS_USUAL_ID = re.compile(r"(?:AKIA|ASIA)[A-Z2-7]{16}")
_AWS_ID = re.compile(r"\w{16,128}", re.ASCII)  # all that AWS's own service model promises
_AWS_SECRET = re.compile(r"[A-Za-z0-9/+=]{40}")
_ANTHROPIC = re.compile(r"sk-ant-api03-[A-Za-z0-9_-]{93}AA|sk-ant-oat\d{2}-[A-Za-z0-9_-]{20,}")
_OPENAI = re.compile(r"sk-(?:proj-|svcacct-|None-)?[A-Za-z0-9_-]{20,}")


@dataclass(frozen=True)
class Finding:
    """One thing to say about the value at `path`; a `fatal` one refuses it."""

    path: str
    message: str
    fatal: bool = True


def token(path: str, text: str) -> Iterator[Finding]:
    """An API key or token: one word of visible ASCII, as it goes into an HTTP header."""
    fault = _token_fault(text)
    if fault is not None:
        yield Finding(path, fault)
    elif "EXAMPLE" in text:
        yield Finding(path, "this is an example from a vendor's documentation", fatal=False)


def password(path: str, text: str) -> Iterator[Finding]:
    """A person's or a server's password: anything that is one line."""
    fault = _fault(text) or _control(text)
    if fault is not None:
        yield Finding(path, fault)
    elif text != text.strip():
        yield Finding(path, "the password begins or ends with white space; was that copied along?", fatal=False)
    elif len(text) < MIN_MASKED_LENGTH:
        yield Finding(path, "so short a password cannot be kept out of logs reliably; use a longer one", fatal=False)


def header_value(path: str, text: str) -> Iterator[Finding]:
    """The value of a header that the administrator names: visible ASCII, with spaces inside (`Token abc`)."""
    fault = _fault(text) or (_AROUND if text != text.strip() else None) or _control(text)
    if fault is None and not text.isascii():
        fault = "a header holds ASCII characters only"
    if fault is None and len(text) < MIN_MASKED_LENGTH:
        fault = f"a key has at least {MIN_MASKED_LENGTH} characters"
    if fault is not None:
        yield Finding(path, fault)


def private_key(path: str, text: str) -> Iterator[Finding]:
    """A private key in PEM or OpenSSH form."""
    lines = text.strip().splitlines()
    if (fault := _fault(text)) is not None:
        yield Finding(path, fault)
    elif not re.fullmatch(r"-----BEGIN [A-Z ]*PRIVATE KEY-----", lines[0].strip() if lines else ""):
        what = "a public key" if text.lstrip().startswith(("ssh-", "ecdsa-", "-----BEGIN PUBLIC")) else "something else"
        yield Finding(path, f"a private key begins with -----BEGIN ... PRIVATE KEY-----; this is {what}")
    elif not re.fullmatch(r"-----END [A-Z ]*PRIVATE KEY-----", lines[-1].strip()):
        yield Finding(path, "the private key is cut off: its END line is missing")
    elif not text.isascii():
        yield Finding(path, "a private key has ASCII characters only")


def of_vendor(vendor: str, path: str, text: str) -> Iterator[Finding]:
    """An API key for `vendor` ("Anthropic", "OpenAI", ...) at the vendor's own address; a gateway has its own keys."""
    faults = list(token(path, text))
    yield from faults
    if any(finding.fatal for finding in faults):
        return
    owner = vendor_of(text)
    if owner not in (None, vendor):
        yield Finding(path, f"this is a key of {owner}, not of {vendor}")
    elif re.match(r"sk-(?:ant-)?admin", text):
        yield Finding(path, f"this is an admin key of {vendor}; it manages the account and cannot call models")
    elif (vendor == "Anthropic" and not _ANTHROPIC.fullmatch(text)) or (
        vendor == "OpenAI" and not _OPENAI.fullmatch(text)
    ):
        yield Finding(path, f"this does not look like the usual key of {vendor}; test the component", fatal=False)


def aws(key_id: str, secret: str, session: str | None, *, base: str, custom_endpoint: bool) -> Iterator[Finding]:
    """An AWS key pair. With a `custom_endpoint` only what holds for every S3-compatible server is asked."""
    id_path, secret_path, session_path = f"{base}.access_key_id", f"{base}.secret_access_key", f"{base}.session_token"
    faults = [*token(id_path, key_id), *token(secret_path, secret)]
    faults += token(session_path, session) if session is not None else ()
    yield from faults
    if any(finding.fatal for finding in faults):
        return
    if key_id == secret:
        yield Finding(secret_path, "this is the same text as the access key id", fatal=not custom_endpoint)
    elif _AWS_USUAL_ID.fullmatch(secret):
        swapped = _AWS_SECRET.fullmatch(key_id) is not None
        yield Finding(secret_path, "this is an access key id" + ("; id and secret are swapped" if swapped else ""))
    elif not custom_endpoint:
        yield from _aws_id(id_path, key_id)
        yield from _aws_rest(key_id, secret, session, secret_path, session_path)


def _aws_id(path: str, key_id: str) -> Iterator[Finding]:
    if vendor_of(key_id) not in (None, "AWS"):
        yield Finding(path, f"this is a key of {vendor_of(key_id)}, not of AWS")
    elif re.match(r"(?:AROA|AIDA|AGPA|ANPA)[A-Z2-7]{16}$", key_id):
        yield Finding(path, "this is the id of an IAM user, group or role; an access key id begins with AKIA or ASIA")
    elif not _AWS_ID.fullmatch(key_id):
        yield Finding(path, "an access key id has 16 to 128 letters and digits")
    elif not _AWS_USUAL_ID.fullmatch(key_id):
        yield Finding(path, "an access key id usually is AKIA or ASIA and 16 more characters", fatal=False)


def _aws_rest(key_id: str, secret: str, session: str | None, secret_path: str, session_path: str) -> Iterator[Finding]:
    if vendor_of(secret) is not None:
        yield Finding(secret_path, f"this is a key of {vendor_of(secret)}, not of AWS")
    elif not _AWS_SECRET.fullmatch(secret):
        yield Finding(secret_path, "a secret access key usually has 40 characters of base64", fatal=False)
    if key_id.startswith("ASIA") and session is None:
        yield Finding(session_path, "a temporary key (ASIA...) works only with its session token")
    elif key_id.startswith("AKIA") and session is not None:
        yield Finding(session_path, "a long-term key (AKIA...) usually has no session token", fatal=False)


def vendor_of(text: str) -> str | None:
    """Whose key this is, where its prefix proves it."""
    return next((vendor for vendor, pattern in _VENDORS if pattern.match(text)), None)


def is_mask(text: str) -> bool:
    """Whether this is what a form shows in place of a secret, sent back."""
    return _MASK.fullmatch(text.strip()) is not None


_AROUND = "there is white space or a line break around it; remove it"


def _token_fault(text: str) -> str | None:
    """The first thing that proves this to be no key, the most telling first."""
    if (fault := _fault(text)) is not None:
        return fault
    if re.match(r"(?:bearer|basic|token)\s", text, re.IGNORECASE):
        return "leave out the word before the key; it is added when the key is sent"
    if _ENV_LINE.match(text):
        return "this is a line of a settings file; give what stands after the ="
    if text.lstrip().startswith("-----BEGIN"):
        return "this is a PEM block, not an API key"
    if text[0] in "\"'`" or text[-1] in "\"'`":
        return "leave out the quotes around the key"
    if text != text.strip():
        return _AROUND
    if _MASKED_MIDDLE.search(text):
        return "this is a shortened or masked form of a key; give the whole key"
    if any(character.isspace() for character in text):
        return "a key has no white space inside"
    if (fault := _control(text)) is not None:
        return fault
    if not text.isascii():
        return "a key has visible ASCII characters only; this one holds others, perhaps invisible ones"
    if len(text) < 64 and _PLACEHOLDER.fullmatch(text):
        return "this is a placeholder; give the key itself"
    if len(text) < MIN_KEY_LENGTH:
        return f"a key has at least {MIN_KEY_LENGTH} characters"
    return None


def _fault(text: str) -> str | None:
    """What no secret of any sort may be."""
    if not text:
        return "must not be empty"
    if len(text) > MAX_LENGTH:
        return f"is longer than {MAX_LENGTH} characters"
    if is_mask(text):
        return "this is a mask, not the secret; leave the field out to keep what is stored"
    if any("\ud800" <= character <= "\udfff" for character in text):
        return "this is not valid Unicode text"
    return None


def _control(text: str) -> str | None:
    if any(unicodedata.category(character) == "Cc" for character in text):
        return "there is a control character or a line break inside"
    return None
