"""Links from other systems, as JSON lines: checked as a whole, then sealed one by one.

A line is `{service, access_token, refresh_token, token_expiry, scopes, provider_user_id, provider_user_email,
metadata}`; service, access_token and provider_user_id must be there. The text is plain and should not outlive the
import.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from bson import ObjectId

from credentials import key_formats
from credentials.link import Granted
from credentials.links import Links
from credentials.providers.catalogue import Providers
from credentials.providers.provider import Provider
from credentials.token_reply import Tokens
from credentials.vault import Vault
from flow8_core.clock import to_millis
from flow8_core.errors import ValidationFailed
from flow8_core.secret import Secret
from flow8_core.store import Store

MAX_LINES = 10_000
MAX_LINE = 256 * 1024  # characters
_SHOWN = 100  # faults

_FIELDS: Mapping[str, type | tuple[type, ...]] = {
    "service": str,
    "access_token": str,
    "refresh_token": str,
    "token_expiry": str,
    "scopes": (list, str),
    "provider_user_id": str,
    "provider_user_email": str,
    "metadata": dict,
}
_NEEDED = ("service", "access_token", "provider_user_id")
_LONGEST = 512

Fault = tuple[str, str]


@dataclass(frozen=True)
class _Entry:
    """A line that is in order."""

    provider: Provider
    granted: Granted


class LinkImport:
    """Imports links for one user of one company."""

    def __init__(
        self, store: Store, vault: Vault, providers: Providers, *, company_id: ObjectId, user_id: ObjectId
    ) -> None:
        self._store = store
        self._providers = providers
        self._user_id = user_id
        self._links = Links(store, vault, company_id, actor=user_id)

    def run(self, lines: Iterable[str]) -> list[dict[str, Any]]:
        """Import all lines, and give the links as answers show them, in the lines' order. Empty lines are skipped. An
        account that is here already keeps its link's id and gets the new tokens.

        Raises `ValidationFailed` with all faults as (`line 3.scopes`, what is wrong) before anything is written.
        """
        entries: list[_Entry] = []
        faults: list[Fault] = []
        seen: dict[tuple[str, str, str], int] = {}
        for number, line in enumerate(lines, start=1):
            if number > MAX_LINES:
                faults.append((f"line {number}", f"more than {MAX_LINES} lines; import them in parts"))
                break
            if not line.strip():
                continue
            entry, found = self._checked(line)
            if entry is not None:
                key = (entry.provider.service, entry.granted.provider_user_id, entry.granted.provider_account)
                if key in seen:
                    found = [("provider_user_id", f"is the account of line {seen[key]}")]
                seen.setdefault(key, number)
                entries.append(entry)
            faults += [(f"line {number}.{field}" if field else f"line {number}", message) for field, message in found]
        if faults:
            raise ValidationFailed.from_problems(faults[:_SHOWN])
        return [
            self._links.save(e.granted, provider=e.provider, user_id=self._user_id, source="import").describe()
            for e in entries
        ]

    def _checked(self, line: str) -> tuple[_Entry | None, list[Fault]]:
        try:
            record = _record(line)
        except ValueError as error:
            return None, [("", str(error))]
        faults = [*_shape_faults(record), *self._value_faults(record)]
        if faults:
            return None, faults
        provider = self._providers.get(record["service"])
        return _Entry(provider, _granted(record, provider, to_millis(self._store.now()))), []

    def _value_faults(self, record: Mapping[str, Any]) -> Iterator[Fault]:
        service = record.get("service")
        if isinstance(service, str):
            try:
                self._providers.get(service)
            except ValidationFailed as error:
                yield "service", error.message
        for name in ("access_token", "refresh_token"):
            token = record.get(name)
            if isinstance(token, str) and token:
                yield from ((name, finding.message) for finding in key_formats.token(name, token) if finding.fatal)
        expiry = record.get("token_expiry")
        if isinstance(expiry, str):
            moment = _moment(expiry)
            if moment is None:
                yield "token_expiry", "must be a date with time and zone, such as 2026-07-04T10:00:00Z, or null"
            elif moment <= self._store.now() and not record.get("refresh_token"):
                yield "token_expiry", "is past, and without a refresh token this link could never be used"


def _record(line: str) -> dict[str, Any]:
    """One line's object. Raises `ValueError` with what to mend, never with the text."""
    if len(line) > MAX_LINE:
        raise ValueError(f"is longer than {MAX_LINE} characters")
    try:
        parsed = json.loads(line, object_pairs_hook=_unique, parse_constant=_refuse_constant)
    except json.JSONDecodeError as error:
        raise ValueError(f"is no JSON (column {error.colno})") from None
    except RecursionError:
        raise ValueError("is nested too deeply") from None
    if isinstance(parsed, dict):
        return parsed
    raise ValueError("must be an object")


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    keys = [key for key, _ in pairs]
    if len(set(keys)) != len(keys):
        raise ValueError("names a field twice")
    return dict(pairs)


def _refuse_constant(_: str) -> None:
    raise ValueError("holds NaN or Infinity, which is no JSON")


def _shape_faults(record: Mapping[str, Any]) -> Iterator[Fault]:
    yield from ((_name(name), "is no field of a link") for name in record if name not in _FIELDS)
    yield from ((name, "is missing") for name in _NEEDED if record.get(name) in (None, ""))
    for name, kind in _FIELDS.items():
        value = record.get(name)
        if value is not None and not isinstance(value, kind):
            yield name, f"must be {_kind(kind)}"
    for name in ("provider_user_id", "provider_user_email"):
        value = record.get(name)
        if isinstance(value, str) and (len(value) > _LONGEST or not value.isprintable()):
            yield name, f"must be one line of at most {_LONGEST} characters"
    scopes = record.get("scopes")
    if isinstance(scopes, list) and not all(isinstance(scope, str) and scope.strip() for scope in scopes):
        yield "scopes", "must hold the names of scopes"
    metadata = record.get("metadata")
    if isinstance(metadata, dict):
        yield from _metadata_faults(metadata)


def _metadata_faults(metadata: Mapping[str, Any]) -> Iterator[Fault]:
    for key, value in metadata.items():
        if not key.isidentifier():
            yield "metadata", "has a key that is no plain name"
        elif not (value is None or isinstance(value, bool | int | float | str)) or len(str(value)) > MAX_LINE // 16:
            yield f"metadata.{key}", "must be a text, a number, true, false or null"


def _granted(record: Mapping[str, Any], provider: Provider, now: datetime) -> Granted:
    metadata = {name: value for name, value in (record.get("metadata") or {}).items() if value is not None}
    expires_at = _moment(record["token_expiry"]) if record.get("token_expiry") else None
    refresh_token = Secret(record["refresh_token"]) if record.get("refresh_token") else None
    left_s = None if expires_at is None else int((expires_at - now).total_seconds())
    return Granted(
        tokens=Tokens(
            access_token=Secret(record["access_token"]),
            refresh_token=refresh_token,
            # when it was issued is not told: take the service's usual lifetime, which decides how early to refresh
            lifetime_s=None if left_s is None else max(left_s, provider.lifetime_s or 0, 1),
        ),
        issued_at=now,
        expires_at=expires_at,
        scopes=provider.scopes.listed(record.get("scopes")) or (),
        provider_user_id=record["provider_user_id"].strip(),
        provider_account=_account(provider, metadata),
        email=record.get("provider_user_email") or None,
        metadata=metadata,
    )


def _account(provider: Provider, metadata: Mapping[str, Any]) -> str:
    """The workspace or tenant, where the metadata has it under the name under which a connect would keep it."""
    names = (
        name
        for path in provider.identity.account
        for name, paths in provider.identity.metadata.items()
        if path in paths
    )
    return next((str(metadata[name]) for name in names if metadata.get(name)), "")


def _moment(text: str) -> datetime | None:
    try:
        moment = datetime.fromisoformat(text)
        return to_millis(moment.astimezone(UTC)) if moment.tzinfo else None
    except (ValueError, OverflowError):
        return None


def _kind(kind: Any) -> str:
    names = {str: "text", dict: "an object", (list, str): "a list of names"}
    return names[kind]


def _name(name: str) -> str:
    """An unknown field's name, if it may be repeated: somebody may have put a token in its place."""
    return name if name.isidentifier() and len(name) <= 40 else "?"
