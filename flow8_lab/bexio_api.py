"""Bexio's API, as far as it says who is connected: `users/me`, the company's profile, and how it refuses.

Source: docs.bexio.com and recorded answers. A missing scope and a missing right of the user look alike.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from flow8_lab import oauth
from flow8_lab.bexio_rules import COMPANY_NAME
from flow8_lab.clock import Clock
from flow8_lab.http import Reply, Request, json_reply
from flow8_lab.origin import Route

if TYPE_CHECKING:
    from flow8_lab.bexio import Bexio

LIMIT_PER_MINUTE = 1_000


class Api:
    """api.bexio.com."""

    def __init__(self, vendor: Bexio, *, clock: Clock) -> None:
        self._vendor = vendor
        self._clock = clock

    def routes(self) -> list[Route]:
        """What it answers to."""
        return [
            Route("GET", "/3.0/users/me", "users.me", self._me),
            Route("GET", "/2.0/company_profile", "company_profile", self._company),
        ]

    def unknown(self, request: Request) -> Reply:  # noqa: ARG002 (one answer for all)
        """The API's 404."""
        return self._refusal(404, "not found")

    def throttled(self, retry_after: float) -> Reply:
        """The gateway's 429: how long to wait stands in `ratelimit-reset`, in seconds."""
        headers = (
            ("ratelimit-limit", str(LIMIT_PER_MINUTE)),
            ("ratelimit-remaining", "0"),
            ("ratelimit-reset", f"{retry_after:g}"),
            ("x-ratelimit-limit-minute", str(LIMIT_PER_MINUTE)),
        )
        return json_reply({"message": "API rate limit exceeded"}, status=429, headers=headers)

    def failure(self, error: str, status: int | None) -> Reply:
        """A refusal with that message; 422 where no status is given."""
        return self._refusal(status or 422, error)

    def _me(self, request: Request) -> Reply:
        token = self._token(request, None)
        if isinstance(token, Reply):
            return token
        account = token.grant.account
        body = {
            "id": int(account["company_user_id"]),
            "salutation_type": "male",
            "firstname": account["given_name"],
            "lastname": account["family_name"] or None,
            "email": account["email"],
            "is_superadmin": True,
            "is_accountant": False,
        }
        return json_reply(body, headers=self._limits())

    def _company(self, request: Request) -> Reply:
        token = self._token(request, "company_profile")
        if isinstance(token, Reply):
            return token
        id_ = int(token.grant.account["company_id"])
        company = {"id": id_, "name": COMPANY_NAME, "country_id": 1, "legal_form": None, "mail": None}
        return json_reply([company], headers=self._limits())

    def _token(self, request: Request, scope: str | None) -> oauth.Token | Reply:
        if "application/json" not in request.headers.get("accept", ""):
            return self._refusal(406, "Accept must be application/json")
        token = self._vendor.server.bearer(request)
        if token is None:
            return self._refusal(401, "Unauthorized")
        if self._vendor.settings.forbidden or (scope is not None and scope not in token.scopes):
            return self._refusal(403, "access denied")
        return token

    def _refusal(self, status: int, message: str) -> Reply:
        return json_reply({"error_code": status, "message": message}, status=status, headers=self._limits())

    def _limits(self) -> tuple[tuple[str, str], ...]:
        resets_in = 60 - int(self._clock()) % 60
        return (
            ("ratelimit-limit", str(LIMIT_PER_MINUTE)),
            ("ratelimit-remaining", str(LIMIT_PER_MINUTE - 1)),
            ("ratelimit-reset", str(resets_in)),
        )
