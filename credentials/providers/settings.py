"""The `oauth2` and `services` sections of flow8.yaml: one model for an entry of each."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, SecretStr, model_validator

from credentials.key_formats import is_mask
from credentials.providers.provider import ClientAuth, Replay
from flow8_core.egress.url import Url
from flow8_core.errors import EgressDenied

LOOPBACK = ("127.0.0.1", "::1", "localhost")


def _web_address(url: str) -> str:
    """Plain http on loopback alone: the browser may come back there, and egress goes there only where it is listed."""
    try:
        parsed = Url.parse(url)
    except EgressDenied as error:
        raise ValueError(error.message) from None
    if parsed.scheme != "https" and parsed.host not in LOOPBACK:
        raise ValueError("must be an https:// address")
    if "#" in url:
        raise ValueError("must not hold a fragment")
    return url


def _real_secret(secret: SecretStr) -> SecretStr:
    if is_mask(secret.get_secret_value()) or not secret.get_secret_value().strip():
        raise ValueError("is a placeholder; put the real secret, or ${NAME} of an environment variable that holds it")
    return secret


WebUrl = Annotated[str, Field(max_length=2048), AfterValidator(_web_address)]
Text = Annotated[str, Field(min_length=1, max_length=512)]
Scope = Annotated[str, Field(pattern=r"^[\x21\x23-\x5b\x5d-\x7e]{1,512}$")]  # RFC 6749 section 3.3
TenantId = Annotated[str, Field(pattern=r"^[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}$")]
RealSecret = Annotated[SecretStr, AfterValidator(_real_secret)]


class OAuthApp(BaseModel):
    """One entry of `oauth2`: our application at a provider, and for a server of your own, where that is.

    A known service needs `client_id` and `client_secret` (Microsoft: or a certificate). Any other server needs `issuer`
    (OIDC discovery) or `authorize_url` and `token_url`, and `api_hosts`: the only hosts that get its access tokens.
    `replay` is what its refresh tokens allow: `single_use` unless you know better. Times are in seconds.
    """

    model_config = ConfigDict(extra="forbid", frozen=True, hide_input_in_errors=True, defer_build=True)

    client_id: Text
    client_secret: RealSecret | None = None
    private_key_file: Path | None = None
    certificate_file: Path | None = None
    redirect_uri: WebUrl | None = None
    scopes: tuple[Scope, ...] = ()
    user_scopes: tuple[Scope, ...] = ()
    tenant: str = Field(default="common", pattern=r"^[A-Za-z0-9][A-Za-z0-9.-]{0,252}$")
    tenants: tuple[TenantId, ...] = ()
    auto_create_users: bool = False
    client_auth: ClientAuth = "basic"
    grant_lifetime_s: int | None = Field(default=None, ge=3600, le=100 * 365 * 24 * 3600)

    title: Text | None = None
    issuer: WebUrl | None = None
    authorize_url: WebUrl | None = None
    token_url: WebUrl | None = None
    revoke_url: WebUrl | None = None
    userinfo_url: WebUrl | None = None
    base_url: WebUrl | None = None
    api_hosts: tuple[Text, ...] = ()
    authorize_params: dict[str, str] = Field(default_factory=dict)
    scope_separator: str = Field(default=" ", pattern=r"^[ ,]$")
    pkce: bool = True
    replay: Replay = "single_use"
    grace_s: int = Field(default=0, ge=0, le=3600)
    lifetime_s: int = Field(default=3600, ge=60, le=365 * 24 * 3600)
    refresh_lead_s: int | None = Field(default=None, ge=0, le=24 * 3600)
    idle_s: int | None = Field(default=None, ge=3600)

    @model_validator(mode="after")
    def _certificate_is_whole(self) -> OAuthApp:
        if (self.private_key_file is None) != (self.certificate_file is None):
            raise ValueError("private_key_file and certificate_file go together")
        return self


class ServiceSettings(BaseModel):
    """One entry of `services`: where a known service is (region, sandbox, sovereign cloud, laboratory).

    `site` is one of those that the service has; single addresses beat it. `api_hosts` follows from `base_url` unless
    given. `authority` is the login host of services that have one. `issuer` is what the answer of another
    `authorize_url` names itself, and where endpoints are discovered that are not given.
    """

    model_config = ConfigDict(extra="forbid", frozen=True, defer_build=True)

    site: Text | None = None
    base_url: WebUrl | None = None
    issuer: WebUrl | None = None
    authorize_url: WebUrl | None = None
    token_url: WebUrl | None = None
    revoke_url: WebUrl | None = None
    userinfo_url: WebUrl | None = None
    authority: WebUrl | None = None
    api_hosts: tuple[Text, ...] = ()
