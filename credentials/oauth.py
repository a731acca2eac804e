"""Talking to a provider's authorization and token endpoints: requests-oauthlib on our egress.

requests-oauthlib builds the requests. Its reading of the replies is not used: it drops rotated tokens where the scope
shrank or has commas, where `expires_in` is odd or `refresh_token` is empty, loses the status and Retry-After of an
error, and follows redirects with the client's secret. A response hook takes the reply before any of that and ends the
call.

Microsoft goes through msal (`msal_client`), behind the same three questions.
"""

from __future__ import annotations

import base64
import hashlib
import json
import logging
import secrets
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any, Protocol
from urllib.parse import quote_plus, urlencode

from credentials.plain_http import real, shown, take_back
from credentials.providers.provider import Provider, Revocation
from credentials.token_reply import Reply
from flow8_core.clock import Deadline
from flow8_core.egress import Egress, Hosts, Response
from flow8_core.errors import ExecutionTimeout, Flow8Error, ProviderMisconfigured, ProviderUnavailable
from flow8_core.secret import Secret

MAX_REPLY_BYTES = 1024 * 1024

_log = logging.getLogger(__name__)


class ReplyTaken(Exception):
    """Ends a library's call as soon as the reply is here."""

    def __init__(self, reply: Reply) -> None:
        super().__init__("the reply was taken")
        self.reply = reply


@dataclass(frozen=True)
class Authorization:
    """Where to send the browser, and what must be remembered until it comes back. `nonce` is as the ID token repeats
    it."""

    url: str
    verifier: Secret | None
    nonce: str | None


class TokenClient(Protocol):
    """One conversation with a provider, within one deadline. `answered` is called when the provider has answered and
    nothing of the answer has been looked at: the moment at which a crash costs most.

    The calls raise `ProviderUnavailable` (`ambiguous` where the provider may have acted) and `EgressDenied`.
    """

    def authorize(self, *, scopes: Iterable[str], redirect_uri: str, state: Secret) -> Authorization: ...

    def exchange(
        self,
        *,
        code: Secret,
        redirect_uri: str,
        verifier: Secret | None,
        scopes: Iterable[str],
        answered: Callable[[], None],
    ) -> Reply: ...

    def refresh(self, *, refresh_token: Secret, scopes: Iterable[str], answered: Callable[[], None]) -> Reply: ...


def client_for(provider: Provider, egress: Egress, deadline: Deadline) -> TokenClient:
    """The client that speaks a provider's dialect."""
    if provider.token_client == "msal":  # noqa: S105 - a library
        from credentials.msal_client import MicrosoftClient

        return MicrosoftClient(provider, egress, deadline)
    return StandardClient(provider, egress, deadline)


class StandardClient:
    """`TokenClient` for servers that keep to RFC 6749, and for those that nearly do."""

    def __init__(self, provider: Provider, egress: Egress, deadline: Deadline) -> None:
        self._provider = provider
        self._egress = egress
        self._deadline = deadline

    def authorize(self, *, scopes: Iterable[str], redirect_uri: str, state: Secret) -> Authorization:
        """RFC 6749 section 4.1.1 with PKCE S256 (RFC 7636) and an OpenID nonce where the provider takes them."""
        from requests_oauthlib import OAuth2Session

        provider, app = self._provider, self._provider.registered()
        extra = dict(provider.authorize_params)
        if provider.user_scope_param and app.user_scopes:
            extra[provider.user_scope_param] = provider.scopes.separator.join(app.user_scopes)
        verifier = Secret(secrets.token_urlsafe(48)) if provider.pkce else None
        if verifier is not None:
            extra |= {"code_challenge": challenge(verifier), "code_challenge_method": "S256"}
        nonce = secrets.token_urlsafe(24) if provider.nonce else None
        if nonce is not None:
            extra["nonce"] = nonce
        written = provider.scopes.separator.join(provider.scopes.written(scopes, provider.base_url))
        session = OAuth2Session(app.client_id, redirect_uri=redirect_uri, scope=written or None)
        url, _ = session.authorization_url(shown(provider.authorize_url), state=state.reveal(), **extra)
        return Authorization(real(url, like=provider.authorize_url), verifier, nonce)

    def exchange(
        self,
        *,
        code: Secret,
        redirect_uri: str,
        verifier: Secret | None,
        scopes: Iterable[str],  # noqa: ARG002 - only msal repeats them
        answered: Callable[[], None],
    ) -> Reply:
        """RFC 6749 section 4.1.3."""
        extra = {"code_verifier": verifier.reveal()} if verifier is not None else {}

        def call(session: Any, auth: Any, form: dict[str, str]) -> None:
            session.redirect_uri = redirect_uri
            form.pop("client_id", None)
            session.fetch_token(
                shown(self._provider.token_url),
                code=code.reveal(),
                auth=auth,
                include_client_id=auth is None,
                **form,
                **extra,
            )

        return self._call(call, answered)

    def refresh(self, *, refresh_token: Secret, scopes: Iterable[str], answered: Callable[[], None]) -> Reply:  # noqa: ARG002
        """RFC 6749 section 6. Scopes are not sent: the grant's own are meant."""

        def call(session: Any, auth: Any, form: dict[str, str]) -> None:
            session.refresh_token(
                shown(self._provider.token_url), refresh_token=refresh_token.reveal(), auth=auth, **form
            )

        return self._call(call, answered)

    def _call(self, call: Callable[[Any, Any, dict[str, str]], None], answered: Callable[[], None]) -> Reply:
        """Run one of the library's calls with the client's authentication, and take the reply out of it."""
        provider, app = self._provider, self._provider.registered()
        if not provider.token_url:
            raise ProviderMisconfigured(f"oauth2.{provider.service} has no token_url.", service=provider.service)
        secret = app.client_secret.reveal() if app.client_secret else ""
        auth: tuple[str, str] | None = (quote_plus(app.client_id), quote_plus(secret))
        form: dict[str, str] = {}
        if provider.client_auth == "post" or not secret:  # RFC 6749 section 3.2.1: a public client names itself
            auth, form = None, {"client_id": app.client_id} | ({"client_secret": secret} if secret else {})
        session = self._session(app.client_id, answered)
        try:
            call(session, auth, form)
        except ReplyTaken as taken:
            return taken.reply
        except Flow8Error as error:
            raise timely(error, provider) from None
        finally:
            session.close()
        raise ProviderUnavailable(f"{provider.title} gave no answer.", service=provider.service, ambiguous=True)

    def _session(self, client_id: str, answered: Callable[[], None]) -> Any:
        from requests_oauthlib import OAuth2Session

        session = OAuth2Session(client_id)
        hosts = Hosts.of_url(self._provider.token_url)
        self._egress.guard(session, deadline=self._deadline, hosts=hosts, max_bytes=MAX_REPLY_BYTES)

        def take(response: Any, *_: Any, **__: Any) -> None:
            answered()
            raise ReplyTaken(Reply(response.status_code, dict(response.headers), response.content))

        session.hooks["response"] = [take]
        session.headers.update(self._provider.token_headers)
        take_back(session, self._provider.token_url)
        return session


def challenge(verifier: Secret) -> str:
    """The S256 challenge of a PKCE verifier (RFC 7636 section 4.2)."""
    digest = hashlib.sha256(verifier.reveal().encode()).digest()
    return base64.urlsafe_b64encode(digest).rstrip(b"=").decode()


def timely(error: Flow8Error, provider: Provider) -> Flow8Error:
    """The error as a token call means it: its own time limit is over, not the step's."""
    if not isinstance(error, ExecutionTimeout):
        return error
    return ProviderUnavailable(
        f"{provider.title} did not answer in time; try again later.",
        service=provider.service,
        ambiguous=error.ambiguous,
    )


def give_back(provider: Provider, token: Secret, egress: Egress, deadline: Deadline) -> bool:
    """Revoke one token at the provider (RFC 7009, or its own way); whether that is known to have worked.

    For tokens that nobody will use: a failure is logged and told by the result, never raised.
    """
    revocation = provider.takes_back
    if revocation is None or provider.app is None:
        return False
    try:
        return presented(provider, revocation, token, egress, deadline).status == 200
    except Flow8Error as error:
        _log.warning("a token of %s could not be revoked: %s", provider.service, error.code)
        return False


def presented(
    provider: Provider, revocation: Revocation, token: Secret, egress: Egress, deadline: Deadline
) -> Response:
    """What a provider answers when it is given a token back. Raises what `Egress.send` raises."""
    credentials, form = _signed_in(provider, revocation, token)
    fields = {"token": token.reveal(), **form} if revocation.body != "empty" else {}
    as_json = revocation.body == "json"
    return egress.send(
        "POST",
        revocation.url,
        headers={
            "Content-Type": "application/json" if as_json else "application/x-www-form-urlencoded",
            "Accept": "application/json",
        },
        body=json.dumps(fields).encode() if as_json else urlencode(fields).encode(),
        deadline=deadline,
        credentials=credentials,
        hosts=Hosts.of_url(revocation.url),
        max_bytes=MAX_REPLY_BYTES,
    )


def _signed_in(provider: Provider, revocation: Revocation, token: Secret) -> tuple[dict[str, Secret], dict[str, str]]:
    """What a revocation signs in with: (headers, fields of its form)."""
    app = provider.registered()
    if revocation.auth == "bearer":
        return {"Authorization": Secret(f"Bearer {token.reveal()}")}, {}
    if revocation.auth == "none":
        return {}, {}
    secret = app.client_secret.reveal() if app.client_secret else ""
    if provider.client_auth == "post" or not secret:
        return {}, {"client_id": app.client_id} | ({"client_secret": secret} if secret else {})
    pair = f"{quote_plus(app.client_id)}:{quote_plus(secret)}"
    return {"Authorization": Secret("Basic " + base64.b64encode(pair.encode()).decode())}, {}
