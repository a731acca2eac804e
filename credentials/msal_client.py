"""Microsoft through msal, on our egress and with msal's caches taken out.

msal knows the clouds, adds the scopes that sign-in needs, and signs client certificates. What it must not do here: keep
every user's tokens in memory, answer a repeated refresh from memory (60 s after a 400, Retry-After after a 429), fetch
the metadata of hosts whose endpoints are known, or read replies leniently where we do it ourselves. Its transport is
therefore ours: it answers metadata from the declaration and takes the token reply out, as in `oauth`.

Source: https://learn.microsoft.com/entra/msal/python, msal 1.39.
"""

from __future__ import annotations

import hashlib
import json
import warnings
from collections.abc import Callable, Iterable, Mapping
from typing import Any
from urllib.parse import urlencode, urlsplit

from credentials.oauth import MAX_REPLY_BYTES, Authorization, ReplyTaken, timely
from credentials.providers.provider import App, Provider
from credentials.token_reply import Reply
from flow8_core.clock import Deadline
from flow8_core.egress import Egress, Hosts
from flow8_core.errors import Flow8Error, ProviderMisconfigured, ProviderUnavailable
from flow8_core.secret import Secret

_METADATA = "/.well-known/openid-configuration"


class MicrosoftClient:
    """`TokenClient` for Microsoft Entra ID."""

    def __init__(self, provider: Provider, egress: Egress, deadline: Deadline) -> None:
        self._provider = provider
        self._egress = egress
        self._deadline = deadline

    def authorize(self, *, scopes: Iterable[str], redirect_uri: str, state: Secret) -> Authorization:
        """msal makes the PKCE verifier and the nonce; the ID token repeats the nonce's SHA-256."""
        # msal would rather have the answer posted. Our callback takes a GET alone: a cross-site POST brings no session.
        warnings.filterwarnings("ignore", message="response_mode=", category=UserWarning, module=r"msal\.")
        flow = self._application(lambda: None).initiate_auth_code_flow(
            self._asked(scopes),
            redirect_uri=redirect_uri,
            state=state.reveal(),
            prompt=self._provider.authorize_params.get("prompt"),
        )
        nonce = hashlib.sha256(flow["nonce"].encode()).hexdigest()
        return Authorization(flow["auth_uri"], Secret(flow["code_verifier"]), nonce)

    def exchange(
        self,
        *,
        code: Secret,
        redirect_uri: str,
        verifier: Secret | None,
        scopes: Iterable[str],
        answered: Callable[[], None],
    ) -> Reply:
        """The code's exchange; state and nonce were and will be compared by us."""
        asked = self._asked(scopes)
        flow = {
            "state": "compared",
            "redirect_uri": redirect_uri,
            "scope": [*asked, "openid", "profile", "offline_access"],
            "code_verifier": verifier.reveal() if verifier else "",
            "claims_challenge": None,
        }
        app = self._application(answered)
        return self._taken(
            lambda: app.acquire_token_by_auth_code_flow(flow, {"state": "compared", "code": code.reveal()})
        )

    def refresh(self, *, refresh_token: Secret, scopes: Iterable[str], answered: Callable[[], None]) -> Reply:
        """The refresh, for the scopes that were granted."""
        app = self._application(answered)
        return self._taken(lambda: app.acquire_token_by_refresh_token(refresh_token.reveal(), self._asked(scopes)))

    def _taken(self, call: Callable[[], Any]) -> Reply:
        try:
            call()
        except ReplyTaken as taken:
            return taken.reply
        except Flow8Error as error:
            raise timely(error, self._provider) from None
        title, service = self._provider.title, self._provider.service
        raise ProviderUnavailable(f"{title} gave no answer.", service=service, ambiguous=True)

    def _asked(self, scopes: Iterable[str]) -> list[str]:
        reserved = {"openid", "profile", "offline_access"}  # msal adds them, and refuses them from us
        plain = [scope for scope in scopes if scope not in reserved]
        return self._provider.scopes.written(plain, self._provider.base_url)

    def _application(self, answered: Callable[[], None]) -> Any:
        """An application for this conversation alone: it costs a millisecond and no request."""
        import msal

        provider, app = self._provider, self._provider.registered()
        try:
            return msal.ConfidentialClientApplication(
                app.client_id,
                client_credential=_credential(app, provider),
                authority=provider.authorize_url.removesuffix("/oauth2/v2.0/authorize"),
                http_client=_Transport(provider, self._egress, self._deadline, answered),
                token_cache=_no_token_cache(),
                http_cache=_NothingKept(),
                instance_discovery=False,
                azure_region=False,
                app_name="flow8",
            )
        except ValueError:
            raise ProviderMisconfigured(
                f"msal refuses what oauth2.{provider.service} or services.{provider.service}.authority says.",
                service=provider.service,
            ) from None


class _Transport:
    """msal's `http_client`."""

    def __init__(self, provider: Provider, egress: Egress, deadline: Deadline, answered: Callable[[], None]) -> None:
        self._provider = provider
        self._egress = egress
        self._deadline = deadline
        self._answered = answered

    def get(self, url: str, **_: Any) -> _Answer:
        """The metadata of the tenant, and of nothing else."""
        if not url.endswith(_METADATA):
            raise ProviderMisconfigured(f"msal asked for {urlsplit(url).hostname}, which is not expected.")
        return _Answer(
            json.dumps(
                {
                    "issuer": f"{self._provider.authority}/{{tenantid}}/v2.0",
                    "authorization_endpoint": self._provider.authorize_url,
                    "token_endpoint": self._provider.token_url,
                }
            )
        )

    def post(
        self, url: str, *, headers: Mapping[str, str] | None = None, data: Mapping[str, str] | None = None, **_: Any
    ) -> _Answer:
        """The token call: sent once, and its reply taken past msal."""
        response = self._egress.send(
            "POST",
            url,
            headers={**(headers or {}), "Content-Type": "application/x-www-form-urlencoded"},
            body=urlencode(data or {}).encode(),
            deadline=self._deadline,
            hosts=Hosts.of_url(self._provider.token_url),
            max_bytes=MAX_REPLY_BYTES,
        )
        self._answered()
        raise ReplyTaken(Reply(response.status, dict(response.headers), response.body))

    def close(self) -> None:
        """Nothing to close: the egress is the process's."""


class _Answer:
    """What msal wants of a response."""

    def __init__(self, text: str) -> None:
        self.status_code = 200
        self.text = text
        self.headers: dict[str, str] = {}

    def raise_for_status(self) -> None:
        """It is no error."""


class _NothingKept(dict[Any, Any]):
    """msal's `http_cache` that forgets at once."""

    def __setitem__(self, key: Any, value: Any) -> None:
        """Forget."""


def _no_token_cache() -> Any:
    import msal

    class NoTokenCache(msal.TokenCache):  # type: ignore[misc]
        def add(self, event: Any, now: Any = None) -> None:
            """Forget."""

        def modify(self, credential_type: Any, old_entry: Any, new_key_value_pairs: Any = None) -> None:
            """Forget."""

    return NoTokenCache()


def _credential(app: App, provider: Provider) -> Any:
    if app.certificate is not None:
        try:
            return {
                "private_key": app.certificate.key_file.read_text(),
                "public_certificate": app.certificate.certificate_file.read_text(),
            }
        except OSError as error:
            raise ProviderMisconfigured(
                f"The certificate of oauth2.{provider.service} cannot be read: {error.strerror}.",
                service=provider.service,
            ) from None
    if app.client_secret is None:
        raise ProviderMisconfigured(
            f"oauth2.{provider.service} needs client_secret, or private_key_file and certificate_file.",
            service=provider.service,
        )
    return app.client_secret.reveal()
