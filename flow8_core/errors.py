"""Every error that flow8-modules raises on purpose, grouped by who has to act.

    Flow8Error
    |- StepError                 door "step": the flow's author changes the step
    |  |- ValidationFailed       validation_error      input, flow or configuration is wrong; `path` names the place
    |  |- NotFound               not_found             the named thing does not exist (or is not yours)
    |  |- Conflict               conflict              two candidates and no choice, or somebody else was first
    |  |- ProviderRejected       provider_rejected     the vendor understood the request and refuses it as it stands
    |  |- EgressDenied           egress_denied         the address or host may not be reached
    |  |- OutcomeUnknown         outcome_unknown       it may have happened; repeating could make it happen twice
    |  |- ExecutionTimeout       execution_timeout     the step's own time is over
    |  |- Cancelled              cancelled             somebody cancelled the play or the step
    |  `- DeadLetter             dead_letter           started too often without ever being heard of again
    |- LinkError                 door "link": the person who connected the account acts
    |  |- InvalidGrant           invalid_grant         code or refresh token unusable            (reconnect)
    |  |- TokenRevoked           token_revoked         the vendor or an admin took the grant back (reconnect)
    |  |  `- TokenExpired        token_revoked         the access token is over: refreshed once, then as above
    |  |- InsufficientScope      insufficient_scope    the grant lacks a permission              (reconnect)
    |  |- AccessDenied           access_denied         nothing connected, or the account may not do this
    |  `- InvalidCredentials     invalid_credentials   a component's key or password is refused
    |- AppError                  door "app": the operator's client id, secret or redirect URI
    |  `- ProviderMisconfigured  provider_misconfigured
    |     `- AppBlocked          provider_misconfigured    surely so: its links are paused, and steps wait
    |- ProviderError             door "provider": wait
    |  |- RateLimited            rate_limit_exceeded   retryable after `retry_after` seconds
    |  |- QuotaExceeded          quota_exceeded        a monthly or money limit: waiting a little does not help
    |  |- ProviderUnavailable    provider_unavailable  no answer, or 5xx
    |  `- VendorBadResponse      vendor_bad_response   an answer that makes no sense
    `- PlatformError             door "us"
       |- RefreshBusy            refresh_busy          somebody else is refreshing this link and its token is over
       |- StoreUnavailable       store_unavailable     the database does not answer
       `- InternalError          internal_error        a fault of ours

Four attributes decide what happens next: `code`, `retryable`, `reconnect`, `retry_after` (seconds). `ambiguous` says
that the call may have taken effect although it failed. Messages are for people: they say what to do, and never hold a
secret or a vendor's raw body. The codes invalid_grant, insufficient_scope, token_revoked, rate_limit_exceeded and
access_denied are flow8's own.
"""

from __future__ import annotations

from typing import Any, ClassVar, Literal

Door = Literal["link", "app", "provider", "step", "us"]

MESSAGE_LIMIT = 1000


class Flow8Error(Exception):
    """Base of all errors raised on purpose. Raise a leaf, never this.

    `retry_after` is in seconds. `path` is a JSON path ("steps[2].input_mapping.channel") of the offending input.
    `ambiguous` is true where the request may have left the socket and taken effect.
    """

    code: ClassVar[str] = "internal_error"
    door: ClassVar[Door] = "us"
    retryable: ClassVar[bool] = False
    reconnect: ClassVar[bool] = False

    def __init__(
        self,
        message: str,
        *,
        path: str | None = None,
        retry_after: float | None = None,
        ambiguous: bool = False,
        service: str | None = None,
        provider_code: str | None = None,
        step: str | None = None,
        link_id: str | None = None,
    ) -> None:
        super().__init__(message[:MESSAGE_LIMIT])
        self.message = message[:MESSAGE_LIMIT]
        self.path = path
        self.retry_after = retry_after
        self.ambiguous = ambiguous
        self.service = service
        self.provider_code = provider_code
        self.step = step
        self.link_id = link_id

    def to_dict(self) -> dict[str, Any]:
        """The error as answers carry it: `{code, message, retryable, reconnect, retry_after, door, step, link_id}`,
        plus `path` where input is at fault."""
        shape: dict[str, Any] = {
            "code": self.code,
            "message": self.message,
            "retryable": self.retryable,
            "reconnect": self.reconnect,
            "retry_after": self.retry_after,
            "door": self.door,
            "step": self.step,
            "link_id": self.link_id,
        }
        if self.path is not None:
            shape["path"] = self.path
        return shape


class StepError(Flow8Error):
    """The flow's author has to change the step."""

    door = "step"


class ValidationFailed(StepError):
    """Input, a flow definition or configuration is wrong. `problems` lists all faults at once as (path, message)."""

    code = "validation_error"

    def __init__(self, message: str, *, problems: tuple[tuple[str, str], ...] = (), **details: Any) -> None:
        super().__init__(message, **details)
        self.problems = problems or (((self.path or "$"), message),)

    @classmethod
    def from_problems(cls, problems: list[tuple[str, str]], **details: Any) -> ValidationFailed:
        """One error for several faults: its path is that of the first."""
        text = "; ".join(f"{path}: {message}" for path, message in problems[:20])
        return cls(text, problems=tuple(problems), path=problems[0][0], **details)


class NotFound(StepError):
    """The named thing does not exist, or belongs to somebody else: the two are told apart nowhere."""

    code = "not_found"


class Conflict(StepError):
    """Two candidates and no choice, a name that is taken, or somebody else was first."""

    code = "conflict"


class ProviderRejected(StepError):
    """The vendor understood the request and refuses it as it stands; repeating it will not help."""

    code = "provider_rejected"


class EgressDenied(StepError):
    """The address, scheme, port or host may not be reached from here."""

    code = "egress_denied"


class OutcomeUnknown(StepError):
    """The call may have taken effect, and repeating it could make it happen twice."""

    code = "outcome_unknown"


class ExecutionTimeout(StepError):
    """The step's own time is over."""

    code = "execution_timeout"
    retryable = True


class Cancelled(StepError):
    """Somebody cancelled the play or the step."""

    code = "cancelled"


class DeadLetter(StepError):
    """The step was started too often without an outcome ever being heard."""

    code = "dead_letter"


class LinkError(Flow8Error):
    """The person who connected the account has to act."""

    door = "link"


class InvalidGrant(LinkError):
    """The authorization code or the refresh token is unusable."""

    code = "invalid_grant"
    reconnect = True


class TokenRevoked(LinkError):
    """The vendor, its user or an admin of ours took the grant back."""

    code = "token_revoked"
    reconnect = True


class TokenExpired(TokenRevoked):
    """The vendor says that the access token is over, and has done nothing: the runner refreshes the link once and calls
    again. Said a second time, it stands as `token_revoked`."""


class InsufficientScope(LinkError):
    """The grant lacks a permission that the step needs."""

    code = "insufficient_scope"
    reconnect = True


class AccessDenied(LinkError):
    """Nothing is connected, or the connected account may not do this."""

    code = "access_denied"


class InvalidCredentials(LinkError):
    """A component's API key or password is refused by the vendor."""

    code = "invalid_credentials"


class AppError(Flow8Error):
    """The operator's OAuth2 application is at fault; all its links are concerned."""

    door = "app"


class ProviderMisconfigured(AppError):
    """Client id, client secret, redirect URI or tenant of our OAuth2 application is wrong or expired."""

    code = "provider_misconfigured"


class AppBlocked(ProviderMisconfigured):
    """Our OAuth2 application as such is refused. With a `link_id`, that link waits until it is mended, and so may who
    needs it."""


class ProviderError(Flow8Error):
    """The vendor has a problem; waiting helps."""

    door = "provider"


class RateLimited(ProviderError):
    """The vendor asks for patience: `retry_after` seconds where it said how long."""

    code = "rate_limit_exceeded"
    retryable = True


class QuotaExceeded(ProviderError):
    """A monthly or money limit of the account: waiting a little does not help."""

    code = "quota_exceeded"


class ProviderUnavailable(ProviderError):
    """No connection, no answer in time, or 5xx."""

    code = "provider_unavailable"
    retryable = True


class VendorBadResponse(ProviderError):
    """The vendor's answer makes no sense: not JSON, cut off, too large, or without what it must hold."""

    code = "vendor_bad_response"
    retryable = True


class PlatformError(Flow8Error):
    """Ours to mend."""

    door = "us"


class RefreshBusy(PlatformError):
    """Somebody else is refreshing the link and its current token is over; try again in a moment."""

    code = "refresh_busy"
    retryable = True


class StoreUnavailable(PlatformError):
    """The database does not answer, or a write's outcome could not be settled."""

    code = "store_unavailable"
    retryable = True


class InternalError(PlatformError):
    """A fault of ours."""

    code = "internal_error"
