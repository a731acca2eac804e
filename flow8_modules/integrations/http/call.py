"""The inputs of `http-request`."""

from __future__ import annotations

from functools import cached_property
from typing import Annotated, Any, Literal

from pydantic import (
    AliasChoices,
    BeforeValidator,
    ConfigDict,
    GetPydanticSchema,
    SecretStr,
    field_validator,
    model_validator,
)
from pydantic_core.core_schema import no_info_after_validator_function, str_schema

from flow8_core.egress.url import MAX_LENGTH, Url
from flow8_modules import Fault, Field, Input, errors
from flow8_modules.integrations.http.answer import Wanted
from flow8_modules.integrations.http.body import BodyType, encode, pairs
from flow8_modules.integrations.http.headers import check_headers, lookup

MIB = 1 << 20
MAX_IN_MEMORY = 10 * MIB
MAX_IN_FILE = 1024 * MIB
MAX_REDIRECTS = 5

Method = Literal["GET", "HEAD", "OPTIONS", "POST", "PUT", "PATCH", "DELETE"]


def _upper(value: Any) -> Any:
    return value.upper() if isinstance(value, str) else value


def _redirects(value: Any) -> Any:
    """flow8's followRedirects is a boolean."""
    if isinstance(value, str) and value.lower() in ("true", "false"):
        value = value.lower() == "true"
    return MAX_REDIRECTS * value if isinstance(value, bool) else value


def _url(text: str) -> Url:
    try:
        return Url.parse(text)
    except errors.EgressDenied as error:
        raise Fault(error.message) from None


def _wanted(value: Any) -> Any:
    return "base64" if value == "binary" else value  # flow8's word


_URL_SCHEMA = no_info_after_validator_function(_url, str_schema(min_length=1, max_length=MAX_LENGTH))


class BasicAuth(Input):
    """User and password, as flow8's `basicAuth` has them."""

    user: str = Field(max_length=256, description="User name.", examples=["api"])
    password: SecretStr = Field(
        validation_alias=AliasChoices("password", "pass"),
        description="Password.",
        examples=["from a component, better"],
    )


class Call(Input):
    """What to ask, and whom."""

    model_config = ConfigDict(
        json_schema_extra={
            "examples": [
                {
                    "url": "https://api.example.com/process",
                    "method": "POST",
                    "headers": {"Authorization": "Bearer token_123", "Content-Type": "application/json"},
                    "body": {"document_id": "doc_001", "action": "analyze"},
                }
            ]
        }
    )

    url: Annotated[Url, GetPydanticSchema(lambda _url_type, _handler: _URL_SCHEMA)] = Field(
        description="Address, http or https.",
        examples=["https://api.example.com/process"],
    )
    method: Annotated[Method, BeforeValidator(_upper)] = Field("GET", description="HTTP method.", examples=["POST"])
    headers: dict[str, str] = Field(
        default_factory=dict,  # a `default` would be copied deeply for each call
        json_schema_extra={"default": {}},
        repr=False,
        description="Headers. Credentials belong into a request component instead.",
        examples=[{"Accept": "application/json"}],
    )
    query: dict[str, Any] = Field(
        default_factory=dict,
        json_schema_extra={"default": {}},
        description="Added to the URL's query; a list repeats its name.",
        examples=[{"page": 1}],
    )
    body: Any = Field(
        None,
        repr=False,
        description="Body: an object or list goes as JSON, text as it is.",
        examples=[{"document_id": "doc_001"}],
    )
    body_type: BodyType = Field(
        "auto",
        validation_alias=AliasChoices("body_type", "bodyType"),
        description="How to read the body, where its shape does not tell.",
        examples=["form"],
    )
    form: dict[str, Any] | None = Field(
        None,
        validation_alias=AliasChoices("form", "bodyForm"),
        repr=False,
        description="Body as a form, in place of body.",
        examples=[{"name": "flow8"}],
    )
    timeout: float | None = Field(
        None,
        gt=0,
        le=3_600,
        validation_alias=AliasChoices("timeout", "timeout_seconds"),
        description="Seconds for the whole call; the component's, else 30, and never more than the step has.",
        examples=[30],
    )
    redirects: Annotated[int | None, BeforeValidator(_redirects)] = Field(
        None,
        ge=0,
        le=MAX_REDIRECTS,
        validation_alias=AliasChoices("redirects", "followRedirects"),
        description="Redirects to follow, for GET and HEAD; 5 if nothing is given.",
        examples=[5],
    )
    response: Annotated[Wanted, BeforeValidator(_wanted)] = Field(
        "auto",
        validation_alias=AliasChoices("response", "responseType"),
        description="How to give the answer's body; auto goes by its Content-Type.",
        examples=["json"],
    )
    save_as: str | None = Field(
        None,
        validation_alias=AliasChoices("save_as", "saveAs"),
        description="File of the play's workspace to write the body to, with response: file.",
        examples=["/tmp/invoice.pdf"],  # noqa: S108 - inside the workspace
    )
    max_bytes: int | None = Field(
        None,
        ge=1,
        le=MAX_IN_FILE,
        validation_alias=AliasChoices("max_bytes", "maxBytes"),
        description="Largest body to take, in bytes; 10 MiB, and 1 GiB into a file, if nothing is given.",
        examples=[1_000_000],
    )
    basic_auth: BasicAuth | None = Field(
        None,
        validation_alias=AliasChoices("basic_auth", "basicAuth"),
        description="User and password; a request component is the better place.",
        examples=[{"user": "api", "password": "secret"}],
    )
    bearer_token: SecretStr | None = Field(
        None,
        validation_alias=AliasChoices("bearer_token", "bearerToken"),
        description="Bearer token; a request component is the better place.",
        examples=["token_123"],
    )

    @field_validator("headers")
    @classmethod
    def _may_be_set(cls, headers: dict[str, str]) -> dict[str, str]:
        check_headers(headers)
        return headers

    @field_validator("query", "form")
    @classmethod
    def _is_flat(cls, values: dict[str, Any] | None) -> dict[str, Any] | None:
        if values is not None:
            pairs(values)
        return values

    @model_validator(mode="after")
    def _fits_together(self) -> Call:
        if self.form is not None and self.body is not None:
            raise Fault("cannot stand beside body", field="form")
        if self.method in ("GET", "HEAD") and (self.form is not None or self.body is not None):
            raise Fault(f"cannot go with {self.method}", field="body" if self.form is None else "form")
        if (self.response == "file") != (self.save_as is not None):
            raise Fault("goes with response: file, and only with it", field="save_as")
        given = [self.basic_auth, self.bearer_token, lookup(self.headers, "authorization")]
        if given.count(None) < 2:
            raise Fault("names more than one credential", field="headers")
        try:
            _ = self.payload
        except Fault as fault:
            raise Fault(fault.message, field="body") from None
        return self

    @cached_property
    def payload(self) -> tuple[bytes | None, str | None]:
        """The body's bytes, and the Content-Type that goes with them where the author set none."""
        if self.form is not None:
            return encode(self.form, "form", content_type=None)
        return encode(self.body, self.body_type, content_type=lookup(self.headers, "content-type"))
