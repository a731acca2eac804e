"""The ledger's three collections: their names, indexes, keys, and the shape of their documents.

**flows** `{_id: "<company>:<digest>", company_id, name, text, created_at}`: a definition, never changed. `text` is its
canonical JSON.

**plays** one document holds a play's whole state machine (`flow8_runtime.transitions`):

    _id, company_id, user_id, name, definition (the flow's _id), args, previous?, origin?
    status NEW|RUN|DONE|FAIL, created_at, started_at?, completed_at?, cancelled_at?, group (index of the current one),
    inlined (characters of output that lie in the play)
    steps {name: {status, n?, landed?, owner?, until?, due_at?, parked_at?, waiting_for?, credential?, effect?, open?,
                  lost?, retries?, parks?, cancelled_at?, output? | output_ref?, error?, started_at?, finished_at?}}
    rev, write_id                                  compare-and-set, and settling a write whose answer was lost
    due_at? until? queue? lane? rank? waiting_for? rotate_at? owners?         heads, recomputed at each write
    (a play that is over keeps `queue: ""` of them; one that waits for several links names them all in `waiting_for`)

**step_runs** `{_id: "<play>:<step>:<n>", company_id, play_id, step, n, status, output?, error?, ...}`: one attempt,
never changed, inserted before the transition that names it. It counts only if the play's step has `landed: n`.

`args`, `previous` and `output` are JSON text: vendors' keys ("@odata.type", "$ref", "") are no field names for a
database, and a play is rewritten at each transition without taking them apart.
"""

from __future__ import annotations

import hashlib
from typing import Any

from bson import ObjectId

from flow8_core.store import Index

FLOWS = "flows"
PLAYS = "plays"
STEP_RUNS = "step_runs"

FLOW_INDEXES = (Index(keys=(("company_id", 1), ("created_at", -1))),)
PLAY_INDEXES = (
    Index(keys=(("queue", 1), ("lane", 1), ("rank", 1), ("due_at", 1))),  # what is due, and what has no head at all
    Index(keys=(("until", 1),), sparse=True),  # what is in flight: lease ends
    Index(keys=(("waiting_for", 1),), sparse=True),  # what waits for a link
    Index(keys=(("rotate_at", 1),), sparse=True),  # what has a second lane behind its head
    Index(keys=(("company_id", 1), ("created_at", -1))),
)
STEP_RUN_INDEXES: tuple[Index, ...] = ()  # found by the range of their _id

Play = dict[str, Any]
StepState = dict[str, Any]


def definition_id(company_id: ObjectId, digest: str) -> str:
    """The `_id` of a company's flow; two companies with the same flow have a document each."""
    return f"{company_id}:{digest}"


def attempt_id(play_id: ObjectId, step: str, n: int) -> str:
    """The `_id` of an attempt's row. Neither a play's id nor a step's name holds a colon, so no two are alike."""
    return f"{play_id}:{step}:{n}"


def step_run_id(play_id: ObjectId, step: str) -> str:
    """A step of a play as the outside names it."""
    return f"{play_id}:{step}"


def parse_step_run_id(text: str) -> tuple[ObjectId, str] | None:
    """The play and the step that a step run's id names; None where it is none."""
    play, colon, step = text.partition(":")
    return (ObjectId(play), step) if colon and step and ObjectId.is_valid(play) else None


def idempotency_key(play_id: ObjectId, step: str) -> str:
    """What a vendor de-duplicates on: 32 hexadecimal digits, the same for every attempt of the step."""
    return hashlib.blake2b(f"{play_id}:{step}".encode(), digest_size=16, person=b"flow8-step").hexdigest()
