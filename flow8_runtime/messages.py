"""Messages from and to other engines: JSON only, versioned, checked before anything is believed.

The formats are documented in docs/contracts.md.
"""

from __future__ import annotations

import hashlib
import hmac
from collections.abc import Mapping
from typing import Annotated, Any, Literal, TypeVar

import rfc8785
from bson import ObjectId
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from flow8_core.errors import AccessDenied, ValidationFailed
from flow8_runtime import notation
from flow8_runtime.notation import Limits
from flow8_runtime.settings import Id

MESSAGE_KEY = "FLOW8_MESSAGE_KEY"
QUEUE_NAME = r"^[A-Za-z0-9._:-]{1,128}$"
LIMITS = Limits(depth=72, nodes=300_000, size=8 * 1024 * 1024)  # whatever `args` and `previous` may hold fits in
M = TypeVar("M", bound=BaseModel)


class Execute(BaseModel):
    """`flow8.execute`: a whole step of an engine that keeps records of its own.

    `play_id` is the sender's; `previous` holds the outputs of earlier steps by name, `args` the play's arguments.
    Where `reply_to` names a queue, the outcome is sent there as `flow8.step_done`.
    """

    model_config = ConfigDict(extra="forbid", frozen=True, hide_input_in_errors=True, defer_build=True)

    version: Literal[1]
    company_id: Id
    user_id: Id
    play_id: Annotated[str, Field(min_length=1, max_length=128)]
    args: dict[str, Any] = {}
    previous: dict[str, Any] = {}
    step: dict[str, Any]
    reply_to: str | None = Field(None, pattern=QUEUE_NAME)

    @property
    def ledger_id(self) -> ObjectId:
        """The play's id in our ledger: it follows from company, play and step, so that sending twice is harmless."""
        name = str(self.step.get("name") or self.step.get("ref") or "")
        parts = [part.encode("utf-8", "surrogatepass") for part in (self.company_id.lower(), self.play_id, name)]
        text = b"".join(b"%d:%s" % (len(part), part) for part in parts)
        return ObjectId(hashlib.blake2b(text, digest_size=12, person=b"flow8-execute").digest())


class RunStep(BaseModel):
    """`flow8.run_step`: make one step due now. `step_run_id` is `<play_id>:<step name>`."""

    model_config = ConfigDict(extra="forbid", frozen=True, hide_input_in_errors=True, defer_build=True)

    version: Literal[1]
    step_run_id: Annotated[str, Field(pattern=r"^[0-9a-f]{24}:[A-Za-z0-9_-]{1,64}$")]


class RefreshLink(BaseModel):
    """`flow8.refresh_link`: refresh one link now, whether or not it is due; with `if_due`, do only what its dates ask
    for."""

    model_config = ConfigDict(extra="forbid", frozen=True, hide_input_in_errors=True, defer_build=True)

    version: Literal[1]
    company_id: Id
    link_id: Id
    if_due: bool = False


def arguments(text: str) -> dict[str, Any]:
    """The keyword arguments in a message's body, the JSON text `[[], kwargs, embed]`. Raises `ValidationFailed`."""
    body = notation.read(text, form="json", limits=LIMITS)
    if not isinstance(body, list) or len(body) != 3 or body[0] != [] or not isinstance(body[1], dict):
        raise ValidationFailed("The body of a message is [[], {keyword arguments}, {}].", path="$")
    return body[1]


def parse(model: type[M], kwargs: Mapping[str, Any], key: str | None) -> M:
    """Check a message's signature, where this deployment has a key, and its form.

    Raises `AccessDenied` on a missing or wrong signature, `ValidationFailed` with every fault of the form.
    """
    body = {name: value for name, value in kwargs.items() if name != "signature"}
    if key:
        given = str(kwargs.get("signature") or "")
        if not hmac.compare_digest(given.encode("utf-8", "replace"), sign(body, key).encode()):
            raise AccessDenied(
                "The message's signature is missing or wrong; check that both sides have the same message key."
            )
    try:
        return model.model_validate(body)
    except ValidationError as error:
        raise ValidationFailed.from_problems(
            [(".".join(map(str, fault["loc"])) or "$", fault["msg"]) for fault in error.errors(include_input=False)]
        ) from None


def sign(body: Mapping[str, Any], key: str) -> str:
    """Hex HMAC-SHA256 over the RFC 8785 form of a message without its signature."""
    try:
        canonical = rfc8785.dumps(dict(body))
    except (rfc8785.CanonicalizationError, RecursionError) as error:
        raise ValidationFailed("The message has no canonical JSON form.", path="$") from error
    return hmac.new(key.encode(), canonical, hashlib.sha256).hexdigest()


def step_done(message: Execute, description: Mapping[str, Any]) -> dict[str, Any]:
    """The kwargs of `flow8.step_done` for a finished play of one step, as `describe` shows it."""
    step = description["steps"][0]
    return {
        "version": 1,
        "company_id": message.company_id,
        "play_id": message.play_id,
        "step_run_id": f"{message.ledger_id}:{step['name']}",
        "step": step["name"],
        "status": step["status"],
        "output": step["output"],
        "error": step["error"],
    }
