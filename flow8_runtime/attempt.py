"""One attempt of one step: from the claim to an outcome. Reads top to bottom as the step happens.

expressions -> filters -> the module's input -> credentials -> `calling` -> the module -> outcome
"""

from __future__ import annotations

import hashlib
import random
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

from credentials.resolver import Resolver
from flow8_core import crashpoints
from flow8_core.clock import Clock, Deadline, to_millis
from flow8_core.egress import Egress
from flow8_core.errors import (
    AppBlocked,
    ExecutionTimeout,
    Flow8Error,
    InvalidGrant,
    OutcomeUnknown,
    RateLimited,
    RefreshBusy,
    StoreUnavailable,
    TokenExpired,
    TokenRevoked,
)
from flow8_core.logger import Logger
from flow8_modules.catalogue import AnyModule, Catalogue
from flow8_modules.clients import Clients
from flow8_modules.context import Context
from flow8_modules.effect import Effect
from flow8_modules.needs import Component, Link, Need
from flow8_modules.workspace import Workspace
from flow8_runtime import filters, retry
from flow8_runtime.definition import Step
from flow8_runtime.expressions import resolve
from flow8_runtime.ledger import Claim, Ledger, Outcome
from flow8_runtime.needs import Credentials, Request, resolve_needs
from flow8_runtime.scope import Scope

BEFORE_CALL = crashpoints.register("step.before_call", "the step is marked `calling`; the vendor has not heard of it")
AFTER_CALL = crashpoints.register("step.after_call", "the vendor has answered; nothing is written yet")

LINK = "link:"  # before a link's id, where a credential or what is waited for is named
PARK_BUSY_S = 1.0  # how soon a step looks again at a link that somebody else is refreshing
DEADLINE_MARGIN_S = 10.0  # a `calling` mark outlives the call's deadline by this much


@dataclass(frozen=True)
class Parts:
    """What running a step takes; one set a process, shared by its threads. `resolver` and `workspace` are asked for
    when a step needs them: a process that runs no step with a credential derives no key."""

    ledger: Ledger
    catalogue: Catalogue
    resolver: Callable[[], Resolver]
    egress: Egress
    clients: Clients
    workspace: Callable[[str], Workspace]
    clock: Clock
    rng: random.Random
    log: Logger


class Attempt:
    """The state of one attempt while it lasts. `until`: how long its `calling` mark holds."""

    def __init__(self, parts: Parts, claim: Claim, step: Step) -> None:
        self._parts = parts
        self._claim = claim
        self._step = step
        self._started_at = parts.ledger.now()
        self._started = parts.clock.monotonic()
        self._deadline = Deadline.after(step.timeout_s, parts.clock)
        self._credentials = Credentials()
        self._fingerprint: str | None = None
        self._module: AnyModule | None = None
        self._inputs: Any = None
        self.effect = Effect.ONCE
        self.called = False
        self.until = to_millis(self._started_at + timedelta(seconds=step.timeout_s + DEADLINE_MARGIN_S))
        self.log = parts.log.bind(step_run_id=claim.step_run_id)

    @property
    def credential(self) -> str | None:
        return self._credentials.name

    def run(self) -> Outcome | None:
        """Prepare, mark, call."""
        over = self.prepare()
        if over is not None:
            return over
        marked = self._parts.ledger.calling(
            self._claim, effect=self.effect, until=self.until, credential=self.credential
        )
        return None if marked is None else self.call(marked)

    def prepare(self, *, patient: bool = True) -> Outcome | None:
        """All that comes before the mark; an outcome where it is not to be called. Without patience it raises
        `NotReady` where a vendor would have to be asked first, and `ExecutionTimeout` where no time is left to call."""
        scope = self._parts.ledger.scope(self._claim.play)
        if self._step.filters is not None and not filters.passes(self._step.filters, scope):
            return self._outcome("filtered")
        self._module = self._parts.catalogue.get(self._step.module_ref)
        mapping = resolve(self._step.input_mapping, scope, path="input_mapping")
        self._inputs = self._module.parse(mapping)
        self._fingerprint = _fingerprint(self._module.ref, mapping)
        self._credentials = self._resolve(self._module.needs_of(self._inputs), scope, patient=patient)
        self.effect = self._module.effect_of(self._inputs, self._credentials.config)
        over = self._not_before()
        if over is None:
            self._deadline.check("Preparing the step")
        return over

    def call_prepared(self, marked: Claim) -> Outcome:
        """The call of a step that was prepared before its claim was written: its time begins now. It is due again where
        it has waited so long that its mark might not outlive the call."""
        if self._parts.clock.monotonic() - self._started > DEADLINE_MARGIN_S / 2:
            self._claim = marked
            return self._outcome("parked", due_at=self._now())
        self._deadline = Deadline.after(self._step.timeout_s, self._parts.clock)
        return self.call(marked)

    def call(self, marked: Claim) -> Outcome:
        """The call itself, of a step that is marked `calling`."""
        self._claim = marked
        self.called = True
        crashpoints.visit(BEFORE_CALL)
        assert self._module is not None  # noqa: S101  # prepared
        return self._outcome("done", output=self._module.dump(self._call(self._module, self._inputs)))

    def overdue(self) -> Outcome:
        """What is to be told where the call hangs: its own thread will hardly tell."""
        self.called = self._claim.state["status"] == "calling"
        self.effect = Effect(self._claim.state.get("effect", Effect.ONCE))
        message = f"The module did not end by itself {self._step.timeout_s:g} s after it began; it was given up."
        return self.failed(ExecutionTimeout(message, ambiguous=self.called))

    def failed(self, error: Flow8Error) -> Outcome:
        """What a failure comes to: parked, to be repeated, of unknown outcome, or failed."""
        error.step = self._step.name
        if isinstance(error, InvalidGrant | AppBlocked) and error.link_id and not self.called:
            waiting_for = f"{LINK}{error.link_id}"
            return self._outcome("parked", error=error, waiting_for=waiting_for, credential=waiting_for)
        if isinstance(error, RefreshBusy | StoreUnavailable):  # of ours, and before the vendor did anything
            return self._outcome("parked", error=error, due_at=self._in(error.retry_after or PARK_BUSY_S))
        if isinstance(error, RateLimited):
            return self._rate_limited(error)
        if error.ambiguous and self.effect is Effect.ONCE and self._step.on_unknown != "retry":
            return self._outcome("outcome_unknown", error=_unknown(error))
        # an author who accepts that it may happen twice has it repeated like what does no harm
        effect = Effect.REPEATABLE if self._step.on_unknown == "retry" else self.effect
        delay = retry.delay_s(self._step.retry, error, attempt=self._claim.attempt, effect=effect, rng=self._parts.rng)
        if delay is not None:
            return self._outcome("parked", error=error, due_at=self._in(delay), counts=True)
        return self._outcome("failed", error=error)

    def _not_before(self) -> Outcome | None:
        """Parked, where the vendor has asked the credential for patience: which one it is, is only known by now."""
        name = self._credentials.name
        until = self._parts.ledger.not_before(name) if name else None
        if until is None:
            return None
        patience = RateLimited("The service asked this account for patience; the step goes on by itself.")
        return self._outcome("parked", error=patience, due_at=until)

    def _rate_limited(self, error: RateLimited) -> Outcome:
        until = self._in(retry.patience_s(error, attempt=self._claim.parks + 1, rng=self._parts.rng))
        name = self._credentials.name
        throttle = (name, until) if name else None
        return self._outcome("parked", error=error, due_at=until, throttle=throttle, throttles_lane=self._no_choice())

    def _no_choice(self) -> bool:
        """Whether a step of the same module and user would have to get the same credential, were none named."""
        needs = self._module.needs if self._module is not None else None
        return isinstance(needs, Link | Component) and not needs.optional

    def _resolve(self, needs: tuple[Need, ...], scope: Scope, *, patient: bool) -> Credentials:
        if not needs:
            return Credentials()
        named = resolve(self._step.link_id, scope, path="input_mapping.link_id")
        request = Request(
            company_id=self._claim.company_id,
            user_id=self._claim.user_id,
            link_id=named or self._link_before(),
            component_ids=resolve(self._step.component_config_ids, scope, path="component_config_ids"),
            deadline=self._deadline,
            patient=patient,
        )
        return resolve_needs(needs, request, self._parts.resolver())

    def _link_before(self) -> str | None:
        """The link of the step's earlier attempts. A step stays with it: one that has waited for its link must not go
        on as another account that was connected meanwhile."""
        credential = self._claim.state.get("credential") or ""
        return credential.removeprefix(LINK) if credential.startswith(LINK) else None

    def _call(self, module: AnyModule, inputs: Any) -> Any:
        try:
            output = module(inputs, self._context())
        except TokenExpired as error:
            output = self._call_again(module, inputs, error)
        crashpoints.visit(AFTER_CALL)
        return output

    def _call_again(self, module: AnyModule, inputs: Any, error: TokenExpired) -> Any:
        """A 401 says that nothing was done, so one call with a renewed token is safe whatever the effect."""
        if self._credentials.link is None:
            raise error
        self.called = False  # should the renewal fail, the step can wait for its link like one that was never called
        self._credentials.link = self._parts.resolver().renew(self._credentials.link, deadline=self._deadline)
        self.called = True
        try:
            return module(inputs, self._context())
        except TokenExpired as again:
            raise TokenRevoked(again.message, service=again.service, link_id=self._credentials.link.link_id) from None

    def _context(self) -> Context:
        return Context(
            link=self._credentials.link,
            components=self._credentials.components,
            defaults=frozenset(self._credentials.defaults),
            egress=self._parts.egress,
            workspace=self._workspace,
            idempotency_key=self._claim.idempotency_key,
            deadline=self._deadline,
            clients=self._parts.clients,
            log=self.log,
            progress=self._progress,
        )

    def _workspace(self) -> Workspace:
        return self._parts.workspace(str(self._claim.play_id))

    def _progress(self, done: int, total: int | None, note: str) -> None:
        self.log.info("progress", done=done, total=total, note=note)

    def _in(self, seconds: float) -> datetime:
        return self._now() + timedelta(seconds=seconds)

    def _now(self) -> datetime:
        """The store's time, carried on by our own clock: once the vendor has acted, no store may come in between."""
        return to_millis(self._started_at + timedelta(seconds=self._parts.clock.monotonic() - self._started))

    def _outcome(
        self,
        status: Any,
        *,
        output: Mapping[str, Any] | None = None,
        error: Flow8Error | None = None,
        due_at: datetime | None = None,
        waiting_for: str | None = None,
        throttle: tuple[str, datetime] | None = None,
        credential: str | None = None,
        throttles_lane: bool = False,
        counts: bool = False,
    ) -> Outcome:
        return Outcome(
            claim=self._claim,
            status=status,
            output=output,
            error=error.to_dict() if error else None,
            due_at=due_at,
            waiting_for=waiting_for,
            throttle=throttle,
            credential=credential or self._credentials.name,
            throttles_lane=throttles_lane,
            fingerprint=self._fingerprint,
            started_at=self._started_at,
            finished_at=self._now(),
            counts=counts,
        )


def _unknown(error: Flow8Error) -> OutcomeUnknown:
    return OutcomeUnknown(
        f"It is not known whether it happened: {error.message} Look at the service, then run the step again by hand, "
        "or set on_unknown: retry where happening twice does no harm.",
        service=error.service,
        link_id=error.link_id,
    )


def _fingerprint(ref: str, mapping: Any) -> str:
    """Tells whether two attempts asked for the same thing, without keeping what they asked for."""
    text = ascii((ref, mapping))  # in the order of the definition, which is the same for all attempts of a step
    return hashlib.blake2b(text.encode(), digest_size=16).hexdigest()
