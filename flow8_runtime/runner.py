"""Runs claimed steps, each as an attempt (attempt.py), and lets no fault of a module's reach the worker."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import AbstractContextManager, nullcontext

from bson import ObjectId

from credentials.resolver import NotReady
from flow8_core import crashpoints
from flow8_core.errors import Flow8Error, InternalError
from flow8_runtime.attempt import Attempt, Parts
from flow8_runtime.claims import Claim, Outcome, Prepared


class Runner:
    """Runs claimed steps. It keeps no state of a step, so that all threads of a process share one."""

    def __init__(self, parts: Parts) -> None:
        self._parts = parts

    def prepare(self, claim: Claim) -> Prepared | None:
        """Everything up to the call, for a step whose claim is not written yet: what comes of it is written with the
        claim, and then goes to `run` within it. None where that is not the usual way, or would wait for a vendor: then
        `run` does all of it, on the written claim.
        """
        try:
            attempt = self._attempt(claim)
            return attempt if attempt.prepare(patient=False) is None else None
        except (Flow8Error, NotReady):
            return None
        except Exception:  # noqa: BLE001  # `run` meets it again, and tells
            return None

    def ahead(self, wanted: Sequence[tuple[ObjectId, str]]) -> AbstractContextManager[None]:
        """`with` it around preparing several steps: the credentials that they want are read at once, as far as it is
        known which. Raises `StoreUnavailable`."""
        return self._parts.resolver().ahead(wanted) if wanted else nullcontext()

    def run(self, claim: Claim) -> Outcome | None:
        """One attempt. None where the claim was lost before the call: somebody else has the step now.

        Raises `StoreUnavailable` where the ledger does not answer before anything has begun.
        """
        prepared = claim.prepared
        attempt = prepared if isinstance(prepared, Attempt) else self._attempt(claim)
        try:
            return attempt.call_prepared(claim) if attempt is prepared else attempt.run()
        except Flow8Error as error:
            return attempt.failed(error)
        except crashpoints.CrashPointReached:
            raise
        except Exception as error:  # a module's own fault must not take the worker with it
            attempt.log.exception("step failed unexpectedly")
            return attempt.failed(
                InternalError(f"The module failed unexpectedly ({type(error).__name__}).", ambiguous=attempt.called)
            )

    def overdue(self, claim: Claim) -> Outcome:
        """What is to be told of a step whose call hangs: its thread will hardly tell."""
        return self._attempt(claim).overdue()

    def _attempt(self, claim: Claim) -> Attempt:
        return Attempt(self._parts, claim, self._parts.ledger.flow(claim.play["definition"]).step(claim.step))
