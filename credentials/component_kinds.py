"""The shape of each kind of component: what its config holds, which of it is secret, and what is wrong with a given
one.

The kinds, and the fields of `storage` and `ai`, are flow8's. The JSON schema of a model marks secrets `writeOnly`.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Annotated, Any, ClassVar, Literal, get_args

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, PlainValidator, WithJsonSchema

from credentials import key_formats
from credentials.key_formats import Finding
from flow8_core.secret import Secret

Kind = Literal["storage", "ai", "db", "request", "console", "email", "file_transfer"]
KINDS: tuple[Kind, ...] = get_args(Kind)

MAX_TIMEOUT_S = 300.0

_HOST = r"(?:[a-z0-9_](?:[a-z0-9_-]{0,61}[a-z0-9_])?\.)*[a-z0-9_](?:[a-z0-9_-]{0,61}[a-z0-9_])?|\[[0-9a-f:.]+\]"
_PORT = r"(?::[1-9][0-9]{0,4})?"


def _secret(value: object) -> Secret:
    if isinstance(value, Secret):
        return value
    if not isinstance(value, str):
        raise ValueError("must be text")  # noqa: TRY004  pydantic collects ValueErrors only
    return Secret(value)


SecretText = Annotated[
    Secret, PlainValidator(_secret), WithJsonSchema({"type": "string", "format": "password", "writeOnly": True})
]
Lowered = BeforeValidator(lambda value: value.lower() if isinstance(value, str) else value)
HostName = Annotated[str, Lowered, Field(pattern=f"^(?:{_HOST})$", max_length=253)]
HostEntry = Annotated[str, Lowered, Field(pattern=rf"^(?:\*\.[a-z0-9_-]+\.)?(?:{_HOST}){_PORT}$", max_length=260)]
Line = Annotated[str, Field(pattern=r"^[^\x00-\x1f\x7f]+$", max_length=500)]
# No user name, query or fragment: such places hold secrets, and this is shown.
Url = Annotated[str, Field(pattern=rf"^(?i:https?://(?:{_HOST})){_PORT}(?:/[!-\"$->@-~]*)?$", max_length=2000)]
Address = Annotated[str, Field(pattern=r"^[^@\s<>\x00-\x1f]+@[^@\s<>\x00-\x1f]+$", max_length=254)]
Seconds = Annotated[float, Field(gt=0, le=MAX_TIMEOUT_S)]


class Config(BaseModel):
    """What the kinds have in common. `secrets` are stored sealed and never shown. `destinations` are the fields that
    say where the secrets are sent: they change only together with the secrets, or a stored secret could be sent to a
    host of one's choice."""

    model_config = ConfigDict(
        extra="forbid", frozen=True, arbitrary_types_allowed=True, hide_input_in_errors=True, defer_build=True
    )
    secrets: ClassVar[tuple[str, ...]] = ()  # dotted paths within the config
    destinations: ClassVar[tuple[str, ...]] = ()

    def findings(self) -> Iterator[Finding]:
        """What is wrong or odd about the values, beyond their types. Paths begin with `config.`"""
        yield from ()

    def values(self) -> dict[str, Any]:
        """All that is set, as plain dicts and lists with `Secret` values: the document's `config` before sealing. A
        switch that is off counts as not set."""
        found = ((name, getattr(self, name)) for name in type(self).model_fields)
        return {
            name: value.values() if isinstance(value, Config) else value
            for name, value in found
            if value is not None and value is not False
        }


class Storage(Config):
    """S3, or a server that speaks its protocol at `endpoint`."""

    secrets = ("access_key_id", "secret_access_key", "session_token")
    destinations = ("endpoint",)

    provider: Literal["s3"]
    bucket: Annotated[str, Field(min_length=3, max_length=255, pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]+$")]
    region: Annotated[str, Field(pattern=r"^[a-z0-9-]{2,40}$")] = "us-east-1"
    endpoint: Url | None = None
    access_key_id: SecretText
    secret_access_key: SecretText
    session_token: SecretText | None = None
    allow_public_acl: bool = False

    def findings(self) -> Iterator[Finding]:
        session = self.session_token.reveal() if self.session_token else None
        yield from key_formats.aws(
            self.access_key_id.reveal(),
            self.secret_access_key.reveal(),
            session,
            base="config",
            custom_endpoint=self.endpoint is not None,
        )
        if "region" not in self.model_fields_set and self.endpoint is None:
            yield Finding("config.region", f"is missing; {self.region} is used", fatal=False)


class Ai(Config):
    """A language model's API; `base_url` names a gateway or a compatible server."""

    secrets = ("api_key",)
    destinations = ("base_url", "provider")

    provider: Literal["openai", "anthropic", "mistral", "ollama", "openai-compatible"]
    api_key: SecretText | None = None
    base_url: Url | None = None
    model: Line | None = None
    organization: Line | None = None
    project: Line | None = None
    temperature: Annotated[float, Field(ge=0, le=2)] | None = None
    top_p: Annotated[float, Field(ge=0, le=1)] | None = None
    frequency_penalty: Annotated[float, Field(ge=-2, le=2)] | None = None
    presence_penalty: Annotated[float, Field(ge=-2, le=2)] | None = None
    max_tokens: Annotated[int, Field(ge=1)] | None = None
    timeout_seconds: Seconds | None = None

    def findings(self) -> Iterator[Finding]:
        if self.provider == "openai-compatible" and self.base_url is None:
            yield Finding("config.base_url", "is required: it says where the compatible server is")
        if self.api_key is None:
            if self.provider not in ("ollama", "openai-compatible"):
                yield Finding("config.api_key", "is required")
        elif self.base_url is None and self.provider in _AI_VENDORS:
            yield from key_formats.of_vendor(_AI_VENDORS[self.provider], "config.api_key", self.api_key.reveal())
        else:
            yield from key_formats.token("config.api_key", self.api_key.reveal())
        if self.provider == "anthropic" and (self.temperature is not None or self.top_p is not None):
            yield Finding("config.temperature", "Anthropic's current API refuses temperature and top_p", fatal=False)


_AI_VENDORS = {"openai": "OpenAI", "anthropic": "Anthropic", "mistral": "Mistral"}


class Db(Config):
    """A database; the whole address is secret, for it holds the password."""

    secrets = ("uri",)

    provider: Literal["mongodb", "postgresql"]
    uri: SecretText
    database: Line | None = None

    def findings(self) -> Iterator[Finding]:
        yield from key_formats.password("config.uri", self.uri.reveal())
        schemes = {"mongodb": ("mongodb://", "mongodb+srv://"), "postgresql": ("postgresql://", "postgres://")}
        if not self.uri.reveal().startswith(schemes[self.provider]):
            yield Finding("config.uri", f"must begin with {schemes[self.provider][0]}")


class Bearer(Config):
    """`Authorization: Bearer <value>` (RFC 6750)."""

    type: Literal["bearer"]
    value: SecretText

    def findings(self) -> Iterator[Finding]:
        yield from key_formats.token("config.auth.value", self.value.reveal())


class Basic(Config):
    """The user name is sealed as well: with many APIs it is the key, and the password is empty."""

    type: Literal["basic"]
    username: SecretText
    password: SecretText | None = None

    def findings(self) -> Iterator[Finding]:
        name = key_formats.password("config.auth.username", self.username.reveal())
        yield from (finding for finding in name if finding.fatal or not self.password)
        if ":" in self.username.reveal():
            yield Finding("config.auth.username", "must not hold a colon (RFC 7617)")
        if self.password:
            yield from key_formats.password("config.auth.password", self.password.reveal())


class Header(Config):
    """A key in a header of its own, such as `X-Api-Key: <value>`."""

    type: Literal["header"]
    name: Annotated[str, Field(pattern=r"^[A-Za-z0-9!#$%&'*+.^_`|~-]+$", max_length=100)]
    value: SecretText

    def findings(self) -> Iterator[Finding]:
        if self.name.lower() in _RESERVED_HEADERS or self.name.lower().startswith("proxy-"):
            yield Finding("config.auth.name", "this header belongs to the connection and cannot carry a credential")
        yield from key_formats.header_value("config.auth.value", self.value.reveal())


_RESERVED_HEADERS = frozenset(
    {"host", "content-length", "transfer-encoding", "connection", "te", "trailer", "upgrade", "keep-alive", "expect"}
)


class Query(Config):
    """A key in the query, as `?<name>=<value>`."""

    type: Literal["query"]
    name: Annotated[str, Field(pattern=r"^[!-~]+$", max_length=100)]
    value: SecretText

    def findings(self) -> Iterator[Finding]:
        yield from key_formats.token("config.auth.value", self.value.reveal())


class Request(Config):
    """An HTTP API. Its credential goes to `hosts` only: `host`, `host:port` or `*.suffix`."""

    secrets = ("auth.value", "auth.username", "auth.password")
    destinations = ("hosts",)

    hosts: Annotated[list[HostEntry], Field(min_length=1, max_length=50)]
    auth: Annotated[Bearer | Basic | Header | Query, Field(discriminator="type")] | None = None
    honours_idempotency_key: bool = False
    timeout_seconds: Seconds | None = None
    max_retries: Annotated[int, Field(ge=0, le=10)] | None = None

    def findings(self) -> Iterator[Finding]:
        if self.auth is not None:
            yield from self.auth.findings()


class Console(Config):
    """Where flow8 logs to; it holds no credential."""

    level: Literal["debug", "info", "warn", "error"] = "info"


class Email(Config):
    """An SMTP server (RFC 5321; RFC 8314 for the ways to TLS)."""

    secrets = ("password",)
    destinations = ("host", "port", "security")

    provider: Literal["smtp"] = "smtp"
    host: HostName
    port: Annotated[int, Field(ge=1, le=65535)] = 587
    security: Literal["starttls", "tls", "none"] = "starttls"
    username: Line | None = None
    password: SecretText | None = None
    from_address: Address | None = None
    from_name: Line | None = None
    timeout_seconds: Seconds | None = None

    def findings(self) -> Iterator[Finding]:
        if (self.username is None) != (self.password is None):
            yield Finding("config.password", "user name and password go together: give both or neither")
        if self.password is not None:
            yield from key_formats.password("config.password", self.password.reveal())
            if self.security == "none":
                yield Finding("config.security", "none sends the password in clear text", fatal=False)
        if (self.port, self.security) in ((465, "starttls"), (587, "tls")):
            yield Finding("config.security", "port 465 usually goes with tls, port 587 with starttls", fatal=False)


class FileTransfer(Config):
    """An SFTP, FTPS or FTP server. SFTP needs the server's `host_key`: a known_hosts line or a SHA256 fingerprint."""

    secrets = ("password", "private_key", "passphrase")
    destinations = ("host", "port", "protocol", "host_key", "allow_plaintext")

    protocol: Literal["sftp", "ftps", "ftps_implicit", "ftp"]
    host: HostName
    port: Annotated[int, Field(ge=1, le=65535)] | None = None
    username: Line
    password: SecretText | None = None
    private_key: SecretText | None = None
    passphrase: SecretText | None = None
    host_key: Line | None = None
    root: Line | None = None
    allow_plaintext: bool = False
    timeout_seconds: Seconds | None = None

    def findings(self) -> Iterator[Finding]:
        if self.password is not None:
            yield from key_formats.password("config.password", self.password.reveal())
        if self.passphrase is not None:
            yield from key_formats.password("config.passphrase", self.passphrase.reveal())
        if self.private_key is not None:
            yield from key_formats.private_key("config.private_key", self.private_key.reveal())
        if self.protocol == "sftp" and self.host_key is None:
            yield Finding("config.host_key", "is required: without it anybody could pose as the server")
        if self.protocol != "sftp" and self.private_key is not None:
            yield Finding("config.private_key", "only sftp signs in with a key")
        if self.password is None and self.private_key is None:
            yield Finding("config.password", "give a password, or for sftp a private_key")
        if self.passphrase is not None and self.private_key is None:
            yield Finding("config.passphrase", "belongs to a private_key, and there is none")
        if self.protocol == "ftp" and not self.allow_plaintext:
            yield Finding("config.allow_plaintext", "ftp sends the password in clear text; use ftps, or say true here")


MODELS: Mapping[str, type[Config]] = {
    "storage": Storage,
    "ai": Ai,
    "db": Db,
    "request": Request,
    "console": Console,
    "email": Email,
    "file_transfer": FileTransfer,
}
