"""What a worker holds: a claimed step; what it hands in: an outcome; what it gets back: a landing."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, Literal, Protocol

from bson import ObjectId

from flow8_core.errors import ValidationFailed
from flow8_modules.effect import Effect
from flow8_runtime import documents, notation
from flow8_runtime.documents import Play, StepState
from flow8_runtime.shares import Turn
from flow8_runtime.states import Result

OUTPUT_LIMIT = 8 * 1024 * 1024  # a database document ends at 16 MiB

Status = Literal["done", "failed", "skipped", "filtered", "parked", "outcome_unknown"]


class Prepared(Protocol):
    """A claimed step of which everything is known that its call takes, and how the call is to be marked."""

    @property
    def until(self) -> datetime: ...
    @property
    def effect(self) -> Effect: ...
    @property
    def credential(self) -> str | None: ...


@dataclass(frozen=True, slots=True)
class Claim:
    """One step of one play, taken by `owner` until `until` (renewable). `play` is the document as of then. A `prepared`
    step is marked `calling` already, and to be called soon."""

    play: Play
    step: str
    n: int
    owner: str
    until: datetime
    prepared: Prepared | None = None

    @property
    def play_id(self) -> ObjectId:
        return self.play["_id"]  # type: ignore[no-any-return]

    @property
    def company_id(self) -> ObjectId:
        return self.play["company_id"]  # type: ignore[no-any-return]

    @property
    def user_id(self) -> ObjectId:
        return self.play["user_id"]  # type: ignore[no-any-return]

    @property
    def attempt_key(self) -> tuple[ObjectId, str, int]:
        """Play, step and n: what no other claim has."""
        return self.play_id, self.step, self.n

    @property
    def state(self) -> StepState:
        """The step's state in the play."""
        return self.play["steps"][self.step]  # type: ignore[no-any-return]

    @property
    def step_run_id(self) -> str:
        """The step as the outside names it."""
        return documents.step_run_id(self.play_id, self.step)

    @property
    def idempotency_key(self) -> str:
        """The same for every attempt of this step, for vendors that de-duplicate on it."""
        return documents.idempotency_key(self.play_id, self.step)

    @property
    def attempt(self) -> int:
        """1 and the retries used up so far: what a retry policy counts."""
        return 1 + int(self.state.get("retries", 0))

    @property
    def parks(self) -> int:
        """How often the step has been parked without using up a retry."""
        return int(self.state.get("parks", 0))

    @property
    def lost(self) -> int:
        """How many attempts were never heard of."""
        return int(self.state.get("lost", 0))


@dataclass(frozen=True, slots=True)
class Outcome:
    """What one attempt came to.

    `parked`: due again at `due_at` (without one, in ten minutes), perhaps `waiting_for` "link:<id>", and with `counts`
    a retry is used up. `throttle` is (credential, not before) for a vendor that asked for patience; with
    `throttles_lane`, the step could have got no other credential. `error` is `Flow8Error.to_dict()`.
    """

    claim: Claim
    status: Status
    output: Mapping[str, Any] | None = None
    error: dict[str, Any] | None = None
    due_at: datetime | None = None
    waiting_for: str | None = None
    throttle: tuple[str, datetime] | None = None
    throttles_lane: bool = False
    credential: str | None = None
    fingerprint: str | None = None
    started_at: datetime | None = None
    finished_at: datetime | None = None
    counts: bool = False


class Preparer(Protocol):
    """Prepares steps before their claims are written."""

    def prepare(self, claim: Claim) -> Prepared | None:
        """All that the step's call takes; None where that is not the usual way, or would wait for a vendor."""

    def ahead(self, wanted: Sequence[tuple[ObjectId, str]]) -> AbstractContextManager[None]:
        """`with` it around preparing several steps, whose companies and credentials these are, as far as is known."""


@dataclass(frozen=True, slots=True)
class Terms:
    """For whom claims are made, at which moment, until when, and from which queues. `preparer` is asked about each step
    before its claim is written: one that it prepares is claimed and marked `calling` by the same write. `shares` says
    who may take how much."""

    owner: str
    now: datetime
    until: datetime
    queues: tuple[str, ...]
    preparer: Preparer | None = None
    shares: Turn | None = None

    def ahead(self, wanted: Sequence[tuple[ObjectId, str]]) -> AbstractContextManager[None]:
        """As `Preparer.ahead`."""
        return nullcontext() if self.preparer is None else self.preparer.ahead(wanted)

    def claim(self, play: Play, taken: Taken) -> Claim:
        """The claim on a step that has just been taken on these terms."""
        name, prepared = taken
        until = self.until if prepared is None else prepared.until
        return Claim(play, name, play["steps"][name]["n"], self.owner, until, prepared)


Taken = tuple[str, Prepared | None]


@dataclass(slots=True)
class Landing:
    """`next`: steps of the landed plays, claimed in place; `claims`: further claims; `finished`: plays that are over;
    `lost`: outcomes that came too late, of which only the rows are kept. `due`: the queue of each landed or claimed
    play that has other steps due."""

    next: list[Claim] = field(default_factory=list)
    claims: list[Claim] = field(default_factory=list)
    finished: list[ObjectId] = field(default_factory=list)
    lost: list[Outcome] = field(default_factory=list)
    due: dict[ObjectId, str] = field(default_factory=dict)

    def note(self, play: Play, *, now: datetime) -> None:
        """Whether this play, as it is written now, has more steps due."""
        if "due_at" in play and play["due_at"] <= now:
            self.due[play["_id"]] = play["queue"]


def row_of(outcome: Outcome) -> dict[str, Any]:
    """The attempt's row: all that is needed to land it later."""
    claim = outcome.claim
    status, output, error = _output(outcome)
    row = {
        "_id": documents.attempt_id(claim.play_id, claim.step, claim.n),
        "company_id": claim.company_id,
        "play_id": claim.play_id,
        "step": claim.step,
        "n": claim.n,
        "owner": claim.owner,
        "status": status,
        "output": output,
        "error": error,
        "due_at": outcome.due_at,
        "waiting_for": outcome.waiting_for,
        "counts": outcome.counts or None,
        "credential": outcome.credential,
        "fingerprint": outcome.fingerprint,
        "started_at": outcome.started_at,
        "finished_at": outcome.finished_at,
    }
    return {key: value for key, value in row.items() if value is not None}


def result_of(row: Mapping[str, Any]) -> Result:
    """What a row says, as a transition needs it."""
    return Result(
        status=row["status"],
        output=row.get("output"),
        row=row["_id"],
        error=row.get("error"),
        credential=row.get("credential"),
        due_at=row.get("due_at"),
        waiting_for=row.get("waiting_for"),
        counts=row.get("counts", False),
    )


def _output(outcome: Outcome) -> tuple[str, str | None, dict[str, Any] | None]:
    """Status, output as text, and error; an output that cannot be kept makes a failure of what was done."""
    if outcome.output is None:
        return outcome.status, None, outcome.error
    try:
        return outcome.status, _text(outcome.output), outcome.error
    except ValidationFailed as error:
        error.step = outcome.claim.step
        return "failed", None, error.to_dict()


def _text(output: Mapping[str, Any]) -> str:
    text = notation.dumps(output)
    if len(text) > OUTPUT_LIMIT:
        message = f"The output is larger than {OUTPUT_LIMIT} bytes; let the module write it to a file."
        raise ValidationFailed(message, path="output")
    return text
