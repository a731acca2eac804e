"""chat.postMessage: channels, who may post there, and what Slack makes of a message.

Sources: docs.slack.dev, chat.postMessage ("Truncating content", errors), "Message metadata".
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from flow8_lab import slack_blocks
from flow8_lab.clock import Clock
from flow8_lab.effects import Journal
from flow8_lab.http import Reply, Request, json_reply

MOST_TEXT = 40_000
MOST_MARKDOWN = 12_000
MOST_ATTACHMENTS = 100
MOST_METADATA_BYTES = 8_000

# What chat.postMessage understands. Others are ignored, as at Slack, and named in the effect's record.
_ARGUMENTS = """
    as_user attachments blocks channel icon_emoji icon_url link_names markdown_text metadata mrkdwn parse
    reply_broadcast text thread_ts token unfurl_links unfurl_media username
"""
ARGUMENTS = frozenset(_ARGUMENTS.split())
JSON_ARGUMENTS = ("attachments", "blocks", "metadata")


@dataclass(frozen=True)
class Channel:
    """`member`: our bot is in it. A private channel that it is not in does not exist for it."""

    id: str
    name: str
    member: bool = True
    private: bool = False
    archived: bool = False
    read_only: bool = False


CHANNELS = (
    Channel("C0NOTIFY01", "notifications"),
    Channel("C0INVOICE1", "invoices"),
    Channel("C0GENERAL1", "general", member=False),
    Channel("C0ARCHIVE1", "archived", archived=True),
    Channel("C0ANNOUNC1", "announcements", read_only=True),
    Channel("G0PRIVATE1", "private", member=False, private=True),
)


class _Refused(Exception):
    def __init__(self, error: str, **details: Any) -> None:
        super().__init__(error)
        self.error = error
        self.details = details


class Chat:
    """The channels of the workspaces and what was posted in them."""

    def __init__(self, *, clock: Clock, journal: Journal) -> None:
        self._clock = clock
        self._journal = journal
        self._channels: dict[str, Channel] = {}
        self._posted: set[tuple[str, str]] = set()
        self._sequence = 0
        for channel in CHANNELS:
            self.add(channel)

    def add(self, channel: Channel) -> None:
        """Make, or change, a channel."""
        self._channels[channel.id] = self._channels[channel.name] = channel

    def post(self, request: Request, scopes: Sequence[str], author: Mapping[str, str]) -> Reply:
        """Post for `author` (user, team, and for a bot bot_id and app_id), who holds `scopes`."""
        shown = (("X-OAuth-Scopes", ",".join(scopes)), ("X-Accepted-OAuth-Scopes", "chat:write"))
        try:
            given = _arguments(request)
            channel = self._checked(given, scopes)
            message = _message(given, author)
        except _Refused as refused:
            return json_reply({"ok": False, "error": refused.error, **refused.details}, headers=shown)
        self._sequence += 1
        message["ts"] = ts = f"{int(self._clock())}.{self._sequence:06d}"
        self._posted.add((channel, ts))
        self._journal.effect(
            "slack",
            "chat.postMessage",
            key=_key(message.get("metadata")),
            detail={"channel": channel, "message": message, "ignored": sorted(set(given) - ARGUMENTS)},
        )
        body: dict[str, Any] = {"ok": True, "channel": channel, "ts": ts, "message": message}
        if request.is_json() and "charset" not in request.headers["content-type"]:
            body |= {"warning": "missing_charset", "response_metadata": {"warnings": ["missing_charset"]}}
        return json_reply(body, headers=shown)

    def _checked(self, given: Mapping[str, Any], scopes: Sequence[str]) -> str:
        """The id of the channel to post in. Raises _Refused."""
        _require(scopes, "chat:write")
        if given.get("username") or given.get("icon_emoji") or given.get("icon_url"):
            _require(scopes, "chat:write.customize")
        channel = self._channel(str(given.get("channel") or ""), scopes)
        _check_content(given)
        thread = given.get("thread_ts")
        if thread is not None and (channel, str(thread)) not in self._posted:
            raise _Refused("cannot_reply_to_message")
        return channel

    def _channel(self, wanted: str, scopes: Sequence[str]) -> str:
        if not wanted:
            messages = ["[ERROR] missing required field: channel"]
            raise _Refused("invalid_arguments", response_metadata={"messages": messages})
        if re.fullmatch(r"[UD][A-Z0-9]{8,}", wanted):
            return f"D{wanted[1:]}"
        channel = self._channels.get(wanted.removeprefix("#"))
        if channel is None or (channel.private and not channel.member):
            raise _Refused("channel_not_found")
        if channel.archived:
            raise _Refused("is_archived")
        if channel.read_only:
            raise _Refused("restricted_action_read_only_channel")
        if not channel.member and "chat:write.public" not in scopes:
            raise _Refused("not_in_channel")
        return channel.id


def failure(error: str, **details: Any) -> Reply:
    """Slack's no: HTTP 200 with `ok` false."""
    return json_reply({"ok": False, "error": error, **details})


def _require(scopes: Sequence[str], needed: str) -> None:
    if needed not in scopes:
        raise _Refused("missing_scope", needed=needed, provided=",".join(scopes))


def _arguments(request: Request) -> dict[str, Any]:
    """The call's arguments, from JSON or a form (where structures travel as JSON text). Raises _Refused."""
    if request.is_json():
        try:
            given = request.json()
        except ValueError:
            raise _Refused("invalid_arguments") from None
        if not isinstance(given, dict):
            raise _Refused("invalid_arguments")
    else:
        given = dict(request.form())
    for name in JSON_ARGUMENTS:
        if isinstance(given.get(name), str):
            given[name] = _parsed(name, given[name])
    return given


def _parsed(name: str, text: str) -> Any:
    try:
        return json.loads(text)
    except ValueError:
        wrong = {"blocks": "invalid_blocks_format", "metadata": "invalid_metadata_format"}
        raise _Refused(wrong.get(name, "invalid_arguments")) from None


def _check_content(given: Mapping[str, Any]) -> None:
    blocks, attachments, markdown = given.get("blocks"), given.get("attachments"), given.get("markdown_text")
    if not any((given.get("text"), blocks, attachments, markdown)):
        raise _Refused("no_text")
    if markdown and (given.get("text") or blocks):
        raise _Refused("markdown_text_conflict")
    if markdown and len(str(markdown)) > MOST_MARKDOWN:
        raise _Refused("msg_too_long")
    if isinstance(attachments, list) and len(attachments) > MOST_ATTACHMENTS:
        raise _Refused("too_many_attachments")
    if blocks is not None:
        _check_blocks(blocks)
    if given.get("metadata") is not None:
        _check_metadata(given["metadata"])


def _check_blocks(blocks: Any) -> None:
    if not isinstance(blocks, list):
        raise _Refused("invalid_blocks_format")
    messages = slack_blocks.problems(blocks)
    if messages:
        raise _Refused("invalid_blocks", response_metadata={"messages": messages})
    if slack_blocks.too_long(blocks):
        raise _Refused("msg_blocks_too_long")


def _check_metadata(metadata: Any) -> None:
    if not isinstance(metadata, dict) or not isinstance(metadata.get("event_type"), str):
        raise _Refused("invalid_metadata_format")
    if not isinstance(metadata.get("event_payload"), dict):
        raise _Refused("invalid_metadata_schema")
    if len(json.dumps(metadata)) > MOST_METADATA_BYTES:
        raise _Refused("metadata_too_large")


def _message(given: Mapping[str, Any], author: Mapping[str, str]) -> dict[str, Any]:
    text = str(given.get("text") or given.get("markdown_text") or "")
    message: dict[str, Any] = {"type": "message", "text": text[:MOST_TEXT], **author}
    if given.get("username"):
        message |= {"username": given["username"], "subtype": "bot_message"}
    for name in ("blocks", "attachments", "metadata", "thread_ts"):
        if given.get(name) is not None:
            message[name] = given[name]
    return message


def _key(metadata: Any) -> str | None:
    """The idempotency key that the caller put into its message's metadata, under that name, `key`, or as the only
    value."""
    payload = metadata["event_payload"] if metadata else {}
    values = list(payload.values())
    only = values[0] if len(values) == 1 else None
    key = payload.get("idempotency_key", payload.get("key", only))
    return None if key is None else str(key)
