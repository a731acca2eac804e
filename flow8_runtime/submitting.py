"""What is handed in, as it is written: plays with their first group queued, one or many of one flow.

Plays of one flow that are handed in together differ in their ids and arguments alone, so the state machine begins once
for all of them.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Mapping, Sequence
from datetime import datetime
from types import MappingProxyType
from typing import Any

from bson import ObjectId

from flow8_core.errors import ValidationFailed
from flow8_runtime import documents, notation, transitions
from flow8_runtime.definition import Flow
from flow8_runtime.documents import Play
from flow8_runtime.notation import Limits

ARGS_LIMITS = Limits(depth=32, nodes=50_000, size=256 * 1024)
PREVIOUS_LIMITS = Limits(depth=64, nodes=200_000, size=4 * 1024 * 1024)
AT_ONCE = 500  # plays in one batch: a moment of the store's writer, and no more
FAULTS_TOLD = 100


def text_of(value: Mapping[str, Any], name: str, limits: Limits) -> str:
    """The JSON text of arguments, or of outputs. Raises `ValidationFailed` below the path `name`."""
    value = dict(value)
    faults = notation.faults(value, path=name, limits=limits)
    if faults:
        raise ValidationFailed.from_problems(faults)
    return notation.dumps(value)


def texts_of(many: Sequence[Mapping[str, Any]]) -> list[str]:
    """The JSON texts of many plays' arguments. Raises `ValidationFailed` with all faults, below `args[index]`."""
    found: list[tuple[str, str]] = []
    texts: list[str] = []
    for index, args in enumerate(many):
        if isinstance(args, Mapping):
            try:
                texts.append(text_of(args, f"args[{index}]", ARGS_LIMITS))
            except ValidationFailed as error:
                found += error.problems
        else:
            found.append((f"args[{index}]", "must be an object"))
        if len(found) >= FAULTS_TOLD:
            break
    if found:
        raise ValidationFailed.from_problems(found[:FAULTS_TOLD])
    return texts


def begun(
    flow: Flow,
    args: str,
    *,
    play_id: ObjectId,
    company_id: ObjectId,
    user_id: ObjectId,
    now: datetime,
    more: Mapping[str, Any] = MappingProxyType({}),
) -> Play:
    """A new play's document; `more` are `previous` and `origin`, where there are any."""
    definition = documents.definition_id(company_id, flow.digest())
    play: Play = {
        "_id": play_id,
        "company_id": company_id,
        "user_id": user_id,
        "name": flow.name,
        "definition": definition,
        "args": args,
    }
    return transitions.begin({**play, **more}, flow, now=now)


def begun_alike(first: Play, plays: Sequence[tuple[ObjectId, str]]) -> Iterator[Play]:
    """New plays that differ from this new one in their ids and arguments alone. They share the rest: whoever changes a
    play copies what he changes."""
    for play_id, args in plays:
        yield {**first, "_id": play_id, "args": args}


def flow_document(flow: Flow, *, company_id: ObjectId, now: datetime) -> dict[str, Any]:
    """A definition's document."""
    return {
        "_id": documents.definition_id(company_id, flow.digest()),
        "company_id": company_id,
        "name": flow.name,
        "text": flow.text,
        "created_at": now,
    }


def batch_play_id(company_id: ObjectId, batch: str, flow_name: str, line: int, args: Mapping[str, Any]) -> ObjectId:
    """The id of the play that a line of a batch becomes: the same whenever the batch is handed in again.

    It follows from the company, the batch's and the flow's names, the line's number from 1, and its arguments
    (docs/contracts.md).
    """
    parts = [part.encode() for part in (str(company_id), batch, flow_name, str(line), notation.canonical(args))]
    text = b"".join(b"%d:%s" % (len(part), part) for part in parts)
    return ObjectId(hashlib.blake2b(text, digest_size=12, person=b"flow8-batch").digest())
