"""The ledger: plays, the states of their steps, and the attempts. The truth about work; Celery only wakes.

Serves all companies, by claims and step run ids; what acts for somebody takes a `company_id` and finds only its plays.
"""

from __future__ import annotations

import random
import threading
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

from bson import ObjectId

from flow8_core.errors import Conflict, InternalError, NotFound, ValidationFailed
from flow8_core.store import Insert, Store
from flow8_modules.effect import Effect
from flow8_runtime import documents, notation, submitting, transitions
from flow8_runtime.candidates import Candidates
from flow8_runtime.claiming import Claiming
from flow8_runtime.claims import Claim, Landing, Outcome, Preparer, Terms
from flow8_runtime.definition import DEFAULT_QUEUE, Flow
from flow8_runtime.describe import describe
from flow8_runtime.documents import FLOWS, PLAYS, STEP_RUNS, Play
from flow8_runtime.heads import first_lane
from flow8_runtime.landing import Lander
from flow8_runtime.outputs import Outputs, states
from flow8_runtime.plays import Apply, Change, Plays, each
from flow8_runtime.scope import Scope
from flow8_runtime.shares import Shares
from flow8_runtime.states import READY
from flow8_runtime.throttles import Throttles
from flow8_runtime.waits import Waits

__all__ = ["Cancellation", "Claim", "Landing", "Ledger", "Outcome"]

FLOWS_KEPT = 1024


@dataclass(frozen=True, slots=True)
class Cancellation:
    """What cancelling came to. `open` names the step runs whose calls had begun: they may still take effect, and
    nothing else will."""

    play: Play
    open: tuple[str, ...]


class Ledger:
    """All threads of a process share one. Methods raise `StoreUnavailable` where the store does not answer."""

    def __init__(
        self,
        store: Store,
        *,
        lease_s: float = 30.0,
        throttles: Throttles | None = None,
        rng: random.Random | None = None,
    ) -> None:
        self._store = store
        self._lease = timedelta(seconds=lease_s)
        self._flows: dict[str, Flow] = {}
        self._flows_lock = threading.Lock()
        self.throttles = throttles or Throttles(store)
        self.plays = Plays(store)
        self.waits = Waits(store, self.plays, self.flow)
        self.candidates = Candidates(store, self.throttles, rng or random.Random())  # noqa: S311  # spreads claimers, guards nothing
        self._claiming = Claiming(self.flow, self.plays, self.candidates, self.throttles)
        self._lander = Lander(self.flow, self.plays, self._claiming)

    def now(self) -> datetime:
        """The store's clock, by which leases and due times are judged."""
        return self._store.now()

    # ---- handing in

    def submit(
        self,
        flow: Flow,
        args: Mapping[str, Any],
        *,
        company_id: ObjectId,
        user_id: ObjectId,
        play_id: ObjectId | None = None,
        previous: Mapping[str, Any] | None = None,
        origin: Mapping[str, Any] | None = None,
    ) -> ObjectId:
        """Write a play with its first group queued, and return its id. A second submit with the same id is harmless.

        `previous` are outputs of steps outside of the flow, `origin` what the sender wants to find again. Raises
        `ValidationFailed` for args that are no JSON or too large, `Conflict` for an id that another company has.
        """
        text = submitting.text_of(args, "args", submitting.ARGS_LIMITS)
        more: dict[str, Any] = {}
        if previous:
            more["previous"] = submitting.text_of(previous, "previous", submitting.PREVIOUS_LIMITS)
        if origin:
            more["origin"] = dict(origin)
        chosen = play_id or ObjectId()
        now = self.now()
        play = submitting.begun(flow, text, play_id=chosen, company_id=company_id, user_id=user_id, now=now, more=more)
        self._hand_in(flow, [play], company_id=company_id, now=now)
        return chosen

    def submit_many(
        self,
        flow: Flow,
        many: Sequence[Mapping[str, Any]],
        *,
        company_id: ObjectId,
        user_id: ObjectId,
        play_ids: Sequence[ObjectId],
    ) -> Sequence[bool]:
        """Write a play of the flow for each of these arguments, under the id that stands in the same place; True for
        each that was not there yet. To hand in the same again is harmless.

        The arguments of all are checked before anything is written: `ValidationFailed` names what is wrong with each,
        below `args[index]`. Then it goes in parts, in order; what is cut off halfway is made whole by doing it again.
        Raises `Conflict` for an id that another company has.
        """
        if len(many) != len(play_ids):
            raise ValidationFailed("Give as many play ids as arguments.", path="play_ids")
        plays = list(zip(play_ids, submitting.texts_of(many), strict=True))
        new: list[bool] = []
        for start in range(0, len(plays), submitting.AT_ONCE):
            part = plays[start : start + submitting.AT_ONCE]
            now = self.now()
            first = submitting.begun(
                flow, part[0][1], play_id=part[0][0], company_id=company_id, user_id=user_id, now=now
            )
            new += self._hand_in(flow, list(submitting.begun_alike(first, part)), company_id=company_id, now=now)
        return new

    def flow(self, definition: str) -> Flow:
        """The flow of a play, by its `definition`; kept by this process. Raises `InternalError` where it is gone."""
        flow = self._flows.get(definition)
        if flow is None:
            document = self._store.get(FLOWS, definition)
            if document is None:
                raise InternalError("A play's definition is not in the store; has somebody removed it?")
            try:
                flow = Flow.stored(document["text"])
            except ValidationFailed as error:
                raise InternalError("A play's definition cannot be read; is it of a newer version?") from error
            self._keep(definition, flow)
        return flow

    # ---- working

    def claim(
        self,
        k: int,
        *,
        owner: str,
        queues: Sequence[str] = (DEFAULT_QUEUE,),
        preparer: Preparer | None = None,
        shares: Shares | None = None,
    ) -> list[Claim]:
        """Take up to `k` steps that are due in these queues: begun plays first, and nobody more than `shares` allow.

        What `preparer` gives for a step is its claim's `prepared`: the step is `calling` then, and no `calling` is to
        follow.
        """
        return self._claiming.claim(k, self._terms(owner, queues, preparer, shares))

    def calling(self, claim: Claim, *, effect: Effect, until: datetime, credential: str | None) -> Claim | None:
        """Mark a claim as about to be called. None: it is no longer ours, and must not be called."""
        flow = self.flow(claim.play["definition"])

        def apply(play: Play) -> Play:
            return transitions.call(
                play, flow, claim.step, claim.n, until=until, effect=effect.value, credential=credential
            )

        play = self.plays.change(claim.play, apply)
        return None if play is None else Claim(play, claim.step, claim.n, claim.owner, until)

    def land(
        self,
        outcomes: Sequence[Outcome],
        *,
        owner: str,
        take_next: bool = True,
        claim: int = 0,
        queues: Sequence[str] = (DEFAULT_QUEUE,),
        preparer: Preparer | None = None,
        shares: Shares | None = None,
    ) -> Landing:
        """Write down what attempts came to, in one batch with what follows from it.

        With `take_next` one next step of each landed play is claimed in place. `claim` is how many claims are wanted in
        all: what the plays themselves do not give is claimed elsewhere. `preparer` and `shares` as in `claim`. Landing
        the same outcome again is harmless.
        """
        for outcome in outcomes:
            if outcome.throttle is not None:
                self._throttle(outcome, *outcome.throttle)
        terms = self._terms(owner, queues, preparer, shares)
        return self._lander.land(outcomes, terms, take_next=take_next, claim=claim)

    def renew(self, claims: Sequence[Claim], *, until: datetime) -> None:
        """Let the leases of these claims last until then, where they are still held."""
        self._change_claims(
            claims, lambda play, flow, claim: transitions.renew(play, flow, claim.step, claim.n, until=until)
        )

    def give_back(self, claims: Sequence[Claim]) -> None:
        """Return claims that have not been used: their steps are due again at once."""
        now = self.now()

        def back(play: Play, flow: Flow, claim: Claim) -> Play:
            uncalled = claim.prepared is not None  # marked together with the claim, and not called since
            return transitions.give_back(play, flow, claim.step, claim.n, now=now, uncalled=uncalled)

        self._change_claims(claims, back)

    def scope(self, play: Play) -> Scope:
        """What the expressions of a play's steps may see; read when they ask for it."""
        return Scope(
            args=lambda: notation.loads(play["args"]), outputs=Outputs(self._store, play), states=lambda: states(play)
        )

    def outputs(self, play: Play) -> Mapping[str, Any]:
        """Outputs by step name, read when they are asked for; empty for a step that was skipped or filtered."""
        return Outputs(self._store, play)

    def not_before(self, credential: str) -> datetime | None:
        """Until when this credential was told to wait; None where it may be used now."""
        moment = self.throttles.not_before(credential)
        return moment if moment is not None and moment > self.now() else None

    def due(self, queues: Sequence[str] = (DEFAULT_QUEUE,)) -> bool:
        """Whether anything is due in these queues, of credentials that need not wait."""
        return self.candidates.any_due(queues, now=self.now())

    # ---- for somebody

    def get(self, play_id: ObjectId, *, company_id: ObjectId) -> Play:
        """The play. Raises `NotFound` for one that does not exist or is another company's."""
        play = self.plays.read(play_id)
        if play is None or play["company_id"] != company_id:
            raise NotFound("There is no such play.", path="play_id")
        return play

    def list(self, *, company_id: ObjectId, limit: int = 50, before: datetime | None = None) -> list[Play]:
        """A company's plays, newest first; `before` (a `created_at`) turns the page."""
        wanted: dict[str, Any] = {"company_id": company_id}
        if before is not None:
            wanted["created_at"] = {"$lt": before}
        return self._store.find(PLAYS, wanted, sort=[("company_id", 1), ("created_at", -1)], limit=limit)

    def over(self, play_ids: Sequence[ObjectId], *, company_id: ObjectId) -> Sequence[Play]:
        """Those of the company's plays that are over, in no order; at most a thousand are asked for at a time."""
        wanted = {"_id": {"$in": list(play_ids)}, "company_id": company_id, "status": {"$in": ["DONE", "FAIL"]}}
        return self._store.find(PLAYS, wanted)

    def describe(self, play: Play) -> dict[str, Any]:
        """The play as answers show it, with every output."""
        return describe(play, self.flow(play["definition"]), self.outputs(play))

    def attempts(self, play_id: ObjectId, *, company_id: ObjectId) -> Sequence[Mapping[str, Any]]:
        """The rows of a play's attempts, without their outputs."""
        wanted = {"_id": {"$gte": f"{play_id}:", "$lt": f"{play_id};"}, "company_id": company_id}
        rows = self._store.find(STEP_RUNS, wanted, sort=[("_id", 1)])
        return [{key: value for key, value in row.items() if key != "output"} for row in rows]

    def cancel(self, play_id: ObjectId, *, company_id: ObjectId) -> Cancellation:
        """Stop what has not called yet; a second time is harmless. Raises `NotFound`."""
        play = self.get(play_id, company_id=company_id)
        flow = self.flow(play["definition"])
        now = self.now()
        cancelled = self.plays.change(play, lambda play: transitions.cancel(play, flow, now=now))
        final = cancelled or self.get(play_id, company_id=company_id)
        names = {name: None for name, _ in transitions.open_calls(final)}
        return Cancellation(final, tuple(documents.step_run_id(play_id, name) for name in names))

    def cancel_step(self, play_id: ObjectId, step: str, *, company_id: ObjectId) -> Cancellation:
        """Stop one step of a play if it has not called yet; a second time is harmless. `open` names it where it has.
        Raises `NotFound`."""
        play = self.get(play_id, company_id=company_id)
        flow, now = self.flow(play["definition"]), self.now()
        flow.step(step)
        cancelled = self.plays.change(play, lambda play: transitions.cancel_step(play, flow, step, now=now))
        final = cancelled or self.get(play_id, company_id=company_id)
        called = any(name == step for name, _ in transitions.open_calls(final))
        return Cancellation(final, (documents.step_run_id(play_id, step),) if called else ())

    def make_due(self, step_run_id: str, *, company_id: ObjectId | None = None) -> bool:
        """Let one queued or parked step become due now. True where it is due then."""
        named = documents.parse_step_run_id(step_run_id)
        play = self.plays.read(named[0]) if named else None
        if named is None or play is None or company_id not in (None, play["company_id"]):
            return False
        flow, now = self.flow(play["definition"]), self.now()
        changed = self.plays.change(play, lambda play: transitions.make_due(play, flow, named[1], now=now))
        state = (changed or play)["steps"].get(named[1], {})
        return state.get("status") in READY and state["due_at"] <= now

    def release(self, link_id: str, *, company_id: ObjectId) -> int:
        """Queue the steps that wait for a link, after its reconnection. Returns how many plays had any."""
        return self.waits.release(f"link:{link_id}", company_id=company_id, now=self.now)

    def origin(self, play_id: ObjectId) -> Play | None:
        """The play, for answering whoever sent it; its `origin` says who that is."""
        return self.plays.read(play_id)

    def _throttle(self, outcome: Outcome, credential: str, until: datetime) -> None:
        """Nothing is called with this credential until then. Where the definition does not name it, neither is what
        waits in the step's lane: it would get the same one."""
        self.throttles.hit(credential, until)
        if outcome.throttles_lane:
            claim = outcome.claim
            self.throttles.hit(first_lane(claim.play, self.flow(claim.play["definition"]), claim.step), until)

    def _terms(
        self, owner: str, queues: Sequence[str], preparer: Preparer | None = None, shares: Shares | None = None
    ) -> Terms:
        now = self.now()
        turn = None if shares is None else shares.turn()
        return Terms(owner, now, now + self._lease, tuple(queues), preparer, turn)

    def _change_claims(self, claims: Sequence[Claim], transition: Callable[[Play, Flow, Claim], Play]) -> None:
        groups: dict[ObjectId, list[Claim]] = {}
        for claim in claims:
            groups.setdefault(claim.play_id, []).append(claim)
        self.plays.commit(
            [Change(held[-1].play, each([self._on(claim, transition) for claim in held])) for held in groups.values()]
        )

    def _on(self, claim: Claim, transition: Callable[[Play, Flow, Claim], Play]) -> Apply:
        flow = self.flow(claim.play["definition"])
        return lambda play: transition(play, flow, claim)

    def _hand_in(self, flow: Flow, plays: Sequence[Play], *, company_id: ObjectId, now: datetime) -> Sequence[bool]:
        """Write new plays of one flow, and the flow where this process has not done so; True for each that is new."""
        definition = plays[0]["definition"]
        ops = [Insert(PLAYS, play) for play in plays]
        if definition not in self._flows:
            ops.insert(0, Insert(FLOWS, submitting.flow_document(flow, company_id=company_id, now=now)))
        written = self._store.batch(ops)[-len(plays) :]
        for play, new in zip(plays, written, strict=True):
            if not new:
                self._check_owner(play["_id"], company_id)
        self._keep(definition, flow)
        return written

    def _check_owner(self, play_id: ObjectId, company_id: ObjectId) -> None:
        play = self.plays.read(play_id)
        if play is None or play["company_id"] != company_id:
            raise Conflict("This play id is taken; leave it out, or choose another one.", path="play_id")

    def _keep(self, definition: str, flow: Flow) -> None:
        with self._flows_lock:
            if len(self._flows) >= FLOWS_KEPT:
                del self._flows[next(iter(self._flows))]
            self._flows[definition] = flow
