"""What looks like a secret whether or not it is known: tokens by their prefixes, and values by the name before them."""

from __future__ import annotations

import re
from dataclasses import dataclass

MASK = "[secret]"


@dataclass(frozen=True)
class Rule:
    """What looks like a secret. `hints` are lower-case texts of which one must occur before the pattern is tried."""

    hints: tuple[str, ...]
    pattern: re.Pattern[str]
    replacement: str = MASK


_NAMES = (
    "client_secret|refresh_token|access_token|id_token|client_assertion|code_verifier|device_code|bot_token|user_token|"
    "secret_access_key|aws_session_token|api_key|apikey|x-api-key|x-amz-security-token|x-amz-signature|private_key|"
    "password|passwd|enc_key_secret|env_key_salt"
)
_COLOUR = r"(?:\x1b\[[\d;]*m)*"
_VALUE = r"""[^\s"'&\\\x1b]+"""
_PROSE = r"(?![A-Za-z][a-z]*(?![\w.~+/=-]))"  # "Bearer authentication", "password: at least 8 characters"


_NAMED = rf"(?i)((?:{_NAMES})(?:_next|_previous)?)(?:" + "|".join(
    (  # glue and value: in double quotes, in single ones, in escaped ones (JSON in JSON), and without
        r"""(["']?\s*[:=]\s*b?")(?:[^"\\]|\\.)+""",
        r"""(["']?\s*[:=]\s*b?')(?:[^"'\\]|\\.)+""",
        r"""((?:\\+["'])?\s*[:=]\s*b?\\+["'])(?:(?!\\+["'])[^"])+""",
        rf"({_COLOUR}(?:=|%3D){_COLOUR}){_VALUE}",
        rf"(:\s*){_PROSE}{_VALUE})",
    )
)


def _rule(hints: str, pattern: str, replacement: str = MASK) -> Rule:
    return Rule(tuple(hints.split("|")), re.compile(pattern), replacement)


RULES = (
    _rule("xox|xapp-", r"(?:xoxe\.)?(?:xox[a-z]|xapp)-[\w-]{6,}|xoxe\.[\w.-]{6,}"),
    _rule("akia|asia", r"(?<![A-Z0-9])A[KS]IA[A-Z0-9]{16}(?![A-Z0-9])"),
    _rule("sk-", r"(?<![A-Za-z0-9])sk-[\w-]{16,}"),
    _rule("ghp_|gho_|ghu_|ghs_|ghr_|github_pat_", r"(?:gh[pousr]|github_pat)_\w{16,}"),
    _rule("ya29.", r"ya29\.[\w.-]{6,}"),
    _rule("eyj", r"eyJ[\w-]{6,}(?:\.[\w-]*){1,4}"),
    _rule("private key", r"-----BEGIN [A-Z ]*PRIVATE KEY-----[^\"]*?(?:-----END [A-Z ]*-----|(?=\")|$)"),
    _rule("bearer|basic", rf"(?i)(?<![a-z])(bearer|basic)(\s+|%20|\+){_PROSE}[\w.~+/=-]{{6,}}", rf"\1\2{MASK}"),
    _rule("://", r"""(://[^\s/@:"']*:)[^\s/@"'\\]+(?=@)""", rf"\1{MASK}"),
    _rule(_NAMES, _NAMED, rf"\1\2\3\4\5\6{MASK}"),
    _rule("token=", rf"(?i)((?<![\w-])token=){_VALUE}", rf"\1{MASK}"),
    # `code` names error codes too: masked in a query always, elsewhere only where it is hardly one
    _rule("code=", rf"(?i)([?&]code=){_VALUE}", rf"\1{MASK}"),
    _rule("code=", rf"((?<![\w-])code=)(?!(?:[a-z_]+|\d{{1,5}})(?![\w.~+/-])){_VALUE}", rf"\1{MASK}"),
    _rule("code", r"""(["']code\\*["']\s*:\s*b?\\*["'])(?=\w*[^\w"'\\]|\w*\d)[^"'\\]{16,}""", rf"\1{MASK}"),
)
