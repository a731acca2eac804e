"""`slack-message`."""

from __future__ import annotations

import re
from typing import Annotated, Any

from pydantic import BeforeValidator, ConfigDict, field_validator, model_validator

from flow8_modules import Context, Effect, Fault, Field, Input, Link, Output, module
from flow8_modules.integrations.slack.blocks import as_blocks, check_blocks, fallback_text, notifies_everybody
from flow8_modules.integrations.slack.client import nonsense, slack

MAX_TEXT = 40_000  # Slack cuts what is longer without saying so
LONG_TEXT = 4_000  # Slack may split what is longer into several messages
_CHANNEL = re.compile(r"[CDGUW][A-Z0-9]{7,20}|#[^\s#@<>&,.!?A-Z]{1,80}")


class Message(Input):
    """What to post, and where."""

    model_config = ConfigDict(
        json_schema_extra={
            "examples": [
                {
                    "channel": "#notifications",
                    "message": "Invoice #001 processed successfully",
                    "blocks": [{"type": "section", "text": {"type": "mrkdwn", "text": "Invoice Processed"}}],
                }
            ]
        }
    )

    channel: str = Field(description="Channel id, or its name with the #.", examples=["#notifications"])
    message: str = Field(
        "",
        max_length=MAX_TEXT,
        description="Text in Slack's mrkdwn; with blocks it is what notifications show.",
        examples=["Invoice #001 processed successfully"],
    )
    blocks: Annotated[list[dict[str, Any]], BeforeValidator(as_blocks)] = Field(
        default_factory=list,  # a `default` would be copied deeply for each call
        json_schema_extra={"default": []},
        description="Block Kit blocks, at most 50; a JSON text is read as such.",
        examples=[[{"type": "section", "text": {"type": "mrkdwn", "text": "Invoice Processed"}}]],
    )
    thread_ts: str | None = Field(
        None,
        pattern=r"^[0-9]{10}\.[0-9]{6}$",
        description="Id of the message to reply to, as text: a number would lose its last digits.",
        examples=["1712230000.000100"],
    )
    reply_broadcast: bool = Field(False, description="Show a reply in the channel as well.", examples=[False])
    unfurl_links: bool | None = Field(None, description="Show previews of text links.", examples=[False])
    unfurl_media: bool | None = Field(None, description="Show previews of media links.", examples=[False])
    username: str | None = Field(
        None,
        min_length=1,
        max_length=80,
        description="Name to post under; needs the scope chat:write.customize.",
        examples=["Invoices"],
    )
    icon_emoji: str | None = Field(
        None,
        pattern=r"^:[a-z0-9_+'-]{1,100}:$",
        description="Emoji to show as icon; needs the scope chat:write.customize.",
        examples=[":receipt:"],
    )
    icon_url: str | None = Field(
        None,
        pattern=r"^https?://[^\s<>]{1,2990}$",
        description="Picture to show as icon; needs the scope chat:write.customize.",
        examples=["https://example.com/icon.png"],
    )
    allow_broadcast: bool = Field(
        False,
        description="Let the message notify everybody (<!channel>, <!here>, <!everyone>); otherwise it is refused.",
        examples=[False],
    )

    @field_validator("channel")
    @classmethod
    def _is_a_channel(cls, channel: str) -> str:
        if not _CHANNEL.fullmatch(channel):
            raise Fault("is neither a channel's id (C024BE91L) nor a name with its # (#notifications)")
        return channel

    @field_validator("blocks")
    @classmethod
    def _keeps_the_limits(cls, blocks: list[dict[str, Any]]) -> list[dict[str, Any]]:
        check_blocks(blocks)
        return blocks

    @model_validator(mode="after")
    def _fits_together(self) -> Message:
        if not self.message.strip() and not self.blocks:
            raise Fault("is required where there are no blocks", field="message")
        if self.reply_broadcast and self.thread_ts is None:
            raise Fault("needs thread_ts", field="reply_broadcast")
        if self.icon_emoji and self.icon_url:
            raise Fault("cannot stand beside icon_emoji", field="icon_url")
        if not self.allow_broadcast and notifies_everybody(self.message, self.blocks):
            field = "message" if notifies_everybody(self.message, []) else "blocks"
            raise Fault("would notify everybody in the channel: set allow_broadcast, or take it out", field=field)
        return self


class Posted(Output):
    """The message as Slack knows it."""

    channel: str = Field(description="Id of the channel that the message landed in.", examples=["C024BE91L"])
    ts: str = Field(description="Id of the message within the channel.", examples=["1712230001.000200"])


def _needs(inputs: Message) -> Link:
    own_face = inputs.username or inputs.icon_emoji or inputs.icon_url
    return Link("slack", scopes={"chat:write", "chat:write.customize"} if own_face else {"chat:write"})


@module("slack-message", needs=_needs, effect=Effect.ONCE)
def slack_message(inputs: Message, ctx: Context) -> Posted:
    """Post a message to a Slack channel as the connected bot.

    Slack has no way to recognise a repeated post: a message whose answer was lost is reported, and not sent again. The
    step's idempotency key travels in the message's metadata, so that it can be found.
    """
    if len(inputs.message) > LONG_TEXT:
        ctx.log.warning("slack may split a long message", characters=len(inputs.message), limit=LONG_TEXT)
    sent = slack(ctx).chat_postMessage(
        channel=inputs.channel,
        text=inputs.message if inputs.message.strip() else fallback_text(inputs.blocks),
        blocks=inputs.blocks or None,
        thread_ts=inputs.thread_ts,
        reply_broadcast=inputs.reply_broadcast or None,
        unfurl_links=inputs.unfurl_links,
        unfurl_media=inputs.unfurl_media,
        username=inputs.username,
        icon_emoji=inputs.icon_emoji,
        icon_url=inputs.icon_url,
        metadata={"event_type": "flow8_step", "event_payload": {"idempotency_key": ctx.idempotency_key}},
    )
    channel, ts = sent.get("channel"), sent.get("ts")
    if not (isinstance(channel, str) and isinstance(ts, str)):
        raise nonsense(ambiguous=True)
    return Posted(channel=channel, ts=ts)
